import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { Ticker } from '../../../src/primitives/clock.ts'
import { HandshakeSlots, type SlotUser } from '../../../src/protocols/tls/handshake-slots.ts'
import { FakeClock } from '../../support/fake-clock.ts'

class User implements SlotUser {
  readonly client: string
  placeOlder: SlotUser | null = null
  placeNewer: SlotUser | null = null
  placeSince = Number.NaN
  readonly #log: User[]
  begun = 0
  constructor(client: string, log: User[] = []) {
    this.client = client
    this.#log = log
  }

  begin(): void {
    this.begun++
    this.#log.push(this)
  }
}

function slotsOf(max: number, ticker = new Ticker(new FakeClock())): HandshakeSlots { return new HandshakeSlots(max, ticker) }

test('handshake slots: at most so many are under way, and one that ends lets the next begin', async () => {
  const slots = slotsOf(4), users = Array.from({ length: 6 }, (_, index) => new User(`10.0.0.${index}`))
  for (const user of users) slots.enter(user)
  assert.deepEqual(users.map(({ begun }) => begun), [1, 1, 1, 1, 0, 0])
  assert.deepEqual([slots.active, slots.waiting, slots.peak], [4, 2, 4])
  slots.end(users[0]!)
  assert.deepEqual(users.map(({ begun }) => begun), [1, 1, 1, 1, 1, 0])
  slots.leave(users[5]!)
  slots.leave(users[5]!)
  for (const user of users.slice(1, 5)) slots.end(user)
  await nextTurn()
  assert.deepEqual([slots.active, slots.waiting, users[5]!.begun], [0, 0, 0])
})

test('handshake slots: one client has a quarter at most, and another begins at once', () => {
  const slots = slotsOf(8), greedy = Array.from({ length: 20 }, () => new User('10.0.0.1')), other = new User('10.0.0.2')
  for (const user of greedy) slots.enter(user)
  slots.enter(other)
  assert.equal(greedy.filter(({ begun }) => begun === 1).length, 2)
  assert.equal(other.begun, 1)
})

test('handshake slots: clients that cannot be told apart have all places', () => {
  const slots = slotsOf(8), users = Array.from({ length: 8 }, () => new User(''))
  for (const user of users) slots.enter(user)
  assert.equal(slots.active, 8)
})

test('handshake slots: eight begin in one turn of the loop, clients in turn', async () => {
  const log: User[] = [], slots = slotsOf(400)
  const many = Array.from({ length: 20 }, () => new User('10.0.0.1', log)), few = Array.from({ length: 2 }, () => new User('10.0.0.2', log))
  for (const user of [...many, ...few]) slots.enter(user)
  assert.equal(log.length, 8)
  await nextTurn()
  assert.deepEqual(log.slice(8, 12).map(({ client }) => client), ['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.2'])
  await nextTurn()
  assert.equal(log.length, 22)
})

test('handshake slots: a place is kept for a second while others wait, and for as long as it takes while none does', async () => {
  const clock = new FakeClock(), ticker = new Ticker(clock), slots = slotsOf(4, ticker)
  const stalled = Array.from({ length: 4 }, (_, index) => new User(`10.0.0.${index}`))
  for (const user of stalled) slots.enter(user)
  clock.advance(5_000)
  assert.deepEqual([slots.active, ticker.size], [4, 0])
  clock.advance(100)
  const late = new User('10.0.1.1'), own = new User('10.0.0.0')
  slots.enter(late)
  slots.enter(own)
  assert.deepEqual([late.begun, own.begun], [0, 0])
  clock.advance(200)
  await nextTurn()
  // The shares of clients are as free again as the places.
  assert.deepEqual([late.begun, own.begun, slots.active, slots.waiting, ticker.size], [1, 1, 2, 0, 0])
  for (const user of [...stalled, late]) slots.end(user)
  assert.deepEqual([slots.active, slots.peak], [1, 4])
  const next = Array.from({ length: 5 }, (_, index) => new User(`10.0.2.${index}`))
  for (const user of next) slots.enter(user)
  clock.advance(800)
  assert.equal(slots.waiting, 2, 'theirs is not over yet')
  slots.leave(next[4]!)
  slots.leave(next[3]!)
  assert.equal(ticker.size, 0)
})

test('handshake slots: places that are given back in any order are no part of those that are over in time', async () => {
  await fc.assert(fc.asyncProperty(fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 1, maxLength: 5 }), async gone => {
    const clock = new FakeClock(), slots = slotsOf(6, new Ticker(clock))
    const users = Array.from({ length: 6 }, (_, index) => new User(`10.0.0.${index}`))
    for (const user of users) slots.enter(user)
    for (const index of gone) slots.end(users[index]!)
    for (const index of gone) assert.deepEqual([users[index]!.placeOlder, users[index]!.placeNewer], [null, null])
    await nextTurn()
    const others = Array.from({ length: 12 }, (_, index) => new User(`10.0.1.${index}`))
    for (const user of others) slots.enter(user)
    for (let turns = 0; turns < 3; turns++) {
      await nextTurn()
      clock.advance(1_100)
    }
    // The places of those that say no more have been given to others, each once.
    assert.ok(others.every(({ begun }) => begun === 1))
    for (const user of [...users, ...others]) slots.end(user)
    assert.deepEqual([slots.active, slots.waiting], [0, 0])
  }))
})

test('handshake slots: whatever comes and goes, nothing is lost and no place is taken twice', async () => {
  const step = fc.record({ what: fc.constantFrom('enter', 'end', 'leave', 'turn'), pick: fc.nat(99), client: fc.nat(3) })
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 60 }), async (max, steps) => {
    const slots = slotsOf(max), waiting: User[] = [], active: User[] = [], gone: User[] = []
    const settle = (): void => {
      for (const user of [...waiting]) {
        if (user.begun === 0) continue
        waiting.splice(waiting.indexOf(user), 1)
        active.push(user)
      }
    }
    for (const { what, pick, client } of steps) {
      if (what === 'enter') {
        const user = new User(client === 0 ? '' : String(client))
        waiting.push(user)
        slots.enter(user)
      } else if (what === 'end' && active.length > 0) slots.end(active.splice(pick % active.length, 1)[0]!)
      else if (what === 'leave' && waiting.length > 0) {
        const [user] = waiting.splice(pick % waiting.length, 1)
        slots.leave(user!)
        gone.push(user!)
      } else if (what === 'turn') await nextTurn()
      settle()
      assert.deepEqual([slots.active, slots.waiting], [active.length, waiting.length])
      assert.ok(slots.active <= max)
      assert.ok([...active, ...gone].every(({ begun }) => begun <= 1))
    }
    while (active.length > 0 || waiting.length > 0) {
      while (active.length > 0) {
        slots.end(active.pop()!)
        settle()
      }
      await nextTurn()
      settle()
    }
    assert.ok(gone.every(({ begun }) => begun === 0))
    assert.deepEqual([slots.active, slots.waiting], [0, 0])
  }), { numRuns: 150 })
})
