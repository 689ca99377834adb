/**
 * Lines to syslog, each a message of RFC 5424, such that logging never hurts serving: nothing here waits or throws, at most
 * `maxLogQueueBytes` wait for a receiver that is slow or gone, and what comes past that is dropped and counted.
 *
 *   write() ─▶ queue of messages ─▶ the carrier takes one after another while it can (syslog-carriers.ts)
 *                    ▲                        │ has room again; lost its connection and gives back what was not sent
 *                    └────────────────────────┘
 *
 * A receiver that refuses is asked again after a while, which grows to ten seconds; until then its messages wait. What was handed to
 * the kernel counts as sent: neither UDP nor TCP tells more without being asked.
 *
 *   <190>1 2026-11-21T09:05:03.007Z edge-1 cirque 4711 access - {"ts":...}
 */
import os from 'node:os'
import type { LogLevel } from '../../config/log-options.ts'
import { parseSyslogTarget, type SyslogTarget } from '../../config/syslog-target.ts'
import { OptionError, resolveOptions } from '../../primitives/option-table.ts'
import { LINE_SINK_DEFAULTS, LINE_SINK_OPTIONS, type LineSinkOptions } from './line-sink.ts'
import type { LogSink } from './log-sink.ts'
import { openCarrier, type Carrier, type CarrierOwner } from './syslog-carriers.ts'
import { UtcTime } from './utc-time.ts'

/** Severities of RFC 5424, section 6.2.1. */
const SEVERITIES: Readonly<Record<LogLevel, number>> = { error: 3, warn: 4, info: 6, debug: 7 }

/** Longest message, in bytes: what rsyslog takes unless it is told otherwise. */
const MAX_MESSAGE_BYTES = 8192
/** HOSTNAME and APP-NAME at their longest, and the rest of a header. */
const MAX_HEADER_BYTES = 255 + 48 + 96
/** Neither a blank nor anything that is no ASCII can stand in a header; `-` is what is not known. */
const HOST_NAME = os.hostname().replaceAll(/[^!-~]/g, '').slice(0, 255) || '-'

/** As many are not gathered any longer, in bytes. */
const GATHERED_BYTES = 65_536
/** How long `flush` and `close` wait for a receiver, in ms. */
const CLOSE_LIMIT_MS = 2000

export class SyslogSink implements LogSink, CarrierOwner {
  dropped = 0
  faults = 0
  trouble = ''
  onTrouble: (() => void) | null = null
  readonly maxLineLength = MAX_MESSAGE_BYTES - MAX_HEADER_BYTES
  readonly #target: SyslogTarget
  readonly #maxQueued: number
  readonly #collectMs: number
  readonly #carrier: Carrier
  readonly #time = new UtcTime()
  /** Behind the time. */
  readonly #about: string
  /** Octets are counted, as there is nothing else between two messages. */
  readonly #counted: boolean
  /** What waits, the first at `#first`. */
  #queue: Buffer[] = []
  #first = 0
  #queued = 0
  #timer: NodeJS.Timeout | null = null
  #closed = false
  /** Wait until nothing waits. */
  #waiters: (() => void)[] = []
  readonly #atExit = (): void => {
    this.#pump()
    this.#carrier.urge()
  }

  /**
   * @param about which log it is: MSGID of its messages
   * @throws OptionError, and when this process has no way to send to a Unix socket
   */
  constructor(target: string, options: LineSinkOptions, about: string) {
    const { maxLogQueueBytes, collectMs } = resolveOptions<LineSinkOptions>('log', LINE_SINK_OPTIONS, options, LINE_SINK_DEFAULTS)
    const parsed = parseSyslogTarget(target)
    if (typeof parsed === 'string') throw OptionError.of('log', target, `use ${parsed}`)
    this.#target = parsed
    this.#maxQueued = maxLogQueueBytes
    this.#about = ` ${HOST_NAME} ${parsed.tag} ${process.pid} ${about} - `
    this.#counted = parsed.transport === 'tcp'
    this.#carrier = openCarrier(parsed, this)
    // One by one where each message is a system call anyway.
    this.#collectMs = this.#carrier.gathers ? collectMs : -1
    process.once('exit', this.#atExit)
  }

  /** Bytes that wait, and those that are on their way. */
  get queued(): number { return this.#queued + this.#carrier.pendingBytes }

  write(line: string, bytes: number = Buffer.byteLength(line), level: LogLevel = 'info'): boolean {
    // Less than the message will have, so that a line that is lost costs no message.
    if (this.#closed || this.queued + bytes > this.#maxQueued) {
      this.#drop(1)
      return false
    }
    const message = this.#message(line, bytes === line.length, level)
    this.#queue.push(message)
    this.#queued += message.length
    if (this.#collectMs < 0 || this.#queued >= GATHERED_BYTES) this.#pump()
    else this.#timer ??= this.#arm()
    return true
  }

  writeBytes(bytes: Buffer, length: number): boolean { return this.write(bytes.latin1Slice(0, length), length) }

  #message(line: string, isAscii: boolean, level: LogLevel): Buffer {
    const text = line.endsWith('\n') ? line.slice(0, -1) : line
    const priority = this.#target.facility * 8 + SEVERITIES[level]
    // The stack of a text line: a receiver would take a break for the end of the message, or write it as a number.
    const shown = text.includes('\n') ? text.replaceAll('\n', ' ') : text
    const message = `<${priority}>1 ${this.#time.text(Date.now())}${this.#about}${shown}`
    const encoding = isAscii ? 'latin1' : 'utf8'
    if (!this.#counted) return Buffer.from(message, encoding)
    return Buffer.from(`${isAscii ? message.length : Buffer.byteLength(message)} ${message}`, encoding)
  }

  #arm(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timer = null
      this.#pump()
    }, this.#collectMs)
    // The rest is sent at exit, as far as it can be.
    timer.unref()
    return timer
  }

  #pump(): void {
    const queue = this.#queue
    while (this.#first < queue.length && this.#carrier.take(queue[this.#first]!)) {
      this.#queued -= queue[this.#first]!.length
      this.#first++
    }
    if (this.#first === queue.length) {
      this.#queue = []
      this.#first = 0
    } else if (this.#first > queue.length / 2) {
      this.#queue = queue.slice(this.#first)
      this.#first = 0
    }
    if (this.queued === 0) this.#emptied()
  }

  // ---- what the carrier says

  onRoom(): void { this.#pump() }

  onSent(): void { this.trouble = '' }

  onFault(error: Error, lost: number): void {
    this.faults++
    this.trouble = `${this.#target.name}: ${error.message}`
    this.dropped += lost
    this.onTrouble?.()
  }

  onReturned(messages: readonly Buffer[]): void {
    this.#queue = [...messages, ...this.#queue.slice(this.#first)]
    this.#first = 0
    for (const message of messages) this.#queued += message.length
  }

  #drop(lines: number): void {
    this.dropped += lines
    this.onTrouble?.()
  }

  #emptied(): void { for (const done of this.#waiters.splice(0)) done() }

  // ---- the end

  reopen(): void { /* A socket has no name that somebody could change. */ }

  async flush(): Promise<void> {
    if (this.queued === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = setTimeout(resolve, CLOSE_LIMIT_MS)
    this.#waiters.push(resolve)
    this.#pump()
    await promise
    clearTimeout(limit)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.flush()
    process.removeListener('exit', this.#atExit)
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#queue.length > this.#first) this.#drop(this.#queue.length - this.#first)
    this.#queue = []
    this.#first = this.#queued = 0
    this.#carrier.close()
  }
}
