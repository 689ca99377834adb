import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestRefused, Tracer, UpstreamReused } from '../../src/telemetry/tracer.ts'
import { fanOut, NO_TRACERS, tracerFaults, TracerGroup, tracersOfPeer } from '../../src/telemetry/tracer-group.ts'

const EVENT: UpstreamReused = {
  peer: 'a:1',
  connection: { remoteAddress: '', remoteIp: '', remotePort: 0, localAddress: '', establishedAt: 0, tls: null },
}

test('tracer group: all are told in their order, each once, however often it was given', () => {
  const told: string[] = []
  const [a, b] = ['a', 'b'].map((name): Tracer => ({ upstreamReused: ({ peer }) => { told.push(`${name} ${peer}`) } }))
  TracerGroup.of([b!, a!, b!])!.upstreamReused!.tell(EVENT)
  assert.deepEqual(told, ['b a:1', 'a a:1'])
})

test('tracer group: a callback that none has is null, and a group of nobody is none', () => {
  const group = TracerGroup.of([{ upstreamReused() {} }, {}])!
  assert.deepEqual(Object.entries(group).filter(([, audience]) => audience !== null).map(([name]) => name), ['upstreamReused'])
  assert.equal(TracerGroup.of([]), null)
  assert.ok(Object.values(NO_TRACERS).every(audience => audience === null))
})

test('tracer group: what joins is behind the others, and joining makes one group however often it is asked for', () => {
  const told: string[] = []
  const tracers = ['service', 'one', 'two'].map((name): Tracer => ({ upstreamReused: () => { told.push(name) } }))
  const [service, one, two] = tracers as [Tracer, Tracer, Tracer]
  const group = TracerGroup.of([service])!
  const joined = [group.with(one), group.with(two), group.with(one), group.with(two)]
  assert.equal(joined[0], joined[2])
  assert.equal(joined[1], joined[3])
  assert.notEqual(joined[0], joined[1])
  joined[0]!.upstreamReused!.tell(EVENT)
  assert.deepEqual(told.splice(0), ['service', 'one'])
  assert.equal(group.with(service), group)
  group.with(one).with(two).with(one).upstreamReused!.tell(EVENT)
  assert.deepEqual(told, ['service', 'one', 'two'])
})

test('tracer group: a throw, and the rejection of an async callback, are counted and reach nobody', async () => {
  const before = tracerFaults.count, told: string[] = []
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => { unhandled.push(reason) }
  process.on('unhandledRejection', note)
  const group = TracerGroup.of([
    { upstreamReused() { throw new Error('planned') } },
    {
      async upstreamReused() {
        await Promise.resolve()
        throw new Error('planned')
      },
    },
    { upstreamReused: () => { told.push('last') } },
  ])!
  group.upstreamReused!.tell(EVENT)
  assert.deepEqual(told, ['last'])
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  process.off('unhandledRejection', note)
  assert.equal(tracerFaults.count - before, 2)
  assert.deepEqual(unhandled, [])
})

test('tracer group: a tracer is called as a method, and one whose getter throws is left out', () => {
  const before = tracerFaults.count
  class Counter implements Tracer {
    seen = 0
    upstreamReused(): void { this.seen++ }
  }
  const counter = new Counter()
  const broken = { get upstreamReused(): never { throw new Error('planned') } } as Tracer
  TracerGroup.of([broken, counter])!.upstreamReused!.tell(EVENT)
  assert.deepEqual([counter.seen, tracerFaults.count - before], [1, 1])
})

test('tracer group: a peer without a service is watched by its own tracer, or by none', () => {
  const tracer: Tracer = { upstreamReused() {} }
  assert.equal(tracersOfPeer({ options: { tracer: null } }), null)
  assert.equal(tracersOfPeer({ options: { tracer } }), tracersOfPeer({ options: { tracer } }))
})

test('fanOut: has the callbacks that one of its tracers has, and none is null', () => {
  const refused: RequestRefused[] = []
  const joined = fanOut([{ requestRefused: event => { refused.push(event) } }, { exchangeEnded() { throw new Error('planned') } }])!
  assert.deepEqual(Object.keys(joined).toSorted(), ['exchangeEnded', 'requestRefused'])
  assert.equal(fanOut([{}, {}]), null)
  assert.equal(fanOut([]), null)
})
