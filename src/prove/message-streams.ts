/**
 * Streams of HTTP/2 that carry messages both ways, as gRPC has them: each message with its length in front, sent by schedule whether or
 * not those before it have come back, and compared with what does; trailers with `grpc-status` behind the end. A stream lasts until its
 * connection is told to go away: it is not cut then, so its client sends some more messages for some time, ends it, and opens another
 * one on the next connection, as subscribers do. A server may end what stays for longer, such as the last of several that it replaced.
 *
 *   Opening -> Open -> Ending -> Over
 */
import type { Fault } from '../config/prove-messages.ts'
import { Http2Client } from './http2-client.ts'
import type { Http2Connection, ProofStream, StreamEnd, StreamOwner } from './http2-connection.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, type Population, type ProofSetting } from './population.ts'

/** One stream for so many keep-alive connections. */
const SHARE = 5
/** One message for so many requests. */
const MESSAGE_SHARE = 10
/** Nothing, little, what does not fit into a frame, and what does not fit into the first window. */
const MESSAGE_BYTES = [0, 16, 20_000, 70_000] as const
/** Messages that a stream goes on with behind GOAWAY. */
const MESSAGES_LEAVING = 5
/** Where they are rare, it ends after so long, in ms. */
const LEAVING_MS = 2_000
/** Compressed or not, and the length. */
const PREFIX_BYTES = 5

const State = { Opening: 0, Open: 1, Ending: 2, Over: 3 } as const
type State = (typeof State)[keyof typeof State]

export class MessageStreams implements Population {
  readonly ledger: Ledger
  readonly client: Http2Client
  readonly setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #streams = new Set<MessageStream>()
  /** Due, but no stream was open. */
  #waiting: Attempt[] = []
  #turn = 0
  #finishing = false

  constructor(setting: ProofSetting) {
    this.setting = setting
    this.ledger = ledgerOf('message streams', setting)
    this.client = new Http2Client(setting, this.ledger, connection => {
      for (const stream of this.#streams) stream.onLeaving(connection)
    })
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate / MESSAGE_SHARE, dueAtMs => this.#due(dueAtMs))
  }

  start(): void {
    this.client.start()
    for (let count = 0; count < Math.ceil(this.setting.options.connections / SHARE); count++) this.#open()
    this.#arrivals.start()
  }

  finish(): void {
    this.#finishing = true
    this.#arrivals.stop()
    this.client.finish()
    if (this.#waiting.length === 0) this.#endAll()
  }

  close(): void { this.client.close() }

  sweep(nowMs: number): void {
    for (const stream of this.#streams) stream.sweep(nowMs)
    while (this.#waiting[0] !== undefined && this.#waiting[0].deadlineMs <= nowMs) {
      this.#waiting.shift()?.end('timedOut', 'no stream was open')
    }
  }

  #open(): void { this.#streams.add(new MessageStream(this)) }

  #due(dueAtMs: number): void {
    const attempt = this.ledger.begin(dueAtMs), open = [...this.#streams].filter(stream => stream.open)
    if (open.length === 0) this.#waiting.push(attempt)
    else open[this.#turn++ % open.length]!.send(attempt)
  }

  #endAll(): void { for (const stream of this.#streams) stream.end() }

  onOpen(stream: MessageStream): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const attempt of waiting) {
      if (stream.open) stream.send(attempt)
      else this.#waiting.push(attempt)
    }
    if (this.#finishing) this.#endAll()
  }

  onOver(stream: MessageStream): void {
    this.#streams.delete(stream)
    if (!this.#finishing || this.#waiting.length > 0) this.#open()
  }
}

interface SentMessage { readonly attempt: Attempt; readonly bytes: Buffer }

class MessageStream implements StreamOwner {
  readonly #population: MessageStreams
  #state: State = State.Opening
  #stream: ProofStream | null = null
  #connection: Http2Connection | null = null
  /** The opening, or the end; null in between. */
  #attempt: Attempt | null
  /** Messages that have not come back, in order. */
  #sent: SentMessage[] = []
  #got: Buffer = Buffer.alloc(0)
  #count = 0
  /** Messages until it ends; null: it stays. */
  #left: number | null = null
  #leaveAtMs = Number.POSITIVE_INFINITY

  constructor(population: MessageStreams) {
    this.#population = population
    this.#attempt = population.ledger.begin(population.setting.clock.exact())
    this.#request()
  }

  get open(): boolean { return this.#state === State.Open }

  #request(): void {
    const { client, setting } = this.#population
    client.whenOpen(connection => {
      if (this.#state !== State.Opening) return
      this.#connection = connection
      this.#stream = connection.request({
        ':method': 'POST', ':path': setting.options.messages, 'content-type': 'application/grpc', 'te': 'trailers',
      }, false, this)
    })
  }

  /** Only while open. */
  send(attempt: Attempt): void {
    const bytes = messageOf(MESSAGE_BYTES[this.#count % MESSAGE_BYTES.length]!, this.#count)
    this.#count++
    this.#sent.push({ attempt, bytes })
    this.#stream?.write(bytes)
    if (this.#left !== null && --this.#left === 0) this.end()
  }

  /** Sends no more, when it is open. */
  end(): void {
    if (this.#state !== State.Open) return
    const { ledger, setting } = this.#population
    this.#state = State.Ending
    this.#attempt = ledger.begin(setting.clock.exact())
    this.#stream?.end()
  }

  onLeaving(connection: Http2Connection): void {
    if (this.#connection !== connection || this.#left !== null) return
    this.#left = MESSAGES_LEAVING
    this.#leaveAtMs = this.#population.setting.clock.exact() + LEAVING_MS
  }

  sweep(nowMs: number): void {
    if (nowMs >= this.#leaveAtMs) this.end()
    const first = this.#sent[0]?.attempt
    if (first !== undefined && first.deadlineMs <= nowMs) this.#giveUp('timedOut', 'no message came back')
    else if (this.#attempt !== null && first === undefined && this.#attempt.deadlineMs <= nowMs) {
      this.#giveUp('timedOut', this.#state === State.Opening ? 'no answer' : 'no end')
    }
  }

  onHead(status: number): void {
    if (this.#state !== State.Opening) return
    if (status !== 200) {
      this.#giveUp('wrong', `status ${status}`)
      return
    }
    this.#state = State.Open
    this.#attempt?.end('ok')
    this.#attempt = null
    this.#population.onOpen(this)
  }

  onData(bytes: Buffer): void {
    if (this.#state !== State.Open && this.#state !== State.Ending) return
    this.#got = this.#got.length === 0 ? bytes : Buffer.concat([this.#got, bytes])
    // A stream that gets on is not late: those behind the first one wait for it.
    const { ledger } = this.#population
    for (const { attempt } of this.#sent) ledger.progress(attempt)
    if (this.#attempt !== null) ledger.progress(this.#attempt)
    while (this.#got.length > 0) {
      const first = this.#sent[0]
      if (first === undefined) {
        this.#giveUp('wrong', 'bytes of a message that nobody sent')
        return
      }
      if (this.#got.length < first.bytes.length) return
      if (!this.#got.subarray(0, first.bytes.length).equals(first.bytes)) {
        this.#giveUp('wrong', `a message that differs from the ${first.bytes.length} bytes sent`)
        return
      }
      this.#got = this.#got.subarray(first.bytes.length)
      this.#sent.shift()
      first.attempt.end('ok')
    }
  }

  onEnded(end: StreamEnd): void {
    if (this.#state === State.Over) return
    if (end.tag === 'anew' && this.#state === State.Opening) {
      if (end.sent) this.#population.ledger.reopenedStreams++
      this.#request()
    } else if (end.tag === 'fault') this.#lose(end.fault, end.detail)
    else if (end.tag === 'anew') this.#lose('wrong', 'GOAWAY left out a stream that had been answered')
    else if (this.#state !== State.Ending) this.#lose('truncated', 'the server ended the stream')
    else if (this.#sent.length > 0) this.#lose('truncated', `the stream ended before ${this.#sent.length} messages came back`)
    else {
      const status = end.trailers?.['grpc-status'] ?? 'none'
      if (status !== '0') this.#lose('wrong', `grpc-status ${String(status)} behind the end`)
      else {
        this.#attempt?.end('ok')
        this.#over()
      }
    }
  }

  #giveUp(fault: Fault, detail: string): void {
    const stream = this.#stream
    this.#lose(fault, detail)
    stream?.cancel()
  }

  /** Everything that was on its way is lost, or else the stream alone. */
  #lose(fault: Fault, detail: string): void {
    const connectedAtMs = this.#connection?.connectedAtMs ?? null
    const lost = this.#sent.map(({ attempt }) => attempt)
    if (this.#attempt !== null) lost.push(this.#attempt)
    if (lost.length === 0) this.#population.ledger.loss(fault, detail, connectedAtMs)
    for (const attempt of lost) attempt.end(fault, detail, connectedAtMs)
    this.#over()
  }

  #over(): void {
    this.#attempt = null
    this.#sent = []
    this.#state = State.Over
    this.#population.onOver(this)
  }
}

/** A message with its prefix, not compressed. */
export function messageOf(bytes: number, count: number): Buffer {
  const message = Buffer.alloc(PREFIX_BYTES + bytes, `message ${count} `)
  message[0] = 0
  message.writeUInt32BE(bytes, 1)
  return message
}
