/**
 * What a WebSocket of the proof client lies on: a connection of its own, opened by an Upgrade of HTTP/1 (RFC 6455 4), or a stream of
 * HTTP/2, opened by CONNECT with a protocol (RFC 8441), of which several share a connection. Frames are not looked at here.
 */
import type { Fault } from '../config/prove-messages.ts'
import { DelayedLine, faultOf, type LineOwner } from './delayed-line.ts'
import { Http2Client } from './http2-client.ts'
import type { Http2Connection, ProofStream, StreamEnd, StreamOwner } from './http2-connection.ts'
import type { Ledger } from './ledger.ts'
import { requestHead, type ProofSetting } from './population.ts'
import { ReaderState, ResponseReader } from './response-reader.ts'
import { handshakeFields, newHandshake, type Handshake } from './websocket-frames.ts'

export interface WebSocketCarrier {
  /** Of its connection; null: it was never there. */
  readonly connectedAtMs: number | null
  /** How far it has come while it is not open. */
  readonly doing: string
  write(bytes: Buffer): void
  /** The client's end, and a moment later the end of everything. */
  part(): void
}

export interface CarrierOwner {
  /** The handshake is done. */
  onOpen(): void
  onBytes(bytes: Buffer): void
  /** The handshake went wrong. */
  onRefused(fault: string): void
  /** It has ended, or could not be had. Not within `part`. */
  onCut(fault: Fault, how: string): void
}

/** All carriers of a population. */
export interface Carriers {
  start(): void
  /** Only for what waits already. */
  finish(): void
  close(): void
  carry(owner: CarrierOwner): WebSocketCarrier
}

const PARTING_MS = 200

export function connectionCarriers(setting: ProofSetting): Carriers {
  return { start() {}, finish() {}, close() {}, carry: owner => new ConnectionCarrier(setting, owner) }
}

export function streamCarriers(setting: ProofSetting, ledger: Ledger): Carriers {
  const client = new Http2Client(setting, ledger)
  return {
    start: () => client.start(), finish: () => client.finish(), close: () => client.close(),
    carry: owner => new StreamCarrier(setting, ledger, client, owner),
  }
}

class ConnectionCarrier implements WebSocketCarrier, LineOwner {
  readonly #setting: ProofSetting
  readonly #owner: CarrierOwner
  readonly #line: DelayedLine
  readonly #handshake: Handshake = newHandshake()
  readonly #head = new ResponseReader()
  #open = false

  constructor(setting: ProofSetting, owner: CarrierOwner) {
    this.#setting = setting
    this.#owner = owner
    this.#line = new DelayedLine(setting.address, setting.options.delayMs, setting.clock, this)
  }

  get connectedAtMs(): number | null { return this.#line.connectedAtMs }

  get doing(): string {
    if (this.#line.connectedAtMs === null) return 'dialling'
    return this.#line.ready ? 'in the handshake' : 'in the handshake of TLS'
  }

  write(bytes: Buffer): void { this.#line.write(bytes) }

  part(): void {
    const line = this.#line
    line.end()
    this.#setting.clock.after(PARTING_MS, () => line.destroy())
  }

  onConnect(): void {
    const { address, options } = this.#setting
    this.#head.expect('GET', null)
    this.#line.write(requestHead('GET', options.ws, address.authority, handshakeFields(this.#handshake)))
  }

  onBytes(bytes: Buffer): void {
    if (this.#open) {
      this.#owner.onBytes(bytes)
      return
    }
    const state = this.#head.feed(bytes)
    if (state === ReaderState.Head) return
    const fault = state === ReaderState.Fault ? this.#head.fault : handshakeFault(this.#head, this.#handshake)
    if (fault !== '') {
      this.#owner.onRefused(fault)
      return
    }
    this.#open = true
    this.#owner.onOpen()
    this.#owner.onBytes(this.#head.rest)
  }

  onEnd(): void { this.#owner.onCut(faultOf(''), 'closed') }
  onClosed(code: string): void { this.#owner.onCut(faultOf(code), code === '' ? 'closed' : code) }
}

class StreamCarrier implements WebSocketCarrier, StreamOwner {
  readonly #setting: ProofSetting
  readonly #ledger: Ledger
  readonly #client: Http2Client
  readonly #owner: CarrierOwner
  #connection: Http2Connection | null = null
  #stream: ProofStream | null = null
  #open = false
  #parted = false

  constructor(setting: ProofSetting, ledger: Ledger, client: Http2Client, owner: CarrierOwner) {
    this.#setting = setting
    this.#ledger = ledger
    this.#client = client
    this.#owner = owner
    this.#request()
  }

  get connectedAtMs(): number | null { return this.#connection?.connectedAtMs ?? null }
  get doing(): string { return this.#stream === null ? 'waiting for a connection' : 'in the handshake' }
  write(bytes: Buffer): void { this.#stream?.write(bytes) }

  part(): void {
    this.#parted = true
    const stream = this.#stream
    stream?.end()
    this.#setting.clock.after(PARTING_MS, () => { if (this.#stream === stream) stream?.cancel() })
  }

  #request(): void {
    this.#client.whenOpen(connection => {
      if (this.#parted) return
      this.#connection = connection
      this.#stream = connection.request({
        ':method': 'CONNECT', ':protocol': 'websocket', ':path': this.#setting.options.ws, 'sec-websocket-version': '13',
      }, false, this)
    })
  }

  onHead(status: number): void {
    if (this.#open || this.#parted) return
    if (status !== 200) {
      this.#owner.onRefused(`status ${status} instead of 200`)
      return
    }
    this.#open = true
    this.#owner.onOpen()
  }

  onData(bytes: Buffer): void { if (this.#open) this.#owner.onBytes(bytes) }

  onEnded(end: StreamEnd): void {
    this.#stream = null
    if (this.#parted) return
    if (end.tag === 'fault') this.#owner.onCut(end.fault, end.detail)
    else if (end.tag === 'whole') this.#owner.onCut('truncated', 'END_STREAM')
    else if (this.#open) this.#owner.onCut('wrong', 'GOAWAY left out a stream that had been answered')
    else {
      if (end.sent) this.#ledger.reopenedStreams++
      this.#request()
    }
  }
}

/** Says what is wrong with the answer to a handshake of HTTP/1; '' when nothing is. */
export function handshakeFault(head: ResponseReader, handshake: Handshake): string {
  if (head.status !== 101) return `status ${head.status} instead of 101`
  if (head.field('upgrade').toLowerCase() !== 'websocket') return 'a 101 to another protocol'
  if (head.field('sec-websocket-accept') !== handshake.accept) return 'a wrong Sec-WebSocket-Accept'
  return ''
}
