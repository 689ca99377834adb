import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { TicketRing, type TicketRecord } from '../../supervisor/ticket-ring.ts'

const keyOf = (number: number): string => Buffer.alloc(48, number).toString('base64')
const [A, B, C] = [keyOf(1), keyOf(2), keyOf(3)]
const LIFETIME_MS = 1_000, GRACE_MS = 60_000

test('ticket ring: a key that comes decrypts before it encrypts, and the one before it goes on decrypting', () => {
  const ring = new TicketRing([A], 0)
  assert.deepEqual(ring.told, [A])
  assert.equal(ring.prepare([B]), true)
  assert.deepEqual(ring.told, [A, B])
  assert.equal(ring.prepare([B]), false, 'it is being prepared already')
  ring.commit(100, LIFETIME_MS)
  assert.deepEqual(ring.told, [B, A])
  assert.equal(ring.ageMs(150), 50)
  ring.forget(100 + LIFETIME_MS + GRACE_MS - 1)
  assert.deepEqual(ring.told, [B, A], 'its tickets may still come')
  ring.forget(100 + LIFETIME_MS + GRACE_MS)
  assert.deepEqual(ring.told, [B])
})

test('ticket ring: each change of what workers are told has a number of its own, and nothing else has', () => {
  const ring = new TicketRing([A], 0)
  const versions = [ring.version]
  ring.forget(5)
  assert.equal(ring.version, versions[0])
  ring.prepare([B])
  versions.push(ring.version)
  ring.cancel()
  versions.push(ring.version)
  assert.deepEqual(ring.told, [A])
  ring.prepare([B])
  versions.push(ring.version)
  ring.commit(1, LIFETIME_MS)
  versions.push(ring.version)
  ring.forget(1 + LIFETIME_MS + GRACE_MS)
  versions.push(ring.version)
  assert.deepEqual(versions, versions.toSorted((one, other) => one - other))
  assert.equal(new Set(versions).size, versions.length)
})

test('ticket ring: keys of a fleet that only change their order do not fade', () => {
  const ring = new TicketRing([A, B], 0)
  ring.prepare([B, A, C])
  assert.deepEqual(ring.told, [A, B, C])
  ring.commit(10, LIFETIME_MS)
  assert.deepEqual(ring.told, [B, A, C])
  ring.forget(1e9)
  assert.deepEqual(ring.told, [B, A, C])
})

test('ticket ring: what the file took back before it encrypted is forgotten', () => {
  const ring = new TicketRing([A], 0)
  ring.prepare([B])
  assert.equal(ring.prepare([A]), true)
  assert.equal(ring.preparing, false)
  assert.deepEqual(ring.told, [A])
})

test('ticket ring: what is written down is gone on with, and no key is dropped early because a clock was set', () => {
  const ring = new TicketRing([A], 0)
  ring.prepare([B])
  ring.commit(100, LIFETIME_MS)
  ring.prepare([C])
  const record = JSON.parse(JSON.stringify(ring.record(600, 1_000_000))) as TicketRecord
  for (const wallMs of [1_000_000, 1_000_000 + 9e9, 1_000_000 - 9e9]) {
    const next = TicketRing.restore(record, 0, wallMs)!
    assert.deepEqual(next.told, [B, C, A])
    assert.equal(next.preparing, true)
    assert.equal(next.ageMs(0), 500 + Math.max(0, wallMs - 1_000_000))
    next.forget(LIFETIME_MS + GRACE_MS - 501)
    assert.deepEqual(next.told, [B, C, A])
    next.forget(LIFETIME_MS + GRACE_MS - 500)
    assert.deepEqual(next.told, [B, C])
  }
})

test('ticket ring: a record that is none is none', () => {
  const good = new TicketRing([A], 0).record(0, 0)
  assert.notEqual(TicketRing.restore(good, 0, 0), null)
  const bad = [
    null, undefined, {}, { ...good, keys: [] }, { ...good, keys: ['short'] }, { ...good, keys: [1] }, { ...good, coming: [] },
    { ...good, coming: 'x' }, { ...good, fading: [{ key: A }] }, { ...good, fading: [null] }, { ...good, fading: {} },
    { ...good, ageMs: -1 }, { ...good, ageMs: null }, { ...good, writtenAt: 'x' },
  ]
  for (const record of bad) assert.equal(TicketRing.restore(record as TicketRecord, 0, 0), null, JSON.stringify(record))
})

test('ticket ring: whatever is asked of it, a key encrypts only after it was told, and is kept while its tickets live', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('prepare' as const), keys: fc.uniqueArray(fc.nat(5), { minLength: 1, maxLength: 4 }) }),
    fc.record({ do: fc.constantFrom('commit' as const, 'cancel' as const, 'forget' as const, 'restore' as const) }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.nat(90_000) }),
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    let nowMs = 0, ring = new TicketRing([keyOf(9)], 0)
    const told = new Set<string>(), lastEncrypted = new Map<string, number>()
    for (const one of steps) {
      const before = ring.told
      for (const key of before) told.add(key)
      lastEncrypted.set(before[0]!, nowMs)
      switch (one.do) {
        case 'prepare': ring.prepare(one.keys.map(keyOf)); break
        case 'commit': ring.commit(nowMs, LIFETIME_MS); break
        case 'cancel': ring.cancel(); break
        case 'forget': ring.forget(nowMs); break
        case 'restore': ring = TicketRing.restore(ring.record(nowMs, nowMs), nowMs, nowMs)!; break
        case 'wait': nowMs += one.ms; break
        default: one satisfies never
      }
      assert.ok(told.has(ring.told[0]!), 'it encrypts with what nobody was told')
      assert.equal(new Set(ring.told).size, ring.told.length)
      for (const [key, atMs] of lastEncrypted) {
        if (nowMs - atMs < LIFETIME_MS) assert.ok(ring.told.includes(key), 'it has forgotten a key whose tickets live')
      }
    }
  }))
})
