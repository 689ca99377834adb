/**
 * Time behind one replaceable object, and one coarse tick for every deadline in the process.
 *
 * An object with deadlines is registered once for its life (`Timed`); the tick walks them all and calls `onTick`.
 * A deadline is then a number that is compared, never a timer of its own: setting one costs a store.
 * The walk costs about 5 ns an object; with nothing registered the tick stops, so an idle worker sleeps.
 */

/**
 * How often deadlines are looked at, in ms; a deadline is met up to this much late. 100: a one-second limit is off by a tenth at
 * most.
 */
export const TICK_MS = 100

/** Where times and timers come from: `options.clock` of `inject` and of a balancer, so that tests can pass time by hand. */
export interface Clock {
  /** Monotonic milliseconds, refreshed by the tick: cheap, up to TICK_MS old while the process is busy. */
  now(): number
  /** Monotonic milliseconds, exact. */
  exact(): number
  /** Wall-clock milliseconds since the epoch, exact. */
  wall(): number
  /** Calls `run` about every `ms` until the returned function is called. Does not keep the process alive. */
  every(ms: number, run: () => void): () => void
  /** Calls `run` once after `ms`, exactly, until the returned function is called. For rare waits that a tick is too coarse for. */
  after(ms: number, run: () => void): () => void
  /** From 0 to 1: for spreading over time what would otherwise come all together. */
  random(): number
}

interface Repeated {
  readonly ms: number
  readonly fire: () => void
  dueAt: number
}

class SystemClock implements Clock {
  #now = performance.now()
  readonly #repeated = new Set<Repeated>()
  now(): number { return this.#now }
  exact(): number { return this.#now = performance.now() }
  wall(): number { return Date.now() }
  every(ms: number, run: () => void): () => void {
    const fire = (): void => {
      repeated.dueAt = this.exact() + ms
      run()
    }
    const repeated: Repeated = { ms, fire, dueAt: this.exact() + ms }
    this.#repeated.add(repeated)
    const timer = setInterval(fire, ms)
    timer.unref()
    return () => {
      clearInterval(timer)
      this.#repeated.delete(repeated)
    }
  }

  /** Runs what `every` was given and is late by a whole period: the timers have no turn, see `whileReading` of the TCP stream. */
  catchUp(): void {
    const now = this.exact()
    for (const { ms, dueAt, fire } of this.#repeated) if (now - dueAt >= ms) fire()
  }

  after(ms: number, run: () => void): () => void {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  }
  random(): number { return Math.random() }
}

export const systemClock: Clock & { catchUp(): void } = new SystemClock()

/** An object with deadlines. The two index fields belong to the Ticker: -1 while not registered. */
export interface Timed {
  tickIndex: number
  /** Called once a tick, rarely twice. Compares its deadlines with `now` and acts; must not throw. */
  onTick(now: number): void
}

/** The registered objects, as a dense array: adding and removing swap one slot and never search. */
export class Ticker {
  readonly clock: Clock
  #timed: Timed[] = []
  #stop: (() => void) | null = null

  constructor(clock: Clock = systemClock) { this.clock = clock }

  get size(): number { return this.#timed.length }

  add(timed: Timed): void {
    if (timed.tickIndex !== -1) return
    timed.tickIndex = this.#timed.length
    this.#timed.push(timed)
    if (this.#stop === null) {
      this.clock.exact()
      this.#stop = this.clock.every(TICK_MS, () => this.tick())
    }
  }

  remove(timed: Timed): void {
    const index = timed.tickIndex
    if (index === -1) return
    timed.tickIndex = -1
    const last = this.#timed.pop()!
    if (last !== timed) {
      this.#timed[index] = last
      last.tickIndex = index
    }
  }

  /** The registered objects, as a copy: for rare walks that may remove what they meet. */
  snapshot(): Timed[] { return this.#timed.slice() }

  /**
   * One walk, from the last to the first: what is moved into a freed slot comes from behind, so none is left out. It may
   * be called a second time; that finds nothing more to do.
   */
  tick(): void {
    const now = this.clock.now()
    for (let at = this.#timed.length - 1; at >= 0; at--) {
      // Several may have gone during the last call.
      if (at < this.#timed.length) this.#timed[at]!.onTick(now)
    }
    if (this.#timed.length === 0 && this.#stop !== null) {
      this.#stop()
      this.#stop = null
    }
  }
}
