/**
 * Lines to a file or to a standard stream through pino's own sink (sonic-boom), such that logging never hurts serving:
 * it never blocks the event loop, never throws, keeps at most `maxLogQueueBytes` and counts what it drops.
 *
 *   write() -> current -> queue of pieces (whole lines) -> one write in flight -> pino.destination()
 *
 * Only one write is in the sink at a time, so that the rest stays ours at the end of the process: the sink's own
 * flushSync() would retry a full disk for ever, and waits for readers of a pipe that nobody empties.
 * A pipe or socket is written to directly, because the other workers write to it as well: pieces of at most PIPE_BUF bytes,
 * which the kernel takes whole or not at all, so that no line is torn by another one. Who makes lines keeps to `maxLineLength`.
 * A failed write is tried again after RETRY_MS; a reader that is gone (EPIPE) does not come back, so lines are dropped.
 */
import fs from 'node:fs'
import path from 'node:path'
import { pino } from 'pino'
import { defaultsOf, duration, resolveOptions, size, type OptionTable } from '../../primitives/option-table.ts'

/** Where lines go: the process's own stream, or the path of a file that is appended to. */
export type LineDestination = 'stdout' | 'stderr' | { readonly file: string }

export interface LineSinkOptions {
  /** Lines that wait, in characters; past it lines are dropped and counted. @default 8_388_608 */
  maxLogQueueBytes?: number
  /** Lines are collected this long before they are written, in ms. 0 writes at the end of the turn. @default 100 */
  collectMs?: number
}

export const LINE_SINK_OPTIONS = {
  maxLogQueueBytes: size(8_388_608),
  collectMs: duration(100, { zero: 'writes at the end of the turn' }),
} satisfies OptionTable<LineSinkOptions>

export const LINE_SINK_DEFAULTS: Readonly<Required<LineSinkOptions>> = defaultsOf<LineSinkOptions>(LINE_SINK_OPTIONS)

/** Lines are put together to pieces of this length; the first full one is handed over at once. */
const PIECE_LENGTH = 16_384
/**
 * Pieces that are written in one go. A write is answered once a turn of the event loop, so one piece at a time would be
 * too slow under load.
 */
const MAX_PIECES_PER_WRITE = 16
const RETRY_MS = 1000
/** What a pipe takes in one piece (pipe(7)), in bytes. */
const PIPE_BUF = 4096
/** A full pipe is looked at again after this. */
const FULL_PIPE_MS = 10
/** Readable by the group, which log shippers are in. */
const FILE_MODE = 0o640

type Sink = ReturnType<typeof pino.destination> & { readonly fd: number }

export class LineSink {
  /** Lines that were not written, because too much waited or the reader was gone. */
  dropped = 0
  /** Writes and reopenings that failed. */
  faults = 0
  readonly #destination: LineDestination
  readonly #maxQueued: number
  readonly #collectMs: number
  readonly #sink: Sink
  /** The descriptor that was opened here for a standard stream; -1 when the sink opens its own. */
  readonly #ownFd: number
  /** A write to this descriptor returns at once, whatever the reader does. */
  readonly #neverWaits: boolean
  /** Others write to the same pipe or socket in between: pieces of at most PIPE_BUF, each in a write of its own. */
  readonly #joined: boolean
  /** And it is written to from here. A pipe that cannot be had without blocking is left to the sink's threads. */
  readonly #shared: boolean
  /** Of a joined stream: bytes in #current; of a shared one: what is left of a line that was too long for one write. */
  #currentBytes = 0
  #rest: Buffer | null = null
  #queue: string[] = []
  #current = ''
  #queued = 0
  #inFlight = ''
  #timer: NodeJS.Timeout | null = null
  #retry: NodeJS.Timeout | null = null
  #gone = false
  /**
   * The sink is opening its file. Asked to reopen meanwhile it would say 'drain' with lines unwritten, so one opening
   * follows the other.
   */
  #opening = false
  #reopenWanted = false
  #closed: (() => void) | null = null
  /** Wait until nothing waits. */
  #flushes: (() => void)[] = []
  readonly #atExit = (): void => this.#writeRest()

  /** @throws OptionError, and when the file cannot be opened: a wrong path is better found at the start. */
  constructor(destination: LineDestination, options: LineSinkOptions = {}) {
    const { maxLogQueueBytes, collectMs } = resolveOptions<LineSinkOptions>('log', LINE_SINK_OPTIONS, options, LINE_SINK_DEFAULTS)
    this.#destination = destination
    this.#maxQueued = maxLogQueueBytes
    this.#collectMs = collectMs
    if (typeof destination === 'string') {
      const { fd, own, neverWaits, joined } = openStandardStream(destination)
      this.#ownFd = own ? fd : -1
      this.#neverWaits = neverWaits
      this.#joined = joined
      this.#shared = joined && neverWaits
      this.#sink = pino.destination({ dest: fd, sync: false, minLength: 0 }) as Sink
    } else {
      const file = path.resolve(destination.file)
      fs.mkdirSync(path.dirname(file), { recursive: true })
      this.#ownFd = -1
      this.#neverWaits = true
      this.#joined = checkFile(file)
      this.#shared = false
      this.#opening = true
      this.#sink = pino.destination({ dest: file, sync: false, minLength: 0, append: true, mode: FILE_MODE }) as Sink
    }
    // pino's listener would replace write() after EPIPE and throw after anything else; the end is handled here as well.
    this.#sink.removeAllListeners('error')
    this.#sink.on('error', (error: NodeJS.ErrnoException) => this.#failed(error))
    this.#sink.on('drain', () => this.#written())
    this.#sink.on('ready', () => {
      this.#opening = false
      // Not before the sink has begun to write what waited for the opening.
      if (this.#reopenWanted) setImmediate(() => this.#reopen())
    })
    this.#sink.flushSync = () => {}
    process.once('exit', this.#atExit)
  }

  /** Characters that wait to be written. */
  get queued(): number { return this.#queued }
  /** Longest line, in bytes and its break included, that no other writer can tear: whoever makes lines keeps to it. */
  get maxLineLength(): number { return this.#joined ? PIPE_BUF : Infinity }

  /** Takes one line with its line break. @returns false when it was dropped. */
  write(line: string): boolean {
    if (this.#gone || this.#closed !== null || this.#queued + line.length > this.#maxQueued) {
      this.dropped++
      return false
    }
    this.#queued += line.length
    if (this.#joined) {
      const bytes = Buffer.byteLength(line)
      if (this.#currentBytes > 0 && this.#currentBytes + bytes > PIPE_BUF) this.#handOver()
      this.#currentBytes += bytes
    }
    this.#current += line
    if (this.#current.length >= PIECE_LENGTH) this.#handOver()
    else this.#timer ??= this.#arm()
    return true
  }

  #arm(): NodeJS.Timeout {
    const timer = setTimeout(() => this.#handOver(), this.#collectMs)
    // The rest is written at exit, so the timer need not keep the process alive.
    timer.unref()
    return timer
  }

  #handOver(): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer)
      this.#timer = null
    }
    if (this.#current !== '') {
      this.#queue.push(this.#current)
      this.#current = ''
      this.#currentBytes = 0
    }
    if (this.#shared) this.#pumpShared()
    else this.#pump()
  }

  #pumpShared(): void {
    if (this.#retry !== null || this.#gone) return
    for (let pieces = 0; pieces < MAX_PIECES_PER_WRITE; pieces++) {
      const piece = this.#queue[0]
      if (piece === undefined) {
        this.#emptied()
        return
      }
      const bytes = this.#rest ?? Buffer.from(piece)
      let written: number
      try {
        written = fs.writeSync(this.#sink.fd, bytes)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') this.#pumpSharedIn(FULL_PIPE_MS)
        else this.#failed(error as NodeJS.ErrnoException)
        return
      }
      this.#rest = written < bytes.length ? bytes.subarray(written) : null
      if (this.#rest !== null) continue
      this.#queue.shift()
      this.#queued -= piece.length
    }
    this.#pumpSharedIn(0)
  }

  #pumpSharedIn(ms: number): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = null
      this.#pumpShared()
    }, ms).unref()
  }

  #pump(): void {
    if (this.#inFlight !== '' || this.#gone) return
    if (this.#queue.length === 0) {
      this.#emptied()
      return
    }
    this.#inFlight = this.#queue.splice(0, this.#joined ? 1 : MAX_PIECES_PER_WRITE).join('')
    this.#hand(this.#inFlight)
  }

  #hand(piece: string): void {
    try {
      this.#sink.write(piece)
    } catch (error) {
      this.#failed(error as NodeJS.ErrnoException)
    }
  }

  #written(): void {
    // Also emitted after a reopening, with nothing in flight.
    this.#queued -= this.#inFlight.length
    this.#inFlight = ''
    this.#pump()
  }

  #failed(error: NodeJS.ErrnoException): void {
    this.faults++
    this.#opening = false
    if (error.code === 'EPIPE' || error.code === 'EBADF') {
      this.#giveUp()
      return
    }
    if (this.#shared) {
      this.#pumpSharedIn(RETRY_MS)
      return
    }
    // The sink keeps the piece; an empty write makes it try again.
    this.#retry ??= setTimeout(() => {
      this.#retry = null
      this.#hand('')
    }, RETRY_MS).unref()
  }

  #emptied(): void {
    this.#closed?.()
    for (const done of this.#flushes.splice(0)) done()
  }

  /** Nobody will ever read what waits. */
  #giveUp(): void {
    this.#gone = true
    for (const piece of [this.#inFlight, ...this.#queue, this.#current]) this.dropped += countLines(piece)
    this.#queue = []
    this.#current = ''
    this.#inFlight = ''
    this.#queued = 0
    this.#emptied()
  }

  /** Goes on in a new file of the same name, after somebody renamed the old one. Without effect on standard streams. */
  reopen(): void {
    if (typeof this.#destination === 'string' || this.#closed !== null) return
    this.#handOver()
    this.#reopenWanted = true
    this.#reopen()
  }

  #reopen(): void {
    if (this.#opening || !this.#reopenWanted || this.#closed !== null) return
    this.#reopenWanted = false
    this.#opening = true
    try {
      this.#sink.reopen()
    } catch (error) {
      this.#failed(error as NodeJS.ErrnoException)
    }
  }

  /** Writes what waits and stays open. Resolves after CLOSE_LIMIT_MS at the latest. */
  async flush(): Promise<void> {
    if (this.#queued === 0 || this.#closed !== null) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = setTimeout(resolve, CLOSE_LIMIT_MS)
    this.#flushes.push(resolve)
    this.#handOver()
    await promise
    clearTimeout(limit)
  }

  /** Writes what waits and closes the file. Resolves after CLOSE_LIMIT_MS at the latest; what then still waits is dropped. */
  async close(): Promise<void> {
    if (this.#closed !== null) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = setTimeout(resolve, CLOSE_LIMIT_MS)
    this.#closed = resolve
    this.#handOver()
    await promise
    clearTimeout(limit)
    if (this.#queued > 0) this.#giveUp()
    process.removeListener('exit', this.#atExit)
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#retry !== null) clearTimeout(this.#retry)
    this.#sink.removeAllListeners('drain')
    this.#sink.removeAllListeners('error')
    this.#sink.on('error', () => {}) // Nobody is left who could do anything about it.
    // A standard stream that was not opened here stays open; others of the process use it.
    if (typeof this.#destination !== 'string' || this.#ownFd >= 0) this.#sink.destroy()
  }

  /** The event loop has ended: writes as much as can be written without waiting for anybody. */
  #writeRest(): void {
    if (this.#gone || this.#queued === 0 || (!this.#neverWaits && this.#inFlight !== '')) return
    const pieces: Buffer[] = [...this.#queue, this.#current].map(piece => Buffer.from(piece))
    if (this.#rest !== null) pieces[0] = this.#rest
    try {
      const fd = typeof this.#destination === 'string' ? this.#sink.fd : fs.openSync(path.resolve(this.#destination.file), 'a', FILE_MODE)
      for (const bytes of pieces) for (let from = 0; from < bytes.length;) from += fs.writeSync(fd, bytes, from)
    } catch {
      // A full disk or pipe, or a reader that is gone: the lines are lost, and nobody is left to be told.
    }
  }
}

const CLOSE_LIMIT_MS = 2000

function countLines(text: string): number {
  let lines = 0
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++
  return lines
}

/** Whether it is a pipe. @throws when it cannot be opened, or is a pipe that nobody reads, which opening would wait for. */
function checkFile(file: string): boolean {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK, O_NOCTTY } = fs.constants
  const fd = fs.openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY, FILE_MODE)
  try {
    return fs.fstatSync(fd).isFIFO()
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * A pipe or a terminal is opened once more without blocking: a write to the inherited descriptor would hold a thread
 * for as long as nobody reads. Not so for files, as a second description has a position of its own. Sockets cannot be
 * opened, but are made non-blocking as they are; so they are for everybody as soon as process.stdout is named anywhere.
 */
function openStandardStream(name: 'stdout' | 'stderr'): { fd: number; own: boolean; neverWaits: boolean; joined: boolean } {
  const inherited = name === 'stdout' ? 1 : 2
  let joined = false
  try {
    const stat = fs.fstatSync(inherited)
    if (stat.isFile()) return { fd: inherited, own: false, neverWaits: true, joined: false }
    joined = stat.isFIFO() || stat.isSocket()
    if (stat.isFIFO() || stat.isCharacterDevice()) {
      const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = fs.constants
      const fd = fs.openSync(`/proc/self/fd/${inherited}`, O_WRONLY | O_NONBLOCK | O_NOCTTY)
      return { fd, own: true, neverWaits: true, joined }
    }
    // The journal, or a parent that is Node: naming the stream makes Node set the socket to non-blocking.
    if (stat.isSocket() && process[name].writable) return { fd: inherited, own: false, neverWaits: true, joined }
  } catch {
    // Belongs to another user, or there is no /proc: the inherited descriptor will do.
  }
  return { fd: inherited, own: false, neverWaits: false, joined }
}
