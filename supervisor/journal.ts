/**
 * What a supervisor leaves behind for the next one: who it was, which generation runs, which workers live (a pid alone
 * proves nothing; with its start time it does). Written whole, by rename, whenever a worker comes or goes; removed at an
 * orderly end. Holds the workers' tokens, so it is readable by its owner only.
 */
import fs from 'node:fs'
import { processStartTime } from './process-host.ts'

export const JOURNAL_FORMAT = 1

export interface JournalWorker {
  readonly id: string
  readonly pid: number
  readonly startTime: string
  readonly slot: number
  readonly token: string
}

export interface JournalEntry {
  readonly format: number
  readonly pid: number
  readonly startTime: string
  readonly application: string
  readonly generation: number
  readonly workers: readonly JournalWorker[]
}

export class Journal {
  readonly #file: string
  #pending: (() => JournalEntry) | null = null
  #closed = false

  constructor(file: string) { this.#file = file }

  /** @returns null when there is none or none that this build can read. */
  read(): JournalEntry | null {
    try {
      const entry = JSON.parse(fs.readFileSync(this.#file, 'utf8')) as JournalEntry
      return entry.format === JOURNAL_FORMAT && Array.isArray(entry.workers) ? entry : null
    } catch {
      // Absent, or half written by a machine that lost power: the same as nothing.
      return null
    }
  }

  /** Writes before the event loop turns; several changes in one go are one write. */
  write(entry: () => JournalEntry): void {
    const scheduled = this.#pending !== null
    this.#pending = entry
    if (!scheduled) setImmediate(() => this.#flush())
  }

  remove(): void {
    this.#closed = true
    fs.rmSync(this.#file, { force: true })
  }

  #flush(): void {
    const entry = this.#pending
    this.#pending = null
    if (entry === null || this.#closed) return
    const next = `${this.#file}.next`
    fs.writeFileSync(next, `${JSON.stringify(entry())}\n`, { mode: 0o600 })
    fs.renameSync(next, this.#file)
  }
}

/** Workers of the journal that still run. */
export function livingWorkers(entry: JournalEntry, startTimeOf: (pid: number) => string = processStartTime): JournalWorker[] {
  return entry.workers.filter(worker => worker.startTime !== '' && startTimeOf(worker.pid) === worker.startTime)
}
