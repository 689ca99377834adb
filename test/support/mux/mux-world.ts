/**
 * A proxy service between clients and origins that speak the multiplexing protocol, in memory and on a clock that stands
 * still: the same sessions play all four roles. A test sends calls, sees them arrive, and answers them.
 */
import { HttpConnector } from '../../../src/connector/http-connector.ts'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { FieldLines } from '../../../src/http/field-lines.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead, ResponseHead } from '../../../src/http/message-head.ts'
import {
  HTTP_LISTENER_DEFAULTS, type HttpListenerOptions, type ResolvedHttpListenerOptions,
} from '../../../src/listener/http-listener-options.ts'
import { HttpPeer, type BackendLike, type HttpPeerOptions } from '../../../src/peer/http-peer.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import type { ConnectionHost, RequestOwner } from '../../../src/protocols/http-connection.ts'
import {
  BODY_NONE, BODY_TUNNEL, BODY_UNKNOWN, type DetachedStream, type DownstreamSession, type UpstreamOwner, type UpstreamSession,
} from '../../../src/protocols/http-session.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../../../src/protocols/http1/http1-options.ts'
import type { ProxyHttp } from '../../../src/proxy/proxy-http.ts'
import type { Session } from '../../../src/proxy/session.ts'
import { HttpProxyCore } from '../../../src/server/http-proxy-core.ts'
import { admit, ListeningBase } from '../../../src/server/listening-base.ts'
import { FakeClock } from '../fake-clock.ts'
import { MemoryPair } from '../memory-stream.ts'
import { MuxClientConnection } from './client.ts'
import { MUX_PROTOCOLS, MuxServerConnection } from './server.ts'

const NO_HEADERS: Readonly<Record<string, string>> = {}

/** A request of a client's, and what came of it. */
export class Call implements UpstreamOwner {
  readonly session: UpstreamSession
  readonly interims: number[] = []
  head: ResponseHead | null = null
  body: Buffer = Buffer.alloc(0)
  trailers: HeaderMap | null = null
  ended = false
  fault: ProxyError | null = null

  constructor(connection: MuxClientConnection, method: string, target: string, fields: Readonly<Record<string, string>>, length: number) {
    this.session = connection.begin(this, HTTP1_CLIENT_DEFAULTS)
    const head = RequestHead.build(method, target, HeaderMap.from(fields)), switchesTo = head.headers.get('upgrade') ?? ''
    this.session.writeHead(head, { length, lines: FieldLines.NONE, switchesTo, acceptsTrailers: true, defaultAuthority: 'a.example' })
    if (length === BODY_NONE) this.session.endRequest(null)
  }

  get status(): number { return this.head === null ? 0 : this.head.status }
  get text(): string { return this.body.toString('latin1') }

  write(bytes: Buffer): void { this.session.writeBody(bytes, 0, bytes.length, true) }
  end(trailers: Readonly<Record<string, string>> | null = null): void {
    this.session.endRequest(trailers === null ? null : HeaderMap.from(trailers))
  }

  onInterim(head: ResponseHead): void { this.interims.push(head.status) }
  onResponseHead(head: ResponseHead): void { this.head = head }
  onResponseBody(buffer: Buffer, from: number, to: number): void { this.body = Buffer.concat([this.body, buffer.subarray(from, to)]) }
  onResponseEnd(trailers: HeaderMap | null): void {
    this.ended = true
    this.trailers = trailers
  }
  onUpstreamDrained(): void {}
  onUpstreamFault(error: ProxyError): void { this.fault = error }
}

/** The same at the origin. */
export class Arrival implements RequestOwner {
  readonly session: DownstreamSession
  readonly connection: MuxServerConnection
  body: Buffer = Buffer.alloc(0)
  trailers: HeaderMap | null = null
  ended: boolean
  fault: ProxyError | null = null

  constructor(session: DownstreamSession) {
    this.session = session
    this.connection = session.connection as MuxServerConnection
    this.ended = session.requestEnded
  }

  get target(): string { return this.session.request.target }
  get text(): string { return this.body.toString('latin1') }

  begin(): void { this.session.resumeRequest() }
  onRequestBody(buffer: Buffer, from: number, to: number): void { this.body = Buffer.concat([this.body, buffer.subarray(from, to)]) }
  onRequestEnd(trailers: HeaderMap | null): void {
    this.ended = true
    this.trailers = trailers
  }
  onDownstreamDrained(): void {}
  onDownstreamHalfClosed(): void {}
  onDownstreamFault(error: ProxyError): void {
    this.fault = error
    this.session.release()
  }

  startAnswer(status = 200, fields: Readonly<Record<string, string>> = NO_HEADERS): void {
    this.session.writeHead(ResponseHead.build(status, HeaderMap.from(fields)), BODY_UNKNOWN, FieldLines.NONE)
  }
  write(bytes: Buffer): void { this.session.writeBody(bytes, 0, bytes.length, true) }
  endAnswer(trailers: Readonly<Record<string, string>> | null = null): void {
    this.session.endResponse(trailers === null ? null : HeaderMap.from(trailers))
    this.session.release()
  }
  answer(text: string, trailers: Readonly<Record<string, string>> | null = null): void {
    this.startAnswer()
    this.write(Buffer.from(text))
    this.endAnswer(trailers)
  }
  switchTo(protocol: string): DetachedStream {
    this.session.writeHead(ResponseHead.build(101, HeaderMap.from({ upgrade: protocol })), BODY_TUNNEL, FieldLines.NONE)
    return this.session.detach()
  }
  reset(): void {
    this.session.abort()
    this.session.release()
  }
}

export interface MuxWorldOptions {
  readonly peer?: HttpPeerOptions
  /** Peers of requests with these targets have other limits of an exchange. */
  readonly limits?: Readonly<Record<string, HttpPeerOptions>>
  readonly listener?: HttpListenerOptions
  readonly hooks?: Partial<ProxyHttp<undefined>>
}

export class MuxWorld implements ConnectionHost {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly connector: HttpConnector
  readonly core: HttpProxyCore<undefined>
  readonly service: ListeningBase<HttpListenerOptions, ResolvedHttpListenerOptions>
  readonly arrivals: Arrival[] = []
  readonly origins: MuxServerConnection[] = []
  readonly errors: ProxyError[] = []
  /** What the backend was told of attempts. */
  readonly verdicts: string[] = []
  draining = false
  dials = 0
  readonly #pairs: MemoryPair[] = []

  constructor(options: MuxWorldOptions = {}) {
    const { verdicts } = this
    const backend: BackendLike = {
      peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: '10.0.0.1:80',
      report(healthy) { verdicts.push(healthy ? 'healthy' : 'failed') },
      release() { verdicts.push('released') },
    }
    const peerOf = ({ request }: Session): HttpPeer => new HttpPeer(backend, { ...options.peer, ...options.limits?.[request.target] })
    this.connector = new HttpConnector({
      ticker: this.ticker,
      transport: {
        dial: (_peer, waiter) => {
          let wanted = true
          this.dials++
          setImmediate(() => { if (wanted) waiter.onDialed(this.#originPair().near, null) })
          return { cancel: () => { wanted = false } }
        },
      },
      createConnection: (stream, _peer, ticker) => new MuxClientConnection(stream, ticker),
      expectedExchanges: () => 8,
    })
    this.core = new HttpProxyCore<undefined>({
      newCtx: () => undefined, upstreamPeer: peerOf, suppressErrorLog: () => true,
      logging: (_session, error) => { if (error !== null) this.errors.push(error) },
      ...options.hooks,
    }, { connector: this.connector, accessLog: null, upgrades: ['model'], listener: options.listener ?? {} }, MUX_PROTOCOLS)
    this.service = new ListeningBase(this.core.name, this.core).addTcp('127.0.0.1:0')
  }

  #originPair(): MemoryPair {
    const pair = new MemoryPair()
    this.#pairs.push(pair)
    const origin = new MuxServerConnection(pair.far, 'origin', HTTP_LISTENER_DEFAULTS, this, this.ticker, this.clock.now())
    pair.far.owner = origin
    this.origins.push(origin)
    return pair
  }

  connect(): MuxClientConnection {
    const pair = new MemoryPair()
    this.#pairs.push(pair)
    admit(this.service, pair.near, this.service.listeners[0]!.name)
    return new MuxClientConnection(pair.far, this.ticker)
  }

  /** A request without a body, unless `length` says otherwise. */
  call(client: MuxClientConnection, target: string, fields = NO_HEADERS, length: number = BODY_NONE): Call {
    return new Call(client, length === BODY_NONE ? 'GET' : 'PUT', target, fields, length)
  }

  /** The request that reached an origin last with this target. */
  arrival(target: string): Arrival {
    const found = this.arrivals.findLast(arrival => arrival.target === target)
    if (found === undefined) throw new Error(`${target} reached no origin`)
    return found
  }

  onRequest(session: DownstreamSession): RequestOwner {
    const arrival = new Arrival(session)
    this.arrivals.push(arrival)
    return arrival
  }
  onRefused(_connection: unknown, error: ProxyError): void { this.errors.push(error) }

  /** Everything that is on its way arrives. */
  async settle(): Promise<void> {
    for (let quiet = 0, seen = -1; quiet < 3; quiet++) {
      for (const pair of this.#pairs) pair.settle()
      await new Promise(setImmediate)
      const arrived = this.#pairs.reduce((sum, { near, far }) => sum + near.bytesRead + far.bytesRead, 0)
      if (arrived !== seen) quiet = 0
      seen = arrived
    }
  }

  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await this.settle()
  }

  /** Ends the service; nothing may be left. */
  async end(): Promise<void> {
    this.service.close()
    await this.settle()
  }
}
