/**
 * Every row of framing-cases.ts against the sessions alone, over a stream in memory: whole, byte by byte, and cut in
 * two at every point. Where a message is cut into reads must not change what it means.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead, ResponseHead } from '../../../src/http/message-head.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { Http1ClientSession } from '../../../src/protocols/http1/client-session.ts'
import { HTTP1_CLIENT_DEFAULTS, HTTP1_SERVER_DEFAULTS, type Http1ServerOptions } from '../../../src/protocols/http1/http1-options.ts'
import type { AcceptingListener, ConnectionHost, RequestOwner } from '../../../src/protocols/http-connection.ts'
import { Http1ServerSession } from '../../../src/protocols/http1/server-session.ts'
import { announcedTooLarge } from '../../../src/protocols/request-watch.ts'
import type { DownstreamSession, UpstreamOwner } from '../../../src/protocols/http-session.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'
import { ACCEPTED_REQUESTS, ORIGIN_RESPONSES, REFUSED_REQUESTS, type OriginResponse } from './framing-cases.ts'
import { setupFor } from '../../support/request-setup.ts'
import { FieldLines } from '../../../src/http/field-lines.ts'

/** Answers whatever arrives whole with 200, and faults with the status they ask for, as an application would. */
class Answerer implements ConnectionHost, AcceptingListener {
  readonly draining = false
  readonly exchanges: AnsweredExchange[] = []
  readonly refusals: ProxyError[] = []
  closed = 0
  onRequest(session: DownstreamSession): AnsweredExchange {
    const exchange = new AnsweredExchange(session)
    this.exchanges.push(exchange)
    return exchange
  }
  onRefused(_connection: unknown, error: ProxyError): void { this.refusals.push(error) }
  onIdle(): void {}
  onUnfinished(): void {}
  onActive(): void {}
  replace(): void { throw new Error('nothing takes its place') }
  onClosed(): void { this.closed++ }

  get whole(): AnsweredExchange[] { return this.exchanges.filter(exchange => exchange.complete) }
}

class AnsweredExchange implements RequestOwner {
  readonly session: DownstreamSession
  readonly #refusal: ProxyError | null
  readonly method: string
  readonly target: string
  body = ''
  trailers: [string, string][] = []
  complete = false
  fault: ProxyError | null = null

  constructor(session: DownstreamSession) {
    this.session = session
    this.#refusal = announcedTooLarge(session.requestBodyLength, session.limits)
    this.method = session.request.method
    this.target = session.request.target
  }

  begin(): void {
    if (this.#refusal !== null) this.onDownstreamFault(this.#refusal)
    // A request without a body is complete with its head.
    else if (this.session.requestEnded) this.onRequestEnd(null)
    else this.session.resumeRequest()
  }

  onRequestBody(buffer: Buffer, from: number, to: number): void { this.body += buffer.latin1Slice(from, to) }
  onRequestEnd(trailers: HeaderMap | null): void {
    this.complete = true
    if (trailers !== null) this.trailers = [...trailers]
    this.#answer(200)
  }
  onDownstreamHalfClosed(): void {}
  onDownstreamDrained(): void {}
  onDownstreamFault(error: ProxyError): void {
    this.fault = error
    this.session.refuseReuse()
    if (error.status === 0) {
      this.session.abort()
      this.session.release()
    } else this.#answer(error.status)
  }

  #answer(status: number): void {
    this.session.writeHead(ResponseHead.build(status), 0, FieldLines.NONE)
    this.session.endResponse(null)
    this.session.release()
  }
}

interface Served {
  readonly host: Answerer
  readonly wire: WireEnd
  readonly statuses: string[]
}

/** Sends the pieces one read each and lets everything happen. */
function serve(pieces: readonly Buffer[], options: Http1ServerOptions): Served {
  const host = new Answerer()
  const ticker = new Ticker(new FakeClock())
  const pair = new MemoryPair()
  const wire = new WireEnd(pair.far)
  const session = new Http1ServerSession(pair.near, 'test', { ...HTTP1_SERVER_DEFAULTS, ...options }, host, ticker)
  session.acceptedBy = host
  pair.near.owner = session
  for (const piece of pieces) {
    if (pair.far.destroyed) break
    wire.send(piece)
    pair.settle()
  }
  const statuses = [...wire.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(match => match[1]!)
  wire.stream.destroy()
  pair.settle()
  return { host, wire, statuses }
}

/** Where to cut: everywhere, and for long samples near both ends and at every 97th byte between. */
function splitPoints(length: number): number[] {
  const points: number[] = []
  for (let point = 1; point < length; point++) {
    if (length < 1500 || point < 60 || point > length - 60 || point % 97 === 0) points.push(point)
  }
  return points
}

/** Every way in which a sample is cut: whole, in two at each point, and byte by byte. */
function* cuts(bytes: string): Generator<{ how: string; pieces: Buffer[] }> {
  const whole = Buffer.from(bytes, 'latin1')
  yield { how: 'in one read', pieces: [whole] }
  for (const point of splitPoints(whole.length)) yield { how: `cut at ${point}`, pieces: [whole.subarray(0, point), whole.subarray(point)] }
  yield { how: 'byte by byte', pieces: Array.from(whole, (_, index) => whole.subarray(index, index + 1)) }
}

describe('http1 server session: a request that could be read in two ways is refused, wherever it is cut', () => {
  for (const row of REFUSED_REQUESTS.filter(each => each.by === 'session')) {
    it(`${row.title}: ${row.status}`, () => {
      for (const { how, pieces } of cuts(row.bytes)) {
        const { host, wire, statuses } = serve(pieces, row.options)
        assert.deepEqual(statuses, [String(row.status)], `${how}: ${JSON.stringify(wire.text)}`)
        assert.equal(host.whole.length, 0, `${how}: a whole request went on`)
        assert.equal(wire.ended || wire.closed, true, `${how}: the connection stays open`)
        if (row.originSees === 'nothing' && row.status !== 413) assert.equal(host.exchanges.length, 0, `${how}: a head went on`)
        if (host.exchanges.length === 0) assert.equal(host.refusals.length, 1, `${how}: ${host.refusals.length} refusals reported`)
        assert.match(wire.text, /\r\nConnection: close\r\n/, `${how}: the answer does not say that it is the last`)
      }
    })
  }
})

describe('http1 server session: a request that passes ends where its framing says, wherever it is cut', () => {
  const next = 'GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n'
  for (const row of ACCEPTED_REQUESTS) {
    it(row.title, () => {
      for (const { how, pieces } of cuts(row.bytes + next)) {
        const { host, wire, statuses } = serve(pieces, row.options)
        assert.deepEqual(statuses.filter(status => status !== '100'), ['200', '200'], `${how}: ${JSON.stringify(wire.text)}`)
        const [first, second] = host.whole
        assert.ok(first !== undefined && second !== undefined, how)
        assert.equal(first.method, row.origin.method, how)
        assert.equal(first.body, row.origin.body, how)
        assert.deepEqual(first.trailers, row.origin.trailers, how)
        assert.equal(second.target, '/next', how)
        assert.equal(second.body, '', how)
        assert.equal(host.closed, 1, `${how}: the session did not report its end once`)
      }
    })
  }
})

/** What reached the exchange of a response. */
class ReceivedResponse implements UpstreamOwner {
  interims = 0
  status = 0
  heads = 0
  body = ''
  ends = 0
  fault: ProxyError | null = null

  onInterim(): void { this.interims++ }
  onResponseHead(received: ResponseHead): void {
    this.status = received.status
    this.heads++
  }
  onResponseBody(buffer: Buffer, from: number, to: number): void { this.body += buffer.latin1Slice(from, to) }
  onResponseEnd(): void { this.ends++ }
  onUpstreamDrained(): void {}
  onUpstreamFault(error: ProxyError): void { this.fault = error }
}

function receive(row: OriginResponse, pieces: readonly Buffer[]): { received: ReceivedResponse; reusable: boolean; sent: string } {
  const pair = new MemoryPair()
  const origin = new WireEnd(pair.far)
  const session = new Http1ClientSession(pair.near, new Ticker(new FakeClock()))
  const received = new ReceivedResponse()
  session.begin(received, HTTP1_CLIENT_DEFAULTS)
  session.writeHead(RequestHead.build(row.method, '/', HeaderMap.from({ host: 'a.example' })), setupFor(0))
  session.endRequest(null)
  pair.settle()
  for (const piece of pieces) {
    if (pair.far.destroyed) break
    origin.send(piece)
    pair.settle()
  }
  if (row.ends && !pair.far.destroyed) {
    origin.stream.end()
    pair.settle()
  }
  const reusable = session.capacity > 0
  session.close()
  pair.settle()
  return { received, reusable, sent: origin.text }
}

describe('http1 client session: an answer ends where its framing says, or is a fault, wherever it is cut', () => {
  for (const row of ORIGIN_RESPONSES) {
    it(`${row.title}: ${row.outcome}`, () => {
      for (const { how, pieces } of cuts(row.bytes)) {
        const { received, reusable, sent } = receive(row, pieces)
        assert.equal(sent, `${row.method} / HTTP/1.1\r\nhost: a.example\r\n\r\n`, how)
        assert.ok(received.heads <= 1, `${how}: ${received.heads} heads`)
        assert.equal(received.ends + (received.fault === null ? 0 : 1), 1, `${how}: ${received.ends} ends, ${String(received.fault)}`)
        if (row.outcome === 'cut' || row.outcome === 502) {
          assert.equal(received.fault?.source, 'upstream', how)
          assert.equal(received.fault.retry, 'never', how)
          if (row.outcome === 502) assert.equal(received.heads, 0, `${how}: a head went on`)
        } else {
          assert.equal(received.status, row.outcome, how)
          assert.equal(received.body, row.body, how)
        }
        // Bytes behind a whole answer that come in a read of their own find the session at rest; the pool watches for those.
        if (!row.reusable) assert.equal(reusable, false, `${how}: a connection in doubt may be used again`)
        else assert.equal(reusable, true, `${how}: a clean connection is not used again`)
      }
    })
  }
})
