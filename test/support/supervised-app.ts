/**
 * An application under a real supervisor with real workers, for one test: started in a folder of its own with short
 * timings, watched through its log and its control socket, and ended with every worker by pid whatever the test did.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { LISTENER_SECTION, SECTIONS, type ServerConfig } from '../../src/config/server-config.ts'
import type { SupervisorOptions } from '../../src/config/supervisor-options.ts'
import { writtenKey, writtenValue } from '../../src/config/written-options.ts'
import type { FromOperator } from '../../src/ipc/messages.ts'
import type { AnyOptionTable, Option } from '../../src/primitives/option-table.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { waitFor, within } from './wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')
const CONFIG = 'app.yaml'

export interface LogLine { readonly level: string; readonly who: string; readonly msg: string; readonly [field: string]: unknown }
export interface Exit { readonly code: number | null; readonly signal: string | null }
export interface ShownWorker {
  id: string
  pid: number
  state: string
  silent: boolean
  loopLagMs: number | null
  open: { connections: number; activeExchanges: number; exchanges: number }
}
export interface ShownSlot {
  slot: number
  state: string
  restarts: number
  standIn: string | null
  worker: ShownWorker | null
  incoming: ShownWorker | null
  spare: ShownWorker | null
  draining: ShownWorker[]
}

export interface SupervisedOptions {
  /** Name of a file in test/support/apps. @default 'plain' */
  app?: string
  /** A file anywhere instead. */
  file?: string
  args?: readonly string[]
  options?: SupervisorOptions
  /** What the configuration says besides. @default nothing */
  log?: Partial<ServerConfig['log']>
  traces?: Partial<ServerConfig['traces']>
  limits?: ServerConfig['limits']
  listeners?: ServerConfig['listeners']
  env?: Readonly<Record<string, string>>
  /** The file with the configuration, in its folder. @default 'app.yaml' */
  config?: string
  /** State folder of an earlier one. */
  folder?: string
  /** Descriptors that it is born with, from 3 on, as a service manager hands them over. @default none */
  listen?: readonly number[]
  /** Start it with `node FILE`, so that runForever() makes the supervisor; its options are the defaults. @default false */
  direct?: boolean
  /** Runtime. @default ours */
  node?: string
  /** Wait until it runs; otherwise only until it was started. @default true */
  wait?: boolean
}

export type Configured = Pick<SupervisedOptions, 'options' | 'log' | 'traces' | 'limits' | 'listeners' | 'config'>

/** Everything happens fast, nothing is cut. */
const SHORT: SupervisorOptions = {
  workers: 2,
  heartbeatMs: 50,
  standInAfterSilenceMs: 200,
  abortAfterSilenceMs: 20_000,
  killAfterAbortMs: 100,
  restart: { backoffMs: 20, backoffJitter: 0 },
  upgrade: { soakMs: 200 },
}

export class SupervisedApp {
  readonly folder: string
  readonly pid: number
  readonly lines: LogLine[] = []
  /** What the application printed, and everything that is no JSON line. */
  stdout = ''
  stderr = ''
  readonly ended: Promise<Exit>
  exit: Exit | null = null

  private constructor(child: ChildProcess, folder: string) {
    this.folder = folder
    this.pid = child.pid!
    this.ended = new Promise(resolve => child.once('exit', (code, signal) => { this.exit = { code, signal }; resolve(this.exit) }))
    child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.stdout += text })
    let rest = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      rest += text
      for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
        try { this.lines.push(JSON.parse(rest.slice(0, end)) as LogLine) } catch { /* The application's own. */ }
        rest = rest.slice(end + 1)
      }
    })
  }

  static async start(t: TestContext, options: SupervisedOptions = {}): Promise<SupervisedApp> {
    const folder = options.folder ?? temporaryFolder(t)
    writeConfig(folder, options)
    const file = options.file ?? path.join(import.meta.dirname, 'apps', `${options.app ?? 'plain'}.ts`)
    const { node = process.execPath, listen = [], args = [], direct = false } = options
    const config = path.join(folder, options.config ?? CONFIG)
    const run = ['--disable-warning=ExperimentalWarning', CLI, 'run', '-c', config, file, '--', ...args]
    const flags = direct ? [file, ...args] : run
    const settings = direct ? { CIRQUE_SUPERVISOR_STATE_DIR: path.join(folder, 'state'), CIRQUE_SUPERVISOR_WORKERS: '2' } : {}
    const handed = listen.length === 0 ? {} : { LISTEN_FDS: String(listen.length) }
    // LISTEN_PID is known once the process is there; the exec keeps it.
    const [command, ...before] = listen.length === 0 ? [node] : ['sh', '-c', 'export LISTEN_PID=$$; exec "$@"', 'sh', node]
    const child = spawn(command!, [...before, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe', ...listen],
      cwd: folder,
      env: { ...process.env, ...options.env, ...handed, ...settings },
    })
    const app = new SupervisedApp(child, folder)
    t.after(() => app.#endAll())
    if (options.wait !== false) await app.line('running', 20_000)
    return app
  }

  /** What the next reload reads. */
  configure(options: Configured): void { writeConfig(this.folder, options) }

  get stateDir(): string { return path.join(this.folder, 'state') }

  /** The first line of the log that begins so. */
  line(start: string, deadlineMs = 10_000): Promise<LogLine> {
    return waitFor(`the log line '${start}'`, () => {
      const found = this.lines.find(line => line.msg.startsWith(start))
      if (found === undefined && this.exit !== null) {
        throw new Error(`the supervisor ended (${JSON.stringify(this.exit)}) without '${start}': ${this.stderr}`)
      }
      return found
    }, { deadlineMs, seen: () => this.stderr.slice(-2000) })
  }

  has(start: string): boolean { return this.lines.some(line => line.msg.startsWith(start)) }

  /** Port of the first TCP listener. */
  get port(): number { return this.ports[0]! }

  /** Ports of all TCP listeners. */
  get ports(): number[] {
    const running = this.lines.find(line => line.msg === 'running')!
    const addresses = (running['listeners'] as string[]).filter(listener => !listener.startsWith('unix:'))
    return addresses.map(address => Number(/:(\d+)$/.exec(address)![1]))
  }

  signal(signal: NodeJS.Signals): void { process.kill(this.pid, signal) }
  end(deadlineMs = 10_000): Promise<Exit> {
    return within(`the supervisor to end; log: ${this.stderr.slice(-2000)}`, this.ended, deadlineMs)
  }

  async ask(message: FromOperator): Promise<unknown> {
    const { askSupervisor } = await import('../../supervisor/control-client.ts')
    return askSupervisor(this.stateDir, message)
  }

  async slots(): Promise<ShownSlot[]> { return (await this.ask({ tag: 'status' }) as { slots: ShownSlot[] }).slots }

  /** Resolves when the slots look as wanted. */
  async until(what: string, wanted: (slots: ShownSlot[]) => boolean, deadlineMs = 10_000): Promise<ShownSlot[]> {
    let last: ShownSlot[] = []
    await waitFor(what, async () => wanted(last = await this.slots()), { deadlineMs, seen: () => last })
    return last
  }

  async workerPids(): Promise<number[]> { return (await this.slots()).flatMap(slot => slot.worker === null ? [] : [slot.worker.pid]) }

  async #endAll(): Promise<void> {
    if (this.exit === null) kill(this.pid)
    await this.ended
    for (const pid of this.everyWorkerPid()) kill(pid)
  }

  /** Workers of this state folder, orphans included: the path of their control socket stands in what they were started with. */
  everyWorkerPid(): number[] {
    const controlPath = path.join(this.stateDir, 'worker.sock')
    return fs.readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number).filter(pid => {
      if (!commandLine(pid).includes('/workers/main')) return false
      try { return fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(controlPath) } catch { return false }
    })
  }
}

/** Whether a process runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  try { return !/^\d+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')) } catch { return false }
}

export function commandLine(pid: number): string {
  try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') } catch { return '' }
}

/** One request on a connection of its own. Never repeats anything. @returns the body, or how it failed: `ECONNREFUSED`, `closed early`. */
export function get(to: number | string, target = '/', onConnect?: () => void): Promise<string> {
  return new Promise(resolve => {
    const socket = typeof to === 'number' ? net.connect({ port: to, host: '127.0.0.1' }) : net.connect({ path: to })
    let text = ''
    socket.setEncoding('latin1')
    socket.on('connect', () => {
      socket.write(`GET ${target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`)
      onConnect?.()
    })
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
    socket.on('close', () => {
      const match = /^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*?content-length: (\d+)\r\n(?:.+\r\n)*\r\n([^]*)$/i.exec(text)
      resolve(match !== null && match[2]!.length === Number(match[1]) ? match[2]! : `closed early: ${JSON.stringify(text)}`)
    })
  })
}

function kill(pid: number): void { try { process.kill(pid, 'SIGKILL') } catch { /* Gone already. */ } }

/** As an operator would write it (JSON is YAML). */
function writeConfig(folder: string, { options, log, traces, limits, listeners, config: file = CONFIG }: Configured): void {
  const supervisor: SupervisorOptions = { ...SHORT, stateDir: path.join(folder, 'state'), ...options }
  const values: Readonly<Record<string, object | undefined>> = {
    supervisor,
    drain: supervisor.drain,
    restart: { ...SHORT.restart, ...options?.restart },
    upgrade: { ...SHORT.upgrade, ...options?.upgrade },
    log,
    traces,
    // Other work on this machine may hold up the loop; what that does to requests has tests of its own.
    limits: { maxLoopDelayMs: 0, ...limits },
  }
  const sections = Object.fromEntries(SECTIONS.map(({ name, table }) => [name, written(values[name] ?? {}, table)]))
  const named = Object.entries(listeners ?? {}).map(([name, given]) => [name, written(given, LISTENER_SECTION.table)])
  const config = { ...sections as object, listeners: Object.fromEntries(named) as object }
  fs.writeFileSync(path.join(folder, file), JSON.stringify(config))
}

function written(values: object, table: AnyOptionTable): object {
  const given = Object.entries(values).filter(([key, value]) => value !== undefined && Object.hasOwn(table, key))
  const write = (option: Option, value: unknown): unknown => {
    return typeof value === 'boolean' ? value : writtenValue(option, value).replace(/^''$/, '')
  }
  return Object.fromEntries(given.map(([key, value]: [string, unknown]) => [writtenKey(key, table[key]!), write(table[key]!, value)]))
}
