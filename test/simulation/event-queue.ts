/** What is going to happen in a simulated world, in the order of its times; equal times in the order of their entry. */
export interface SimEvent {
  readonly at: number
  readonly order: number
  run: (() => void) | null
  /** Only sockets and connections are concerned: no promise waits for it. */
  readonly plain: boolean
}

export class EventQueue {
  readonly #heap: SimEvent[] = []
  #order = 0

  get size(): number { return this.#heap.length }

  add(at: number, run: () => void, plain = false): SimEvent {
    const event: SimEvent = { at, order: this.#order++, run, plain }
    const heap = this.#heap
    let index = heap.length
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = event
    return event
  }

  take(): SimEvent | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
    return first
  }
}

function before(one: SimEvent, other: SimEvent): boolean { return one.at < other.at || (one.at === other.at && one.order < other.order) }
