/** Connections to a name that stands for other machines than when they were made. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector, type ConnectionWaiter } from '../../src/connector/http-connector.ts'
import { ABSENT_MS, LOOK_MS } from '../../src/connector/name-watch.ts'
import type { PendingResolve, ResolveWaiter } from '../../src/connector/resolver.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { FAKE_DIGEST, FakeConnection } from '../pool/fake-connection.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeStream } from './fakes.ts'

class World {
  readonly clock = new FakeClock()
  readonly asked: string[] = []
  readonly waiters: ResolveWaiter[] = []
  /** What the name stands for; null: its servers have to be asked. */
  known: readonly string[] | null = ['10.0.0.1']
  /** Where the next connection leads. */
  ip = '10.0.0.1'
  readonly connector: HttpConnector

  constructor() {
    this.connector = new HttpConnector({
      ticker: new Ticker(this.clock),
      transport: {
        dial: (_peer, waiter) => {
          process.nextTick(() => waiter.onDialed(new FakeStream({ onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }), null))
          return { cancel() {} }
        },
        resolver: {
          cached: () => this.known,
          ask: (name, _timeoutMs, waiter) => {
            this.asked.push(name)
            this.waiters.push(waiter)
            return { cancel: () => { this.waiters.splice(this.waiters.indexOf(waiter), 1) } } as unknown as PendingResolve
          },
        },
      },
      createConnection: () => Object.assign(new FakeConnection(''), { digest: { ...FAKE_DIGEST, remoteIp: this.ip } }),
    })
  }

  async open(peer: Peer): Promise<FakeConnection> {
    const { promise, resolve, reject } = Promise.withResolvers<UpstreamConnection>()
    const waiter: ConnectionWaiter = { onConnection: resolve, onConnectionFailed: reject }
    this.connector.open(peer, waiter)
    return await promise as FakeConnection
  }
}

const peerOf = (address: string, options = {}): Peer => new HttpPeer(address, { idleTimeoutMs: 3_600_000, ...options })

test('names: a connection to an address that its name has left is used no more, busy or at rest', async () => {
  const world = new World(), { clock, connector } = world, peer = peerOf('origin.test:80')
  const [busy, resting] = [await world.open(peer), await world.open(peer)]
  connector.release(resting, peer)
  world.known = ['10.0.0.2']
  clock.advance(ABSENT_MS)
  assert.equal(connector.reuse(peer), resting, 'its absence has to last')
  connector.release(resting, peer)
  clock.advance(2 * LOOK_MS)
  assert.equal(connector.release(busy, peer), false)
  assert.equal(connector.reuse(peer), null)
  assert.deepEqual([busy.closed, resting.closed, connector.pool.counters.retired], [true, true, 2])
  world.ip = '10.0.0.2'
  const moved = await world.open(peer)
  assert.equal(connector.release(moved, peer), true)
  clock.advance(10 * ABSENT_MS)
  assert.equal(connector.reuse(peer), moved)
})

test('names: servers that answer with a part of their addresses each time cost no connection', async () => {
  const world = new World(), { clock, connector } = world, peer = peerOf('origin.test:80')
  const connection = await world.open(peer)
  connector.release(connection, peer)
  for (let look = 0; look < 50; look++) {
    world.known = [`10.0.0.${1 + look % 4}`]
    clock.advance(LOOK_MS)
  }
  assert.equal(connector.reuse(peer), connection)
})

test('names: one that cannot be resolved changes nothing, and is asked for once at a time', async () => {
  const world = new World(), { clock, connector } = world, peer = peerOf('origin.test:80')
  const connection = await world.open(peer)
  connector.release(connection, peer)
  world.known = null
  clock.advance(4 * ABSENT_MS)
  assert.deepEqual(world.asked, ['origin.test'])
  world.waiters.pop()!.onResolveFailed(new ProxyError('RESOLVE_FAILED', 'upstream', 'planned'))
  clock.advance(LOOK_MS)
  assert.equal(world.asked.length, 2)
  assert.equal(connector.reuse(peer), connection)
  connector.release(connection, peer)
  world.waiters.pop()!.onResolved(['10.0.0.9'])
  assert.equal(connector.reuse(peer), null)
})

test('names: an IPv6 address is the same however a hosts file writes it', async () => {
  const world = new World(), { clock, connector } = world, peer = peerOf('origin.test:80')
  world.ip = '2001:db8::1'
  world.known = ['2001:DB8:0:0:0:0:0:1']
  const connection = await world.open(peer)
  connector.release(connection, peer)
  clock.advance(4 * ABSENT_MS)
  assert.equal(connector.reuse(peer), connection)
})

test('names: with the places of a peer taken by connections that its name has left, a request gets a new one', async () => {
  const world = new World(), { clock, connector } = world
  const peer = peerOf('origin.test:80', { maxConnectionsPerPeer: 30, maxQueuedPerPeer: 0 })
  const resting: FakeConnection[] = []
  for (let i = 0; i < 30; i++) resting.push(await world.open(peer))
  for (const connection of resting) connector.release(connection, peer)
  world.known = ['10.0.0.2']
  world.ip = '10.0.0.2'
  clock.advance(2 * ABSENT_MS)
  assert.equal(connector.reuse(peer), null)
  assert.ok(resting.filter(connection => connection.closed).length <= 16, 'a request closes a few')
  for (let i = 0; i < 30; i++) await world.open(peer)
  assert.ok(resting.every(connection => connection.closed))
})

test('names: addresses, Unix sockets and transports of their own are not looked after, nor are names without connections', async () => {
  const world = new World(), { clock, connector } = world
  world.known = null
  for (const peer of [peerOf('10.0.0.1:80'), peerOf('unix:/run/a.sock')]) connector.release(await world.open(peer), peer)
  clock.advance(4 * LOOK_MS)
  assert.deepEqual([world.asked, connector.ticker.size], [[], 0])
  const named = peerOf('origin.test:80')
  connector.release(await world.open(named), named)
  connector.closeIdle()
  clock.advance(4 * LOOK_MS)
  assert.deepEqual([world.asked, connector.ticker.size], [[], 0])
})
