/**
 * Lines to a file or to a standard stream, such that logging never hurts serving: it never waits for a reader, never throws
 * once it is open, keeps at most `maxLogQueueBytes` and counts what it drops. A file is written by a thread; only when 1 MiB waits,
 * because the event loop does not come round to hear of that thread, what waits is written at once, perhaps before what the thread
 * still has.
 *
 *   write() ─▶ the piece that is being filled ─▶ queue of full pieces ─▶ one write in flight
 *
 * A line is turned into bytes at once, so that neither its text nor what that was cut out of outlives the call. A piece leaves
 * when it is full, or `collectMs` after its first line while nothing else is on its way.
 * A pipe or socket is written to by the other workers as well: pieces of at most PIPE_BUF bytes, which the kernel takes whole
 * or not at all, so that no line is torn by another one. Who makes lines keeps to `maxLineLength`.
 * A failed write is tried again after RETRY_MS; a reader that is gone (EPIPE) does not come back, so lines are dropped.
 */
import fs from 'node:fs'
import path from 'node:path'
import { makeFolder } from '../../primitives/make-folder.ts'
import { defaultsOf, duration, resolveOptions, size, type OptionTable } from '../../primitives/option-table.ts'

/** A stream of the process's own, or the path of a file that is appended to. */
export type StreamDestination = 'stdout' | 'stderr' | { readonly file: string }

/** Where lines go: a stream, a file, or a receiver of syslog, such as `{ syslog: 'syslog:udp:10.0.0.5:514?facility=local0' }`. */
export type LineDestination = StreamDestination | { readonly syslog: string }

export interface LineSinkOptions {
  /** Lines that wait, in bytes; past it lines are dropped and counted. @default 8_388_608 */
  maxLogQueueBytes?: number
  /** Lines are collected this long before they are written, in ms. 0 writes at the end of the turn. @default 100 */
  collectMs?: number
}

export const LINE_SINK_OPTIONS = {
  maxLogQueueBytes: size(8_388_608),
  collectMs: duration(100, { zero: 'writes at the end of the turn' }),
} satisfies OptionTable<LineSinkOptions>

export const LINE_SINK_DEFAULTS: Readonly<Required<LineSinkOptions>> = defaultsOf<LineSinkOptions>(LINE_SINK_OPTIONS)

/**
 * Size of a piece: what it costs to have a thread write one is then shared by 500 lines (**measured**: with 64 KiB it is half of
 * what writing costs). Memory of it that no line has reached was never touched.
 */
const PIECE_BYTES = 262_144
/** What a pipe takes in one piece (pipe(7)), in bytes. */
const PIPE_BUF = 4096
/** Pieces of a shared stream that are written in one go: each is a system call in this thread. */
const MAX_PIECES_PER_TURN = 16
/** So many full pieces wait for a file, 1 MiB: the event loop is late, not the disk, and they are written in its thread. */
const LATE_PIECES = 4
const RETRY_MS = 1000
/** A full pipe is looked at again after this. */
const FULL_PIPE_MS = 10
/** How long `flush` and `close` wait for a reader or a disk. */
const CLOSE_LIMIT_MS = 2000
/** Readable by the group, which log shippers are in. */
const FILE_MODE = 0o640

/** Whole lines, as bytes; those before `from` were written. */
interface Piece {
  readonly bytes: Buffer
  from: number
  length: number
  lines: number
}

export class LineSink {
  /** Lines that were not written, because too much waited or the reader was gone. */
  dropped = 0
  /** Writes and openings that failed. */
  faults = 0
  /** What went wrong last, with its path; '' while nothing has, and when lines get through again. */
  trouble = ''
  /** Called when a line was dropped or something failed: often, while that lasts. */
  onTrouble: (() => void) | null = null
  readonly #destination: StreamDestination
  readonly #maxQueued: number
  readonly #collectMs: number
  /** A write to the descriptor returns at once, whatever the reader does. */
  readonly #neverWaits: boolean
  /** Others write to the same pipe or socket in between: pieces of at most PIPE_BUF, each in a write of its own. */
  readonly #joined: boolean
  readonly #pieceBytes: number
  /** Whether the descriptor was opened here. */
  readonly #own: boolean
  #fd: number
  /** A new file was opened while a write to the old one was under way; -1: none. */
  #nextFd = -1
  #opening = false
  /** Asked for while another opening was under way: the file may have been renamed again meanwhile. */
  #reopenWanted = false
  /** The piece that is being filled. */
  #current: Piece | null = null
  /** What was written last, to be filled again. */
  #spare: Piece | null = null
  readonly #queue: Piece[] = []
  #queued = 0
  #inFlight: Piece | null = null
  #timer: NodeJS.Timeout | null = null
  #retry: NodeJS.Timeout | null = null
  #reopenRetry: NodeJS.Timeout | null = null
  #gone = false
  #closed = false
  /** Wait until nothing waits. */
  #waiters: (() => void)[] = []
  readonly #atExit = (): void => this.#writeRest()
  readonly #onWritten = (error: NodeJS.ErrnoException | null, written: number): void => this.#written(error, written)

  /** @throws OptionError, and when the file cannot be opened: a wrong path is better found at the start. */
  constructor(destination: StreamDestination, options: LineSinkOptions = {}) {
    const { maxLogQueueBytes, collectMs } = resolveOptions<LineSinkOptions>('log', LINE_SINK_OPTIONS, options, LINE_SINK_DEFAULTS)
    this.#destination = destination
    this.#maxQueued = maxLogQueueBytes
    this.#collectMs = collectMs
    const { fd, own, neverWaits, joined } = typeof destination === 'string' ? openStandardStream(destination) : openFile(destination.file)
    this.#fd = fd
    this.#own = own
    this.#neverWaits = neverWaits
    this.#joined = joined
    this.#pieceBytes = joined ? PIPE_BUF : PIECE_BYTES
    process.once('exit', this.#atExit)
  }

  /** Bytes that wait to be written. */
  get queued(): number { return this.#queued }
  /** Longest line, in bytes and its break included, that no other writer can tear: whoever makes lines keeps to it. */
  get maxLineLength(): number { return this.#joined ? PIPE_BUF : Infinity }

  /**
   * Takes one line with its line break.
   * @param bytes its length in UTF-8, for who knows it: that of `line` when it is pure ASCII
   * @returns false when it was dropped
   */
  write(line: string, bytes: number = Buffer.byteLength(line)): boolean {
    const piece = this.#pieceFor(bytes)
    if (piece === null) return false
    piece.bytes.write(line, piece.length, bytes === line.length ? 'latin1' : 'utf8')
    this.#added(piece, bytes)
    return true
  }

  /** As `LogSink` has it. */
  writeBytes(bytes: Buffer, length: number): boolean {
    const piece = this.#pieceFor(length)
    if (piece === null) return false
    bytes.copy(piece.bytes, piece.length, 0, length)
    this.#added(piece, length)
    return true
  }

  /** Where a line of so many bytes is written to; null: it is dropped. */
  #pieceFor(bytes: number): Piece | null {
    if (this.#gone || this.#closed || this.#queued + bytes > this.#maxQueued) {
      this.dropped++
      this.onTrouble?.()
      return null
    }
    const piece = this.#current
    if (piece !== null && piece.length + bytes <= piece.bytes.length) return piece
    if (piece !== null) {
      this.#queue.push(piece)
      this.#current = null
      this.#pump()
      if (this.#queue.length >= LATE_PIECES) this.#writeLate()
    }
    return this.#current = this.#newPiece(bytes)
  }

  #added(piece: Piece, bytes: number): void {
    piece.length += bytes
    piece.lines++
    this.#queued += bytes
    this.#timer ??= this.#arm()
  }

  #newPiece(bytes: number): Piece {
    const spare = this.#spare
    if (spare === null || spare.bytes.length < bytes) {
      return { bytes: Buffer.allocUnsafeSlow(Math.max(bytes, this.#pieceBytes)), from: 0, length: 0, lines: 0 }
    }
    this.#spare = null
    spare.from = spare.length = spare.lines = 0
    return spare
  }

  #arm(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timer = null
      this.#pump()
    }, this.#collectMs)
    // The rest is written at exit, so the timer need not keep the process alive.
    timer.unref()
    return timer
  }

  /** The next piece to write. One that is not full leaves only when nothing else waits, and its time has come. */
  #next(): Piece | null {
    const full = this.#queue.shift()
    if (full !== undefined) return full
    const current = this.#current
    if (current === null || (this.#timer !== null && this.#waiters.length === 0)) return null
    this.#current = null
    return current
  }

  #pump(): void {
    if (this.#gone || this.#retry !== null) return
    if (this.#joined && this.#neverWaits) {
      this.#pumpShared()
      return
    }
    if (this.#inFlight !== null) return
    const piece = this.#inFlight = this.#next()
    if (piece !== null) this.#hand(piece)
    else if (this.#queued === 0) this.#emptied()
  }

  /**
   * A thread has written long ago, and the event loop has no turn to hear of it: with more than 1,024 connections ready it may take
   * seconds. A file takes the rest at once. What it refuses stays in the queue, and is met again there.
   */
  #writeLate(): void {
    if (!this.#neverWaits || this.#joined || this.#retry !== null) return
    const queue = this.#queue
    try {
      for (let piece = queue[0]; piece !== undefined; piece = queue[0]) {
        while (piece.from < piece.length) this.#took(piece, fs.writeSync(this.#fd, piece.bytes, piece.from, piece.length - piece.from))
        queue.shift()
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') this.#note(error as Error)
    }
  }

  #hand({ bytes, from, length }: Piece): void { fs.write(this.#fd, bytes, from, length - from, null, this.#onWritten) }

  #written(error: NodeJS.ErrnoException | null, written: number): void {
    const piece = this.#inFlight
    if (piece === null) return
    if (error !== null) {
      this.#failed(error)
      return
    }
    this.#took(piece, written)
    if (piece.from < piece.length) {
      this.#hand(piece)
      return
    }
    this.#inFlight = null
    if (!this.#closed) this.#takeNextFile()
    this.#pump()
  }

  #pumpShared(): void {
    for (let pieces = 0; pieces < MAX_PIECES_PER_TURN; pieces++) {
      const piece = this.#inFlight ??= this.#next()
      if (piece === null) {
        if (this.#queued === 0) this.#emptied()
        return
      }
      let written: number
      try {
        written = fs.writeSync(this.#fd, piece.bytes, piece.from, piece.length - piece.from)
      } catch (error) {
        this.#failed(error as NodeJS.ErrnoException)
        return
      }
      this.#took(piece, written)
      if (piece.from === piece.length) this.#inFlight = null
    }
    this.#pumpIn(0)
  }

  #took(piece: Piece, written: number): void {
    piece.from += written
    this.#queued -= written
    this.trouble = ''
    if (piece.from === piece.length && piece.bytes.length === this.#pieceBytes) this.#spare = piece
  }

  #pumpIn(ms: number): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = null
      const piece = this.#inFlight
      if (piece === null || (this.#joined && this.#neverWaits)) this.#pump()
      else this.#hand(piece)
    }, ms).unref()
  }

  #failed(error: NodeJS.ErrnoException): void {
    if (error.code === 'EAGAIN') {
      this.#pumpIn(FULL_PIPE_MS)
      return
    }
    this.#note(error)
    if (error.code === 'EPIPE' || error.code === 'EBADF') this.#giveUp()
    else this.#pumpIn(RETRY_MS)
  }

  #note({ message }: Error): void {
    this.faults++
    this.trouble = `${typeof this.#destination === 'string' ? this.#destination : this.#destination.file}: ${message}`
    this.onTrouble?.()
  }

  #emptied(): void { for (const done of this.#waiters.splice(0)) done() }

  /** Nobody will ever read what waits. */
  #giveUp(): void {
    this.#gone = true
    for (const piece of [this.#inFlight, ...this.#queue, this.#current]) this.dropped += piece?.lines ?? 0
    this.#queue.length = 0
    this.#current = this.#inFlight = this.#spare = null
    this.#queued = 0
    this.#emptied()
  }

  /**
   * Goes on in a new file of the same name, after somebody renamed the old one. Without effect on standard streams. When the
   * new one cannot be opened lines go to the old one, and it is tried again after RETRY_MS.
   */
  reopen(): void {
    if (typeof this.#destination === 'string' || this.#closed) return
    this.#reopenWanted = this.#opening
    if (this.#opening) return
    const file = path.resolve(this.#destination.file)
    this.#opening = true
    if (this.#reopenRetry !== null) clearTimeout(this.#reopenRetry)
    this.#reopenRetry = null
    fs.mkdir(path.dirname(file), { recursive: true }, () => {
      fs.open(file, FILE_FLAGS, FILE_MODE, (error, fd) => this.#reopened(error, fd))
    })
  }

  #reopened(error: NodeJS.ErrnoException | null, fd: number): void {
    this.#opening = false
    if (this.#closed) {
      if (error === null) fs.close(fd, ignored)
      return
    }
    if (error !== null) {
      this.#note(error)
      this.#reopenRetry ??= setTimeout(() => this.reopen(), RETRY_MS).unref()
      return
    }
    if (this.#reopenWanted) this.reopen()
    if (this.#nextFd !== -1) fs.close(this.#nextFd, ignored)
    this.#nextFd = fd
    this.trouble = ''
    if (this.#inFlight === null || this.#retry !== null) this.#takeNextFile()
  }

  /** Not while a write to the old one is under way. What failed there is tried again in the new one, whose disk may have room. */
  #takeNextFile(): void {
    if (this.#nextFd === -1) return
    fs.close(this.#fd, ignored)
    this.#fd = this.#nextFd
    this.#nextFd = -1
  }

  /** Writes what waits and stays open. Resolves after CLOSE_LIMIT_MS at the latest. */
  async flush(): Promise<void> {
    if (this.#queued === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = setTimeout(resolve, CLOSE_LIMIT_MS)
    this.#waiters.push(resolve)
    this.#pump()
    await promise
    clearTimeout(limit)
  }

  /** Writes what waits and closes the file. Resolves after CLOSE_LIMIT_MS at the latest; what then still waits is dropped. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.flush()
    // Not one that waits to be tried again: nobody writes it now.
    const writing = this.#inFlight !== null && this.#retry === null
    if (this.#queued > 0) this.#giveUp()
    process.removeListener('exit', this.#atExit)
    for (const timer of [this.#timer, this.#retry, this.#reopenRetry]) if (timer !== null) clearTimeout(timer)
    // A standard stream that was not opened here stays open; others of the process use it. So does what a thread still writes to.
    if (this.#own && !writing) fs.close(this.#fd, ignored)
    if (this.#nextFd !== -1) fs.close(this.#nextFd, ignored)
    this.#nextFd = -1
  }

  /** The event loop has ended: writes as much as can be written without waiting for anybody. */
  #writeRest(): void {
    const isShared = this.#joined && this.#neverWaits
    // A thread may be writing what is in flight: it is not written twice.
    if (this.#gone || this.#queued === 0 || (!this.#neverWaits && this.#inFlight !== null)) return
    const first = isShared || this.#retry !== null ? this.#inFlight : null
    try {
      for (const piece of [first, ...this.#queue, this.#current]) {
        if (piece === null) continue
        for (let { from } = piece; from < piece.length;) from += fs.writeSync(this.#fd, piece.bytes, from, piece.length - from)
      }
    } catch {
      // A full disk or pipe, or a reader that is gone: the lines are lost, and nobody is left to be told.
    }
  }
}

function ignored(): void { /* Nobody is left who could do anything about it. */ }

interface OpenStream {
  readonly fd: number
  readonly own: boolean
  readonly neverWaits: boolean
  readonly joined: boolean
}

const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK, O_NOCTTY } = fs.constants
/** Without blocking, for it may be a pipe: one that nobody reads is refused instead of waited for. */
const FILE_FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY

function openFile(name: string): OpenStream {
  const file = path.resolve(name)
  makeFolder(path.dirname(file))
  const fd = fs.openSync(file, FILE_FLAGS, FILE_MODE)
  return { fd, own: true, neverWaits: true, joined: fs.fstatSync(fd).isFIFO() }
}

/**
 * A pipe or a terminal is opened once more without blocking: a write to the inherited descriptor would hold a thread
 * for as long as nobody reads. Not so for files, as a second description has a position of its own. Sockets cannot be
 * opened, but are made non-blocking as they are; so they are for everybody as soon as process.stdout is named anywhere.
 */
function openStandardStream(name: 'stdout' | 'stderr'): OpenStream {
  const inherited = name === 'stdout' ? 1 : 2
  let joined = false
  try {
    const stat = fs.fstatSync(inherited)
    if (stat.isFile()) return { fd: inherited, own: false, neverWaits: true, joined: false }
    joined = stat.isFIFO() || stat.isSocket()
    if (stat.isFIFO() || stat.isCharacterDevice()) {
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
