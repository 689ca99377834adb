/** A MetricDisk in memory, whose files can be counted in like mapped ones. */
import type { MetricDisk, MetricFile } from '../../supervisor/metric-ledger.ts'

export class MemoryMetricDisk implements MetricDisk {
  /** By path: what a worker counts in, or text. */
  readonly files = new Map<string, ArrayBuffer | string>()
  /** Every write throws. */
  full = false
  /** Changes that are still made before the process is killed: none behind that has any effect. */
  stepsToLive = Infinity

  /** The folder goes: the server was stopped. */
  onRemoved: () => void = () => {}

  get killed(): boolean { return this.stepsToLive < 0 }

  makeFolder(): void { this.#change() }

  list(folder: string): string[] {
    return [...this.files.keys()].filter(file => file.startsWith(`${folder}/`)).map(file => file.slice(folder.length + 1))
  }

  readText(file: string): string {
    const text = this.files.get(file)
    if (typeof text !== 'string') throw new Error('ENOENT')
    return text
  }

  replace(file: string, text: string): void {
    this.#change()
    this.files.set(file, text)
  }

  remove(file: string): void {
    this.#live()
    this.files.delete(file)
  }

  removeFolder(): void { this.onRemoved() }

  create(file: string, bytes: number): MetricFile {
    this.#change()
    this.files.set(file, new ArrayBuffer(bytes))
    return this.open(file)
  }

  open(file: string): MetricFile {
    const found = this.files.get(file)
    if (!(found instanceof ArrayBuffer)) throw new Error('ENOENT')
    return { read: (into, from) => into.set(new Uint8Array(found, from, into.length)), close() {} }
  }

  #change(): void {
    this.#live()
    if (this.full) throw new Error('ENOSPC')
  }

  #live(): void { if (--this.stepsToLive < 0) throw new Error('the process was killed') }
}
