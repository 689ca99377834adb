import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { LIMIT_DEFAULTS, type LimitOptions } from '../../src/config/limit-options.ts'
import type { ProcessLog } from '../../src/ipc/process-log.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import { Admission, type Evictable, type MemoryStage, type Supply } from '../../src/server/admission.ts'
import { FakeClock } from '../support/fake-clock.ts'

const MIB = 1024 ** 2
const PLENTY: Supply = { descriptors: Infinity, memoryBytes: Infinity, residentBytes: 0, workers: 1 }

for (const [descriptors, options, room] of [
  [Infinity, {}, 20_000], [0, {}, 20_000], [1_000_000, {}, 20_000], [40_064, {}, 20_000], [40_062, {}, 19_999],
  [1024, {}, 480], [128, {}, 32], [128, { fdReserve: 0 }, 64], [128, { maxConnections: 10 }, 10],
  [1024, { maxConnections: 0 }, 480], [Infinity, { maxConnections: 0 }, Infinity], [30, {}, 1],
] as const) {
  const given = Object.entries(options).map(([name, value]) => ` with ${name} ${value}`).join('')
  const allowed = descriptors === 0 ? 'an unknown number of' : descriptors
  test(`admission: ${allowed} descriptors${given} leave room for ${room} connections`, () => {
    assert.equal(new Admission({ ...LIMIT_DEFAULTS, ...options }, { ...PLENTY, descriptors }).maxConnections, room)
  })
}

test('admission: that descriptors allow less than the options is said once, and nothing when they do not', () => {
  const said: string[] = []
  const log: ProcessLog = { warn() {}, error() {}, info: (message, fields) => { said.push(`${message} ${JSON.stringify(fields)}`) } }
  for (const descriptors of [Infinity, 100_000, 0, 1024]) new Admission(LIMIT_DEFAULTS, { ...PLENTY, descriptors }).report(log)
  const fields = { maxConnections: 480, wanted: 20_000, nofile: 1024, fdReserve: 64 }
  assert.deepEqual(said, [
    `room for 480 connections only: this process may have 1024 descriptors ${JSON.stringify(fields)}`,
  ])
})

/** A listener with so many connections that may be cut. */
function listener(cuttable: number): Evictable & { left: number } {
  const made = { left: cuttable, get evictable() { return made.left }, evict: () => made.left > 0 && made.left-- > 0 }
  return made
}

test('admission: the listener with the new connection gives one up first, then the others, and with none there is no room', () => {
  const admission = new Admission({ ...LIMIT_DEFAULTS, maxConnections: 5 })
  const [first, own] = [listener(2), listener(1)]
  admission.join({ spare() {} }, [first, own], new Ticker(new FakeClock()))
  const seen: unknown[] = []
  for (let count = 0; count < 4; count++) admission.came()
  seen.push([admission.refusal(own), first.left, own.left])
  admission.came()
  for (let count = 0; count < 4; count++) seen.push([admission.refusal(own), first.left, own.left])
  assert.deepEqual(seen, [[null, 2, 1], [null, 2, 0], [null, 1, 0], [null, 0, 0], ['max-connections', 0, 0]])
})

for (const [supply, megabytes] of [
  [{ memoryBytes: Infinity }, 1024], [{ memoryBytes: 64 * 1024 * MIB, workers: 32 }, 1024],
  [{ memoryBytes: 600 * MIB, workers: 2, residentBytes: 70 * MIB }, 170], [{ memoryBytes: 100 * MIB, residentBytes: 90 * MIB }, 16],
] as const) {
  test(`admission: of ${JSON.stringify(supply)} connections may hold ${megabytes} MiB by default`, () => {
    assert.equal(new Admission(LIMIT_DEFAULTS, { ...PLENTY, ...supply }).memoryBudgetBytes, megabytes * MIB)
  })
}

/** An admission with a budget of 100 MiB, of which the buffers of this process hold what the test says. */
class World {
  readonly clock = new FakeClock()
  readonly listener = listener(1000)
  readonly said: string[] = []
  readonly admission: Admission
  spared = 0
  readonly #before = heldBytes.now

  constructor(t: TestContext, limits: LimitOptions = {}) {
    this.admission = new Admission({ ...LIMIT_DEFAULTS, memoryBudgetBytes: 100 * MIB, ...limits })
    const warn: ProcessLog['warn'] = (message, fields) => {
      this.said.push(`${message}: ${String(fields?.['stage'] ?? fields?.['reason'])}`)
    }
    this.admission.report({ info() {}, error() {}, warn })
    this.admission.join({ spare: () => { this.spared++ } }, [this.listener], new Ticker(this.clock))
    this.admission.came()
    t.after(() => {
      heldBytes.now = this.#before
      this.admission.close()
    })
  }

  hold(megabytes: number): this {
    heldBytes.now = this.#before + megabytes * MIB
    return this
  }

  /** What becomes of a new request and of a new connection. */
  taken(): [request: string, connection: string] {
    const request = this.admission.begin(0)
    this.admission.ended()
    return [request ?? 'served', this.admission.refusal(this.listener) ?? 'let in']
  }
}

test('admission: memory that is held sheds in four steps, and all of them are taken back when it is free again', t => {
  const world = new World(t), stages: MemoryStage[] = [], taken: unknown[] = []
  for (const megabytes of [79, 81, 91, 96, 101, 10]) {
    stages.push(world.hold(megabytes).admission.memoryStage)
    taken.push(world.taken())
  }
  assert.deepEqual(stages, [0, 1, 2, 3, 4, 0])
  const [served, shed] = [['served', 'let in'], ['memory-budget', 'let in']]
  const closed = ['memory-budget', 'memory-budget']
  assert.deepEqual(taken, [served, served, shed, closed, closed, served])
  assert.deepEqual([world.admission.shed, world.admission.counts().shed], [3, 3])
})

test('admission: when memory is short what only waits is cut, little by little, and services spare what they can', t => {
  const world = new World(t)
  world.clock.advance(300)
  assert.deepEqual([world.listener.left, world.spared, world.said], [1000, 0, []])
  world.hold(81).clock.advance(100)
  assert.deepEqual([world.listener.left, world.spared], [936, 1])
  world.clock.advance(100)
  assert.deepEqual([world.listener.left, world.spared, world.said], [872, 2, ['memory is short: sparing']])
  world.listener.left = 17
  world.clock.advance(300)
  assert.equal(world.listener.left, 13)
  world.listener.left = 7
  world.clock.advance(300)
  assert.equal(world.listener.left, 7)
})

test('admission: a budget that is spent is told once and for all', t => {
  const world = new World(t)
  world.hold(99).clock.advance(100)
  assert.equal(world.admission.counts().exhausted, 0)
  world.hold(101).clock.advance(100)
  world.hold(0).clock.advance(100)
  assert.equal(world.admission.counts().exhausted, 1)
})

test('admission: a connection and a request count for what they are made of', t => {
  const world = new World(t).hold(0), { admission } = world
  const empty = admission.heldBytes
  admission.came()
  const one = admission.heldBytes
  admission.begin(0)
  assert.ok(one > empty && admission.heldBytes > one)
  admission.ended()
  admission.left()
  assert.equal(admission.heldBytes, empty)
})

/** The loop is held up for so long, now and then, for so many seconds. */
function holdUp(world: World, lateMs: number, seconds: number): void {
  for (let second = 0; second < seconds; second++) {
    for (let tick = 0; tick < 8; tick++) world.clock.advance(100)
    world.clock.jump(lateMs + 100)
  }
}

test('admission: a loop that is late in three seconds in a row sheds requests until it is in time again', t => {
  const world = new World(t), seen: unknown[] = []
  for (const [lateMs, seconds] of [[200, 5], [400, 2], [0, 1], [400, 2], [400, 1], [400, 5], [100, 1]] as const) {
    holdUp(world, lateMs, seconds)
    seen.push(world.taken()[0])
  }
  assert.deepEqual(seen, ['served', 'served', 'served', 'served', 'loop-delay', 'loop-delay', 'served'])
  assert.deepEqual(world.taken(), ['served', 'let in'])
})

test('admission: without a limit a late loop sheds nothing', t => {
  const world = new World(t, { maxLoopDelayMs: 0 })
  holdUp(world, 5000, 5)
  assert.equal(world.taken()[0], 'served')
})

test('admission: requests of all services count against the limit of each', t => {
  const { admission } = new World(t)
  assert.deepEqual([admission.begin(2), admission.begin(2), admission.begin(2), admission.begin(4)], [null, null, 'active-requests', null])
})
