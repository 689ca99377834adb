import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Backend, parseBackend, type Candidates } from '../../src/load-balancing/backend.ts'
import { KetamaSelection } from '../../src/load-balancing/ketama.ts'
import {
  HashSelection, LeastInFlightSelection, RandomSelection, RoundRobinSelection, smoothSequence, Turn, WeightLine,
  type Selection, type Selector,
} from '../../src/load-balancing/selection.ts'

function candidates(weights: readonly number[]): Candidates {
  const backends = weights.map((_, index) => {
    const spec = parseBackend(`10.0.${index >> 8}.${index & 255}:80`, 'test')
    return new Backend({ ...spec, origin: spec.name })
  })
  return { backends, weights: Uint16Array.from(weights) }
}

function pick(selector: Selector, key = '', refused: ReadonlySet<Backend> = new Set(), steps = 1000): Backend | null {
  const turn = new Turn()
  turn.begin(steps, null, backend => !refused.has(backend))
  return selector.pick(key, turn)
}

/** A small generator with a seed, so that a failure can be repeated. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Smooth weighted round robin as nginx computes it: every current weight, every time. */
function nginxSequence(weights: readonly number[], length: number): number[] {
  const current = weights.map(() => 0)
  const sum = weights.reduce((a, b) => a + b, 0)
  return Array.from({ length }, () => {
    let best = -1
    for (const [index, weight] of weights.entries()) {
      current[index]! += weight
      if (best === -1 || current[index]! > current[best]!) best = index
    }
    current[best]! -= sum
    return best
  })
}

const weightList = fc.array(fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 300 })), { minLength: 1, maxLength: 12 })
const SELECTIONS: (() => Selection)[] = [
  () => new RoundRobinSelection(() => 0), () => new RandomSelection(), () => new HashSelection(),
  () => new LeastInFlightSelection(), () => new KetamaSelection(),
]

test('selection: the smooth sequence is the one of nginx, and repeats after the sum of the weights', () => {
  assert.deepEqual([...smoothSequence(Uint16Array.of(5, 1, 1))!], [0, 0, 1, 0, 2, 0, 0])
  fc.assert(fc.property(weightList, weights => {
    const sequence = smoothSequence(Uint16Array.from(weights))!
    const expected = nginxSequence(weights, sequence.length * 2)
    assert.deepEqual([...sequence, ...sequence], expected)
  }))
})

test('selection: round robin goes through that sequence again and again', () => {
  fc.assert(fc.property(weightList, fc.nat(50), (weights, extra) => {
    const from = candidates(weights)
    const selector = new RoundRobinSelection(() => 0).build(from, null)
    const chosen = Array.from({ length: 100 + extra }, () => from.backends.indexOf(pick(selector)!))
    assert.deepEqual(chosen, nginxSequence(weights, chosen.length))
  }))
})

test('selection: a sequence too long to prepare still gives each its share, at distances of at most three kinds', () => {
  const weights = Array.from({ length: 500 }, (_, index) => 1000 + index * 100)
  assert.equal(smoothSequence(Uint16Array.from(weights)), null)
  const from = candidates(weights)
  const selector = new RoundRobinSelection(() => 0).build(from, null)
  const sum = weights.reduce((a, b) => a + b, 0)
  const total = 200_000
  const times = from.backends.map((): number[] => [])
  for (let choice = 0; choice < total; choice++) times[from.backends.indexOf(pick(selector)!)]!.push(choice)
  for (const [index, when] of times.entries()) {
    const expected = (total * weights[index]!) / sum
    assert.ok(Math.abs(when.length - expected) < 4, `backend ${index} was chosen ${when.length} times instead of ${expected}`)
    const distances = new Set(when.slice(1).map((time, i) => time - when[i]!))
    assert.ok(distances.size <= 3, `backend ${index} came back after ${[...distances].join(', ')}`)
    assert.ok(Math.max(...distances) < (3 * sum) / weights[index]!)
  }
})

test('selection: a sequence that is built anew goes on where the old one was', () => {
  const selection = new RoundRobinSelection(() => 0)
  const from = candidates([1, 1, 1, 1])
  const selector = selection.build(from, null)
  pick(selector)
  pick(selector)
  assert.equal(pick(selection.build(from, selector)), from.backends[2])
})

test('selection: the weight line finds who a scan from its beginning would find', () => {
  fc.assert(fc.property(weightList, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (weights, fraction) => {
    const line = new WeightLine(Uint16Array.from(weights))
    const place = fraction * weights.reduce((a, b) => a + b, 0)
    let end = 0
    const expected = weights.findIndex(weight => (end += weight) > place)
    const found = line.indexAt(fraction)
    // Rounding may put a place on a border on either side of it.
    const border = weights.slice(0, Math.max(found, expected)).reduce((a, b) => a + b, 0)
    assert.ok(found === expected || Math.abs(border - place) < 1e-6)
  }))
})

test('selection: random and hash keep to the weights', () => {
  const weights = [1, 2, 5, 8]
  for (const selection of [new RandomSelection(randomFrom(7)), new HashSelection()] as Selection[]) {
    const from = candidates(weights)
    const selector = selection.build(from, null)
    const counts = weights.map(() => 0)
    for (let i = 0; i < 32_000; i++) counts[from.backends.indexOf(pick(selector, `/user/${i}`)!)]!++
    for (const [index, count] of counts.entries()) {
      const expected = 2000 * weights[index]!
      assert.ok(Math.abs(count - expected) < 5 * Math.sqrt(expected), `${selection.name}: ${count} instead of ${expected}`)
    }
  }
})

test('selection: a key finds the same backend again, and its next one spreads over all others', () => {
  for (const selection of [new HashSelection(), new KetamaSelection()] as Selection[]) {
    const from = candidates([1, 1, 1, 1, 1])
    const selector = selection.build(from, null)
    const next = new Map<Backend, number>()
    const out = from.backends[2]!
    for (let i = 0; i < 20_000; i++) {
      const first = pick(selector, `key-${i}`)!
      assert.equal(pick(selector, `key-${i}`), first)
      if (first !== out) continue
      const other = pick(selector, `key-${i}`, new Set([out]))!
      assert.notEqual(other, out)
      next.set(other, (next.get(other) ?? 0) + 1)
    }
    assert.equal(next.size, 4, selection.name)
    const total = [...next.values()].reduce((a, b) => a + b, 0)
    for (const count of next.values()) assert.ok(count > total / 8, `${selection.name}: ${[...next.values()].join(', ')}`)
  }
})

test('selection: least in flight is the choice of nginx, equals taking turns by weight', () => {
  const someWeights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 10 })
  fc.assert(fc.property(someWeights, fc.infiniteStream(fc.nat(3)), (weights, endings) => {
    const from = candidates(weights)
    const selector = new LeastInFlightSelection(() => 0).build(from, null)
    const current = weights.map(() => 0)
    const busy: Backend[] = []
    for (let choice = 0; choice < 60; choice++) {
      const loads = from.backends.map((backend, index) => backend.inFlight / weights[index]!)
      const least = Math.min(...loads)
      const ties = loads.flatMap((load, index) => Math.abs(load - least) < 1e-12 ? [index] : [])
      let expected = ties[0]!
      if (ties.length > 1) {
        for (const index of ties) current[index]! += weights[index]!
        for (const index of ties) if (current[index]! > current[expected]!) expected = index
        current[expected]! -= ties.reduce((sum, index) => sum + weights[index]!, 0)
      }
      const chosen = pick(selector)!
      assert.equal(from.backends.indexOf(chosen), expected)
      chosen.inFlight++
      busy.push(chosen)
      for (let ending = endings.next().value; ending > 1 && busy.length > 0; ending--) busy.splice(choice % busy.length, 1)[0]!.release()
    }
  }), { numRuns: 50 })
})

test('selection: among many, two choices keep the fullest close to the emptiest', () => {
  const from = candidates(Array.from({ length: 1000 }, () => 1))
  const random = randomFrom(3)
  const selector = new LeastInFlightSelection(random).build(from, null)
  for (let i = 0; i < 20_000; i++) pick(selector)!.inFlight++
  const loads = from.backends.map(backend => backend.inFlight)
  // 20 each on average; drawing blindly would leave the fullest near 35.
  assert.ok(Math.max(...loads) <= 24 && Math.min(...loads) >= 14, `${Math.min(...loads)} to ${Math.max(...loads)}`)
})

test('selection: every selection honours refusals, finds the last one that is left, and ends when none is', () => {
  const someWeights = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 40 })
  fc.assert(fc.property(someWeights, fc.nat(39), fc.string(), (weights, left, key) => {
    for (const make of SELECTIONS) {
      const from = candidates(weights)
      const selector = make().build(from, null)
      const kept = from.backends[left % weights.length]!
      const refused = new Set(from.backends.filter(backend => backend !== kept))
      assert.equal(pick(selector, key, refused), kept, make().name)
      assert.equal(pick(selector, key, new Set(from.backends)), null)
    }
  }), { numRuns: 60 })
})

test('selection: the step limit counts distinct candidates', () => {
  for (const make of SELECTIONS) {
    const from = candidates([3, 1, 1, 1, 1, 1])
    const selector = make().build(from, null)
    const seen: Backend[] = []
    const turn = new Turn()
    turn.begin(4, null, backend => {
      seen.push(backend)
      return false
    })
    assert.equal(selector.pick('a key', turn), null)
    assert.equal(seen.length, 4, make().name)
    assert.equal(new Set(seen).size, 4)
  }
})
