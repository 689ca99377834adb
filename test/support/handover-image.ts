/**
 * Stands for a release's supervisor in tests of its replacement in place: holds a listening socket and a child, answers
 * questions on the socket, and replaces itself when asked to. Run as a program (`handover-image FOLDER`) it is the first
 * image; boot.ts imports it as the entry of every later one, where `state` says what is wrong with it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import type { ChildEnd, SystemCalls } from '../../src/ipc/system-calls.ts'
import { onSignals } from '../../supervisor/early-signals.ts'
import { readHandover, replaceSupervisor } from '../../supervisor/reexec.ts'
import type { BootControl, Handover } from '../../supervisor/reexec.ts'

/** What a new image does instead of taking over, each until it is given up. */
export type Behaviour =
  | 'commit' | 'wait-for-signal' | 'own-signals'
  | 'throw-at-import' | 'exit-at-import' | 'loop-at-import' | 'never-load' | 'no-resume'
  | 'remove-way-back' | 'remove-way-back-and-loop'
  | 'reject' | 'exit-later' | 'crash' | 'unhandled' | 'late' | 'loop-later' | 'go-back' | 'close-socket'

interface State {
  readonly behaviour: Behaviour
  readonly round: number
  readonly child: number
  /** The image before cannot come back. */
  readonly backThrows: boolean
}

export type Command =
  | { readonly do: 'status' | 'end' }
  | {
    readonly do: 'replace'
    readonly behaviour: Behaviour
    readonly bootTimeoutMs?: number
    readonly execArgv?: readonly string[]
    /** Of both releases. */
    readonly boot?: string
    readonly backNode?: string
    readonly backThrows?: boolean
  }

export interface ImageStatus {
  readonly pid: number
  readonly round: number
  readonly attempt: Handover['attempt'] | 'first'
  readonly reason: string
  readonly signals: readonly string[]
  /** What reap says of the child: null while it runs. */
  readonly childEnd: ChildEnd | 'not-a-child' | null
  readonly socket: string
  readonly closeOnExec: boolean
  readonly descriptors: readonly string[]
  /** Of the state folder, now; and of the file that was read at the start. */
  readonly files: readonly string[]
  readonly fileMode: number
  /** Of Node.js, as what it starts would inherit them. */
  readonly execArgv: readonly string[]
}

const SELF = import.meta.filename
const ANSWER_ROOM_MS = 5_000
/** O_CLOEXEC on Linux. */
const CLOSE_ON_EXEC = 0o2000000

const given = import.meta.main ? null : readHandover(process.argv[2]!)
const fileMode = given === null ? 0 : fs.statSync(process.argv[2]!).mode & 0o777
const signals: string[] = []

if (given?.attempt === 'forward') await beginAs((given.state as State).behaviour, given)
else if (given !== null && (given.state as State).backThrows) throw new Error('the old one is broken, too')

async function beginAs(behaviour: Behaviour, handover: Handover): Promise<void> {
  console.log('importing')
  switch (behaviour) {
    case 'throw-at-import': throw new Error('thrown at import')
    case 'exit-at-import': return process.exit(0)
    case 'loop-at-import': for (;;);
    case 'never-load': return new Promise(() => {})
    case 'remove-way-back':
      fs.rmSync(handover.back.node)
      throw new Error('thrown at import')
    case 'remove-way-back-and-loop':
      fs.rmSync(handover.back.node)
      for (;;);
    case 'own-signals':
    case 'wait-for-signal': {
      if (behaviour === 'wait-for-signal') await once(process, 'SIGTERM')
      // A release of its own has files of its own.
      const file = new URL('../../supervisor/early-signals.ts', import.meta.url).href
      const own = await import(`${file}?own`) as { readonly onSignals: typeof onSignals }
      own.onSignals(signal => signals.push(signal))
      return
    }
    default:
  }
}

const isNoEntry = given?.attempt === 'forward' && (given.state as State).behaviour === 'no-resume'

/** undefined for a module that is no entry at all. */
export const resume = isNoEntry ? undefined : async (handover: Handover, boot: BootControl): Promise<void> => {
  const { behaviour } = handover.state as State
  if (handover.attempt === 'forward') await goOnAs(behaviour, handover, boot)
  if (behaviour !== 'wait-for-signal' && behaviour !== 'own-signals') onSignals(signal => signals.push(signal))
  await serve(handover, boot)
}

/** Does not return when the behaviour is a fault. */
async function goOnAs(behaviour: Behaviour, handover: Handover, boot: BootControl): Promise<void> {
  switch (behaviour) {
    case 'reject':
      await delay(10)
      throw new Error('rejected later')
    case 'exit-later':
      await delay(10)
      return process.exit(0)
    case 'crash':
      setTimeout(() => { throw new Error('thrown in a timer') }, 10)
      break
    case 'unhandled':
      setTimeout(() => { void Promise.reject(new Error('rejected in a timer')) }, 10)
      break
    case 'loop-later':
      await delay(10)
      for (;;);
    case 'go-back': return boot.goBack('workers did not come back')
    case 'close-socket':
      fs.closeSync(handover.descriptors[0]!)
      throw new Error('closed what it was given')
    case 'late': break
    default: return
  }
  await new Promise(() => {})
}

async function serve(handover: Handover, boot: BootControl | null): Promise<void> {
  const loaded = await loadSystemCalls()
  const calls = loaded.available ? loaded.calls : null
  const fd = handover.descriptors[0]!
  const server = net.createServer(socket => {
    socket.setEncoding('utf8').once('data', text => {
      const command = JSON.parse(String(text)) as Command
      if (command.do === 'replace') replace(handover, command, calls!)
      else void answer(socket, command.do, handover, calls)
    })
  })
  server.listen(new net.Socket({ fd: calls === null ? fd : calls.dup(fd), readable: false, writable: false }))
  await once(server, 'listening')
  boot?.commit()
}

async function answer(socket: net.Socket, what: 'status' | 'end', handover: Handover, calls: SystemCalls | null): Promise<void> {
  const { child, round } = handover.state as State
  let childEnd = calls?.reap(child) ?? null
  if (what === 'end') {
    process.kill(child, 'SIGTERM')
    const deadlineMs = performance.now() + ANSWER_ROOM_MS
    while (childEnd === null && performance.now() < deadlineMs) {
      childEnd = calls?.reap(child) ?? null
      await delay(2)
    }
  }
  const [fd] = handover.descriptors
  const flags = /flags:\s+(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!
  const status: ImageStatus = {
    pid: process.pid,
    round,
    attempt: given === null ? 'first' : given.attempt,
    reason: handover.reason,
    signals,
    childEnd,
    socket: fs.readlinkSync(`/proc/self/fd/${fd}`),
    closeOnExec: (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0,
    descriptors: fs.readdirSync('/proc/self/fd'),
    files: fs.readdirSync(folder()),
    fileMode,
    execArgv: process.execArgv,
  }
  socket.end(JSON.stringify(status))
  if (what === 'end') socket.once('close', () => process.exit(0))
}

function replace(handover: Handover, command: Extract<Command, { do: 'replace' }>, calls: SystemCalls): void {
  const { child, round } = handover.state as State
  const boot = command.boot ?? fileURLToPath(new URL('../../supervisor/boot.ts', import.meta.url))
  const image = { node: process.execPath, execArgv: ['--disable-warning=ExperimentalWarning'], entry: SELF, boot }
  const state: State = { behaviour: command.behaviour, round: round + 1, child, backThrows: command.backThrows === true }
  replaceSupervisor(folder(), {
    format: 1,
    attempt: 'forward',
    reason: '',
    to: { ...image, execArgv: [...image.execArgv, ...command.execArgv ?? []] },
    back: { ...image, node: command.backNode ?? image.node },
    descriptors: handover.descriptors,
    bootTimeoutMs: command.bootTimeoutMs ?? ANSWER_ROOM_MS,
    state,
  }, calls)
}

function folder(): string { return import.meta.main ? process.argv[2]! : path.dirname(process.argv[2]!) }

if (import.meta.main) {
  const socket = new net.BoundSocket({ host: '127.0.0.1', port: 0 })
  const child = spawn('sleep', ['60'], { stdio: 'ignore' })
  await once(child, 'spawn')
  const state: State = { behaviour: 'commit', round: 0, child: child.pid!, backThrows: false }
  // Only what `serve` looks at.
  await serve({ reason: '', descriptors: [socket.fd()], state } as unknown as Handover, null)
  console.log(JSON.stringify({ port: (socket.address() as net.AddressInfo).port, child: child.pid }))
}
