/**
 * The consistent ring of nginx's `hash ... consistent` and of Cache::Memcached::Fast: moving between the two moves no key.
 *
 * Each unit of weight puts 160 points on a ring of 2^32 places: the first at crc32(host NUL port 0), each next one at
 * crc32(host NUL port previous), the previous point as four bytes, lowest first. For a Unix socket the host is its path and the
 * port is empty. A key belongs to the first point at or after crc32(key); failover walks on to the points of others.
 * When a backend leaves, only its keys move. Points at the same place belong to the backend that stands first.
 *
 * nginx hashes the address as its configuration spells it, and gives all addresses of a host name the points of the
 * name; here each resolved address has points of its own, so that one address leaving moves only its own keys.
 */
import { crc32, crc32Add, crc32AddUint32, crc32End, CRC32_START, type HashKey } from '../primitives/hash.ts'
import type { Backend, Candidates } from './backend.ts'
import type { Selection, Selector, Turn } from './selection.ts'

export interface KetamaOptions {
  /** Points for each unit of weight. Anything but 160 places keys elsewhere than nginx does. @default 160 */
  pointsPerWeight?: number
  /** Points on the ring, all backends together; a set that needs more is refused. Each takes about 12 bytes and 150 ns to build. @default 4194304 */
  maxPoints?: number
}
export type ResolvedKetamaOptions = Readonly<Required<KetamaOptions>>
export const KETAMA_DEFAULTS: ResolvedKetamaOptions = { pointsPerWeight: 160, maxPoints: 4_194_304 }

/** Sorting keeps the index of the backend in the low part of a number that must stay exact. */
const INDEX_RANGE = 2 ** 21

export class KetamaSelection implements Selection {
  readonly name = 'ketama'
  readonly keyed = true
  readonly #options: ResolvedKetamaOptions

  constructor(options: KetamaOptions = {}) {
    this.#options = { ...KETAMA_DEFAULTS, ...options }
    for (const name of ['pointsPerWeight', 'maxPoints'] as const) {
      const value = this.#options[name]
      if (!Number.isInteger(value) || value < 1) throw new TypeError(`ketama.${name} is ${value}; use a whole number above 0`)
    }
  }

  build(candidates: Candidates): Selector {
    const { pointsPerWeight, maxPoints } = this.#options
    const points = candidates.weights.reduce((sum, weight) => sum + weight, 0) * pointsPerWeight
    if (points > maxPoints) {
      throw new TypeError(`ketama.maxPoints is ${maxPoints} and the backends need ${points}; use smaller weights in the same proportion, or a higher limit`)
    }
    return new KetamaRing(candidates, pointsPerWeight)
  }
}

class KetamaRing implements Selector {
  readonly #backends: readonly Backend[]
  /** Places of the points, ascending, each once. */
  readonly #places: Uint32Array
  /** Index of the backend, by point. */
  readonly #owners: Uint32Array
  /** First point at or after each of evenly spaced places, so that a search takes a step or two. */
  readonly #guide: Uint32Array
  readonly #guideShift: number

  constructor(candidates: Candidates, pointsPerWeight: number) {
    const { backends, weights } = candidates
    this.#backends = backends
    const sorted = new Float64Array(weights.reduce((sum, weight) => sum + weight, 0) * pointsPerWeight)
    let filled = 0
    for (let index = 0; index < backends.length; index++) {
      const base = crc32Add(CRC32_START, ringBytes(backends[index]!))
      let place = 0
      for (let left = weights[index]! * pointsPerWeight; left > 0; left--) {
        place = crc32End(crc32AddUint32(base, place))
        sorted[filled++] = place * INDEX_RANGE + index
      }
    }
    sorted.sort()
    const places = new Uint32Array(filled)
    const owners = new Uint32Array(filled)
    let kept = 0
    for (let i = 0; i < filled; i++) {
      const place = Math.trunc(sorted[i]! / INDEX_RANGE)
      if (kept > 0 && places[kept - 1] === place) continue
      places[kept] = place
      owners[kept++] = sorted[i]! % INDEX_RANGE
    }
    this.#places = places.slice(0, kept)
    this.#owners = owners.slice(0, kept)
    const guideBits = Math.min(Math.max(31 - Math.clz32(kept), 1), 20)
    this.#guideShift = 32 - guideBits
    this.#guide = new Uint32Array(2 ** guideBits)
    for (let slot = 0, point = 0; slot < this.#guide.length; slot++) {
      while (point < kept && places[point]! < slot * 2 ** this.#guideShift) point++
      this.#guide[slot] = point
    }
  }

  pick(key: HashKey, turn: Turn): Backend | null {
    const owners = this.#owners
    let point = this.#pointFor(crc32(key))
    for (let left = owners.length; left > 0; left--) {
      const backend = this.#backends[owners[point]!]!
      if (turn.accepts(backend)) return backend
      if (turn.over) return null
      point = point + 1 === owners.length ? 0 : point + 1
    }
    return null
  }

  #pointFor(place: number): number {
    const places = this.#places
    let point = this.#guide[place >>> this.#guideShift]!
    while (point < places.length && places[point]! < place) point++
    return point === places.length ? 0 : point
  }
}

/** `host NUL port`, or `path NUL` for a Unix socket; the brackets of an IPv6 address belong to the host. */
function ringBytes(backend: Backend): Uint8Array {
  const { name, peerAddress } = backend
  if (peerAddress.kind === 'unix') return Buffer.from(`${peerAddress.path}\0`)
  const colon = name.lastIndexOf(':')
  return Buffer.from(`${name.slice(0, colon)}\0${name.slice(colon + 1)}`)
}
