/**
 * How one backend is chosen out of many. A `Selection` builds a `Selector` for each set of candidates; a selector
 * proposes candidates in its order of preference to a `Turn`, which accepts or refuses them: readiness, peers already
 * tried, the caller's own condition and the step limit are the turn's, so a selector is only about order.
 *
 * Selections without a key are built from the ready backends and again whenever readiness changes, so that the share
 * of one that is out goes to all others and not to its neighbour. Selections by key (`keyed`) are built from all
 * backends, so that a key returns to its backend when that is back.
 *
 * Here: smooth weighted round robin, weighted random, hash, least in flight. The consistent ring is in ketama.ts.
 * Cost per choice is flat: it does not grow with the number of backends.
 */
import { fnv1a, mix32, type HashKey } from '../primitives/hash.ts'
import type { Backend, Candidates } from './backend.ts'

/** A way to choose backends, for an algorithm of your own: `new LoadBalancer(discovery, { selection })`. */
export interface Selection {
  /** For messages of the application; the balancer shows it nowhere. */
  readonly name: string
  /** Whether the key decides. Without a key such a selection is passed over for round robin. */
  readonly keyed: boolean
  /**
   * Called for every new set, and for selections without a key whenever readiness changes. `candidates` has at least one.
   * @param previous what it built before, so that a sequence can go on where it was; null at first
   * @throws TypeError when the candidates cannot be held; the selector in use then stays
   */
  build(candidates: Candidates, previous: Selector | null): Selector
}

/** What a Selection builds for one set of backends. Called for each choice: it must not wait. */
export interface Selector {
  /** The first candidate, in this selection's order for the key, that the turn accepts; null when the turn is over or all were refused. */
  pick(key: HashKey, turn: Turn): Backend | null
}

/** Something with the name of a backend: a `Backend`, or the peer that was built from it. */
export interface Named { readonly name: string }
export type Tried = ReadonlySet<Named> | readonly Named[]

/**
 * Number of the last turn: a turn marks each candidate that it has looked at with its own number. Numbers start again at
 * 2^30, before V8 would store them as objects; a candidate whose mark is exactly that old is passed over once.
 */
let lastTurnId = 0

function nextTurnId(): number { return lastTurnId = (lastTurnId + 1) & 0x3fffffff }

/**
 * One selection in progress: what may be chosen, and how long the search may go on. One object a balancer, used again and again: a
 * selector keeps it no longer than its `pick` takes.
 */
export class Turn {
  /** @internal */
  id = 0
  /** @internal Distinct candidates that may still be looked at. */
  stepsLeft = 0
  /** @internal */
  exclude: Tried | null = null
  /** @internal */
  accept: ((backend: Backend) => boolean) | null = null
  /** @internal Backends that are out by passive health count as ready. */
  ignoresFailures = false
  /** @internal Exact time; only set while some backend is out. */
  nowMs = 0

  /** @internal */
  begin(steps: number, exclude: Tried | null, accept: ((backend: Backend) => boolean) | null): void {
    this.id = nextTurnId()
    this.stepsLeft = steps
    this.exclude = exclude
    this.accept = accept
    this.ignoresFailures = false
    this.nowMs = 0
  }

  /** @internal Looks at every candidate afresh, those included that are out by passive health. */
  beginAgain(steps: number): void {
    this.id = nextTurnId()
    this.stepsLeft = steps
    this.ignoresFailures = true
  }

  /** No further candidate is looked at: `pick` answers null. */
  get over(): boolean { return this.stepsLeft <= 0 }

  /** Whether this candidate was proposed in this turn before; proposing it again costs no step and is refused. */
  knows(backend: Backend): boolean { return backend.turn === this.id }

  /** Whether this candidate is the one: it is ready, was not tried before, and is what the caller asked for. Costs a step, once. */
  accepts(backend: Backend): boolean {
    if (backend.turn === this.id || this.stepsLeft <= 0) return false
    backend.turn = this.id
    this.stepsLeft--
    if (!backend.ready && !this.#admits(backend)) return false
    if (this.exclude !== null && wasTried(this.exclude, backend)) return false
    return this.accept === null || this.accept(backend)
  }

  /** A backend that is out gets one attempt when its time has come. */
  #admits(backend: Backend): boolean {
    if (!backend.enabled || !backend.healthy || backend.outUntilMs === 0) return false
    return this.ignoresFailures || (this.nowMs !== 0 && this.nowMs >= backend.outUntilMs)
  }
}

function wasTried(tried: Tried, backend: Backend): boolean {
  if (!('length' in tried) && tried.has(backend)) return true
  for (const entry of tried) if (entry.name === backend.name) return true
  return false
}

/** Proposes the candidates one after the other, beginning at index `from`. */
function pickInOrder(backends: readonly Backend[], from: number, turn: Turn): Backend | null {
  let index = from
  for (let left = backends.length; left > 0 && !turn.over; left--) {
    const backend = backends[index]!
    if (turn.accepts(backend)) return backend
    index = index + 1 === backends.length ? 0 : index + 1
  }
  return null
}

/** Draws that a selector makes before it goes through the candidates in order. */
const DRAWS_MAX = 16

/**
 * The candidates laid side by side on a line, each as long as its weight. Finding who lies at a place takes a
 * look into a guide with one entry a candidate and, on average, one step from there.
 */
export class WeightLine {
  readonly #count: number
  /** Null while all weights are the same: the place then tells the index. */
  readonly #ends: Float64Array | null
  readonly #guide: Uint32Array
  readonly #total: number

  constructor(weights: Uint16Array) {
    const count = weights.length
    this.#count = count
    this.#total = weights.reduce((sum, weight) => sum + weight, 0)
    this.#guide = new Uint32Array(0)
    this.#ends = null
    if (weights.every(weight => weight === weights[0])) return
    const ends = new Float64Array(count)
    let end = 0
    for (let i = 0; i < count; i++) ends[i] = end += weights[i]!
    const guide = new Uint32Array(count)
    for (let slot = 0, index = 0; slot < count; slot++) {
      while (ends[index]! <= (slot * this.#total) / count) index++
      guide[slot] = index
    }
    this.#ends = ends
    this.#guide = guide
  }

  /** @param fraction place on the line, at least 0 and below 1 */
  indexAt(fraction: number): number {
    const slot = Math.trunc(fraction * this.#count)
    const ends = this.#ends
    if (ends === null) return slot
    const place = fraction * this.#total
    let index = this.#guide[slot]!
    while (ends[index]! <= place && index < this.#count - 1) index++
    return index
  }
}

/** Entries of a prepared sequence times distinct weights: what building it may cost (2^18: about half a millisecond). */
const SEQUENCE_WORK_MAX = 1 << 18

/**
 * Smooth weighted round robin. The sequence is the one of nginx: each candidate's current weight grows by its weight,
 * the largest (the first of equals) is chosen and pays the sum of all weights. It repeats after sum / gcd choices, so
 * it is prepared once and a choice is one step in it. Where it would be too long, the golden ratio spreads the choices. It begins
 * anywhere: many processes that begin at the same time would otherwise send their first requests to the same backend.
 */
export class RoundRobinSelection implements Selection {
  readonly name = 'round-robin'
  readonly keyed = false
  readonly #random: () => number
  constructor(random: () => number = Math.random) { this.#random = random }

  build(candidates: Candidates, previous: Selector | null): Selector {
    const progress = previous instanceof SequenceSelector || previous instanceof GoldenSelector ? previous.progress : this.#random()
    const sequence = smoothSequence(candidates.weights)
    return sequence === null ? new GoldenSelector(candidates, progress) : new SequenceSelector(candidates.backends, sequence, progress)
  }
}

class SequenceSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #sequence: Uint32Array
  #next: number

  constructor(backends: readonly Backend[], sequence: Uint32Array, progress: number) {
    this.#backends = backends
    this.#sequence = sequence
    this.#next = Math.trunc(progress * sequence.length)
  }

  /** How much of the sequence is used up, at least 0 and below 1. */
  get progress(): number { return this.#next / this.#sequence.length }

  pick(_key: HashKey, turn: Turn): Backend | null {
    const sequence = this.#sequence
    let next = this.#next
    for (let left = sequence.length; left > 0; left--) {
      const backend = this.#backends[sequence[next]!]!
      next = next + 1 === sequence.length ? 0 : next + 1
      if (turn.accepts(backend)) {
        this.#next = next
        return backend
      }
      if (turn.over) return null
    }
    return null
  }
}

const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2

/**
 * Round robin over a weight line: each choice moves on by the golden ratio of the line. A candidate with share p then
 * comes back after one of at most three distances, all close to 1/p (the three-gap theorem), and needs no state.
 */
class GoldenSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #line: WeightLine
  #place: number

  constructor(candidates: Candidates, progress: number) {
    this.#backends = candidates.backends
    this.#line = new WeightLine(candidates.weights)
    this.#place = progress
  }

  get progress(): number { return this.#place }

  pick(_key: HashKey, turn: Turn): Backend | null {
    let index = 0
    for (let draw = 0; draw < DRAWS_MAX && !turn.over; draw++) {
      index = this.#line.indexAt(this.#place)
      this.#place += GOLDEN_RATIO
      if (this.#place >= 1) this.#place -= 1
      const backend = this.#backends[index]!
      if (turn.accepts(backend)) return backend
    }
    return pickInOrder(this.#backends, index, turn)
  }
}

/**
 * One period of smooth weighted round robin as indices, or null when it would cost too much to prepare.
 * Candidates of the same weight always take turns in their order, so after `step` choices only the next one of each
 * weight can have the largest current weight, which is `step * weight - timesChosen * sum`.
 */
export function smoothSequence(weights: Uint16Array): Uint32Array | null {
  const divisor = weights.reduce(greatestCommonDivisor, 0)
  const period = weights.reduce((sum, weight) => sum + weight, 0) / divisor
  const classes = new Map<number, number[]>()
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i]! / divisor
    const members = classes.get(weight)
    if (members === undefined) classes.set(weight, [i])
    else members.push(i)
    if (classes.size * period > SEQUENCE_WORK_MAX) return null
  }
  const rows = [...classes].map(([weight, members]) => ({ weight, members, next: 0, rounds: 0 }))
  const sequence = new Uint32Array(period)
  for (let step = 1; step <= period; step++) {
    let best = rows[0]!
    let bestCurrent = step * best.weight - best.rounds * period
    for (let i = 1; i < rows.length; i++) {
      const row = rows[i]!
      const current = step * row.weight - row.rounds * period
      if (current < bestCurrent || (current === bestCurrent && row.members[row.next]! > best.members[best.next]!)) continue
      best = row
      bestCurrent = current
    }
    sequence[step - 1] = best.members[best.next]!
    best.next++
    if (best.next === best.members.length) {
      best.next = 0
      best.rounds++
    }
  }
  return sequence
}

function greatestCommonDivisor(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b]
  return a
}

/** Each candidate with the probability of its weight. */
export class RandomSelection implements Selection {
  readonly name = 'random'
  readonly keyed = false
  readonly #random: () => number
  constructor(random: () => number = Math.random) { this.#random = random }
  build(candidates: Candidates): Selector { return new RandomSelector(candidates, this.#random) }
}

class RandomSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #line: WeightLine
  readonly #random: () => number

  constructor(candidates: Candidates, random: () => number) {
    this.#backends = candidates.backends
    this.#line = new WeightLine(candidates.weights)
    this.#random = random
  }

  pick(_key: HashKey, turn: Turn): Backend | null {
    for (let draw = 0; draw < DRAWS_MAX && !turn.over; draw++) {
      const backend = this.#backends[this.#line.indexAt(this.#random())]!
      if (turn.accepts(backend)) return backend
    }
    return pickInOrder(this.#backends, Math.trunc(this.#random() * this.#backends.length), turn)
  }
}

const UINT32_RANGE = 2 ** 32

/**
 * FNV-1a of the key on the weight line. The same key finds the same backend as long as the set does not change; when it
 * does, most keys move (ketama.ts moves few). Behind a backend that is refused comes another draw that the key decides,
 * without weights.
 */
export class HashSelection implements Selection {
  readonly name = 'hash'
  readonly keyed = true
  build(candidates: Candidates): Selector { return new HashSelector(candidates) }
}

class HashSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #line: WeightLine

  constructor(candidates: Candidates) {
    this.#backends = candidates.backends
    this.#line = new WeightLine(candidates.weights)
  }

  pick(key: HashKey, turn: Turn): Backend | null {
    const backends = this.#backends
    let hash = mix32(fnv1a(key))
    let index = this.#line.indexAt(hash / UINT32_RANGE)
    for (let draw = 0; draw < DRAWS_MAX && !turn.over; draw++) {
      if (turn.accepts(backends[index]!)) return backends[index]!
      hash = mix32(hash + 0x9e3779b9)
      index = Math.trunc((hash / UINT32_RANGE) * backends.length)
    }
    return pickInOrder(backends, index, turn)
  }
}

/** Up to this many candidates are compared one by one (32: about 60 ns); above, two drawn ones are. */
const EXACT_MAX = 32

/**
 * The candidate with the least in flight for its weight. Equals take turns by smooth weighted round robin, as in
 * nginx's least_conn. Among more than 32 candidates the better of two random ones is taken, which keeps the fullest
 * within a few of the emptiest at a flat cost. In flight is what this worker has in flight.
 */
export class LeastInFlightSelection implements Selection {
  readonly name = 'least-in-flight'
  readonly keyed = false
  readonly #random: () => number
  constructor(random: () => number = Math.random) { this.#random = random }

  build(candidates: Candidates, previous: Selector | null): Selector {
    if (candidates.backends.length > EXACT_MAX) return new TwoChoicesSelector(candidates, this.#random)
    return new LeastSelector(candidates, previous instanceof LeastSelector ? previous : null, this.#random)
  }
}

class LeastSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #weights: Uint16Array
  readonly #current: Float64Array

  constructor(candidates: Candidates, previous: LeastSelector | null, random: () => number) {
    this.#backends = candidates.backends
    this.#weights = candidates.weights
    this.#current = new Float64Array(candidates.backends.length)
    if (previous === null) {
      // Equals begin anywhere, as round robin does.
      for (let i = 0; i < this.#current.length; i++) this.#current[i] = random() * this.#weights[i]!
      return
    }
    // Equals would otherwise begin with the first one again at each change of health.
    for (let i = 0; i < this.#backends.length; i++) {
      const before = previous.#backends.indexOf(this.#backends[i]!)
      if (before !== -1) this.#current[i] = previous.#current[before]!
    }
  }

  pick(_key: HashKey, turn: Turn): Backend | null {
    while (!turn.over) {
      const index = this.#least(turn)
      if (index === -1) return null
      const backend = this.#backends[index]!
      if (turn.accepts(backend)) return backend
    }
    return null
  }

  #least(turn: Turn): number {
    const backends = this.#backends
    const weights = this.#weights
    const current = this.#current
    let best = -1
    let ties = false
    for (let i = 0; i < backends.length; i++) {
      if (turn.knows(backends[i]!)) continue
      if (best === -1) {
        best = i
        continue
      }
      const difference = backends[i]!.inFlight * weights[best]! - backends[best]!.inFlight * weights[i]!
      if (difference < 0) {
        best = i
        ties = false
      } else if (difference === 0) ties = true
    }
    if (!ties) return best
    const first = best
    let sum = 0
    for (let i = first; i < backends.length; i++) {
      if (turn.knows(backends[i]!) || backends[i]!.inFlight * weights[first]! !== backends[first]!.inFlight * weights[i]!) continue
      current[i]! += weights[i]!
      sum += weights[i]!
      if (current[i]! > current[best]!) best = i
    }
    current[best]! -= sum
    return best
  }
}

class TwoChoicesSelector implements Selector {
  readonly #backends: readonly Backend[]
  readonly #weights: Uint16Array
  readonly #line: WeightLine
  readonly #random: () => number

  constructor(candidates: Candidates, random: () => number) {
    this.#backends = candidates.backends
    this.#weights = candidates.weights
    this.#line = new WeightLine(candidates.weights)
    this.#random = random
  }

  pick(_key: HashKey, turn: Turn): Backend | null {
    const backends = this.#backends
    const weights = this.#weights
    let worse = 0
    for (let draw = 0; draw < DRAWS_MAX && !turn.over; draw++) {
      const one = this.#line.indexAt(this.#random())
      const other = this.#line.indexAt(this.#random())
      const otherIsBetter = backends[other]!.inFlight * weights[one]! < backends[one]!.inFlight * weights[other]!
      const better = otherIsBetter ? other : one
      worse = otherIsBetter ? one : other
      if (turn.accepts(backends[better]!)) return backends[better]!
    }
    return pickInOrder(backends, worse, turn)
  }
}
