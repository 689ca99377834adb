/**
 * WebSockets that send messages by schedule and compare what comes back. A server that says Close with a polite code
 * ends the connection in order; one that just ends it has cut it, whether or not a message was on its way.
 *
 *   Opening -> Open -> Closed
 *
 * They lie on connections of their own, or on streams of HTTP/2 (websocket-carriers.ts).
 */
import type { Fault } from '../config/prove-messages.ts'
import { REDIAL_MS } from './kept-connections.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, type Population, type ProofSetting } from './population.ts'
import { connectionCarriers, streamCarriers, type CarrierOwner, type Carriers, type WebSocketCarrier } from './websocket-carriers.ts'
import { FrameReader, Opcode, POLITE_CLOSE_CODES, clientFrame, closeCode, type Message } from './websocket-frames.ts'

/** One WebSocket for so many keep-alive connections, one message for so many requests. */
const SHARE = 5
/** Each of the three forms that a frame's length has, and what does not fit into one read. */
const MESSAGE_BYTES = [16, 125, 126, 4096, 70_000] as const

export const EchoState = { Opening: 0, Open: 1, Closed: 2 } as const
export type EchoState = (typeof EchoState)[keyof typeof EchoState]

export class WebSocketEcho implements Population {
  readonly ledger: Ledger
  readonly setting: ProofSetting
  readonly #carriers: Carriers
  readonly #arrivals: OpenLoop
  readonly #connections = new Set<EchoConnection>()
  #idle: EchoConnection[] = []
  #waiting: Attempt[] = []
  #finishing = false

  constructor(setting: ProofSetting, overHttp2 = false) {
    this.setting = setting
    this.ledger = ledgerOf(overHttp2 ? 'WebSocket over HTTP/2' : 'WebSocket echo', setting)
    this.#carriers = overHttp2 ? streamCarriers(setting, this.ledger) : connectionCarriers(setting)
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate / SHARE, dueAtMs => this.#due(dueAtMs))
  }

  carry(owner: CarrierOwner): WebSocketCarrier { return this.#carriers.carry(owner) }

  start(): void {
    this.#carriers.start()
    for (let count = 0; count < Math.ceil(this.setting.options.connections / SHARE); count++) this.#dial()
    this.#arrivals.start()
  }

  finish(): void {
    this.#finishing = true
    this.#arrivals.stop()
    this.#carriers.finish()
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
    this.#carriers.close()
  }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs)
    while (this.#waiting[0] !== undefined && this.#waiting[0].deadlineMs <= nowMs) {
      this.#waiting.shift()?.end('timedOut', 'no WebSocket was free')
    }
  }

  #dial(): void { this.#connections.add(new EchoConnection(this)) }

  #due(dueAtMs: number): void {
    const attempt = this.ledger.begin(dueAtMs)
    const connection = this.#idle.shift()
    if (connection === undefined) this.#waiting.push(attempt)
    else connection.send(attempt)
  }

  onIdle(connection: EchoConnection): void {
    const attempt = this.#waiting.shift()
    if (attempt === undefined) this.#idle.push(connection)
    else connection.send(attempt)
  }

  onGone(connection: EchoConnection, wasOpen: boolean): void {
    this.#connections.delete(connection)
    this.#idle = this.#idle.filter(each => each !== connection)
    if (this.#finishing && this.#waiting.length === 0) return
    if (wasOpen) this.#dial()
    else this.setting.clock.after(REDIAL_MS, () => { if (!this.#finishing || this.#waiting.length > 0) this.#dial() })
  }
}

class EchoConnection implements CarrierOwner {
  state: EchoState = EchoState.Opening
  readonly #population: WebSocketEcho
  readonly #carrier: WebSocketCarrier
  readonly #frames = new FrameReader()
  /** The handshake counts as an attempt, too. */
  #attempt: Attempt | null
  #sent: Buffer = Buffer.alloc(0)
  #count = 0

  constructor(population: WebSocketEcho) {
    this.#population = population
    this.#attempt = population.ledger.begin(population.setting.clock.exact())
    this.#carrier = population.carry(this)
  }

  send(attempt: Attempt): void {
    this.#attempt = attempt
    this.#sent = Buffer.alloc(MESSAGE_BYTES[this.#count % MESSAGE_BYTES.length] ?? 16, `message ${this.#count} `)
    this.#count++
    this.#carrier.write(clientFrame(Opcode.Binary, this.#sent))
  }

  sweep(nowMs: number): void {
    if (this.#attempt === null || this.#attempt.deadlineMs > nowMs) return
    this.#lose('timedOut', this.state === EchoState.Open ? 'no echo' : 'no handshake')
  }

  /** Nothing is on its way any more. */
  close(): void {
    if (this.state === EchoState.Open) this.#carrier.write(clientFrame(Opcode.Close, Buffer.from([0x03, 0xE8])))
    this.#end()
  }

  onOpen(): void {
    this.state = EchoState.Open
    this.#answered()
  }

  onBytes(bytes: Buffer): void { this.#messages(bytes) }

  onRefused(fault: string): void { this.#lose('wrong', fault) }

  onCut(fault: Fault, how: string): void {
    if (this.state !== EchoState.Closed) this.#lose(fault, `${how} ${this.#doing()}`)
  }

  #messages(bytes: Buffer): void {
    for (const message of this.#frames.feed(bytes)) {
      if (this.state !== EchoState.Open) return
      this.#message(message)
    }
    if (this.#frames.fault !== '' && this.state === EchoState.Open) this.#lose('wrong', this.#frames.fault)
  }

  #message(message: Message): void {
    switch (message.opcode) {
      case Opcode.Ping:
        this.#carrier.write(clientFrame(Opcode.Pong, message.payload))
        break
      case Opcode.Pong:
        break
      case Opcode.Close: {
        const code = closeCode(message)
        if (!POLITE_CLOSE_CODES.has(code)) { this.#lose('wrong', `Close ${code}`); return }
        this.#population.ledger.politeCloses++
        this.#attempt?.end('closed')
        this.#carrier.write(clientFrame(Opcode.Close, message.payload.subarray(0, 2)))
        this.#gone()
        break
      }
      default:
        if (this.#attempt === null) this.#lose('wrong', 'a message that nobody asked for')
        else if (message.opcode === Opcode.Binary && message.payload.equals(this.#sent)) this.#answered()
        else this.#lose('wrong', `an echo of ${message.payload.length} bytes that differs from the ${this.#sent.length} sent`)
    }
  }

  #answered(): void {
    this.#attempt?.end('ok')
    this.#attempt = null
    this.#population.onIdle(this)
  }

  /** How far the connection had come. */
  #doing(): string {
    if (this.state === EchoState.Opening) return this.#carrier.doing
    if (!this.#frames.betweenMessages) return 'in the middle of a frame'
    return this.#attempt === null ? 'without Close' : 'without Close, a message on its way'
  }

  #lose(fault: Fault, detail: string): void {
    if (this.#attempt === null) this.#population.ledger.loss(fault, detail, this.#carrier.connectedAtMs)
    else this.#attempt.end(fault, detail, this.#carrier.connectedAtMs)
    this.#gone()
  }

  #gone(): void {
    const wasOpen = this.state === EchoState.Open
    this.#end()
    this.#population.onGone(this, wasOpen)
  }

  #end(): void {
    this.state = EchoState.Closed
    this.#attempt = null
    this.#carrier.part()
  }
}
