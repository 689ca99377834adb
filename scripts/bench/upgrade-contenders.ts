/**
 * Every proxy whose replacement is compared, each with the way to replace it that its own manual names: started in
 * front of the origin, replaced while it serves, ended by process id. All run two workers (HAProxy: two threads).
 */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { FromOperator, OperationStarted } from '../../src/ipc/messages.ts'
import { askSupervisor, awaitOutcome } from '../../supervisor/control-client.ts'
import { findProgram, missingLine, type Program } from '../../test/support/programs.ts'
import { ManagedProcess } from './managed-process.ts'
import { runAs } from './origin.ts'

export interface UpgradePlace {
  readonly originPort: number
  readonly listenPort: number
  /** A temporary folder of this run's own. */
  readonly folder: string
}

export interface RunningProxy {
  /** Replaces it once; resolves when the replacement serves. */
  replace(): Promise<void>
  stop(): Promise<void>
  /** At once and without waiting. */
  kill(): void
}

export interface UpgradeContender {
  readonly name: string
  /** Replacements in one run. 1: another one is only possible when nothing is open any more. */
  readonly replacementsPerRun: number
  /** What is missing on this machine, or null. */
  missing(): string | null
  start(place: UpgradePlace): RunningProxy
}

const benchFolder = import.meta.dirname
const checkout = path.join(benchFolder, '..', '..')
const POLL_MS = 10
const REPLACED_MAX_MS = 15_000

function need(program: Program): string | null { return findProgram(program) === null ? missingLine(program) : null }

/** A program that `need` has found, as a process of its own on any core. */
function startProgram(program: Program, args: readonly string[]): ManagedProcess {
  return new ManagedProcess(program, { command: findProgram(program) ?? '', args }, null)
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const late = Date.now() + REPLACED_MAX_MS
  while (!condition()) {
    if (Date.now() > late) throw new Error(`waited ${REPLACED_MAX_MS} ms for ${what}`)
    await delay(POLL_MS)
  }
}

function portVariables(place: UpgradePlace): Record<string, string> {
  return { BENCH_ORIGIN_PORT: String(place.originPort), BENCH_LISTEN_PORT: String(place.listenPort), NODE_ENV: 'production' }
}

/** A program that stays our child, and is told to replace its workers by a signal. */
class Signalled implements RunningProxy {
  readonly #process: ManagedProcess
  readonly #signal: NodeJS.Signals
  readonly #newWorkers: number

  constructor(process: ManagedProcess, signal: NodeJS.Signals, newWorkers: number) {
    this.#process = process
    this.#signal = signal
    this.#newWorkers = newWorkers
  }

  async replace(): Promise<void> {
    const before = new Set(this.#process.tree().map(({ pid }) => pid))
    process.kill(this.#process.pid, this.#signal)
    await until('new workers', () => this.#process.tree().filter(({ pid }) => !before.has(pid)).length >= this.#newWorkers)
  }

  stop(): Promise<void> { return this.#process.stop() }
  kill(): void { this.#process.kill() }
}

function nginxConfig(place: UpgradePlace, daemon: boolean): string {
  const { folder } = place
  const file = path.join(folder, 'nginx.conf')
  writeFileSync(file, `${runAs()}daemon ${daemon ? 'on' : 'off'};
worker_processes 2;
pid ${folder}/pid;
error_log ${folder}/error.log error;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  scgi_temp_path ${folder}/scgi;
  uwsgi_temp_path ${folder}/uwsgi;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream origin { server 127.0.0.1:${place.originPort}; keepalive 64; }
  server {
    listen 127.0.0.1:${place.listenPort} backlog=4096;
    client_max_body_size 0;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $http_host;
    }
  }
}
`)
  return file
}

const nginxReload: UpgradeContender = {
  name: 'nginx reload (HUP)',
  replacementsPerRun: Infinity,
  missing: () => need('nginx'),
  start(place) {
    const nginx = startProgram('nginx', ['-p', place.folder, '-c', nginxConfig(place, false)])
    return new Signalled(nginx, 'SIGHUP', 2)
  },
}

/** As a daemon, because nginx takes USR2 for a mistake while its parent lives. */
class NginxDaemon implements RunningProxy {
  readonly #pidFile: string
  readonly #starter: ManagedProcess

  constructor(place: UpgradePlace) {
    this.#pidFile = path.join(place.folder, 'pid')
    this.#starter = startProgram('nginx', ['-p', place.folder, '-c', nginxConfig(place, true)])
  }

  /** nginx.org, "Upgrading Executable on the Fly". */
  async replace(): Promise<void> {
    const old = this.#master()
    process.kill(old, 'SIGUSR2')
    await until('the new nginx', () => { const now = this.#master(); return now !== 0 && now !== old && childrenOf(now).length >= 2 })
    process.kill(old, 'SIGWINCH')
    await delay(200)
    process.kill(old, 'SIGQUIT')
  }

  async stop(): Promise<void> {
    const processes = this.#everyone()
    for (const pid of processes) signal(pid, 'SIGTERM')
    const late = Date.now() + 2000
    while (processes.some(isThere) && Date.now() < late) await delay(POLL_MS)
    for (const pid of processes) signal(pid, 'SIGKILL')
    await this.#starter.stop()
  }

  kill(): void {
    for (const pid of this.#everyone()) signal(pid, 'SIGKILL')
    this.#starter.kill()
  }

  #master(): number { return numberIn(this.#pidFile) }

  /** Both masters, while there are two, with their workers. */
  #everyone(): number[] {
    const masters = [this.#master(), numberIn(`${this.#pidFile}.oldbin`)].filter(pid => pid > 1 && commandLine(pid).includes('nginx'))
    return [...masters, ...masters.flatMap(childrenOf)]
  }
}

function numberIn(file: string): number {
  try { return Number(readFileSync(file, 'utf8')) } catch { return 0 }
}

function commandLine(pid: number): string {
  try { return readFileSync(`/proc/${pid}/cmdline`, 'utf8') } catch { return '' }
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return text.split(' ').filter(word => word !== '').map(Number)
  } catch {
    return [] // It has ended.
  }
}

function isThere(pid: number): boolean { return commandLine(pid) !== '' }

function signal(pid: number, name: NodeJS.Signals): void {
  try { process.kill(pid, name) } catch { /* Gone already. */ }
}

const nginxUpgrade: UpgradeContender = {
  name: 'nginx binary upgrade (USR2, WINCH, QUIT)',
  // The old master stays as long as its last WebSocket, and as long as it stays the new one takes no USR2.
  replacementsPerRun: 1,
  missing: () => need('nginx'),
  start: place => new NginxDaemon(place),
}

function haproxy(name: string, extra: string): UpgradeContender {
  return {
    name,
    replacementsPerRun: Infinity,
    missing: () => need('haproxy'),
    start(place) {
      const file = path.join(place.folder, 'haproxy.cfg')
      writeFileSync(file, `global
  nbthread 2
  maxconn 4000
  stats socket ${place.folder}/stats.sock mode 600 expose-fd listeners level admin
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option http-keep-alive
  http-reuse always
frontend bench
  bind 127.0.0.1:${place.listenPort} backlog 4096
  ${extra}
  default_backend origin
backend origin
  server origin 127.0.0.1:${place.originPort}
`)
      const master = startProgram('haproxy', ['-W', '-f', file, '-p', path.join(place.folder, 'pid')])
      return new Signalled(master, 'SIGUSR2', 1)
    },
  }
}

const nodeCluster: UpgradeContender = {
  name: 'node:cluster, pm2-style (http.Server.close)',
  replacementsPerRun: Infinity,
  missing: () => null,
  start(place) {
    const args = [path.join(benchFolder, 'reload-cluster.ts')]
    const primary = new ManagedProcess('cluster', { command: process.execPath, args, env: portVariables(place) }, null)
    return new Signalled(primary, 'SIGUSR2', 2)
  },
}

type CirqueOrder = Extract<FromOperator, { tag: 'reload' | 'upgrade' }>

/** The others do not look before they go on either. */
const SOAK = '200ms'

class SupervisedCirque implements RunningProxy {
  readonly #process: ManagedProcess
  readonly #stateFolder: string
  readonly #order: CirqueOrder

  constructor(place: UpgradePlace, order: CirqueOrder) {
    this.#order = order
    this.#stateFolder = path.join(place.folder, 'state')
    const args = ['run', path.join(benchFolder, 'app.ts'), '--workers', '2', '--state-dir', this.#stateFolder]
    const env = { ...portVariables(place), CIRQUE_UPGRADE_SOAK: SOAK }
    const command = path.join(checkout, 'bin', 'cirque')
    this.#process = new ManagedProcess('cirque', { command, args, env, cwd: checkout }, null)
  }

  async replace(): Promise<void> {
    const { id } = await askSupervisor(this.#stateFolder, this.#order) as OperationStarted
    const { result, reason } = await awaitOutcome(this.#stateFolder, id)
    if (result !== 'committed') throw new Error(`${this.#order.tag}: ${result}: ${reason}`)
  }
  stop(): Promise<void> { return this.#process.stop() }
  kill(): void { this.#process.kill() }
}

function supervised(name: string, order: CirqueOrder): UpgradeContender {
  return { name, replacementsPerRun: Infinity, missing: () => null, start: place => new SupervisedCirque(place, order) }
}

export const UPGRADE_CONTENDERS: readonly UpgradeContender[] = [
  supervised('cirque reload', { tag: 'reload' }),
  supervised('cirque upgrade, supervisor included', { tag: 'upgrade', folder: '', supervisor: 'always' }),
  nginxReload,
  nginxUpgrade,
  haproxy('haproxy reload (USR2)', ''),
  haproxy('haproxy reload, idle-close-on-response', 'option idle-close-on-response'),
  nodeCluster,
]
