/**
 * One connection of HTTP/2 of the proof client, and the streams on it. The protocol is that of Node.js (node:http2), another one than the
 * server's; what became of a stream is judged by the frames that passed (frames-seen.ts).
 *
 *   Dialing -> Starting -> Open -> Leaving -> Closed
 *                SETTINGS came      GOAWAY came: no stream is opened here any more, those that are open go on
 *
 * What a correct client does is no loss (RFC 9113 6.8): a stream above the last one that GOAWAY names was not looked at, so it is opened
 * anew on another connection, and so is one that never left because GOAWAY came first. Everything else that ends a stream early is one:
 * a reset of a stream that GOAWAY promised to serve, a connection that ends before its streams, or without GOAWAY while one is opened.
 */
import type http2 from 'node:http2'
import type { Fault } from '../config/prove-messages.ts'
import type { ProofAddress } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import { DelayedLine, faultOf, type LineOwner } from './delayed-line.ts'
import { FramesSeen } from './frames-seen.ts'
import { LineDuplex } from './line-duplex.ts'

const State = { Dialing: 0, Starting: 1, Open: 2, Leaving: 3, Closed: 4 } as const
type State = (typeof State)[keyof typeof State]

export interface Http2ConnectionOwner {
  onOpen(connection: Http2Connection): void
  /** GOAWAY came: what is new goes elsewhere. */
  onLeaving(connection: Http2Connection): void
  /** Once. `fault` is what became of a connection that was never open, or that spoke wrongly; null: nothing to say. */
  onGone(connection: Http2Connection, fault: ConnectionFault | null): void
}

export interface ConnectionFault { readonly fault: Fault; readonly detail: string }

export type StreamEnd =
  /** END_STREAM came behind everything. */
  | { readonly tag: 'whole'; readonly trailers: http2.IncomingHttpHeaders | null }
  /** It was not looked at, and may be opened anew. `sent`: it had left this side. */
  | { readonly tag: 'anew'; readonly sent: boolean }
  | { readonly tag: 'fault'; readonly fault: Fault; readonly detail: string }

export interface StreamOwner {
  onHead(status: number): void
  onData(bytes: Buffer): void
  /** Once, last. */
  onEnded(end: StreamEnd): void
}

/** What is written on a stream, and how its client ends it. */
export interface ProofStream {
  readonly connection: Http2Connection
  write(bytes: Buffer): void
  /** END_STREAM. */
  end(): void
  /** RST_STREAM(CANCEL): its client has lost interest. */
  cancel(): void
}

export class Http2Connection implements LineOwner {
  readonly line: DelayedLine
  readonly #address: ProofAddress
  readonly #owner: Http2ConnectionOwner
  readonly #seen: FramesSeen
  readonly #duplex: LineDuplex
  #state: State = State.Dialing
  #session: http2.ClientHttp2Session | null = null
  /** Of an error of the line; null: it has not ended. */
  #lineCode: string | null = null
  /** What the library found wrong. */
  #complaint = ''
  #spoken = ''
  #streams = 0

  constructor(address: ProofAddress, delayMs: number, clock: Clock, owner: Http2ConnectionOwner) {
    this.#address = address
    this.#owner = owner
    this.#seen = new FramesSeen(() => this.#leave())
    this.line = new DelayedLine(address, delayMs, clock, this, {
      protocols: ['h2'], onSecure: (_resumed, protocol) => { this.#spoken = protocol },
    })
    this.#duplex = new LineDuplex(this.line, this.#seen)
  }

  get connectedAtMs(): number | null { return this.line.connectedAtMs }
  /** Takes streams. */
  get open(): boolean { return this.#state === State.Open }
  /** It ended by GOAWAY, or with nothing on it. */
  get endedInOrder(): boolean { return this.#seen.goAway?.code === 0 || (this.#seen.goAway === null && this.#streams === 0) }

  /** Only while open. @param ends nothing follows the head */
  request(fields: Readonly<Record<string, string>>, ends: boolean, owner: StreamOwner): ProofStream {
    const { authority, tls } = this.#address
    const stream = this.#session!.request(
      { ':authority': authority, ':scheme': tls ? 'https' : 'http', 'user-agent': 'cirque-prove', ...fields }, { endStream: ends },
    )
    this.#streams++
    let trailers: http2.IncomingHttpHeaders | null = null
    stream.on('response', head => owner.onHead(head[':status'] ?? 0))
    stream.on('trailers', given => { trailers = given })
    stream.on('data', (bytes: Buffer) => owner.onData(bytes))
    stream.on('error', () => { /* The frames say it. */ })
    stream.once('close', () => {
      this.#streams--
      const { id } = stream, end = this.#endOf(id, stream.rstCode ?? 0, trailers)
      if (id !== undefined) this.#seen.forget(id)
      owner.onEnded(end)
    })
    return {
      connection: this,
      write: bytes => { if (stream.writable) stream.write(bytes) },
      end: () => { if (stream.writable) stream.end() },
      cancel: () => { stream.close(process.getBuiltinModule('node:http2').constants.NGHTTP2_CANCEL) },
    }
  }

  /** Lets go of it, with whatever is on it. */
  close(): void {
    if (this.#state === State.Closed) return
    this.#state = State.Closed
    this.#session?.destroy()
    this.line.destroy()
  }

  onConnect(): void {
    if (this.#address.tls && this.#spoken !== 'h2') {
      this.#complaint = 'the server does not speak HTTP/2 over TLS'
      this.#gone()
      return
    }
    this.#state = State.Starting
    const { authority, tls } = this.#address
    const session = this.#session = process.getBuiltinModule('node:http2').connect(`${tls ? 'https' : 'http'}://${authority}`, {
      createConnection: () => this.#duplex, settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
    })
    session.once('remoteSettings', () => {
      if (this.#state !== State.Starting) return
      this.#state = State.Open
      this.#owner.onOpen(this)
    })
    session.on('error', ({ message }) => { this.#complaint ||= message })
    session.once('close', () => this.#gone())
  }

  onBytes(bytes: Buffer): void { this.#duplex.onBytes(bytes) }

  onEnd(): void {
    this.#lineCode ??= ''
    this.#duplex.onEnd()
  }

  onClosed(code: string): void {
    if (this.#lineCode === null || code !== '') this.#lineCode = code
    this.#duplex.destroy()
    if (this.#session === null) this.#gone()
  }

  #leave(): void {
    if (this.#state > State.Open) return
    this.#state = State.Leaving
    this.#owner.onLeaving(this)
  }

  #gone(): void {
    if (this.#state === State.Closed) return
    const wasOpen = this.#state >= State.Open
    this.close()
    this.#owner.onGone(this, this.#faultOfConnection(wasOpen))
  }

  #faultOfConnection(wasOpen: boolean): ConnectionFault | null {
    const code = this.#lineCode ?? '', { goAway } = this.#seen
    if (goAway !== null && goAway.code !== 0) return { fault: 'wrong', detail: `GOAWAY with code ${goAway.code}` }
    if (wasOpen) return null
    if (this.#complaint !== '' && code === '') return { fault: 'wrong', detail: this.#complaint }
    const where = this.connectedAtMs === null ? 'dialling' : this.line.ready ? 'before SETTINGS' : 'in the handshake'
    return { fault: faultOf(code), detail: `${code === '' ? 'closed' : code} ${where}` }
  }

  #endOf(id: number | undefined, rstCode: number, trailers: http2.IncomingHttpHeaders | null): StreamEnd {
    const seen = this.#seen, code = this.#lineCode, { goAway } = seen
    const told = goAway === null ? 'no GOAWAY' : `GOAWAY(${goAway.lastStream})`
    const sent = id !== undefined && seen.wasOpened(id)
    if (sent && seen.wasEnded(id)) return { tag: 'whole', trailers }
    if (sent ? seen.isLeftOut(id) : goAway?.code === 0) return { tag: 'anew', sent }
    const reset = sent ? seen.resetWith(id) : null
    if (reset !== null) return { tag: 'fault', fault: 'reset', detail: `stream ${id} was reset with code ${reset}, ${told}` }
    const where = sent ? `before the end of stream ${id}` : 'while a stream was opened'
    if (code !== null) return { tag: 'fault', fault: faultOf(code), detail: `${code === '' ? 'closed' : code} ${where}, ${told}` }
    return { tag: 'fault', fault: 'wrong', detail: `given up with code ${rstCode} ${where}, ${told}: ${this.#complaint}` }
  }
}

/** As much of one answer may be on its way: more than a line with 20 ms each way holds up. */
const WINDOW_BYTES = 1_048_576
