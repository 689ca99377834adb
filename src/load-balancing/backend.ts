/**
 * A backend is one weighted address that a load balancer may turn into a peer.
 *
 * Its identity is the address, in the text form of `name`: as long as an address stays in the balancer, whatever its
 * weight becomes, there is one `Backend` object for it, which keeps health, failures and what is in flight.
 * A `BackendSet` never changes; an update puts another one in its place.
 *
 * Invariants: `ready` is `enabled && healthy && outUntilMs === 0`, kept by the balancer. Each selection is followed by exactly one
 * `report` or `release`.
 */
import { isIP } from 'node:net'
import { formatAddress, parseAddress, type PeerAddress } from '../peer/peer-address.ts'
import type { Peer } from '../peer/peer.ts'
import { code, count, defaultsOf, flag, needed, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'

/** A backend as an application or discovery describes it; an address alone will do. */
export interface BackendOptions {
  /** `host:port`, `[v6]:port` or `unix:/path`. A host name stands for all of its addresses. */
  address: string
  /** Share of the traffic, 1 to 65535; each address of a host name gets it whole. @default 1 */
  weight?: number
  /** Whatever the application wants to find again on the backend. @default null */
  ext?: unknown
  /** Whether it may be selected. `setEnabled` overrides it. @default true */
  enabled?: boolean
}

export const MAX_WEIGHT = 65_535

export const BACKEND_OPTIONS = {
  address: needed(text('', 'host:port, [v6]:port or unix:/path')),
  weight: count(1, { max: MAX_WEIGHT }),
  ext: code<unknown>(null, 'anything', () => true),
  enabled: flag(true),
} satisfies OptionTable<BackendOptions>

export const BACKEND_DEFAULTS: Readonly<Required<BackendOptions>> = defaultsOf<BackendOptions>(BACKEND_OPTIONS)

/** `BackendOptions` read and checked. */
export interface BackendSpec {
  readonly name: string
  readonly address: PeerAddress
  /** The host when it is a name that can be resolved; '' for numeric and Unix addresses. */
  readonly hostName: string
  readonly weight: number
  readonly ext: unknown
  readonly enabled: boolean
}

/** One candidate to be: a `BackendSpec`, or one of the addresses that its host name stands for. */
export interface CandidateSpec extends BackendSpec {
  readonly origin: string
}

/** Told when the state of a backend may have changed; the balancer it belongs to. */
export interface BackendOwner {
  onSuccess(backend: Backend): void
  onFailure(backend: Backend): void
}

/** What operators see. */
export interface BackendStatus {
  /** `host:port`, `[v6]:port` or `unix:/path`; what it is known by. */
  readonly name: string
  /** The address as configured: the host name that `name` was resolved from, else the same. */
  readonly origin: string
  /** Share of the traffic, 1 to 65535. */
  readonly weight: number
  /** What configuration, discovery and `setEnabled` say. */
  readonly enabled: boolean
  /** What active health checks say; true without any. */
  readonly healthy: boolean
  /** `out`: too many attempts failed; `trial`: an attempt is finding out whether it is back. */
  readonly passive: 'in' | 'out' | 'trial'
  /** Whether it may be selected: enabled, healthy, and not out by failures. */
  readonly ready: boolean
  /** Why it gets traffic or none, as of the last change; '' before the first. */
  readonly reason: string
  /** Attempts that were selected and neither reported nor released. */
  readonly inFlight: number
  /** Failed attempts so far. */
  readonly failures: number
  /** Selections so far. */
  readonly selected: number
}

/**
 * One address of a balancer, with its health and what is in flight. The same object for as long as the address stays. Follow each
 * selection by one `report` or `release`; an HttpPeer made from it does.
 */
export class Backend {
  /** `host:port`, `[v6]:port` or `unix:/path`; what it is known by. */
  readonly name: string
  /** The address that is dialled. */
  readonly peerAddress: PeerAddress
  /** The address as configured: `name.example:443` for a resolved address, else the same as `name`. */
  origin: string
  /** The host name that was configured, for SNI and Host; '' for numeric and Unix addresses. */
  hostName: string
  /** Share of the traffic, 1 to 65535. */
  weight: number
  /** What the application gave with it. */
  ext: unknown

  /** Allowed by configuration and operators. */
  enabled = true
  /** What active health checks say. */
  healthy = true
  /** @internal 0 while in by passive health; otherwise when the next trial is due, on the balancer's clock. */
  outUntilMs = 0
  /** Whether it may be selected: enabled, healthy, and not out by failures. */
  ready = true
  /** @internal Out, or back for want of another backend, and the next attempt that succeeds shows that it is well. */
  onTrial = false
  /** @internal What watchers were told last, and why. */
  announcedReady = true
  /** @internal */
  reason = ''

  /** Attempts that were selected and neither reported nor released. */
  inFlight = 0
  /** Selections so far. */
  selected = 0
  /** Failed attempts so far. */
  failures = 0
  /** @internal Times of the latest failures, as a ring of `maxFails` numbers; null until the first. */
  failureTimes: Float64Array | null = null
  /** @internal */
  failureIndex = 0
  /** @internal Probes in a row with the same outcome: above 0 successes, below 0 failures. */
  probeStreak = 0
  /** @internal The turn that looked at this backend last (selection.ts). */
  turn = 0
  /** Built by the balancer's `peer` option when it is needed first, and again behind a change of weight or `ext`; null until then. */
  peer: Peer | null = null
  /** @internal Null once the address left the balancer: late reports then count nowhere. */
  owner: BackendOwner | null = null

  /** @internal By the balancer. */
  constructor(spec: CandidateSpec) {
    this.name = spec.name
    this.peerAddress = spec.address
    this.origin = spec.origin
    this.hostName = spec.hostName
    this.weight = spec.weight
    this.ext = spec.ext
  }

  /** The attempt ended and says something about the backend: false when it could not be reached or broke off, true otherwise. */
  report(healthy: boolean): void {
    this.release()
    if (!healthy) this.owner?.onFailure(this)
    // A success means nothing while in, and nothing while out: the attempt may have begun before the failures.
    else if (this.onTrial) this.owner?.onSuccess(this)
  }

  /** The attempt ended and says nothing about the backend: the client left, or no attempt was made. */
  release(): void {
    if (this.inFlight > 0) this.inFlight--
  }

  /** The state of now, as plain values. */
  status(): BackendStatus {
    return {
      name: this.name,
      origin: this.origin,
      weight: this.weight,
      enabled: this.enabled,
      healthy: this.healthy,
      passive: this.onTrial ? 'trial' : this.outUntilMs === 0 ? 'in' : 'out',
      ready: this.ready,
      reason: this.reason,
      inFlight: this.inFlight,
      failures: this.failures,
      selected: this.selected,
    }
  }
}

/** What a selection chooses from. */
export interface Candidates {
  /** In the order of the configuration; those that are ready, and for a selection by key all of them. */
  readonly backends: readonly Backend[]
  /** By the index of the backend. */
  readonly weights: Uint16Array
}

/** The backends of one moment, in the order of the configuration. */
export class BackendSet implements Candidates {
  readonly backends: readonly Backend[]
  readonly weights: Uint16Array
  readonly byName: ReadonlyMap<string, Backend>

  constructor(backends: readonly Backend[], weights: Uint16Array) {
    this.backends = backends
    this.weights = weights
    this.byName = new Map(backends.map(backend => [backend.name, backend]))
  }

  get size(): number { return this.backends.length }

  /** Those that `keep` wants; the set itself when that is all. */
  only(keep: (backend: Backend, index: number) => boolean): Candidates {
    const kept: number[] = []
    for (let i = 0; i < this.size; i++) if (keep(this.backends[i]!, i)) kept.push(i)
    if (kept.length === this.size) return this
    return { backends: kept.map(index => this.backends[index]!), weights: Uint16Array.from(kept, index => this.weights[index]!) }
  }
}

/**
 * Reads one backend: `host:port`, optionally followed by ` weight=N`, or an object.
 * @param path where it stands, for the message of a refusal
 * @throws TypeError that says what would do
 */
export function parseBackend(input: string | BackendOptions, path: string): BackendSpec {
  if (typeof input !== 'string') return specOf(input, path)
  const [address = '', ...words] = input.trim().split(/\s+/u)
  let weight: number = BACKEND_DEFAULTS.weight
  for (const word of words) {
    const match = /^weight=(\d{1,9})$/u.exec(word)
    if (match === null) throw new TypeError(`${path} has the word ${JSON.stringify(word)}; only weight=N may follow the address`)
    weight = Number(match[1])
  }
  return specOf({ address, weight }, path)
}

function specOf(given: BackendOptions, path: string): BackendSpec {
  const { address: written, weight, ext, enabled } = resolveOptions<BackendOptions>(path, BACKEND_OPTIONS, given, BACKEND_DEFAULTS)
  let address: PeerAddress
  try { address = parseAddress(written) } catch (cause) { throw new TypeError(`${path}: ${(cause as Error).message}`, { cause }) }
  if (address.kind === 'tcp' && address.host.includes(':') && !written.startsWith('[')) {
    throw new TypeError(`${path} is ${JSON.stringify(written)}; write an IPv6 address in brackets, as in [::1]:8080`)
  }
  const hostName = address.kind === 'tcp' && isIP(address.host) === 0 ? address.host : ''
  return { name: formatAddress(address), address, hostName, weight, ext, enabled }
}
