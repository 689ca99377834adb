/**
 * Line-delimited JSON over an open stream: typed send and receive, questions with answers and time limits.
 *
 * Opens no stream and knows no process. Invariants: every question is settled exactly once (answer, time limit, or the
 * end of the channel); a line longer than the limit, bytes that are not JSON and a peer that does not read end the
 * channel; tags of another build are reported and ignored, and answered when they were questions.
 */
import type { Duplex } from 'node:stream'
import type { Answer, Decode, RefusalCode } from './messages.ts'

/** How a question ended when it was not answered with ok. */
export class ChannelError extends Error {
  /** 'closed': the other side went away first. 'timeout': it did not answer. Otherwise its own refusal. */
  readonly code: RefusalCode | 'closed' | 'timeout'
  constructor(code: ChannelError['code'], message: string) {
    super(message)
    this.name = 'ChannelError'
    this.code = code
  }
}

/** A question of the other side. Answered once; later answers are dropped. */
export interface Question {
  ok(result: unknown): void
  refuse(code: RefusalCode, reason: string): void
}

/** One side of a conversation, as its owner sees it: a Channel over a stream, or what a test puts in its place. */
export interface ChannelEnd<Out> {
  /** @returns false when the conversation has ended. */
  send(message: Out): boolean
  /** @param timeoutMs null: wait as long as the conversation lives. @returns the answer's result; rejects with ChannelError. */
  ask(message: Out, timeoutMs: number | null): Promise<unknown>
  /** Ends after what was sent has been written. */
  close(): void
  destroy(reason: string): void
}

export interface ChannelHandlers<In> {
  /** `question` is null when no answer is wanted. A throw closes the channel. */
  onMessage(message: In, question: Question | null): void
  /** Called once. `reason` is '' for an ordinary end. */
  onClose(reason: string): void
  /** A tag of another build, or a message that lacks a field. */
  onIgnored?(tag: string, why: 'unknown' | 'bad'): void
}

export interface ChannelOptions {
  readonly maxMessageBytes: number
}

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: ChannelError) => void
  readonly timer: NodeJS.Timeout | null
}

const NEWLINE = 0x0a

export class Channel<Out extends { readonly tag: string }, In extends { readonly tag: string }> implements ChannelEnd<Out> {
  readonly #stream: Duplex
  readonly #decode: Decode<In>
  readonly #handlers: ChannelHandlers<In>
  readonly #maxMessageBytes: number
  readonly #pending = new Map<number, Pending>()
  #parts: Buffer[] = []
  #partBytes = 0
  #nextAsk = 1
  #closed = false

  constructor(stream: Duplex, decode: Decode<In>, options: ChannelOptions, handlers: ChannelHandlers<In>) {
    this.#stream = stream
    this.#decode = decode
    this.#handlers = handlers
    this.#maxMessageBytes = options.maxMessageBytes
    stream.on('data', (chunk: Buffer) => this.#onData(chunk))
    stream.on('end', () => this.#close(''))
    stream.on('error', (error: Error) => this.#close(error.message))
    stream.on('close', () => this.#close(''))
  }

  get open(): boolean { return !this.#closed }
  get pendingQuestions(): number { return this.#pending.size }

  /** @returns false when the channel has ended. */
  send(message: Out): boolean { return this.#write(message) }

  /** @param timeoutMs null: wait as long as the channel lives. @returns the answer's result; rejects with ChannelError. */
  ask(message: Out, timeoutMs: number | null): Promise<unknown> {
    const ask = this.#nextAsk++
    return new Promise((resolve, reject) => {
      if (this.#closed) { reject(new ChannelError('closed', `${message.tag}: the connection has ended`)); return }
      const timer = timeoutMs === null ? null : setTimeout(() => {
        this.#pending.delete(ask)
        reject(new ChannelError('timeout', `${message.tag}: no answer within ${timeoutMs} ms`))
      }, timeoutMs)
      this.#pending.set(ask, { resolve, reject, timer })
      this.#write({ ...message, ask })
    })
  }

  /** Ends after what was sent has been written. */
  close(): void {
    if (this.#closed) return
    this.#stream.end()
    this.#close('')
  }

  destroy(reason: string): void {
    this.#close(reason)
    this.#stream.destroy()
  }

  #write(message: object): boolean {
    if (this.#closed) return false
    const line = `${JSON.stringify(message)}\n`
    this.#stream.write(line)
    // A peer that does not read must not make us keep its messages: after two lines of the greatest length it is cut.
    if (this.#stream.writableLength > 2 * this.#maxMessageBytes) this.destroy('the other side does not read')
    return !this.#closed
  }

  #onData(chunk: Buffer): void {
    let start = 0
    while (!this.#closed) {
      const end = chunk.indexOf(NEWLINE, start)
      const part = end === -1 ? chunk.subarray(start) : chunk.subarray(start, end)
      if (this.#partBytes + part.length > this.#maxMessageBytes) {
        this.destroy(`a line is longer than ${this.#maxMessageBytes} bytes`)
        return
      }
      if (end === -1) {
        if (part.length > 0) { this.#parts.push(part); this.#partBytes += part.length }
        return
      }
      const line = this.#parts.length === 0 ? part : Buffer.concat([...this.#parts, part])
      this.#parts = []
      this.#partBytes = 0
      start = end + 1
      this.#onLine(line.toString('utf8'))
    }
  }

  #onLine(line: string): void {
    if (line.trim() === '') return
    let value: unknown
    try { value = JSON.parse(line) } catch { this.destroy('a line is not JSON'); return }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) { this.destroy('a line is not a JSON object'); return }
    const fields = value as { readonly [key: string]: unknown }
    if (fields['tag'] === 'answer') { this.#onAnswer(fields); return }
    const question = typeof fields['ask'] === 'number' ? this.#question(fields['ask']) : null
    const message: In | 'unknown' | 'bad' = this.#decode(fields)
    if (message === 'unknown' || message === 'bad') {
      const tag = String(fields['tag'])
      this.#handlers.onIgnored?.(tag, message)
      if (message === 'unknown') question?.refuse('unknown', `this build does not know '${tag}'`)
      else question?.refuse('bad-message', `'${tag}' lacks a field or has one of the wrong type`)
      return
    }
    this.#handlers.onMessage(message, question)
  }

  #onAnswer(fields: { readonly [key: string]: unknown }): void {
    const ask = fields['re']
    if (typeof ask !== 'number') return
    const pending = this.#pending.get(ask)
    // An answer behind its time limit: the question was given up.
    if (pending === undefined) return
    this.#pending.delete(ask)
    if (pending.timer !== null) clearTimeout(pending.timer)
    if (fields['ok'] === true) { pending.resolve(fields['result']); return }
    const code = typeof fields['code'] === 'string' ? fields['code'] : 'failed'
    pending.reject(new ChannelError(code as RefusalCode, String(fields['reason'])))
  }

  #question(ask: number): Question {
    let answered = false
    const answer = (message: Answer): void => {
      if (answered) return
      answered = true
      this.#write(message)
    }
    return {
      ok: result => answer({ tag: 'answer', re: ask, ok: true, result: result ?? null }),
      refuse: (code, reason) => answer({ tag: 'answer', re: ask, ok: false, code, reason }),
    }
  }

  #close(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    const ended = `the connection ended before the answer${reason === '' ? '' : `: ${reason}`}`
    for (const [ask, pending] of this.#pending) {
      this.#pending.delete(ask)
      if (pending.timer !== null) clearTimeout(pending.timer)
      pending.reject(new ChannelError('closed', ended))
    }
    this.#handlers.onClose(reason)
  }
}
