/**
 * Tracers that are told of the same things, as one. A service makes one group at its start, and one for each tracer of a peer
 * that it meets (`with`), which is kept: telling is then a walk over a short list that was made before.
 *
 * A callback that no tracer of the group has is null here, so that its record is not even made:
 *
 *   tracers?.attemptStarted?.tell({ ... })
 *
 * Invariant: nothing comes back from a tracer. What it throws or rejects is swallowed and counted.
 */
import { membersOf, misspeltName } from '../primitives/misspelt-name.ts'
import type { Tracer } from './tracer.ts'

export type TracerCallback = keyof Tracer
type EventOf<Name extends TracerCallback> = Parameters<NonNullable<Tracer[Name]>>[0]

/** Count of throws and rejections swallowed so far in this process. */
export const tracerFaults = {
  /** Since the process began; nothing sets it back. */
  count: 0,
}

const countFault = (): void => { tracerFaults.count++ }

/** The tracers of a group that have one callback, in the order in which they are told. */
export class Audience<Name extends TracerCallback> {
  readonly #name: Name
  readonly #tracers: readonly Tracer[]

  constructor(name: Name, tracers: readonly Tracer[]) {
    this.#name = name
    this.#tracers = tracers
  }

  tell(event: EventOf<Name>): void {
    for (const tracer of this.#tracers) {
      try {
        const result: unknown = (tracer[this.#name] as (event: EventOf<Name>) => unknown)(event)
        // An async callback: nothing waits for it, but its failure must have somebody who knows of it.
        if (isThenable(result)) result.then(undefined, countFault)
      } catch {
        tracerFaults.count++
      }
    }
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

const EXCHANGE_CALLBACKS = [
  'exchangeStarted', 'attemptStarted', 'attemptConnected', 'attemptResponded', 'attemptEnded', 'exchangeRetried', 'exchangeEnded',
] as const satisfies readonly TracerCallback[]

export class TracerGroup implements Readonly<{ [Name in TracerCallback]-?: Audience<Name> | null }> {
  readonly exchangeStarted: Audience<'exchangeStarted'> | null
  readonly attemptStarted: Audience<'attemptStarted'> | null
  readonly attemptConnected: Audience<'attemptConnected'> | null
  readonly attemptResponded: Audience<'attemptResponded'> | null
  readonly attemptEnded: Audience<'attemptEnded'> | null
  readonly exchangeRetried: Audience<'exchangeRetried'> | null
  readonly exchangeEnded: Audience<'exchangeEnded'> | null
  readonly requestRefused: Audience<'requestRefused'> | null
  readonly upstreamConnected: Audience<'upstreamConnected'> | null
  readonly upstreamConnectFailed: Audience<'upstreamConnectFailed'> | null
  readonly upstreamReused: Audience<'upstreamReused'> | null
  readonly upstreamClosed: Audience<'upstreamClosed'> | null
  readonly downstreamAccepted: Audience<'downstreamAccepted'> | null
  readonly downstreamRefused: Audience<'downstreamRefused'> | null
  readonly handshakeEnded: Audience<'handshakeEnded'> | null
  readonly downstreamClosed: Audience<'downstreamClosed'> | null
  readonly #tracers: readonly Tracer[]
  readonly #watchesExchanges: boolean
  readonly #joined = new WeakMap<Tracer, TracerGroup>()
  /** What `with` returned last: peers of one service mostly have one tracer. */
  #lastTracer: Tracer | null = null
  #lastGroup: TracerGroup | null = null

  /** @param tracers each is told once, however often it is in the list */
  constructor(tracers: readonly Tracer[]) {
    const all = [...new Set(tracers)]
    this.#tracers = all
    this.exchangeStarted = audienceOf('exchangeStarted', all)
    this.attemptStarted = audienceOf('attemptStarted', all)
    this.attemptConnected = audienceOf('attemptConnected', all)
    this.attemptResponded = audienceOf('attemptResponded', all)
    this.attemptEnded = audienceOf('attemptEnded', all)
    this.exchangeRetried = audienceOf('exchangeRetried', all)
    this.exchangeEnded = audienceOf('exchangeEnded', all)
    this.requestRefused = audienceOf('requestRefused', all)
    this.upstreamConnected = audienceOf('upstreamConnected', all)
    this.upstreamConnectFailed = audienceOf('upstreamConnectFailed', all)
    this.upstreamReused = audienceOf('upstreamReused', all)
    this.upstreamClosed = audienceOf('upstreamClosed', all)
    this.downstreamAccepted = audienceOf('downstreamAccepted', all)
    this.downstreamRefused = audienceOf('downstreamRefused', all)
    this.handshakeEnded = audienceOf('handshakeEnded', all)
    this.downstreamClosed = audienceOf('downstreamClosed', all)
    this.#watchesExchanges = EXCHANGE_CALLBACKS.some(name => this[name] !== null)
  }

  /** Some tracer wants to hear of exchanges or attempts: for those who watch connections alone nothing of that is made. */
  get watchesExchanges(): boolean { return this.#watchesExchanges }

  /** Null for an empty list. @throws TypeError when one has a method that was meant to be a callback, and would never be called */
  static of(tracers: readonly Tracer[]): TracerGroup | null {
    for (const tracer of tracers) checkNames(tracer)
    return tracers.length === 0 ? null : new TracerGroup(tracers)
  }

  includes(tracer: Tracer): boolean { return this.#tracers.includes(tracer) }

  /** The group with `tracer` behind the others; this one when it is in it. The same group for the same tracer. */
  with(tracer: Tracer): TracerGroup {
    if (tracer === this.#lastTracer) return this.#lastGroup!
    let group = this.#joined.get(tracer)
    if (group === undefined) {
      group = this.includes(tracer) ? this : new TracerGroup([...this.#tracers, tracer])
      this.#joined.set(tracer, group)
    }
    this.#lastTracer = tracer
    this.#lastGroup = group
    return group
  }
}

/** Where there is no service: the tracers of peers join this one. */
export const NO_TRACERS: TracerGroup = new TracerGroup([])

/** Those who watch a peer of which no service is known: its own tracer, or none. */
export function tracersOfPeer({ options: { tracer } }: { readonly options: { readonly tracer: Tracer | null } }): TracerGroup | null {
  return tracer === null ? null : NO_TRACERS.with(tracer)
}

function audienceOf<Name extends TracerCallback>(name: Name, tracers: readonly Tracer[]): Audience<Name> | null {
  const interested = tracers.filter(tracer => hasCallback(tracer, name))
  return interested.length === 0 ? null : new Audience(name, interested)
}

function hasCallback(tracer: Tracer, name: TracerCallback): boolean {
  try {
    return typeof tracer[name] === 'function'
  } catch {
    // A getter that throws: nothing of a tracer's may reach an exchange, and this may be within one.
    tracerFaults.count++
    return false
  }
}

const CALLBACKS = Object.keys(NO_TRACERS) as TracerCallback[]

function checkNames(tracer: Tracer): void {
  const members = membersOf(tracer)
  for (const [name, value] of members) {
    const meant = typeof value === 'function' ? misspeltName(name, CALLBACKS, one => members.has(one)) : null
    if (meant !== null) throw new TypeError(`a tracer has ${name}(), which is no callback; call it ${meant}, or _${name} if it is its own`)
  }
}

/**
 * One tracer made of several, for `peer.options.tracer`: callbacks that none of them has stay absent.
 * @returns null when there is nothing to call
 */
export function fanOut(tracers: readonly Tracer[]): Tracer | null {
  const group = new TracerGroup(tracers)
  const joined: Record<string, unknown> = {}
  for (const name of CALLBACKS) {
    const audience = group[name] as { tell(event: unknown): void } | null
    if (audience !== null) joined[name] = (event: unknown) => audience.tell(event)
  }
  return Object.keys(joined).length === 0 ? null : joined as Tracer
}
