import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Peer } from '../../src/peer/peer.ts'
import { FakeConnection } from './fake-connection.ts'
import { Fixture, Waiter, peerOf, served } from './fixture.ts'

test('pool: the session used last is handed out first', () => {
  const fixture = new Fixture()
  const { pool } = fixture
  const peer = peerOf('a')
  const [first, second, third] = [fixture.open(peer), fixture.open(peer), fixture.open(peer)]
  for (const session of [first, second, third]) pool.release(session, peer)
  assert.equal(pool.take(peer.reuseKey), third)
  pool.release(third, peer)
  assert.equal(pool.take(peer.reuseKey), third)
  assert.equal(pool.take(peer.reuseKey), second)
  assert.equal(pool.take(peer.reuseKey), first)
  assert.equal(pool.take(peer.reuseKey), null)
  assert.deepEqual([pool.counters.hits, pool.counters.misses], [4, 1])
})

test('pool: a session is handed out under its own key only', () => {
  const fixture = new Fixture()
  fixture.idle(peerOf('a'))
  assert.equal(fixture.pool.take(peerOf('b').reuseKey), null)
  assert.equal(fixture.pool.idle, 1)
})

test('pool: past the cap of a key its oldest session is closed', () => {
  const fixture = new Fixture({ maxIdlePerKey: 2 })
  const a = peerOf('a')
  const sessions = [fixture.open(a), fixture.open(a), fixture.open(a)]
  for (const session of sessions) fixture.pool.release(session, a)
  assert.deepEqual(sessions.map(session => session.closed), [true, false, false])
  assert.equal(fixture.pool.counters.evictions, 1)
  assert.equal(fixture.pool.idle, 2)
})

test('pool: past the cap in all the oldest session of any key is closed', () => {
  const fixture = new Fixture({ maxIdleConnections: 3 })
  const [a, b, c] = [peerOf('a'), peerOf('b'), peerOf('c')]
  const [ofA, ofB] = [fixture.idle(a), fixture.idle(b)]
  assert.equal(fixture.pool.take(a.reuseKey), ofA)
  fixture.pool.release(ofA, a)
  const ofC = fixture.idle(c)
  const another = fixture.idle(c)
  assert.deepEqual([ofA, ofB, ofC, another].map(session => session.closed), [false, true, false, false])
})

test('pool: either cap at 0 turns reuse off', () => {
  for (const options of [{ maxIdlePerKey: 0 }, { maxIdleConnections: 0 }]) {
    const fixture = new Fixture(options)
    const peer = peerOf('a')
    const session = fixture.open(peer)
    assert.equal(fixture.pool.release(session, peer), false)
    assert.equal(session.closed, true)
    assert.equal(fixture.pool.idle, 0)
  }
})

test('pool: a session may be idle as long as the peer and the origin both allow', () => {
  const fixture = new Fixture()
  const times = (peerMs: number, originMs: number): number => {
    const peer = peerOf('a', { idleTimeoutMs: peerMs })
    const session = fixture.open(peer)
    session.originIdleMs = originMs
    fixture.pool.release(session, peer)
    return session.parkedFor
  }
  assert.equal(times(60_000, 0), 60_000)
  assert.equal(times(60_000, 4000), 4000)
  assert.equal(times(2000, 4000), 2000)
  assert.equal(times(0, 4000), 0)
})

test('pool: a connection takes no exchange past its age, which is another for each within a tenth', () => {
  const fixture = new Fixture(), { pool, clock } = fixture
  const peer = peerOf('a', { maxConnectionAgeMs: 100_000 })
  clock.random = () => 0
  const early = fixture.open(peer)
  clock.random = () => 0.99
  const late = fixture.open(peer)
  clock.advance(60_000)
  assert.equal(pool.release(early, peer), true)
  assert.equal(Math.round(early.parkedFor), 30_000, 'it waits no longer than that either')
  assert.equal(pool.take(peer.reuseKey), early)
  clock.advance(30_000)
  assert.equal(pool.release(early, peer), false)
  assert.equal(pool.release(late, peer), true)
  assert.equal(pool.take(peer.reuseKey), late)
  clock.advance(20_000)
  assert.equal(pool.release(late, peer), false)
  assert.equal(pool.counters.retired, 2)
  const ageless = peerOf('b', { maxConnectionAgeMs: 0 })
  const kept = fixture.open(ageless)
  clock.advance(10_000_000)
  assert.equal(pool.release(kept, ageless), true)
})

test('pool: an idle timeout of 0 turns reuse off', () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { idleTimeoutMs: 0 })
  const session = fixture.open(peer)
  assert.equal(fixture.pool.release(session, peer), false)
  assert.equal(session.closed, true)
})

test('pool: a session that ended while idle is not handed out, and counted by its reason', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const sessions = [fixture.open(peer), fixture.open(peer), fixture.open(peer), fixture.open(peer)]
  for (const session of sessions) fixture.pool.release(session, peer)
  sessions[1]!.lose('closed')
  sessions[3]!.lose('unexpected-bytes')
  sessions[0]!.lose('idle')
  assert.equal(fixture.pool.take(peer.reuseKey), sessions[2])
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  const { lostClosed, lostUnexpectedBytes, lostIdle } = fixture.pool.counters
  assert.deepEqual([lostClosed, lostUnexpectedBytes, lostIdle], [1, 1, 1])
})

test('pool: a session found dead when it is taken is passed over, and counted once', () => {
  for (const tells of [false, true]) {
    const fixture = new Fixture()
    const peer = peerOf('a')
    const [older, newer] = [fixture.open(peer), fixture.open(peer)]
    fixture.pool.release(older, peer)
    fixture.pool.release(newer, peer)
    newer.silentlyLost = true
    newer.tellsWhenUnparked = tells
    assert.equal(fixture.pool.take(peer.reuseKey), older)
    assert.equal(fixture.pool.counters.lostClosed, 1)
    assert.deepEqual([...fixture.pool.connections()], [{ peer: 'a.test:80', active: 1, idle: 0, dialling: 0, waiting: 0 }])
  }
})

test('pool: a session that is gone at the moment it is put is not kept', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const session = fixture.open(peer)
  session.lostAtPark = 'unexpected-bytes'
  fixture.pool.release(session, peer)
  assert.equal(fixture.pool.idle, 0)
  assert.deepEqual([...fixture.pool.connections()], [])
})

test('pool: a session is in the pool or lent, never both', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const session = fixture.idle(peer)
  assert.throws(() => fixture.pool.release(session, peer), /was not lent/)
  assert.throws(() => fixture.drop(session, peer), /was not lent/)
  assert.throws(() => fixture.pool.lend(session), /lent twice/)
  fixture.pool.take(peer.reuseKey)
  assert.throws(() => fixture.pool.lend(session), /lent twice/)
  fixture.drop(session, peer)
  assert.throws(() => fixture.drop(session, peer), /was not lent/)
  assert.throws(() => fixture.pool.release(new FakeConnection(peer.reuseKey), peer), /was not lent/)
})

test('pool: a request whose connection was lost is given none that was at rest', async () => {
  const fixture = new Fixture(), { pool } = fixture
  const peer = peerOf('a', { maxConnectionsPerPeer: 2, maxQueuedPerPeer: 0 })
  const oldest = fixture.open(peer), newest = fixture.open(peer)
  pool.release(oldest, peer)
  pool.release(newest, peer)
  assert.equal(pool.take(peer.reuseKey, true), null)
  const waiter = new Waiter(pool, peer, '', null, true)
  assert.equal(pool.admit(waiter), 'granted', 'in the place of one at rest, where there is no other')
  assert.deepEqual([oldest.closed, newest.closed], [true, false])
  assert.deepEqual([...pool.connections()], [{ peer: 'a.test:80', active: 0, idle: 1, dialling: 1, waiting: 0 }])
  assert.equal(pool.take(peer.reuseKey), newest)
})

test('pool: a request in the queue whose connection was lost gets the place of the one that comes back, not that one', async () => {
  const fixture = new Fixture(), { pool } = fixture
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const busy = fixture.open(peer)
  const waiter = new Waiter(pool, peer, '', null, true)
  assert.equal(pool.admit(waiter), 'queued')
  pool.release(busy, peer)
  await served()
  assert.deepEqual([waiter.got, waiter.placed, busy.closed], [null, true, true])
})

test('pool: what was at rest when a connection was lost is closed, what came to rest behind it is kept', () => {
  const fixture = new Fixture(), { pool } = fixture
  const [a, b] = [peerOf('a'), peerOf('b')]
  const [first, second, lost, late] = [fixture.open(a), fixture.open(a), fixture.open(a), fixture.open(a)]
  const other = fixture.idle(b)
  for (const session of [first, second, lost]) pool.release(session, a)
  assert.equal(pool.take(a.reuseKey), lost)
  const mark = pool.parkings
  pool.release(late, a)
  pool.closeRested(a.reuseKey, mark, true)
  assert.deepEqual([first, second, late, other].map(session => session.closed), [true, true, false, false])
  assert.equal(pool.counters.doubted, 2)
})

test('pool: a suspicion that nothing confirms closes connections once a second at most', () => {
  const fixture = new Fixture(), { pool } = fixture
  const peer = peerOf('a')
  const closed = (): boolean => {
    const session = fixture.idle(peer)
    pool.closeRested(peer.reuseKey, pool.parkings, false)
    if (!session.closed) pool.closeIdle()
    else return true
    return false
  }
  assert.deepEqual([closed(), closed()], [true, false])
  fixture.clock.advance(1000)
  assert.deepEqual([closed(), closed()], [true, false])
})

test('pool: closeIdle closes the oldest first and leaves lent sessions alone', () => {
  const fixture = new Fixture()
  const [a, b] = [peerOf('a'), peerOf('b')]
  const lent = fixture.open(a)
  const idle = [fixture.idle(a), fixture.idle(b), fixture.idle(a)]
  assert.equal(fixture.pool.closeIdle(1), 1)
  assert.deepEqual(idle.map(session => session.closed), [true, false, false])
  assert.equal(fixture.pool.closeIdle(), 2)
  assert.equal(fixture.pool.closeIdle(), 0)
  assert.equal(lent.closed, false)
  fixture.pool.release(lent, a)
  assert.equal(fixture.pool.idle, 1)
})

test('pool: after close nothing is kept', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const [idle, lent] = [fixture.idle(peer), fixture.open(peer)]
  fixture.pool.close()
  assert.equal(idle.closed, true)
  assert.equal(fixture.pool.release(lent, peer), false)
  assert.equal(lent.closed, true)
})

test('pool: bad options are refused', () => {
  const message = 'pool.maxIdlePerKey is -1; use 0 (turns reuse off) or a positive whole number'
  assert.throws(() => new Fixture({ maxIdlePerKey: -1 }), { message })
  assert.throws(() => new Fixture({ maxIdleConnections: 1.5 }), /pool\.maxIdleConnections is 1\.5/)
})

test('pool: a few keys that come and go are remembered', () => {
  const fixture = new Fixture()
  for (let i = 0; i < 1000; i++) {
    const peer = peerOf(`a${i % 10}`)
    fixture.drop(fixture.open(peer), peer)
    assert.equal(fixture.pool.keys, Math.min(i + 1, 10))
  }
})

test('pool: keys that come and go leave nothing behind for long', () => {
  const fixture = new Fixture()
  for (let i = 0; i < 2000; i++) {
    const peer = peerOf(`a${i}`)
    fixture.drop(fixture.open(peer), peer)
  }
  assert.deepEqual([...fixture.pool.connections()], [])
  assert.ok(fixture.pool.keys <= 257, String(fixture.pool.keys))
})

// ---- the queue

test('queue: who finds no free place waits, first come first served, for sessions that come back', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const session = fixture.open(peer)
  const log: string[] = []
  const waiters = ['1', '2', '3'].map(id => new Waiter(fixture.pool, peer, id, log))
  for (const waiter of waiters) assert.equal(fixture.pool.admit(waiter), 'queued')
  await served()
  assert.deepEqual(log, [])
  fixture.pool.release(session, peer)
  assert.deepEqual(log, [], 'nobody begins inside the end of somebody else')
  await served()
  assert.deepEqual(log, ['1 connection'])
  fixture.pool.release(session, peer)
  await served()
  fixture.pool.release(session, peer)
  await served()
  assert.deepEqual(log, ['1 connection', '2 connection', '3 connection'])
  assert.equal(fixture.ticker.size, 0)
})

test('queue: a closed connection makes a place, a dial that failed too', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const session = fixture.open(peer)
  const [first, second] = [new Waiter(fixture.pool, peer), new Waiter(fixture.pool, peer)]
  fixture.pool.admit(first)
  fixture.pool.admit(second)
  fixture.drop(session, peer)
  await served()
  assert.deepEqual([first.placed, second.placed], [true, false])
  fixture.pool.abandon(peer.reuseKey)
  await served()
  assert.equal(second.placed, true)
  assert.deepEqual([...fixture.pool.connections()], [{ peer: 'a.test:80', active: 0, idle: 0, dialling: 1, waiting: 0 }])
})

test('queue: an idle connection counts, and is taken rather than waited for', () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const session = fixture.idle(peer)
  assert.equal(fixture.pool.take(peer.reuseKey), session)
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, peer)), 'queued')
})

test('queue: whoever comes now does not overtake those who wait', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const session = fixture.open(peer)
  const first = new Waiter(fixture.pool, peer)
  fixture.pool.admit(first)
  fixture.pool.release(session, peer)
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, peer)), 'queued')
  await served()
  assert.equal(first.got, session)
})

test('queue: is full at its limit, and a limit of 0 lets none wait', () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1, maxQueuedPerPeer: 1 })
  fixture.open(peer)
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, peer)), 'queued')
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, peer)), 'full')
  const none = peerOf('b', { maxConnectionsPerPeer: 1, maxQueuedPerPeer: 0 })
  fixture.open(none)
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, none)), 'full')
  assert.equal(fixture.pool.counters.queueFull, 2)
})

test('queue: waiting ends at the time limit', () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1, queueTimeoutMs: 1000 })
  fixture.open(peer)
  const waiter = new Waiter(fixture.pool, peer)
  fixture.pool.admit(waiter)
  fixture.clock.advance(900)
  assert.equal(waiter.error, null)
  fixture.clock.advance(200)
  assert.equal(waiter.error!.kind, 'POOL_QUEUE_TIMEOUT')
  assert.equal(waiter.error!.limit, 'queue-timeout')
  assert.equal(fixture.pool.counters.queueTimeouts, 1)
  assert.equal(fixture.ticker.size, 0)
})

test('queue: whoever leaves is passed over', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const session = fixture.open(peer)
  const waiters = [new Waiter(fixture.pool, peer), new Waiter(fixture.pool, peer), new Waiter(fixture.pool, peer)]
  for (const waiter of waiters) fixture.pool.admit(waiter)
  fixture.pool.leave(waiters[0]!)
  fixture.pool.leave(waiters[2]!)
  fixture.pool.leave(waiters[2]!)
  fixture.pool.release(session, peer)
  await served()
  assert.deepEqual(waiters.map(waiter => waiter.got), [null, session, null])
})

test('queue: with reuse off a returned session makes a place', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1, idleTimeoutMs: 0 })
  const session = fixture.open(peer)
  const waiter = new Waiter(fixture.pool, peer)
  fixture.pool.admit(waiter)
  fixture.pool.release(session, peer)
  await served()
  assert.equal(waiter.placed, true)
  assert.equal(session.closed, true)
})

test('queue: peers with other keys at one address share its limit, and one at rest makes room for another key', async () => {
  const fixture = new Fixture(), { pool } = fixture
  const limits = { maxConnectionsPerPeer: 2, maxQueuedPerPeer: 4 }
  const [one, other] = [peerOf('a', limits), peerOf('a', { ...limits, tcpKeepAliveIdleMs: 5000 })]
  assert.notEqual(one.reuseKey, other.reuseKey)
  const [busy, resting] = [fixture.open(one), fixture.idle(one)]
  const replacing = fixture.open(other)
  assert.equal(resting.closed, true)
  const [first, second] = [new Waiter(pool, other), new Waiter(pool, one)]
  assert.deepEqual([pool.admit(first), pool.admit(second)], ['queued', 'queued'])
  // The first in the queue has the place, not the one with the right key.
  pool.release(busy, one)
  await served()
  assert.deepEqual([first.placed, second.got, busy.closed], [true, null, true])
  pool.release(replacing, other)
  await served()
  assert.deepEqual([second.placed, replacing.closed], [true, true])
  assert.deepEqual([...pool.connections()].map(({ peer, dialling }) => [peer, dialling]), [['a.test:80', 1], ['a.test:80', 1]])
})

test('queue: room on a shared connection goes to those of its key, also behind one that needs a place', async () => {
  const fixture = new Fixture(), { pool } = fixture
  const limits = { maxConnectionsPerPeer: 1, maxQueuedPerPeer: 4 }
  const [one, other] = [peerOf('a', limits), peerOf('a', { ...limits, tcpKeepAliveIdleMs: 5000 })]
  const shared = fixture.open(one, 1)
  const [first, second] = [new Waiter(pool, other), new Waiter(pool, one)]
  assert.deepEqual([pool.admit(first), pool.admit(second)], ['queued', 'queued'])
  shared.take(2)
  await served()
  assert.deepEqual([first.placed, second.got], [false, shared])
  assert.equal(pool.take(one.reuseKey), null)
})

test('queue: peers that share a key wait by their own limits', async () => {
  const fixture = new Fixture()
  const [one, two, any] = [peerOf('a', { maxConnectionsPerPeer: 1 }), peerOf('a', { maxConnectionsPerPeer: 2 }), peerOf('a')]
  assert.equal(one.reuseKey, two.reuseKey)
  fixture.open(one)
  const [forOne, forTwo] = [new Waiter(fixture.pool, one), new Waiter(fixture.pool, two)]
  assert.equal(fixture.pool.admit(forOne), 'queued')
  assert.equal(fixture.pool.admit(forTwo), 'queued')
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, any)), 'granted')
  await served()
  assert.deepEqual([forOne.placed, forTwo.placed], [false, false])
  fixture.pool.leave(forOne)
  fixture.pool.abandon(any.reuseKey)
  await served()
  assert.equal(forTwo.placed, true)
})

// ---- against a model

interface Model {
  /** Idle sessions of all keys, the newest last. */
  idle: { key: string; session: FakeConnection }[]
  lent: { peer: Peer; session: FakeConnection }[]
  dialling: { peer: Peer; waiter: Waiter }[]
  waiting: Waiter[]
}

test('pool: behaves like its model under any order of events', async () => {
  const peers = [
    peerOf('a', { maxConnectionsPerPeer: 2, maxQueuedPerPeer: 3, queueTimeoutMs: 500 }),
    peerOf('b', { maxConnectionsPerPeer: 1, maxQueuedPerPeer: 2, queueTimeoutMs: 1000 }),
    peerOf('c'), peerOf('d', { idleTimeoutMs: 0 }),
  ]
  const kinds = [
    'acquire', 'acquire', 'acquire', 'connect', 'connect', 'fail', 'release', 'release', 'release', 'discard',
    'lose', 'leave', 'advance', 'closeIdle',
  ] as const
  const event = fc.record({ kind: fc.constantFrom(...kinds), pick: fc.nat(), reusable: fc.boolean() })
  const events = fc.array(event, { minLength: 1, maxLength: 80, size: 'max' })
  const caps = fc.record({ maxIdlePerKey: fc.integer({ min: 1, max: 3 }), maxIdleConnections: fc.integer({ min: 1, max: 4 }) })
  await fc.assert(fc.asyncProperty(caps, events, async (options, list) => {
    const fixture = new Fixture(options)
    const { pool, clock } = fixture
    const model: Model = { idle: [], lent: [], dialling: [], waiting: [] }
    const pickOf = <T>(from: readonly T[], pick: number): T | undefined => from[pick % from.length]
    const idleOf = (key: string): number => model.idle.filter(entry => entry.key === key).length
    const lentOf = (key: string): number => model.lent.filter(entry => entry.session.reuseKey === key).length
    const diallingOf = (key: string): number => model.dialling.filter(entry => entry.peer.reuseKey === key).length
    const waitingOf = (key: string): number => model.waiting.filter(waiter => waiter.peer.reuseKey === key).length
    const openOf = (key: string): number => idleOf(key) + lentOf(key) + diallingOf(key)
    /** What the pool must have done with the queues by now. */
    const serve = (): void => {
      for (const waiter of model.waiting.slice()) {
        const key = waiter.peer.reuseKey
        if (model.waiting.find(other => other.peer.reuseKey === key) !== waiter) continue
        const entry = model.idle.findLast(candidate => candidate.key === key)
        if (entry !== undefined) {
          assert.equal(waiter.got, entry.session)
          model.idle.splice(model.idle.indexOf(entry), 1)
          model.lent.push({ peer: waiter.peer, session: entry.session })
        } else if (openOf(key) < waiter.peer.options.maxConnectionsPerPeer) {
          assert.equal(waiter.placed, true)
          model.dialling.push({ peer: waiter.peer, waiter })
        } else continue
        model.waiting.splice(model.waiting.indexOf(waiter), 1)
        serve()
        return
      }
    }
    for (const { kind, pick, reusable } of list) {
      switch (kind) {
        case 'acquire': {
          const peer = pickOf(peers, pick)!
          const key = peer.reuseKey
          const expected = model.idle.findLast(entry => entry.key === key)
          const session = pool.take(key)
          assert.equal(session, expected?.session ?? null)
          if (expected !== undefined) {
            model.idle.splice(model.idle.indexOf(expected), 1)
            model.lent.push({ peer, session: expected.session })
            break
          }
          const waiter = new Waiter(pool, peer)
          const { maxConnectionsPerPeer: max, maxQueuedPerPeer } = peer.options
          const queue = model.waiting.filter(other => other.peer.reuseKey === key).length
          const outcome = pool.admit(waiter)
          if (max === 0 || (queue === 0 && openOf(key) < max)) {
            assert.equal(outcome, 'granted')
            model.dialling.push({ peer, waiter })
          } else if (queue >= maxQueuedPerPeer) assert.equal(outcome, 'full')
          else {
            assert.equal(outcome, 'queued')
            model.waiting.push(waiter)
          }
          break
        }
        case 'connect': {
          const entry = pickOf(model.dialling, pick)
          if (entry === undefined) break
          model.dialling.splice(model.dialling.indexOf(entry), 1)
          const session = new FakeConnection(entry.peer.reuseKey)
          pool.lend(session)
          model.lent.push({ peer: entry.peer, session })
          break
        }
        case 'fail': {
          const entry = pickOf(model.dialling, pick)
          if (entry === undefined) break
          model.dialling.splice(model.dialling.indexOf(entry), 1)
          pool.abandon(entry.peer.reuseKey)
          break
        }
        case 'release': {
          const entry = pickOf(model.lent, pick)
          if (entry === undefined) break
          model.lent.splice(model.lent.indexOf(entry), 1)
          const key = entry.peer.reuseKey
          const keep = entry.peer.options.idleTimeoutMs > 0
          assert.equal(pool.release(entry.session, entry.peer), keep)
          assert.equal(entry.session.closed, !keep)
          if (!keep) break
          const ofKey = model.idle.filter(other => other.key === key)
          let victim = ofKey.length >= options.maxIdlePerKey ? ofKey[0] : undefined
          if (victim === undefined && model.idle.length >= options.maxIdleConnections) victim = model.idle[0]
          if (victim !== undefined) {
            assert.equal(victim.session.closed, true)
            model.idle.splice(model.idle.indexOf(victim), 1)
          }
          model.idle.push({ key, session: entry.session })
          break
        }
        case 'discard': {
          const entry = pickOf(model.lent, pick)
          if (entry === undefined) break
          model.lent.splice(model.lent.indexOf(entry), 1)
          fixture.drop(entry.session, entry.peer)
          assert.equal(entry.session.closed, true)
          break
        }
        case 'lose': {
          const entry = pickOf(model.idle, pick)
          if (entry === undefined) break
          // Told at once, or found out when it is taken.
          if (reusable) {
            entry.session.lose('closed')
            model.idle.splice(model.idle.indexOf(entry), 1)
          }
          break
        }
        case 'leave': {
          const waiter = pickOf(model.waiting, pick)
          if (waiter === undefined) break
          model.waiting.splice(model.waiting.indexOf(waiter), 1)
          pool.leave(waiter)
          break
        }
        case 'advance': {
          clock.advance((pick % 4) * 100)
          for (const waiter of model.waiting.slice()) if (waiter.error !== null) model.waiting.splice(model.waiting.indexOf(waiter), 1)
          break
        }
        case 'closeIdle': {
          const count = pick % 3
          assert.equal(pool.closeIdle(count), Math.min(count, model.idle.length))
          for (const entry of model.idle.splice(0, count)) assert.equal(entry.session.closed, true)
          break
        }
      }
      await new Promise(resolve => { process.nextTick(resolve) })
      serve()
      assert.equal(pool.idle, model.idle.length)
      assert.ok(model.idle.length <= options.maxIdleConnections)
      for (const peer of peers) {
        const key = peer.reuseKey, max = peer.options.maxConnectionsPerPeer
        const row = [...pool.connections()].find(candidate => candidate.peer === peer.name)
        assert.deepEqual([row?.active ?? 0, row?.idle ?? 0, row?.dialling ?? 0, row?.waiting ?? 0], [
          lentOf(key), idleOf(key), diallingOf(key), waitingOf(key),
        ], peer.name)
        if (max > 0) assert.ok(openOf(key) <= max, 'no more connections than allowed')
      }
      for (const waiter of model.waiting) assert.ok(waiter.got === null && !waiter.placed && waiter.error === null)
      for (const { session } of model.lent) assert.ok(!session.closed && !session.parked)
      for (const { session } of model.idle) assert.ok(!session.closed && session.parked)
      assert.equal(fixture.ticker.size, model.waiting.length)
    }
  }), { numRuns: 300 })
})
