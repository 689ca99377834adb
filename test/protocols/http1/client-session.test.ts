/**
 * The life of a connection to an origin around its exchanges: what a fault allows, deadlines, resting in the pool.
 * Time and delivery are in the test's hand.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead, type ResponseHead } from '../../../src/http/message-head.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { Http1ClientSession } from '../../../src/protocols/http1/client-session.ts'
import { HTTP1_CLIENT_DEFAULTS, type Http1ClientOptions } from '../../../src/protocols/http1/http1-options.ts'
import type { ConnectionKeeper, ExchangeLimits, UpstreamConnection } from '../../../src/protocols/http-connection.ts'
import { BODY_UNKNOWN, type UpstreamOwner } from '../../../src/protocols/http-session.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'
import { setupFor } from '../../support/request-setup.ts'

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'

/** A connection whose exchange and pool are the test. */
class Connection implements UpstreamOwner, ConnectionKeeper {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly pair: MemoryPair
  readonly origin: WireEnd
  readonly session: Http1ClientSession
  limits: ExchangeLimits
  statuses: number[] = []
  body = ''
  ends = 0
  faults: ProxyError[] = []
  lost: string[] = []

  constructor(options: Http1ClientOptions = {}, kernelBytes = Infinity) {
    this.pair = new MemoryPair({ kernelBytes })
    this.origin = new WireEnd(this.pair.far)
    this.session = new Http1ClientSession(this.pair.near, this.ticker)
    this.limits = { ...HTTP1_CLIENT_DEFAULTS, ...options }
  }

  onInterim(head: ResponseHead): void { this.statuses.push(head.status) }
  onResponseHead(head: ResponseHead): void { this.statuses.push(head.status) }
  onResponseBody(buffer: Buffer, from: number, to: number): void { this.body += buffer.latin1Slice(from, to) }
  onResponseEnd(): void { this.ends++ }
  onUpstreamDrained(): void {}
  onUpstreamFault(error: ProxyError): void { this.faults.push(error) }
  onParkedLost(_connection: UpstreamConnection, reason: string): void { this.lost.push(reason) }
  onCapacityChanged(): void {}

  ask(method = 'GET', length = 0): this {
    this.session.begin(this, this.limits)
    this.session.writeHead(RequestHead.build(method, '/', HeaderMap.from({ host: 'a.example' })), setupFor(length))
    if (length === 0) this.session.endRequest(null)
    this.pair.settle()
    return this
  }

  /** The origin says this, and it arrives. */
  say(bytes: string): this {
    this.origin.send(bytes)
    this.pair.settle()
    return this
  }

  wait(ms: number): this {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.advance(Math.min(left, 100))
      this.pair.settle()
    }
    return this
  }

  rest(idleMs = 60_000): this {
    assert.equal(this.session.capacity, 1)
    this.session.park(this, idleMs)
    return this
  }
}

describe('http1 client session: what may be repeated', () => {
  for (const [title, end, kind] of [
    ['FIN', (connection: Connection) => connection.origin.stream.end(), 'CLOSED_EARLY'],
    ['RST', (connection: Connection) => connection.origin.stream.destroy(true), 'CONNECTION_RESET'],
  ] as const) {
    it(`${title} before an answer, on a connection that was used before: perhaps`, () => {
      const connection = new Connection().ask().say(OK).rest()
      assert.equal(connection.session.unpark(), true)
      connection.ask()
      end(connection)
      connection.pair.settle()
      assert.deepEqual(connection.faults.map(fault => [fault.kind, fault.retry]), [[kind, 'if-reused']])
    })

    it(`${title} before an answer, on a fresh connection: never`, () => {
      const connection = new Connection().ask()
      end(connection)
      connection.pair.settle()
      assert.deepEqual(connection.faults.map(fault => [fault.kind, fault.retry]), [[kind, 'never']])
    })

    it(`${title} within an answer, on a connection that was used before: never`, () => {
      const connection = new Connection().ask().say(OK).rest()
      connection.session.unpark()
      connection.ask().say('HTTP')
      end(connection)
      connection.pair.settle()
      assert.deepEqual(connection.faults.map(fault => fault.retry), ['never'])
    })
  }
})

describe('http1 client session: what rules out another use', () => {
  it('bytes behind an answer that came before the request was whole', () => {
    const connection = new Connection().ask('POST', 10).say(OK).say('HTTP/1.1 200 ')
    connection.session.writeBody(Buffer.from('0123456789'), 0, 10, true)
    connection.session.endRequest(null)
    connection.pair.settle()
    assert.equal(connection.session.capacity, 0, 'the rest of a forged answer would be the next answer')
  })

  it('a FIN behind an answer', () => {
    const connection = new Connection().ask().say(OK)
    connection.origin.stream.end()
    connection.pair.settle()
    assert.equal(connection.session.capacity, 0)
  })

  it('a request that was not sent to its end', () => {
    assert.equal(new Connection().ask('POST', 10).say(OK).session.capacity, 0)
  })

  it('Connection: close, and HTTP/1.0', () => {
    assert.equal(new Connection().ask().say(OK.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')).session.capacity, 0)
    assert.equal(new Connection().ask().say(OK.replace('1.1', '1.0')).session.capacity, 0)
  })

  it('a whole request that is given up ends in FIN, a part of one in RST', () => {
    const whole = new Connection().ask()
    whole.session.abort()
    whole.pair.settle()
    assert.equal(whole.origin.error, null)
    const part = new Connection().ask('POST', BODY_UNKNOWN)
    part.session.abort()
    part.pair.settle()
    assert.equal(part.origin.error?.message, 'read ECONNRESET')
  })

  it('a body longer or shorter than it was announced is a fault, and nobody gets it as a whole one', () => {
    const longer = new Connection().ask('POST', 3)
    longer.session.writeBody(Buffer.from('hello'), 0, 5, true)
    const shorter = new Connection().ask('POST', 3)
    shorter.session.writeBody(Buffer.from('he'), 0, 2, true)
    shorter.session.endRequest(null)
    for (const connection of [longer, shorter]) {
      connection.pair.settle()
      assert.deepEqual(connection.faults.map(fault => fault.kind), ['LENGTH_MISMATCH'])
      assert.equal(connection.origin.error?.message, 'read ECONNRESET')
    }
  })
})

describe('http1 client session: at rest', () => {
  for (const [title, happen, reason] of [
    ['bytes that nobody asked for', (connection: Connection) => connection.say('HTTP/1.1 200 OK\r\n'), 'unexpected-bytes'],
    ['FIN', (connection: Connection) => connection.origin.stream.end(), 'closed'],
    ['RST', (connection: Connection) => connection.origin.stream.destroy(true), 'closed'],
    ['its idle time', (connection: Connection) => connection.wait(1200), 'idle'],
  ] as const) {
    it(`${title} end it, and its keeper is told once`, () => {
      const connection = new Connection().ask().say(OK).rest(1000)
      happen(connection)
      connection.pair.settle()
      assert.deepEqual(connection.lost, [reason])
      assert.equal(connection.session.unpark(), false)
      assert.equal(connection.ticker.size, 0)
    })
  }

  it("an origin's Keep-Alive timeout is told, less a second", () => {
    const keepAlive = (value: string): number => {
      const answer = OK.replace('\r\n\r\n', `\r\nKeep-Alive: ${value}\r\n\r\n`)
      return new Connection().ask().say(answer).session.originIdleMs
    }
    assert.equal(keepAlive('timeout=5, max=100'), 4000)
    assert.equal(keepAlive('max=100, Timeout=60'), 59_000)
    assert.ok(keepAlive('timeout=1') <= 1, 'no time is left of one second')
    assert.equal(keepAlive('max=100'), 0)
  })

  it('an origin that takes no further request, or waits for none, is asked for none on that connection', () => {
    const capacity = (value: string): number => {
      const answer = OK.replace('\r\n\r\n', `\r\nKeep-Alive: ${value}\r\n\r\n`)
      return new Connection().ask().say(answer).session.capacity
    }
    for (const value of ['max=0', 'timeout=5, max=0', 'Max=0; timeout=5', 'timeout=0']) assert.equal(capacity(value), 0, value)
    for (const value of ['max=1', 'timeout=5, max=10', 'timeout=', 'max=', 'max=x', '']) assert.equal(capacity(value), 1, value)
  })
})

describe('http1 client session: deadlines', () => {
  const faults = (connection: Connection): [string, string][] => connection.faults.map(({ kind, limit }) => [kind, limit])

  it('the first byte has firstByteTimeoutMs from the end of the request', () => {
    const connection = new Connection({ firstByteTimeoutMs: 1000 }).ask('POST', 5).wait(3000)
    assert.deepEqual(faults(connection), [])
    connection.session.writeBody(Buffer.from('hello'), 0, 5, true)
    connection.session.endRequest(null)
    assert.deepEqual(faults(connection.wait(900)), [])
    assert.deepEqual(faults(connection.wait(300)), [['FIRST_BYTE_TIMEOUT', 'first-byte-timeout']])
  })

  it('a response may pause for readTimeoutMs, as often as it likes', () => {
    const connection = new Connection({ readTimeoutMs: 1000 }).ask().say('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n')
    for (let times = 0; times < 5; times++) connection.wait(900).say('x')
    assert.deepEqual(faults(connection), [])
    assert.deepEqual(faults(connection.wait(1300)), [['READ_TIMEOUT', 'read-timeout']])
  })

  it('a pause that the proxy asked for does not count', () => {
    const connection = new Connection({ readTimeoutMs: 1000 }).ask().say('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx')
    connection.session.pauseResponse()
    assert.deepEqual(faults(connection.wait(5000)), [])
    connection.session.resumeResponse()
    assert.deepEqual(faults(connection.wait(900)), [])
    assert.deepEqual(faults(connection.wait(300)), [['READ_TIMEOUT', 'read-timeout']])
  })

  it('an origin that takes no byte has writeTimeoutMs', () => {
    const connection = new Connection({ writeTimeoutMs: 1000 }, 1000)
    connection.session.begin(connection, connection.limits)
    connection.session.writeHead(RequestHead.build('POST', '/', HeaderMap.from({ host: 'a.example' })), setupFor(100_000))
    connection.session.writeBody(Buffer.alloc(100_000), 0, 100_000, true)
    for (let times = 0; times < 8; times++) connection.clock.advance(100)
    assert.deepEqual(faults(connection), [])
    connection.pair.near.deliver(100)
    for (let times = 0; times < 8; times++) connection.clock.advance(100)
    assert.deepEqual(faults(connection), [], 'a byte that was taken starts it anew')
    for (let times = 0; times < 8; times++) connection.clock.advance(100)
    assert.deepEqual(faults(connection), [['WRITE_TIMEOUT', 'write-timeout']])
  })
})

describe('http1 client session: limits travel with the exchange', () => {
  /** An exchange that ends well under limits of its own; the next one has others. */
  const used = (limits: Http1ClientOptions, next: Http1ClientOptions): Connection => {
    const connection = new Connection(limits).ask().say(OK).rest()
    assert.equal(connection.session.unpark(), true)
    connection.limits = { ...HTTP1_CLIENT_DEFAULTS, ...next }
    return connection.ask()
  }
  const faults = (connection: Connection): string[] => connection.faults.map(({ limit }) => limit)

  it('its times', () => {
    assert.deepEqual(faults(used({ firstByteTimeoutMs: 200 }, { firstByteTimeoutMs: 1000 }).wait(900)), [])
    assert.deepEqual(faults(used({ firstByteTimeoutMs: 1000 }, { firstByteTimeoutMs: 200 }).wait(400)), ['first-byte-timeout'])
    const slow = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe'
    assert.deepEqual(faults(used({ readTimeoutMs: 200 }, { readTimeoutMs: 1000 }).say(slow).wait(900)), [])
    assert.deepEqual(faults(used({ readTimeoutMs: 1000 }, { readTimeoutMs: 200 }).say(slow).wait(400)), ['read-timeout'])
  })

  it('its sizes and counts', () => {
    const long = OK.replace('\r\n\r\n', `\r\nA: ${'x'.repeat(150)}\r\nB: ${'y'.repeat(150)}\r\n\r\n`)
    assert.deepEqual(faults(used({ maxResponseHeadBytes: 200 }, {}).say(long)), [])
    assert.deepEqual(faults(used({}, { maxResponseHeadBytes: 200 }).say(long)), ['response-head-bytes'])
    assert.deepEqual(faults(used({ maxResponseHeaderCount: 1 }, {}).say(long)), [])
    assert.deepEqual(faults(used({}, { maxResponseHeaderCount: 2 }).say(long)), ['response-header-count'])
    const early = 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(2)
    assert.deepEqual(faults(used({ maxInterimResponses: 1 }, {}).say(early)), [])
    assert.deepEqual(faults(used({}, { maxInterimResponses: 1 }).say(early)), ['interim-responses'])
    assert.deepEqual(faults(used({ maxInterimBytes: 40 }, { maxInterimBytes: 56 }).say(early)), [])
    assert.deepEqual(faults(used({}, { maxInterimBytes: 55 }).say(early)), ['interim-bytes'])
  })

  it('a head that comes in pieces is held to them as well', () => {
    const connection = used({}, { maxResponseHeadBytes: 100 })
    connection.say('HTTP/1.1 200 OK\r\nA: ').say('x'.repeat(60)).say('\r\nB: ').say('y'.repeat(60))
    assert.deepEqual(faults(connection), ['response-head-bytes'])
  })
})

describe('http1 client session: interim responses and slow heads', () => {
  const limits = (of: Http1ClientOptions): Connection => {
    const connection = new Connection()
    connection.limits = { ...HTTP1_CLIENT_DEFAULTS, ...of }
    return connection.ask()
  }
  const faults = (connection: Connection): string[] => connection.faults.map(({ limit }) => limit)

  it('an origin may send any number of them over a long wait, not at once', () => {
    const connection = limits({ maxInterimResponses: 2, maxInterimBytes: 100 })
    for (let count = 0; count < 20; count++) connection.say('HTTP/1.1 102 Processing\r\n\r\n').wait(6000)
    assert.deepEqual(faults(connection), [])
    connection.say('HTTP/1.1 102 Processing\r\n\r\n'.repeat(3))
    assert.deepEqual(faults(connection), ['interim-responses'])
  })

  it('a head that comes a byte at a time is cut, whatever it is the head of', () => {
    for (const [line, ended] of [['200 OK', true], ['103 Early Hints', true], ['413 No', false]] as const) {
      const head = `HTTP/1.1 ${line}\r\n`
      const connection = new Connection()
      connection.limits = { ...HTTP1_CLIENT_DEFAULTS, responseHeadTimeoutMs: 3000 }
      connection.ask('POST', ended ? 0 : 5)
      let bytes = 0
      for (const byte of head.padEnd(60, 'x')) {
        if (connection.faults.length > 0) break
        connection.say(byte).wait(500)
        bytes++
      }
      assert.deepEqual([faults(connection), connection.faults[0]!.kind], [['response-head-timeout'], 'READ_TIMEOUT'])
      assert.ok(bytes > 5 && bytes < 10, `${bytes} bytes were taken`)
    }
  })

  it('each head has the time again, and the body that follows takes as long as it may', () => {
    const connection = limits({ responseHeadTimeoutMs: 1000 })
    for (let count = 0; count < 5; count++) connection.say('HTTP/1.1 103 E').wait(900).say('arly Hints\r\n\r\n').wait(900)
    connection.say('HTTP/1.1 200 O').wait(900).say('K\r\nContent-Length: 5\r\n\r\n')
    for (const byte of 'hell') connection.say(byte).wait(900)
    assert.deepEqual(faults(connection), [])
    connection.say('o')
    assert.equal(connection.session.capacity, 1)
  })
})

describe('http1 client session: as a connection', () => {
  const told = ({ session }: Connection): readonly number[] => [session.capacity, session.active, session.exchanges]

  it('takes one exchange at a time', () => {
    const connection = new Connection()
    assert.deepEqual(told(connection), [1, 0, 0])
    assert.equal(connection.session.begin(connection, connection.limits), connection.session)
    assert.deepEqual(told(connection), [0, 1, 1])
    connection.session.abort()
    assert.deepEqual(told(connection), [0, 0, 1])
    assert.deepEqual(told(new Connection().ask().say(OK)), [1, 0, 1])
  })

  it('an exchange that has ended is not given up: the connection stays', () => {
    const connection = new Connection().ask().say(OK)
    connection.session.abort()
    assert.deepEqual([connection.session.capacity, connection.pair.near.destroyed], [1, false])
  })

  it('closing it tells an exchange that is under way, and no other', () => {
    const busy = new Connection().ask('POST', 10)
    busy.session.close()
    busy.session.close()
    assert.deepEqual(busy.faults.map(({ kind, retry }) => [kind, retry]), [['CLOSED_EARLY', 'never']])
    const ready = new Connection().ask().say(OK), parked = new Connection().ask().say(OK).rest()
    for (const connection of [ready, parked]) {
      connection.session.close()
      connection.pair.settle()
      assert.deepEqual([connection.faults, connection.lost, connection.origin.error, connection.session.capacity], [[], [], null, 0])
      assert.equal(connection.pair.near.destroyed, true)
    }
  })

  it('one that never carried an exchange is kept like any other', () => {
    const connection = new Connection()
    connection.session.park(connection, 1000)
    assert.equal(connection.session.unpark(), true)
    assert.deepEqual(connection.ask().say(OK).statuses, [200])
    const closed = new Connection()
    closed.origin.stream.end()
    closed.pair.settle()
    assert.equal(closed.session.capacity, 0)
  })
})
