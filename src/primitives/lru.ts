/**
 * Values by key, the least recently used going first when their weights pass the capacity. A weight is 1 unless it is
 * said, so the capacity is a count or a number of bytes, as the owner likes.
 *
 * A Map keeps its entries in the order in which they were set; using one sets it again, behind the others.
 */
interface Entry<V> {
  value: V
  weight: number
}

export class Lru<K, V> {
  readonly capacity: number
  readonly #entries = new Map<K, Entry<V>>()
  #weight = 0

  constructor(capacity: number) { this.capacity = capacity }

  get size(): number { return this.#entries.size }
  /** Sum of all weights; never above the capacity. */
  get weight(): number { return this.#weight }

  /** The value, now the most recently used; undefined when there is none. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry.value
  }

  /** The value, without using it. */
  peek(key: K): V | undefined { return this.#entries.get(key)?.value }

  /** @returns false when the weight alone is above the capacity: the value is not kept, nor is an older one of that key. */
  set(key: K, value: V, weight = 1): boolean {
    this.delete(key)
    if (weight > this.capacity) return false
    this.#entries.set(key, { value, weight })
    this.#weight += weight
    if (this.#weight > this.capacity) this.#shrink()
    return true
  }

  delete(key: K): boolean {
    const entry = this.#entries.get(key)
    if (entry === undefined) return false
    this.#weight -= entry.weight
    return this.#entries.delete(key)
  }

  clear(): void {
    this.#entries.clear()
    this.#weight = 0
  }

  /** From the least to the most recently used. */
  *entries(): Generator<[key: K, value: V]> {
    for (const [key, entry] of this.#entries) yield [key, entry.value]
  }

  #shrink(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#weight <= this.capacity) return
      this.#entries.delete(key)
      this.#weight -= entry.weight
    }
  }
}
