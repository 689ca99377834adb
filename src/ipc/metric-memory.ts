/**
 * What a process counts, in one piece of memory that another process can read while it is written: a worker maps a file, and
 * counting is one addition to a number in it. What a worker had counted when it was killed is still in the file, to the last
 * request.
 *
 *   | header | directory: a JSON line a family or series, only ever appended to | slots: a float64 each |
 *
 * The directory says what the slots mean, so that a supervisor of another build understands what it finds. Its length in the
 * header is written last: a reader sees whole lines only. Numbers are in the machine's own byte order, as no other machine reads
 * them.
 *
 *   family   {"name":"cirque_requests_total","kind":"counter","help":"…","labels":["listener"],"bounds":[]}
 *   series   [number of the family, its first slot, "value of each label"…]
 *
 * A counter or a gauge has one slot. A histogram has one for each bound, one for what lies beyond, and one for the sum, in that
 * order; each slot counts what lies in its own bucket only. A gauge that is not a number says nothing and is not shown.
 * Behind the slots of a series of a family that says `exemplars` are EXEMPLAR_SLOTS more, with the last value that belongs to a
 * recorded trace: its number, the value, when it was (in seconds since 1970), the id of the trace in four parts of 32 bits, and the
 * number again. It is written from the last of them to the first and read from the first to the last: when both numbers are the same,
 * nothing was written meanwhile. A reader that does not know of that does not look there.
 *
 * Invariant: slots of a series never move within the life of a process.
 */

export type MetricKind = 'counter' | 'gauge' | 'histogram'

/** What several processes make of a gauge: together they have the sum, the greatest, or the least. */
export type GaugeSum = 'sum' | 'greatest' | 'least'

/** Series of one name. */
export interface MetricFamily {
  readonly name: string
  readonly kind: MetricKind
  readonly help: string
  /** Names of its labels. */
  readonly labels: readonly string[]
  /** Of a histogram: upper bounds of its buckets, ascending, without infinity. Otherwise empty. */
  readonly bounds: readonly number[]
  /** Of a gauge. @default 'sum' */
  readonly over?: GaugeSum
  /** Of a histogram: whether each series keeps its last exemplar. @default false */
  readonly exemplars?: boolean
}

/** A value of a histogram whose trace is recorded. */
export interface Exemplar {
  readonly value: number
  /** When it was, in seconds since 1970. */
  readonly at: number
  /** 32 hexadecimal digits in lower case. */
  readonly traceId: string
}

/** Room for about 4000 series, of which 800 are histograms. What is not used is never touched. */
export const METRIC_MEMORY_BYTES = 448 * 1024
const HEADER_BYTES = 64
const SLOTS_AT = 256 * 1024
const DIRECTORY_BYTES = SLOTS_AT - HEADER_BYTES
const SLOT_COUNT = (METRIC_MEMORY_BYTES - SLOTS_AT) / Float64Array.BYTES_PER_ELEMENT

/** 'CQM1'. Another layout has another one. */
const MAGIC = 0x314d_5143
/** Places in the header, in units of 32 bits. */
const Header = { Magic: 0, DirectoryUsed: 1, SlotsUsed: 2 } as const

/** Slot 0 takes what found no room; nothing reads it. */
export const LOST_SLOT = 0

/** The side that counts. One thread of one process. */
export class MetricMemory {
  /** Add to these. They are other ones after `moveTo`, so they are not to be kept. */
  slots: Float64Array
  #header: Int32Array
  #directory: Uint8Array
  #families = 0
  readonly #encoder = new TextEncoder()

  constructor(buffer: ArrayBuffer = new ArrayBuffer(METRIC_MEMORY_BYTES)) {
    [this.#header, this.#directory, this.slots] = viewsOf(buffer)
    this.#header[Header.Magic] = MAGIC
    this.#header[Header.DirectoryUsed] = 0
    this.#header[Header.SlotsUsed] = LOST_SLOT + 1
  }

  /** Goes on counting in other memory of the same size; what was counted so far comes along. */
  moveTo(buffer: ArrayBuffer): void {
    const [header, directory, slots] = viewsOf(buffer)
    slots.set(this.slots)
    directory.set(this.#directory)
    header[Header.Magic] = MAGIC
    header[Header.SlotsUsed] = this.#header[Header.SlotsUsed]!
    Atomics.store(header, Header.DirectoryUsed, this.#header[Header.DirectoryUsed]!)
    this.#header = header
    this.#directory = directory
    this.slots = slots
  }

  /** The bytes that a reader would find; for a process that cannot map a file, and writes them from time to time. */
  get bytes(): Uint8Array { return new Uint8Array(this.#header.buffer as ArrayBuffer) }

  /** @returns its number; -1: the directory is full */
  addFamily(family: MetricFamily): number {
    return this.#append(family) ? this.#families++ : -1
  }

  /** @returns its first slot, with zeros in all of them; LOST_SLOT: there is no room left */
  addSeries(family: number, slots: number, labelValues: readonly string[]): number {
    const first = this.#header[Header.SlotsUsed]!
    if (family < 0 || first + slots > SLOT_COUNT || !this.#append([family, first, ...labelValues])) return LOST_SLOT
    this.#header[Header.SlotsUsed] = first + slots
    return first
  }

  #append(line: unknown): boolean {
    const used = this.#header[Header.DirectoryUsed]!
    const bytes = this.#encoder.encode(`${JSON.stringify(line)}\n`)
    if (used + bytes.length > DIRECTORY_BYTES) return false
    this.#directory.set(bytes, used)
    Atomics.store(this.#header, Header.DirectoryUsed, used + bytes.length)
    return true
  }
}

function viewsOf(buffer: ArrayBuffer): [Int32Array, Uint8Array, Float64Array] {
  if (buffer.byteLength !== METRIC_MEMORY_BYTES) throw new RangeError(`${buffer.byteLength} bytes are no memory for metrics`)
  return [
    new Int32Array(buffer, 0, HEADER_BYTES / Int32Array.BYTES_PER_ELEMENT),
    new Uint8Array(buffer, HEADER_BYTES, DIRECTORY_BYTES),
    new Float64Array(buffer, SLOTS_AT, SLOT_COUNT),
  ]
}

/** How many slots of a series are counts. */
export function countsOf({ kind, bounds }: Pick<MetricFamily, 'kind' | 'bounds'>): number {
  return kind === 'histogram' ? bounds.length + 2 : 1
}

/** How many slots a series of a family has. */
export function slotsOf(family: Pick<MetricFamily, 'kind' | 'bounds' | 'exemplars'>): number {
  return countsOf(family) + (family.exemplars === true ? EXEMPLAR_SLOTS : 0)
}

export const EXEMPLAR_SLOTS = 8
/** Places of an exemplar behind the counts of its series. */
const Place = { Number: 0, Value: 1, At: 2, TraceId: 3, NumberAgain: 7 } as const
const TRACE_ID_PARTS = 4
/** Hexadecimal digits of a part. */
const PART_DIGITS = 8

/** @param at its first slot @param traceId 32 hexadecimal digits */
export function writeExemplar(slots: Float64Array, at: number, value: number, atSeconds: number, traceId: string): void {
  const number = slots[at + Place.Number]! + 1
  slots[at + Place.NumberAgain] = number
  for (let part = TRACE_ID_PARTS - 1; part >= 0; part--) {
    slots[at + Place.TraceId + part] = Number.parseInt(traceId.slice(part * PART_DIGITS, (part + 1) * PART_DIGITS), 16)
  }
  slots[at + Place.At] = atSeconds
  slots[at + Place.Value] = value
  slots[at + Place.Number] = number
}

/** @returns null: there is none yet, or one was being written */
function readExemplar(slots: Float64Array, at: number): Exemplar | null {
  const number = slots[at + Place.Number]!
  if (number === 0 || number !== slots[at + Place.NumberAgain]) return null
  let traceId = ''
  for (let part = 0; part < TRACE_ID_PARTS; part++) traceId += slots[at + Place.TraceId + part]!.toString(16).padStart(PART_DIGITS, '0')
  return { value: slots[at + Place.Value]!, at: slots[at + Place.At]!, traceId }
}

/** One series as it was read. */
export interface MetricSeries {
  readonly family: MetricFamily
  readonly labelValues: readonly string[]
  /** Its counts. */
  readonly values: Float64Array
  /** The last one. @default none */
  readonly exemplar?: Exemplar
}

/** Reads a part of what a process counts in: `into` is filled from the byte at `from`. @throws when it cannot be read */
export type ReadMetrics = (into: Uint8Array, from: number) => void

/** The side that reads, as often as it wants to: of the directory only what is new is read again. */
export class MetricReader {
  readonly #read: ReadMetrics
  readonly #families: MetricFamily[] = []
  readonly #series: { readonly family: MetricFamily; readonly first: number; readonly labelValues: readonly string[] }[] = []
  #directoryRead = 0

  constructor(read: ReadMetrics) { this.#read = read }

  /** @throws when it cannot be read, or is something else */
  series(): MetricSeries[] {
    const header = new Int32Array(HEADER_BYTES / Int32Array.BYTES_PER_ELEMENT)
    this.#read(new Uint8Array(header.buffer), 0)
    // It was made, and the worker has not begun.
    if (header[Header.Magic] === 0) return []
    const directoryUsed = header[Header.DirectoryUsed]!, slotsUsed = header[Header.SlotsUsed]!
    if (header[Header.Magic] !== MAGIC) throw new Error('it holds no metrics, or those of another layout')
    if (directoryUsed > DIRECTORY_BYTES || slotsUsed > SLOT_COUNT || directoryUsed < this.#directoryRead) throw new Error('it is damaged')
    this.#readDirectory(directoryUsed)
    const slots = new Float64Array(slotsUsed)
    this.#read(new Uint8Array(slots.buffer), SLOTS_AT)
    // A line may be there whose slots were counted into the header a moment later: it is new, and holds zeros.
    const known = this.#series.filter(({ family, first }) => first + slotsOf(family) <= slotsUsed)
    return known.map(({ family, first, labelValues }) => {
      const end = first + countsOf(family), exemplar = family.exemplars === true ? readExemplar(slots, end) : null
      return { family, labelValues, values: slots.subarray(first, end), ...exemplar === null ? null : { exemplar } }
    })
  }

  #readDirectory(used: number): void {
    if (used === this.#directoryRead) return
    const bytes = Buffer.alloc(used - this.#directoryRead)
    this.#read(bytes, HEADER_BYTES + this.#directoryRead)
    for (const line of bytes.toString().split('\n')) if (line !== '') this.#take(JSON.parse(line) as MetricFamily | readonly unknown[])
    this.#directoryRead = used
  }

  #take(line: MetricFamily | readonly unknown[]): void {
    if (!Array.isArray(line)) { this.#families.push(line as MetricFamily); return }
    const [number, first, ...labelValues] = line as [number, number, ...string[]]
    const family = this.#families[number]
    if (family === undefined) throw new Error(`a series is of family ${number}, of which there are ${this.#families.length}`)
    this.#series.push({ family, first, labelValues })
  }
}
