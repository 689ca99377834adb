/**
 * The service manager's side of a supervisor: tells systemd how the service is (sd_notify(3)), lets it watch over us,
 * gives it the listening sockets to keep (FDSTORE) and takes those that it hands to a start (sd_listen_fds(3)).
 *
 * All of it is optional: without a service manager every method does nothing. Nothing here throws; what could not be
 * told is one warning, and the next only after something could be told again.
 * Invariants: its variables are out of the environment before a worker is forked; its sockets are close-on-exec.
 * Does not decide what the sockets are for: listener-table.ts compares addresses.
 */
import { createHash } from 'node:crypto'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { MAX_DATAGRAM_DESCRIPTORS, SystemCallError } from '../src/ipc/system-calls.ts'
import type { BoundAddress, SystemCalls } from '../src/ipc/system-calls.ts'

/** A listening socket that came with the start: from a socket unit, or one that we had stored ourselves. */
export interface InheritedSocket {
  readonly fd: number
  /** As it was stored, see `storedName`; of a socket unit what FileDescriptorName= says, else the unit's name. */
  readonly name: string
  readonly address: BoundAddress
}

/** They follow an exec in place; the process id does not change, so WATCHDOG_PID stays right. */
const LASTING_VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'] as const
/** They describe descriptors of one start, and are of no use once those were taken. */
const START_VARIABLES = ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_PIDFDID', 'LISTEN_FDNAMES'] as const

/** SD_LISTEN_FDS_START. */
const FIRST_INHERITED = 3
/** More than any store keeps. A larger number is a mistake, not a wish. */
const MAX_INHERITED = 16_384
/** FDNAME_MAX of systemd. */
const MAX_NAME_BYTES = 255
/** systemd ignores messages of more than 4096 bytes. */
const MAX_STATUS_CHARACTERS = 500
/** systemd's own library waits here without an end: its queue is short (net.unix.max_dgram_qlen), and `READY=1` must not be lost. */
const FULL_QUEUE_WAIT_MS = 100
const FULL_QUEUE_POLL_MS = 2
const MAX_TIMER_MS = 2 ** 31 - 1

export class ServiceManager {
  readonly inherited: readonly InheritedSocket[]
  /** '': there is no service manager to tell. */
  readonly #socket: string
  /** 0: there is no watchdog. */
  readonly #watchdogMs: number
  readonly #calls: SystemCalls | null
  readonly #log: ProcessLog
  readonly #environmentForExec: Readonly<Record<string, string>>
  #watchdog: NodeJS.Timeout | null = null
  #failing = false

  private constructor(taken: Taken, calls: SystemCalls | null, log: ProcessLog) {
    this.#calls = calls
    this.#log = log
    this.#environmentForExec = taken.lasting
    this.#socket = calls === null ? '' : taken.socket
    this.#watchdogMs = taken.watchdogMs
    this.inherited = calls === null ? [] : inheritedSockets(taken, calls, log)
  }

  /**
   * Takes what is for us out of `env`.
   * @param calls null: nothing can be told or taken, which is a warning when a service manager waits for it
   */
  static fromEnvironment(env: NodeJS.ProcessEnv, calls: SystemCalls | null, log: ProcessLog): ServiceManager {
    const taken = take(env, log)
    if (calls === null && taken.socket !== '') {
      const remedy = 'use Type=exec and no WatchdogSec= in the unit, or a Node.js with node:ffi'
      log.warn(`systemd waits for messages that cannot be sent without system calls; ${remedy}`)
    }
    if (calls === null && taken.count > 0) {
      const instead = 'addresses are bound anew, which fails while a socket unit holds them'
      log.warn(`${taken.count} sockets of systemd cannot be used without system calls; ${instead}`)
    }
    return new ServiceManager(taken, calls, log)
  }

  /** Whether a service manager is there, which is told, restarts us and keeps our sockets. */
  get present(): boolean { return this.#socket !== '' }

  /** What the next image needs to go on talking, besides what is in our environment. */
  environmentForExec(): Record<string, string> { return { ...this.#environmentForExec } }

  /** Serving; also ends `reloading`. */
  ready(status: string): void { this.#tell(`READY=1\nSTATUS=${oneLine(status)}`) }

  /** From here until `ready`, systemd neither calls us started nor failed. */
  reloading(): void {
    // hrtime is CLOCK_MONOTONIC on Linux, the clock that systemd compares with.
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  stopping(): void { this.#tell('STOPPING=1') }

  /** One line for `systemctl status`. */
  status(text: string): void { this.#tell(`STATUS=${oneLine(text)}`) }

  /** From now on systemd hears of us twice in the time after which it would kill us, as long as the event loop turns. */
  startWatchdog(): void {
    if (!this.present || this.#watchdogMs === 0 || this.#watchdog !== null) return
    const tell = (): void => this.#tell('WATCHDOG=1')
    tell()
    this.#watchdog = setInterval(tell, Math.min(MAX_TIMER_MS, Math.max(1, Math.floor(this.#watchdogMs / 2)))).unref()
  }

  /** We fall silent; systemd still counts. */
  stopWatchdog(): void {
    if (this.#watchdog !== null) clearInterval(this.#watchdog)
    this.#watchdog = null
  }

  /**
   * Gives copies to the service manager, which hands them to the next start, whatever becomes of this one. Storing a
   * socket again changes nothing. More than `FileDescriptorStoreMax=` are dropped there, without a word to us.
   */
  store(name: string, fds: readonly number[]): void {
    for (let at = 0; at < fds.length; at += MAX_DATAGRAM_DESCRIPTORS) {
      // FDPOLL=0: a bound socket without `listen` reads as hung up, and systemd would throw it out at once.
      this.#tell(`FDSTORE=1\nFDNAME=${encodeName(storedName(name))}\nFDPOLL=0`, fds.slice(at, at + MAX_DATAGRAM_DESCRIPTORS))
    }
  }

  /** The service manager lets go of everything that was stored under the name. */
  remove(name: string): void { this.#tell(`FDSTOREREMOVE=1\nFDNAME=${encodeName(storedName(name))}`) }

  #tell(message: string, descriptors: readonly number[] = []): void {
    if (!this.present) return
    try {
      // Who did not read in all that time is not waited for again.
      sendPatiently(this.#calls!, this.#socket, Buffer.from(message), descriptors, this.#failing ? 0 : FULL_QUEUE_WAIT_MS)
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#log.warn(`systemd could not be told ${message.split('\n', 1)[0]!}`, { error })
      this.#failing = true
    }
  }
}

/** What `store(name)` keeps, and `inherited` brings back: the name, unless it is longer than systemd takes. */
export function storedName(name: string): string {
  if (encodeName(name).length <= MAX_NAME_BYTES) return name
  // The hash keeps apart what begins alike.
  const mark = `~${createHash('sha256').update(name).digest('hex').slice(0, 16)}`
  let kept = ''
  let bytes = mark.length
  for (const character of name) {
    bytes += encodeName(character).length
    if (bytes > MAX_NAME_BYTES) break
    kept += character
  }
  return `${kept}${mark}`
}

/** systemd takes printable ASCII without the colon, which separates names; the rest is percent-encoded. */
function encodeName(name: string): string {
  let encoded = ''
  for (const byte of Buffer.from(name)) {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x25 && byte !== 0x3a
    encoded += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return encoded
}

/** Names of a socket unit were never encoded: what does not decode stays as it is. */
function decodeName(text: string): string {
  try { return decodeURIComponent(text) } catch { return text }
}

function oneLine(text: string): string {
  return text.toWellFormed().replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim().slice(0, MAX_STATUS_CHARACTERS).toWellFormed()
}

interface Taken {
  /** '': none that we can talk to. */
  readonly socket: string
  readonly watchdogMs: number
  readonly count: number
  readonly names: readonly string[]
  readonly lasting: Readonly<Record<string, string>>
}

function take(env: NodeJS.ProcessEnv, log: ProcessLog): Taken {
  const lasting: Record<string, string> = {}
  for (const name of LASTING_VARIABLES) if (env[name] !== undefined) lasting[name] = env[name]
  const { NOTIFY_SOCKET: given = '', WATCHDOG_USEC: microseconds, WATCHDOG_PID: watched } = lasting
  const { LISTEN_FDS: count, LISTEN_PID: listener, LISTEN_FDNAMES: names = '' } = env
  for (const name of [...LASTING_VARIABLES, ...START_VARIABLES]) delete env[name]

  const local = given.startsWith('/') || given.startsWith('@')
  if (given !== '' && !local) {
    log.warn('NOTIFY_SOCKET is of a kind that is not supported; the service manager will hear nothing', { socket: given })
  }
  // Variables that name another process came down from a parent and are none of our business.
  const mine = (pid: string | undefined): boolean => pid === String(process.pid)
  const watches = microseconds !== undefined && (watched === undefined || mine(watched))
  return {
    socket: local ? given : '',
    watchdogMs: watches ? readCount('WATCHDOG_USEC', microseconds, Number.MAX_SAFE_INTEGER, log) / 1_000 : 0,
    count: count !== undefined && mine(listener) ? readCount('LISTEN_FDS', count, MAX_INHERITED, log) : 0,
    names: names.split(':'),
    lasting,
  }
}

/** @returns 0 for what is no number, with a warning. */
function readCount(name: string, text: string, max: number, log: ProcessLog): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN
  if (value <= max) return value
  log.warn(`${name} is not a number that can be right; it is ignored`, { value: text })
  return 0
}

/** Descriptors that are no sockets of ours stay open and unused: after a mistake on the way they may be another program's. */
function inheritedSockets(taken: Taken, calls: SystemCalls, log: ProcessLog): InheritedSocket[] {
  const sockets: InheritedSocket[] = []
  for (let index = 0; index < taken.count; index++) {
    const fd = FIRST_INHERITED + index
    const name = decodeName(taken.names[index] ?? '')
    try {
      const address = calls.socketAddress(fd)
      if (address === null) {
        log.warn(`descriptor ${fd} from systemd is no listening socket; it is left alone`, { name })
        continue
      }
      calls.setInheritable(fd, false)
      sockets.push({ fd, name, address })
    } catch (error) {
      log.warn(`descriptor ${fd} from systemd cannot be used`, { name, error })
    }
  }
  return sockets
}

/**
 * Waits, asleep, for room in the queue of the receiver: messages stay in order, and get out before an exec and before the
 * end. A supervisor serves no requests that could wait for it.
 */
function sendPatiently(calls: SystemCalls, socket: string, message: Buffer, descriptors: readonly number[], waitMs: number): void {
  const deadline = performance.now() + waitMs
  for (;;) {
    try {
      calls.sendDatagram(socket, message, descriptors)
      return
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.code !== 'EAGAIN' || performance.now() >= deadline) throw error
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_QUEUE_POLL_MS)
  }
}
