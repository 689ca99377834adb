/**
 * Child processes of the bench: started on a given core, asked whether they are ready, stopped by process id.
 * Invariant: everything started here is in `running` until it is gone, and `stopAll` with `stopEverything` (Ctrl-C, errors, the end)
 * leave neither a process nor a temporary folder behind. Processes are only ever addressed by an id and start time
 * read from the tree below our own child.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isAlive, processTree, type ProcessStat } from './process-usage.ts'

export interface Launch {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** File that stdout is appended to, for programs whose log goes there; otherwise stdout is kept in `output`. */
  readonly stdoutFile?: string
}

/** The last part of what a child wrote, kept for the error message when it fails. */
const KEPT_OUTPUT_CHARS = 4000

export class ManagedProcess {
  readonly name: string
  readonly child: ChildProcess
  output = ''

  constructor(name: string, launch: Launch, core: number | null) {
    const args = [...launch.args]
    let command = launch.command
    if (core !== null) {
      args.unshift('--cpu-list', String(core), command)
      command = 'taskset'
    }
    this.name = name
    const stdout = launch.stdoutFile === undefined ? 'pipe' : openSync(launch.stdoutFile, 'a')
    this.child = spawn(command, args, { stdio: ['ignore', stdout, 'pipe'], cwd: launch.cwd, env: { ...process.env, ...launch.env } })
    if (typeof stdout === 'number') closeSync(stdout)
    const keep = (chunk: Buffer): void => { this.output = (this.output + chunk.toString('latin1')).slice(-KEPT_OUTPUT_CHARS) }
    this.child.stdout?.on('data', keep)
    this.child.stderr?.on('data', keep)
    this.child.on('error', (error) => { this.output += error.message })
    running.add(this)
  }

  /** `taskset` execs the program, so the child's pid is the program's own. */
  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.name} could not be started: ${this.output}`)
    return this.child.pid
  }

  get ended(): boolean { return this.child.exitCode !== null || this.child.signalCode !== null }

  tree(): ProcessStat[] { return processTree(this.pid) }

  /** SIGTERM to the first process, SIGKILL to whatever is left of the tree after `graceMs`. */
  async stop(graceMs = 1500): Promise<void> {
    if (this.child.pid === undefined) {
      running.delete(this)
      return
    }
    const tree = this.tree()
    this.signal(this.pid, 'SIGTERM')
    const late = Date.now() + graceMs
    while (tree.some(isAlive) && Date.now() < late) await delay(20)
    for (const stat of [...tree, ...this.tree()]) if (isAlive(stat)) this.signal(stat.pid, 'SIGKILL')
    while (tree.some(isAlive) || !this.ended) await delay(10)
    running.delete(this)
  }

  /** At once and without waiting: for the end of this process. */
  kill(): void {
    if (this.child.pid === undefined) return
    for (const stat of this.tree()) this.signal(stat.pid, 'SIGKILL')
    running.delete(this)
  }

  private signal(pid: number, signal: NodeJS.Signals): void {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

const running = new Set<ManagedProcess>()
const folders = new Set<string>()

/** For one that holds more than the rest of the run should keep. */
export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  folders.delete(folder)
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cirque-bench-'))
  folders.add(folder)
  return folder
}

/** Politely: parents get the time to collect their children, so that nothing is left in the process table either. */
export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((managed) => managed.stop(500)))
}

/** At once: for the `exit` event, which cannot wait. */
export function stopEverything(): void {
  for (const managed of running) managed.kill()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  folders.clear()
}

/** Ports that nobody listens on right now, each another one. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: net.Server[] = []
  const ports: number[] = []
  for (let i = 0; i < count; i++) {
    const server = net.createServer()
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
    ports.push((server.address() as net.AddressInfo).port)
    servers.push(server)
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve))
  return ports
}

export interface Answer {
  readonly status: number
  readonly bytes: number
}

/** How a request is sent. */
export interface RequestOptions {
  /** @default none: a GET */
  readonly body?: Buffer | null
  /** Over TLS, whatever the certificate. @default false */
  readonly tls?: boolean
}

/** One request on a connection of its own. */
export function request(port: number, path: string, { body = null, tls = false }: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, method: body === null ? 'GET' : 'POST', agent: false, timeout: 10_000,
      headers: body === null ? {} : { 'Content-Length': body.length } }
    const outgoing = (tls ? https : http).request({ ...options, ...tls ? { rejectUnauthorized: false } : null }, (response) => {
      let bytes = 0
      response.on('data', (chunk: Buffer) => { bytes += chunk.length })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, bytes }))
      response.on('error', reject)
    })
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 10 s')))
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** Resolves when `path` is answered with 200; rejects when the process ends or 15 s pass. */
export async function waitUntilReady(managed: ManagedProcess, port: number, path: string, options: RequestOptions = {}): Promise<void> {
  const late = Date.now() + 15_000
  let last = 'no answer'
  while (Date.now() < late) {
    if (managed.ended) throw new Error(`${managed.name} ended while starting:\n${managed.output}`)
    try {
      const { status } = await request(port, path, options)
      if (status === 200) return
      last = `status ${status}`
    } catch (error) {
      last = (error as Error).message
    }
    await delay(50)
  }
  throw new Error(`${managed.name} is not ready after 15 s (${last}):\n${managed.output}`)
}

/** Something listens at the port. @throws Error with what the program said, when it does not come to that within 15 s */
export async function waitUntilListening(managed: ManagedProcess, port: number): Promise<void> {
  const late = Date.now() + 15_000
  for (;;) {
    if (managed.ended) throw new Error(`${managed.name} ended while starting:\n${managed.output}`)
    const isThere = await new Promise<boolean>(resolve => {
      const socket = net.connect({ host: '127.0.0.1', port }, () => {
        resolve(true)
        socket.destroy()
      })
      socket.on('error', () => resolve(false))
    })
    if (isThere) return
    if (Date.now() > late) throw new Error(`${managed.name} does not listen after 15 s:\n${managed.output}`)
    await delay(50)
  }
}

/** Runs a program to its end on a core and returns what it printed. */
export async function runToEnd(name: string, launch: Launch, core: number | null): Promise<string> {
  const managed = new ManagedProcess(name, launch, core)
  const output: Buffer[] = []
  managed.child.stdout?.on('data', (chunk: Buffer) => output.push(chunk))
  const code = await new Promise<number | null>((resolve) => {
    managed.child.on('close', resolve)
    managed.child.on('error', () => resolve(null))
  })
  running.delete(managed)
  if (code !== 0) throw new Error(`${name} ended with ${code}:\n${managed.output}`)
  return Buffer.concat(output).toString('latin1')
}
