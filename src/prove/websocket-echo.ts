/**
 * WebSockets that send messages by schedule and compare what comes back. A server that says Close with a polite code
 * ends the connection in order; one that just ends it has cut it, whether or not a message was on its way.
 *
 *   Dialing -> Opening -> Open -> Closed
 */
import type { Fault } from '../config/prove-messages.ts'
import { DelayedLine, faultOf, type LineOwner } from './delayed-line.ts'
import { REDIAL_MS } from './kept-connections.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'
import { ReaderState, ResponseReader } from './response-reader.ts'
import {
  FrameReader, Opcode, POLITE_CLOSE_CODES, clientFrame, closeCode, handshakeFields, newHandshake, type Handshake, type Message,
} from './websocket-frames.ts'

/** One WebSocket for so many keep-alive connections, one message for so many requests. */
const SHARE = 5
/** Each of the three forms that a frame's length has, and what does not fit into one read. */
const MESSAGE_BYTES = [16, 125, 126, 4096, 70_000] as const

export const EchoState = { Dialing: 0, Opening: 1, Open: 2, Closed: 3 } as const
export type EchoState = (typeof EchoState)[keyof typeof EchoState]

export class WebSocketEcho implements Population {
  readonly ledger: Ledger
  readonly setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #connections = new Set<EchoConnection>()
  #idle: EchoConnection[] = []
  #waiting: Attempt[] = []
  #finishing = false

  constructor(setting: ProofSetting) {
    this.setting = setting
    this.ledger = ledgerOf('WebSocket echo', setting)
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate / SHARE, dueAtMs => this.#due(dueAtMs))
  }

  start(): void {
    for (let count = 0; count < Math.ceil(this.setting.options.connections / SHARE); count++) this.#dial()
    this.#arrivals.start()
  }

  finish(): void {
    this.#finishing = true
    this.#arrivals.stop()
  }

  close(): void { for (const connection of this.#connections) connection.close() }

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

class EchoConnection implements LineOwner {
  state: EchoState = EchoState.Dialing
  readonly #population: WebSocketEcho
  readonly #line: DelayedLine
  readonly #handshake: Handshake = newHandshake()
  readonly #head = new ResponseReader()
  readonly #frames = new FrameReader()
  /** The handshake counts as an attempt, too. */
  #attempt: Attempt | null
  #sent: Buffer = Buffer.alloc(0)
  #count = 0

  constructor(population: WebSocketEcho) {
    this.#population = population
    const { address, options, clock } = population.setting
    this.#attempt = population.ledger.begin(clock.exact())
    this.#line = new DelayedLine(address, options.delayMs, clock, this)
  }

  send(attempt: Attempt): void {
    this.#attempt = attempt
    this.#sent = Buffer.alloc(MESSAGE_BYTES[this.#count % MESSAGE_BYTES.length] ?? 16, `message ${this.#count} `)
    this.#count++
    this.#line.write(clientFrame(Opcode.Binary, this.#sent))
  }

  sweep(nowMs: number): void {
    if (this.#attempt === null || this.#attempt.deadlineMs > nowMs) return
    this.#lose('timedOut', this.state === EchoState.Open ? 'no echo' : 'no handshake')
  }

  /** Nothing is on its way any more. */
  close(): void {
    if (this.state === EchoState.Open) this.#line.write(clientFrame(Opcode.Close, Buffer.from([0x03, 0xE8])))
    this.#end()
  }

  onConnect(): void {
    const { address, options } = this.#population.setting
    this.state = EchoState.Opening
    this.#head.expect('GET', null)
    this.#line.write(requestHead('GET', options.ws, address.authority, handshakeFields(this.#handshake)))
  }

  onBytes(bytes: Buffer): void {
    if (this.state === EchoState.Opening) {
      const state = this.#head.feed(bytes)
      if (state === ReaderState.Head) return
      const fault = state === ReaderState.Fault ? this.#head.fault : handshakeFault(this.#head, this.#handshake)
      if (fault !== '') { this.#lose('wrong', fault); return }
      this.state = EchoState.Open
      this.#answered()
      this.#messages(this.#head.rest)
    } else this.#messages(bytes)
  }

  onEnd(): void { this.#cut('') }
  onClosed(code: string): void { this.#cut(code) }

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
        this.#line.write(clientFrame(Opcode.Pong, message.payload))
        break
      case Opcode.Pong:
        break
      case Opcode.Close: {
        const code = closeCode(message)
        if (!POLITE_CLOSE_CODES.has(code)) { this.#lose('wrong', `Close ${code}`); return }
        this.#population.ledger.politeCloses++
        this.#attempt?.end('closed')
        this.#line.write(clientFrame(Opcode.Close, message.payload.subarray(0, 2)))
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
    if (this.#line.connectedAtMs === null) return 'dialling'
    if (!this.#line.ready) return 'in the handshake of TLS'
    if (this.state === EchoState.Opening) return 'in the handshake'
    if (!this.#frames.betweenMessages) return 'in the middle of a frame'
    return this.#attempt === null ? 'without Close' : 'without Close, a message on its way'
  }

  #cut(code: string): void {
    if (this.state === EchoState.Closed) return
    this.#lose(faultOf(code), `${code === '' ? 'closed' : code} ${this.#doing()}`)
  }

  #lose(fault: Fault, detail: string): void {
    if (this.#attempt === null) this.#population.ledger.loss(fault, detail, this.#line.connectedAtMs)
    else this.#attempt.end(fault, detail, this.#line.connectedAtMs)
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
    const line = this.#line
    line.end()
    this.#population.setting.clock.after(PARTING_MS, () => line.destroy())
  }
}

const PARTING_MS = 200

/** Says what is wrong with the answer to a handshake; '' when nothing is. */
export function handshakeFault(head: ResponseReader, handshake: Handshake): string {
  if (head.status !== 101) return `status ${head.status} instead of 101`
  if (head.field('upgrade').toLowerCase() !== 'websocket') return 'a 101 to another protocol'
  if (head.field('sec-websocket-accept') !== handshake.accept) return 'a wrong Sec-WebSocket-Accept'
  return ''
}
