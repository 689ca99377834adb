/**
 * Where backends come from. A `Discovery` says which there are now; the balancer asks it again and again, and keeps what
 * it has when the answer is an error. Host names among them are resolved here, each address becoming a candidate of its
 * own, and resolved again when their answer expires; a name that cannot be resolved keeps its last good answer, or
 * stands for itself until it has one (the connector then resolves it at each dial).
 *
 * Does not build selectors and knows nothing of health.
 */
import { isIP } from 'node:net'
import { formatAddress, type PeerAddress } from '../peer/peer-address.ts'
import { showValue } from '../primitives/option-table.ts'
import { MAX_WEIGHT, parseBackend, type BackendOptions, type BackendSpec, type CandidateSpec } from './backend.ts'
import { forEachParallel } from './periodic.ts'

/** Says which backends there are: `staticDiscovery`, `functionDiscovery`, or an object of your own. */
export interface Discovery {
  /**
   * All backends that there are now, not the changes. Asked once at a time; `signal` ends with the balancer's service.
   * A throw, a rejection and an answer that is refused leave the set as it is.
   */
  discover(signal: AbortSignal): Promise<readonly (string | BackendOptions)[]> | readonly (string | BackendOptions)[]
}

/** Always the same backends. */
export function staticDiscovery(backends: readonly (string | BackendOptions)[]): Discovery {
  return { discover: () => backends }
}

/** Whatever the function returns: a registry's answer, a file's content, a query. */
export function functionDiscovery(discover: Discovery['discover']): Discovery {
  return { discover }
}

/** Finds the addresses of a name. */
export interface NameResolver {
  /** A rejection, or an answer without an address, leaves the last good one in use; it is asked again 5 s later. */
  resolve(host: string): Promise<ResolvedName>
}
/** The addresses of a name, and how long they may be kept. */
export interface ResolvedName {
  /** Numeric, without brackets. */
  readonly addresses: readonly string[]
  /** How long they may be used, in ms; 1 s at least and 1 hour at most, whatever it says. */
  readonly ttlMs: number
}

/**
 * Reads and checks a whole answer.
 * @param path where the list stands, for the message of a refusal
 * @throws TypeError when an entry is not a backend or repeats another one's address
 */
export function parseBackends(inputs: readonly (string | BackendOptions)[], path: string): BackendSpec[] {
  if (!Array.isArray(inputs)) throw new TypeError(`${path} is ${showValue(inputs)}; use a list`)
  const seen = new Set<string>()
  return inputs.map((input, index) => {
    const spec = parseBackend(input, `${path}[${index}]`)
    if (seen.has(spec.name)) {
      throw new TypeError(`${path}[${index}] is ${JSON.stringify(spec.name)} once more; give it once, with a larger weight`)
    }
    seen.add(spec.name)
    return spec
  })
}

/** Bounds on how long an answer is believed, in ms: a TTL of 0 must not become a busy loop, one of a year must not become for ever. */
const TTL_MS_MIN = 1000
const TTL_MS_MAX = 3_600_000
/** How soon a name that failed is asked for again, in ms. */
const RETRY_MS = 5000
/** Names asked for at the same time. */
const PARALLEL_NAMES = 16

interface KnownName {
  addresses: readonly string[]
  expiresAtMs: number
}

/** The addresses of the host names of a set, each with its last good answer. */
export class NameTable {
  readonly #resolver: NameResolver | null
  readonly #preferredFamily: 0 | 4 | 6
  readonly #onError: (error: unknown, context: string) => void
  #names = new Map<string, KnownName>()

  /**
   * @param resolver null: names are left to the connector
   * @param preferredFamily 0: addresses of both families are used
   */
  constructor(resolver: NameResolver | null, preferredFamily: 0 | 4 | 6, onError: (error: unknown, context: string) => void) {
    this.#resolver = resolver
    this.#preferredFamily = preferredFamily
    this.#onError = onError
  }

  /** When the first answer expires, on the balancer's clock; Infinity when there is none. */
  get expiresAtMs(): number {
    let first = Infinity
    for (const name of this.#names.values()) first = Math.min(first, name.expiresAtMs)
    return first
  }

  /** Asks for every name of `specs` whose answer has expired, and forgets names that are no longer there. */
  async refresh(specs: readonly BackendSpec[], now: () => number, signal: AbortSignal): Promise<void> {
    const resolver = this.#resolver
    if (resolver === null) return
    const hosts = new Set(specs.map(spec => spec.hostName).filter(host => host !== ''))
    for (const host of this.#names.keys()) if (!hosts.has(host)) this.#names.delete(host)
    const expired = [...hosts].filter(host => (this.#names.get(host)?.expiresAtMs ?? 0) <= now())
    await forEachParallel(expired, PARALLEL_NAMES, signal, async host => {
      const last = this.#names.get(host)?.addresses ?? []
      try {
        const { addresses, ttlMs } = await resolver.resolve(host)
        const numeric = addresses.filter(address => isIP(address) !== 0)
        if (numeric.length === 0) throw new Error('the answer holds no address')
        const preferred = numeric.filter(address => isIP(address) === this.#preferredFamily)
        const used = preferred.length === 0 ? numeric : preferred
        const keptMs = Math.min(Math.max(ttlMs, TTL_MS_MIN), TTL_MS_MAX)
        // Servers rotate their answers; the order of the candidates must not follow.
        this.#names.set(host, { addresses: [...new Set(used)].sort(), expiresAtMs: now() + keptMs })
      } catch (error) {
        this.#names.set(host, { addresses: last, expiresAtMs: now() + RETRY_MS })
        this.#onError(error, `resolving ${host}`)
      }
    })
  }

  /** The candidates that `specs` stand for. Where two of them meet in one address, their weights add up. */
  expand(specs: readonly BackendSpec[]): CandidateSpec[] {
    const candidates = new Map<string, CandidateSpec>()
    const add = (address: PeerAddress, spec: BackendSpec) => {
      const name = formatAddress(address)
      const other = candidates.get(name)
      if (other === undefined) {
        candidates.set(name, { ...spec, name, address, origin: spec.name })
        return
      }
      const weight = Math.min(other.weight + spec.weight, MAX_WEIGHT)
      candidates.set(name, { ...other, weight, enabled: other.enabled || spec.enabled })
    }
    for (const spec of specs) {
      const addresses = this.#names.get(spec.hostName)?.addresses ?? []
      if (spec.address.kind === 'unix' || addresses.length === 0) add(spec.address, spec)
      else for (const host of addresses) add({ kind: 'tcp', host, port: spec.address.port }, spec)
    }
    return [...candidates.values()]
  }
}
