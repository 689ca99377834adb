import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { PendingResolve, type ResolveWaiter } from '../../src/connector/resolver.ts'
import { TransportConnector } from '../../src/connector/transport-connector.ts'
import type { TransportConnectorOptions } from '../../src/connector/transport-options.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { CustomL4 } from '../../src/peer/peer-options.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { ByteStream, StreamOwner } from '../../src/protocols/byte-stream.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { within } from '../support/wait-for.ts'
import { FakeNetwork, FakeStream, Outcome, nextTick } from './fakes.ts'

/** Names of a test, answered when it says so. */
class FakeResolver {
  readonly known = new Map<string, readonly string[]>()
  readonly asked: { name: string; timeoutMs: number; pending: PendingResolve }[] = []
  cached(name: string): readonly string[] | null { return this.known.get(name) ?? null }
  ask(name: string, timeoutMs: number, waiter: ResolveWaiter): PendingResolve {
    const pending = new PendingResolve(waiter, 0, timeoutMs)
    this.asked.push({ name, timeoutMs, pending })
    return pending
  }
}

class Fixture {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly network = new FakeNetwork()
  readonly resolver = new FakeResolver()
  readonly connector: TransportConnector
  constructor(options: TransportConnectorOptions = {}) {
    this.connector = new TransportConnector({
      ticker: this.ticker, resolver: this.resolver, dial: this.network.dial, random: () => 0, ...options,
    })
  }
  dial(address: string, options?: HttpPeerOptions): Outcome & { cancel(): void } { return this.dialPeer(new HttpPeer(address, options)) }
  dialPeer(peer: Peer): Outcome & { cancel(): void } {
    const outcome = new Outcome()
    const pending = this.connector.dial(peer, outcome)
    return Object.assign(outcome, { cancel: () => pending.cancel() })
  }
  /** Nothing is left that would ever be called again. */
  assertIdle(): void {
    assert.equal(this.ticker.size, 0)
    this.clock.advance(200)
    assert.equal(this.clock.pending, 0)
    const { dials, connected, failed, cancelled } = this.connector.counters
    assert.equal(dials, connected + failed + cancelled)
  }
}

test('dial: a numeric address is dialled without asking for it', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('127.0.0.1:80')
  assert.deepEqual(fixture.network.last.options, { address: { kind: 'tcp', host: '127.0.0.1', port: 80 } })
  assert.equal(fixture.resolver.asked.length, 0)
  const stream = fixture.network.last.connect()
  assert.deepEqual([outcome.calls, outcome.stream, outcome.early], [1, stream, null])
  fixture.assertIdle()
})

test('dial: a Unix socket is dialled by its path', () => {
  const fixture = new Fixture({ bindToV4: ['127.0.0.9'] })
  const outcome = fixture.dial('unix:/run/a.sock', { tcpKeepAliveIdleMs: 1000 })
  assert.deepEqual(fixture.network.last.options, { address: { kind: 'unix', path: '/run/a.sock' } })
  fixture.network.last.connect()
  assert.equal(outcome.calls, 1)
  fixture.assertIdle()
})

test('dial: a name is resolved, and its failure is the dial\'s', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('a.test:80', { resolveTimeoutMs: 700 })
  assert.deepEqual(fixture.resolver.asked.map(({ name, timeoutMs }) => [name, timeoutMs]), [['a.test', 700]])
  fixture.resolver.asked[0]!.pending.succeed(['10.0.0.1'])
  fixture.network.last.connect()
  assert.equal(outcome.calls, 1)
  const failing = fixture.dial('b.test:80')
  const error = new ProxyError('RESOLVE_FAILED', 'upstream', 'b.test')
  fixture.resolver.asked[1]!.pending.fail(error)
  assert.equal(failing.error, error)
  fixture.resolver.known.set('c.test', ['10.0.0.3'])
  fixture.dial('c.test:80').cancel()
  assert.equal(fixture.network.last.to, '10.0.0.3')
  fixture.assertIdle()
})

test('dial: bind address, port and keep-alive are passed on', () => {
  const fixture = new Fixture({ bindToV4: ['127.0.0.8', '127.0.0.9'], bindToV6: ['::1'], random: () => 0.6 })
  fixture.dial('10.0.0.1:80').cancel()
  assert.equal(fixture.network.last.options.localAddress, '127.0.0.9')
  fixture.dial('[2001:db8::1]:80').cancel()
  assert.equal(fixture.network.last.options.localAddress, '::1')
  fixture.dial('10.0.0.1:80', { localAddress: '127.0.0.2', localPort: 4000, tcpKeepAliveIdleMs: 5000 }).cancel()
  assert.deepEqual(fixture.network.last.options, {
    address: { kind: 'tcp', host: '10.0.0.1', port: 80 }, localAddress: '127.0.0.2', localPort: 4000, keepAlive: { initialDelayMs: 5000 },
  })
  const refusal = (family: string, given: string): RegExp =>
    new RegExp(`connector\\.bindTo.. is a list that would not do; use ${family} addresses only, not "${given}"`)
  assert.throws(() => new TransportConnector({ bindToV4: ['::1'] }), refusal('IPv4', '::1'))
  assert.throws(() => new TransportConnector({ bindToV6: ['127.0.0.1'] }), refusal('IPv6', '127\\.0\\.0\\.1'))
})

test('dial: from an IPv4 address only IPv4 addresses are tried', async () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', ['2001:db8::1', '10.0.0.1'])
  fixture.dial('a.test:80', { localAddress: '127.0.0.2' }).cancel()
  assert.deepEqual(fixture.network.to, ['10.0.0.1'])
  const outcome = fixture.dial('[2001:db8::1]:80', { localAddress: '127.0.0.2' })
  assert.equal(outcome.calls, 0)
  await nextTick()
  assert.equal(outcome.error!.kind, 'BIND_FAILED')
  fixture.assertIdle()
})

const ERRORS: readonly (readonly [code: string, kind: string, source: string])[] = [
  ['ECONNREFUSED', 'CONNECT_REFUSED', 'upstream'], ['ETIMEDOUT', 'CONNECT_TIMEOUT', 'upstream'],
  ['ENETUNREACH', 'CONNECT_NO_ROUTE', 'upstream'], ['EHOSTUNREACH', 'CONNECT_NO_ROUTE', 'upstream'],
  ['EADDRNOTAVAIL', 'LOCAL_EXHAUSTED', 'internal'], ['EADDRINUSE', 'LOCAL_EXHAUSTED', 'internal'],
  ['EPERM', 'LOCAL_EXHAUSTED', 'internal'], ['EMFILE', 'LOCAL_EXHAUSTED', 'internal'],
  ['ENFILE', 'LOCAL_EXHAUSTED', 'internal'], ['ENOBUFS', 'LOCAL_EXHAUSTED', 'internal'], ['ENOMEM', 'LOCAL_EXHAUSTED', 'internal'],
  ['ENOENT', 'CONNECT_FAILED', 'upstream'], ['ECONNRESET', 'CONNECT_FAILED', 'upstream'],
]
for (const [code, kind, source] of ERRORS) {
  test(`dial: ${code} is ${kind}, and may be repeated`, () => {
    const fixture = new Fixture()
    const outcome = fixture.dial('127.0.0.1:80')
    fixture.network.last.fail(code)
    assert.deepEqual([outcome.calls, outcome.error!.kind, outcome.error!.source, outcome.error!.retry], [1, kind, source, 'always'])
    assert.match(outcome.error!.message, /127\.0\.0\.1:80/)
    fixture.assertIdle()
  })
}

test('dial: a local address that cannot be bound is told from ports that are used up', () => {
  for (const [syscall, kind] of [['bind', 'BIND_FAILED'], ['connect', 'LOCAL_EXHAUSTED']] as const) {
    const fixture = new Fixture()
    const outcome = fixture.dial('127.0.0.1:80', { localAddress: '127.0.0.2' })
    fixture.network.last.stream.close(Object.assign(new Error('no'), { code: 'EADDRNOTAVAIL', syscall }))
    assert.deepEqual([outcome.error!.kind, outcome.error!.source], [kind, 'internal'])
  }
})

test('dial: a name of which one address fails for want of something here says nothing about the peer', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', ['10.0.0.1', '10.0.0.2'])
  const outcome = fixture.dial('a.test:80')
  fixture.network.last.fail('EMFILE')
  fixture.network.last.fail('ECONNREFUSED')
  assert.deepEqual([outcome.error!.kind, outcome.error!.source], ['LOCAL_EXHAUSTED', 'internal'])
  assert.equal((outcome.error!.cause as AggregateError).errors.length, 2)
})

test('dial: a socket that cannot be made fails after dial has returned', async () => {
  const fixture = new Fixture({ dial: () => { throw Object.assign(new Error('no'), { code: 'EMFILE' }) } })
  const outcome = fixture.dial('127.0.0.1:80')
  assert.equal(outcome.calls, 0)
  await nextTick()
  assert.equal(outcome.error!.kind, 'LOCAL_EXHAUSTED')
  fixture.assertIdle()
})

// ---- time limits

test('dial: an address has connectTimeoutMs', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('127.0.0.1:80', { connectTimeoutMs: 1000 })
  fixture.clock.advance(900)
  assert.equal(outcome.calls, 0)
  fixture.clock.advance(200)
  assert.deepEqual([outcome.error!.kind, outcome.error!.limit, outcome.error!.retry], ['CONNECT_TIMEOUT', 'connect-timeout', 'always'])
  assert.equal(fixture.network.last.cut, true)
  fixture.network.last.fail('ECONNREFUSED')
  assert.equal(outcome.calls, 1)
  fixture.assertIdle()
})

test('dial: everything together has totalConnectTimeoutMs, resolving too', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('a.test:80', { connectTimeoutMs: 3000, totalConnectTimeoutMs: 4000 })
  fixture.clock.advance(2000)
  fixture.resolver.asked[0]!.pending.succeed(['10.0.0.1'])
  fixture.clock.advance(1900)
  assert.equal(outcome.calls, 0)
  fixture.clock.advance(200)
  assert.equal(outcome.error!.limit, 'total-connect-timeout')
  assert.equal(fixture.network.last.cut, true)
  const resolving = fixture.dial('b.test:80', { totalConnectTimeoutMs: 1000, resolveTimeoutMs: 5000 })
  fixture.clock.advance(1100)
  assert.match(resolving.error!.message, /resolving its name/)
  assert.equal(fixture.resolver.asked[1]!.pending.waiter, null)
  fixture.assertIdle()
})

test('dial: cancel ends every step without a call', () => {
  const fixture = new Fixture()
  const resolving = fixture.dial('a.test:80')
  resolving.cancel()
  assert.equal(fixture.resolver.asked[0]!.pending.waiter, null)
  const connecting = fixture.dial('127.0.0.1:80')
  connecting.cancel()
  connecting.cancel()
  assert.equal(fixture.network.last.cut, true)
  fixture.network.last.fail('ECONNREFUSED')
  const tunnelling = fixture.dial('127.0.0.1:80', { connectProxy: { nextHop: '127.0.0.1:3128' } })
  const stream = fixture.network.last.connect()
  tunnelling.cancel()
  assert.equal(stream.destroyed, true)
  stream.receive('HTTP/1.1 200 OK\r\n\r\n')
  stream.close()
  assert.deepEqual([resolving.calls, connecting.calls, tunnelling.calls], [0, 0, 0])
  assert.equal(fixture.connector.counters.cancelled, 3)
  fixture.assertIdle()
})

// ---- several addresses

const SEVERAL = ['10.0.0.1', '10.0.0.2', '2001:db8::1', '2001:db8::2']

test('happy eyeballs: the first dial of a process may start at any address of a name', () => {
  for (const [random, first] of [[0, '10.0.0.1'], [0.04, '10.0.0.2'], [0.99, '10.0.0.2']] as const) {
    const fixture = new Fixture({ random: () => random })
    fixture.resolver.known.set('a.test', ['10.0.0.1', '10.0.0.2'])
    fixture.dial('a.test:80')
    assert.deepEqual(fixture.network.to, [first])
  }
})

test('happy eyeballs: families take turns, the next begins 250 ms after the one before', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', SEVERAL)
  const outcome = fixture.dial('a.test:80')
  assert.deepEqual(fixture.network.to, ['2001:db8::1'])
  fixture.clock.advance(249)
  assert.equal(fixture.network.dials.length, 1)
  fixture.clock.advance(1)
  assert.deepEqual(fixture.network.to, ['2001:db8::1', '10.0.0.1'])
  fixture.clock.advance(250)
  const stream = fixture.network.dials[1]!.connect()
  assert.equal(outcome.stream, stream)
  assert.deepEqual(fixture.network.dials.map(dial => dial.cut), [true, false, true])
  fixture.network.dials[0]!.connect()
  fixture.network.dials[2]!.fail('ECONNREFUSED')
  assert.equal(outcome.calls, 1)
  fixture.assertIdle()
  assert.equal(fixture.network.dials.length, 3)
})

test('happy eyeballs: a failure starts the next at once', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', SEVERAL)
  const outcome = fixture.dial('a.test:80')
  fixture.network.last.fail('ENETUNREACH')
  assert.deepEqual(fixture.network.to, ['2001:db8::1', '10.0.0.1'])
  fixture.network.last.fail('ECONNREFUSED')
  fixture.network.last.fail('ENETUNREACH')
  fixture.network.last.fail('ECONNREFUSED')
  assert.deepEqual(fixture.network.to.toSorted(), SEVERAL.toSorted())
  assert.equal(outcome.error!.kind, 'CONNECT_REFUSED')
  assert.match(outcome.error!.message, /none of 4 addresses answered/)
  assert.equal((outcome.error!.cause as AggregateError).errors.length, 4)
  fixture.assertIdle()
})

test('happy eyeballs: each address has its own time limit', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', ['10.0.0.1', '10.0.0.2'])
  const outcome = fixture.dial('a.test:80', { connectTimeoutMs: 1000 })
  fixture.clock.advance(1000)
  assert.deepEqual(fixture.network.dials.map(dial => dial.cut), [true, false])
  fixture.clock.advance(300)
  assert.equal(outcome.error!.kind, 'CONNECT_TIMEOUT')
  fixture.assertIdle()
})

test('happy eyeballs: the family that won goes first for a while', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', ['2001:db8::1', '10.0.0.1'])
  fixture.dial('a.test:80')
  fixture.clock.advance(250)
  fixture.network.last.connect()
  fixture.dial('a.test:80').cancel()
  assert.equal(fixture.network.last.to, '10.0.0.1')
  fixture.clock.advance(600_000)
  fixture.dial('a.test:80').cancel()
  assert.equal(fixture.network.last.to, '2001:db8::1')
  fixture.assertIdle()
})

test('happy eyeballs: dials of one name start at another address each time', () => {
  const fixture = new Fixture()
  fixture.resolver.known.set('a.test', ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
  for (let i = 0; i < 6; i++) fixture.dial('a.test:80').cancel()
  assert.deepEqual(fixture.network.to, ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.1', '10.0.0.2', '10.0.0.3'])
})

test('happy eyeballs: under any order of events the waiter is called once and nothing stays open', () => {
  const event = fc.record({ kind: fc.constantFrom('connect', 'fail', 'advance', 'cancel'), pick: fc.nat({ max: 10 }) })
  const events = fc.array(event, { maxLength: 30, size: 'max' })
  const addresses = fc.uniqueArray(fc.constantFrom(...SEVERAL, '10.0.0.3'), { minLength: 1, maxLength: 5 })
  fc.assert(fc.property(addresses, events, (names, list) => {
    const fixture = new Fixture()
    fixture.resolver.known.set('a.test', names)
    const outcome = fixture.dial('a.test:80', { connectTimeoutMs: 500, totalConnectTimeoutMs: 900 })
    const over = new Set<number>()
    let cancelled = false
    for (const { kind, pick } of list) {
      const index = pick % fixture.network.dials.length
      const dial = fixture.network.dials[index]!
      if (kind === 'advance') fixture.clock.advance(pick * 50)
      else if (kind === 'cancel' && pick === 0) {
        cancelled ||= outcome.calls === 0
        outcome.cancel()
      } else if (kind === 'connect' && !over.has(index) && !dial.cut) {
        over.add(index)
        dial.connect()
      } else if (kind === 'fail' && !over.has(index)) {
        over.add(index)
        dial.fail('ECONNREFUSED')
      }
    }
    fixture.clock.advance(1000)
    assert.equal(outcome.calls, cancelled ? 0 : 1)
    assert.equal(new Set(fixture.network.to).size, fixture.network.to.length, 'no address twice')
    for (const dial of fixture.network.dials) assert.ok(dial.cut || dial.stream === outcome.stream)
    fixture.assertIdle()
  }), { numRuns: 500 })
})

// ---- CONNECT

test('proxy: the tunnel is asked for over the proxy\'s address, which is the only one resolved', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('origin.test:443', { connectProxy: { nextHop: 'proxy.test:3128' } })
  assert.deepEqual(fixture.resolver.asked.map(({ name }) => name), ['proxy.test'])
  fixture.resolver.asked[0]!.pending.succeed(['10.0.0.9'])
  assert.deepEqual(fixture.network.last.options.address, { kind: 'tcp', host: '10.0.0.9', port: 3128 })
  const stream = fixture.network.last.connect()
  assert.equal(stream.written, 'CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n')
  assert.equal(outcome.calls, 0)
  stream.receive('HTTP/1.1 200 Connection established\r\n\r\nearly')
  assert.deepEqual([outcome.calls, outcome.stream, outcome.early!.toString()], [1, stream, 'early'])
  fixture.assertIdle()
})

test('proxy: the answer to CONNECT has connectTimeoutMs', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('origin.test:443', { connectProxy: { nextHop: 'unix:/run/proxy.sock' }, connectTimeoutMs: 1000 })
  const stream = fixture.network.last.connect()
  stream.receive('HTTP/1.1 200')
  fixture.clock.advance(1100)
  assert.equal(outcome.error!.kind, 'CONNECT_TIMEOUT')
  assert.match(outcome.error!.message, /did not answer CONNECT/)
  assert.equal(stream.destroyed, true)
  fixture.assertIdle()
})

test('proxy: a refusal carries the proxy\'s status', () => {
  const fixture = new Fixture()
  const outcome = fixture.dial('origin.test:443', { connectProxy: { nextHop: 'unix:/run/proxy.sock' } })
  fixture.network.last.connect().receive('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
  assert.equal(outcome.error!.kind, 'CONNECT_PROXY_FAILED')
  assert.match(outcome.error!.message, /403 Forbidden/)
  fixture.assertIdle()
})

// ---- custom transports

test('custom transport: its stream is used, given at once or later', async () => {
  for (const later of [false, true]) {
    const stream = new FakeStream(new Outcome().owner)
    const fixture = new Fixture()
    const asked: unknown[] = []
    const customL4: CustomL4 = {
      connect(address) {
        asked.push(address)
        return later ? Promise.resolve(stream) : stream
      },
    }
    const outcome = fixture.dial('a.test:80', { customL4 })
    assert.equal(outcome.calls, 0)
    await nextTick()
    assert.equal(outcome.stream, stream)
    assert.deepEqual(asked, [{ kind: 'tcp', host: 'a.test', port: 80 }])
    fixture.assertIdle()
  }
})

test('custom transport: is bound by the time limits, and what comes late is destroyed', async () => {
  const fixture = new Fixture()
  const { promise, resolve } = Promise.withResolvers<ByteStream>()
  const outcome = fixture.dial('a.test:80', { customL4: { connect: () => promise }, connectTimeoutMs: 1000 })
  fixture.clock.advance(1100)
  assert.deepEqual([outcome.error!.kind, outcome.error!.limit], ['CONNECT_TIMEOUT', 'connect-timeout'])
  const stream = new FakeStream(new Outcome().owner)
  resolve(stream)
  await nextTick()
  assert.equal(stream.destroyed, true)
  assert.equal(outcome.calls, 1)
  fixture.assertIdle()
})

test('custom transport: throwing, rejecting and giving nothing are connect faults', async () => {
  const cases: readonly (readonly [connect: () => ByteStream | Promise<ByteStream>, kind: string])[] = [
    [() => { throw new Error('no') }, 'CONNECT_FAILED'],
    [() => Promise.reject(Object.assign(new Error('no'), { code: 'ECONNREFUSED' })), 'CONNECT_REFUSED'],
    [() => Promise.reject(new ProxyError('OVERLOADED', 'internal', 'mine')), 'OVERLOADED'],
    [() => null as unknown as ByteStream, 'CONNECT_FAILED'],
    [() => undefined as unknown as ByteStream, 'CONNECT_FAILED'],
    [() => new net.Socket() as unknown as ByteStream, 'CONNECT_FAILED'],
    [() => ({ destroy() { throw new Error('no') } }) as unknown as ByteStream, 'CONNECT_FAILED'],
    [() => { const stream = new FakeStream(new Outcome().owner); stream.destroy(); return stream }, 'CONNECT_FAILED'],
  ]
  for (const [connect, kind] of cases) {
    const fixture = new Fixture()
    const outcome = fixture.dial('a.test:80', { customL4: { connect } })
    await nextTick()
    assert.equal(outcome.error!.kind, kind)
    fixture.assertIdle()
  }
})

test('custom transport: carries CONNECT too', async () => {
  const fixture = new Fixture()
  const stream = new FakeStream(new Outcome().owner)
  const asked: unknown[] = []
  const customL4: CustomL4 = {
    connect(address) {
      asked.push(address)
      return stream
    },
  }
  const outcome = fixture.dial('a.test:80', { connectProxy: { nextHop: 'p.test:3128' }, customL4 })
  await nextTick()
  assert.deepEqual(asked, [{ kind: 'tcp', host: 'p.test', port: 3128 }])
  stream.receive('HTTP/1.1 200 OK\r\n\r\n')
  assert.equal(outcome.stream, stream)
  fixture.assertIdle()
})

// ---- promises

test('connect: resolves with a paused stream', async () => {
  const fixture = new Fixture()
  const connecting = fixture.connector.connect(new HttpPeer('127.0.0.1:80'))
  fixture.network.last.connect()
  const stream = await connecting
  assert.equal(stream, fixture.network.last.stream)
  assert.equal(stream.paused, true)
})

test('connect: early bytes come first, when the stream is resumed', async () => {
  const fixture = new Fixture()
  const connecting = fixture.connector.connect(new HttpPeer('a.test:80', { connectProxy: { nextHop: '127.0.0.1:3128' } }))
  const inner = fixture.network.last.connect()
  inner.receive('HTTP/1.1 200 OK\r\n\r\nearly')
  const stream = await connecting
  const outcome = new Outcome()
  stream.owner = outcome.owner
  assert.equal(stream.paused, true)
  stream.resume()
  assert.equal(stream.paused, false)
  stream.pause()
  await nextTick()
  assert.equal(outcome.received, '', 'paused again before they came')
  stream.resume()
  await nextTick()
  assert.equal(outcome.received, 'early')
  assert.equal(inner.paused, false)
  inner.receive('later')
  assert.equal(outcome.received, 'earlylater')
  stream.pause()
  assert.equal(inner.paused, true)
  inner.close()
  assert.equal(outcome.closed, true)
})

test('connect: an owner that pauses at the early bytes gets no others', async () => {
  const fixture = new Fixture()
  const connecting = fixture.connector.connect(new HttpPeer('a.test:80', { connectProxy: { nextHop: '127.0.0.1:3128' } }))
  const inner = fixture.network.last.connect()
  inner.receive('HTTP/1.1 200 OK\r\n\r\nearly')
  const stream = await connecting
  let received = ''
  stream.owner = {
    onBytes(buffer, from, to) {
      received += buffer.latin1Slice(from, to)
      stream.pause()
    },
    onEnd() {}, onDrained() {}, onClosed() {},
  }
  stream.resume()
  await nextTick()
  assert.equal(received, 'early')
  assert.deepEqual([inner.paused, stream.paused], [true, true])
})

test('connect: rejects with the fault, or with the reason of its signal', async () => {
  const fixture = new Fixture()
  const peer = new HttpPeer('127.0.0.1:80')
  const failing = fixture.connector.connect(peer)
  fixture.network.last.fail('ECONNREFUSED')
  await assert.rejects(failing, { kind: 'CONNECT_REFUSED' })
  const aborting = new AbortController()
  const unwanted = fixture.connector.connect(peer, aborting.signal)
  aborting.abort(new Error('enough'))
  await assert.rejects(unwanted, { message: 'enough' })
  assert.equal(fixture.network.last.cut, true)
  await assert.rejects(fixture.connector.connect(peer, AbortSignal.abort(new Error('before'))), { message: 'before' })
  fixture.assertIdle()
})

// ---- real sockets

/** Collects what a real stream says. */
class Reader implements StreamOwner {
  text = ''
  readonly ended = Promise.withResolvers<void>()
  readonly closed = Promise.withResolvers<Error | null>()
  onBytes(buffer: Buffer, from: number, to: number): void { this.text += buffer.latin1Slice(from, to) }
  onEnd(): void { this.ended.resolve() }
  onDrained(): void {}
  onClosed(error: Error | null): void { this.closed.resolve(error) }
}

function listen(server: net.Server, where: net.ListenOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.on('error', reject).listen(where, resolve)
  return promise
}

test('sockets: TCP and Unix are dialled and carry bytes both ways', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'connector-'))
  const connector = new TransportConnector()
  try {
    for (const where of [{ port: 0, host: '127.0.0.1' }, { path: join(folder, 'a.sock') }]) {
      const server = net.createServer(socket => socket.on('data', chunk => socket.end(`echo ${chunk.toString()}`)))
      await listen(server, where)
      const address = server.address()
      const text = typeof address === 'string' ? `unix:${address}` : `127.0.0.1:${address!.port}`
      const peer = new HttpPeer(text, { tcpKeepAliveIdleMs: 5000, tcpKeepAliveIntervalMs: 1000, tcpKeepAliveCount: 3 })
      const stream = await within('connect', connector.connect(peer))
      const reader = new Reader()
      stream.owner = reader
      stream.resume()
      stream.writeText('hello')
      await within('the answer', reader.ended.promise)
      assert.equal(reader.text, 'echo hello')
      stream.end()
      assert.equal(await within('the end', reader.closed.promise), null)
      server.close()
    }
    assert.equal(connector.ticker.size, 0)
  } finally { rmSync(folder, { recursive: true }) }
})

test('sockets: a peer that asks for a DSCP and a user timeout has them, and one without system calls is refused by name', async t => {
  const server = net.createServer(socket => socket.end())
  await listen(server, { port: 0, host: '127.0.0.1' })
  t.after(() => { server.close() })
  const address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`
  const program = `
    import { TransportConnector } from ${JSON.stringify(new URL('../../src/connector/transport-connector.ts', import.meta.url).href)}
    import { HttpPeer } from ${JSON.stringify(new URL('../../src/peer/http-peer.ts', import.meta.url).href)}
    import { dlopen } from 'node:ffi'
    const { functions } = dlopen('libc.so.6', {
      getsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'buffer'], return: 'int32' },
    })
    const read = (fd, level, name) => {
      const value = Buffer.alloc(4), length = Buffer.from([4, 0, 0, 0])
      return functions.getsockopt(fd, level, name, value, length) === 0 ? value.readInt32LE() : -1
    }
    const connector = new TransportConnector()
    for (const options of [{}, { dscp: 46 }, { tcpUserTimeoutMs: 5000 }]) {
      try {
        const stream = await connector.connect(new HttpPeer('${address}', options))
        const { fd } = stream.socket._handle
        console.log(read(fd, 0, 1) >> 2, read(fd, 6, 18))
        stream.destroy()
      } catch (error) { console.log(error.message) }
    }`
  const run = (env: NodeJS.ProcessEnv): Promise<string[]> => new Promise((resolve, reject) => {
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', program]
    execFile(process.execPath, args, { env }, (error, stdout) => {
      if (error === null) resolve(stdout.trim().split('\n'))
      else reject(error)
    })
  })
  assert.deepEqual(await within('the marks', run({})), ['0 0', '46 0', '0 5000'])
  const [plain, dscp, timeout] = await within('the refusals', run({ CIRQUE_SYSTEM_CALLS: 'off' }))
  assert.equal(plain, '0 0')
  assert.match(dscp!, /^NOT_IMPLEMENTED .*peer\.dscp takes a system call, and there are none here \(CIRQUE_SYSTEM_CALLS=off\); leave/)
  assert.match(timeout!, /peer\.tcpUserTimeoutMs takes a system call/)
})

test('sockets: a closed port is refused, a path that is not there failed, an address that is not ours cannot be bound', async t => {
  const connector = new TransportConnector()
  const server = net.createServer()
  await listen(server, { port: 0, host: '127.0.0.1' })
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => { server.close(resolve) })
  const refused = connector.connect(new HttpPeer(`127.0.0.1:${port}`))
  await assert.rejects(within('refusal', refused), { kind: 'CONNECT_REFUSED', retry: 'always' })
  await assert.rejects(within('refusal', connector.connect(new HttpPeer(`unix:${temporaryFolder(t)}/a.sock`))), { kind: 'CONNECT_FAILED' })
  const unbound = connector.connect(new HttpPeer(`127.0.0.1:${port}`, { localAddress: '192.0.2.1' }))
  await assert.rejects(within('refusal', unbound), { kind: 'BIND_FAILED', source: 'internal' })
})

test('sockets: the local address is the one asked for', async () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const server = net.createServer(socket => {
    resolve(socket.remoteAddress!)
    socket.end()
  })
  await listen(server, { port: 0, host: '127.0.0.1' })
  const { port } = server.address() as net.AddressInfo
  const peer = new HttpPeer(`127.0.0.1:${port}`, { localAddress: '127.0.0.2' })
  const stream = await within('connect', new TransportConnector().connect(peer))
  assert.equal(await within('accept', promise), '127.0.0.2')
  stream.destroy()
  server.close()
})
