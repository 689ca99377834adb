/**
 * What a supervisor leaves behind for the next one, and hands to its own next image: who it was, what it was asked to
 * run, which sockets it holds, which workers live (a pid alone proves nothing; with its start time it does) and what
 * was being done. Written whole, by rename, whenever something of that changes; removed at an orderly end. Holds the
 * workers' tokens and the keys of session tickets, so it is readable by its owner only.
 */
import fs from 'node:fs'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { journalProblem } from './journal-shape.ts'
import type { ListenerRecord } from './listener-table.ts'
import type { LevelRecord } from './log-level.ts'
import { processStartTime } from './process-host.ts'
import type { TicketRecord } from './ticket-ring.ts'
import type { FleetRecord } from './roster.ts'
import type { UpgradesRecord } from './upgrade.ts'
import type { WorkerRecord } from './worker-process.ts'

/** Raised when a field changes its meaning. */
export const JOURNAL_FORMAT = 3

/** Where the configuration comes from, for those who read it again. */
export interface ConfigOrigin {
  readonly file: string
  readonly folder: string
  readonly flags: Readonly<Record<string, string>>
}

export interface JournalEntry {
  readonly format: number
  readonly pid: number
  readonly startTime: string
  /** As it was given on the command line, absolute. */
  readonly application: string
  readonly args: readonly string[]
  readonly origin: ConfigOrigin
  /** Of the committed generation. */
  readonly options: ResolvedSupervisorOptions
  /** Of the supervisor's own code and runtime. */
  readonly fingerprint: string
  /** The Node.js of a release that brings none: what the first image was started with. */
  readonly usualNode: string
  /** In ms since 1970. */
  readonly startedAt: number
  /** The highest number that was ever given to a generation; 0: none yet. */
  readonly generation: number
  readonly slots: number
  readonly listeners: readonly ListenerRecord[]
  /** Descriptors of control, worker and admin socket, for the next image; -1: there is none. */
  readonly sockets: { readonly control: number; readonly worker: number; readonly admin: number }
  /** Left out by an older build; null: what is configured holds. */
  readonly logLevel?: LevelRecord | null
  /** Keys of session tickets. Left out by an older build; null: there are none. */
  readonly tickets?: TicketRecord | null
  readonly fleet: FleetRecord | null
  readonly upgrades: UpgradesRecord | null
}

/** The disk as a journal uses it; replaced in tests. */
export interface JournalDisk {
  /** @throws when the file is not there. */
  read(file: string): string
  /** Whole, by rename: a reader sees one of the two or neither. @throws when the disk is full or the folder is gone. */
  write(file: string, text: string): void
  /** What is not there is no error. */
  remove(file: string): void
  /** Calls `run` once, before anything new can come from outside. */
  soon(run: () => void): void
}

export const SYSTEM_DISK: JournalDisk = {
  read: file => fs.readFileSync(file, 'utf8'),
  write(file, text) {
    const next = `${file}.next`
    fs.writeFileSync(next, text, { mode: 0o600 })
    fs.renameSync(next, file)
  },
  remove: file => fs.rmSync(file, { force: true }),
  soon: run => { setImmediate(run) },
}

export class Journal {
  readonly #file: string
  readonly #disk: JournalDisk
  #pending: (() => JournalEntry) | null = null
  #closed = false
  /** The last attempt to write failed. */
  #failing = false
  readonly #onTrouble: (error: unknown) => void

  /** @param onTrouble it cannot be written, because the disk is full or the folder is gone: said once, until it can again. */
  constructor(file: string, onTrouble: (error: unknown) => void, disk = SYSTEM_DISK) {
    this.#file = file
    this.#disk = disk
    this.#onTrouble = onTrouble
  }

  /** What is wrong with the one that was read last; '' when it could be read, or when there was none. */
  problem = ''

  /** @returns null when there is none or none that this build can use; `problem` says which. */
  read(): JournalEntry | null {
    this.problem = ''
    let text: string
    try { text = this.#disk.read(this.#file) } catch { return null }
    let value: unknown
    try { value = JSON.parse(text) } catch {
      // Half written by a machine that lost power.
      this.problem = 'it is no JSON'
      return null
    }
    const entry = readEntry(value)
    this.problem = entry === null ? 'it is of another format' : journalProblem(entry)
    return this.problem === '' ? entry : null
  }

  /** Writes before the event loop turns; several changes in one go are one write. */
  write(entry: () => JournalEntry): void {
    const scheduled = this.#pending !== null
    this.#pending = entry
    if (!scheduled) this.#disk.soon(() => this.flush())
  }

  /** Writes what waits, now. @returns false when it is not on the disk; a supervisor lives on without, and says so. */
  flush(): boolean {
    const entry = this.#pending
    this.#pending = null
    if (entry === null || this.#closed) return true
    try {
      this.#disk.write(this.#file, `${JSON.stringify(entry())}\n`)
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#onTrouble(error)
      this.#failing = true
    }
    return !this.#failing
  }

  remove(): void {
    this.#closed = true
    this.#disk.remove(this.#file)
  }
}

/** @returns null for what this build cannot read. */
export function readEntry(value: unknown): JournalEntry | null {
  const entry = value as Partial<JournalEntry> | null
  const readable = typeof entry === 'object' && entry !== null && entry.format === JOURNAL_FORMAT && Array.isArray(entry.listeners)
  return readable ? entry as JournalEntry : null
}

/** Workers of the journal that still run. */
export function livingWorkers(entry: JournalEntry, startTimeOf: (pid: number) => string = processStartTime): WorkerRecord[] {
  const workers = (entry.fleet?.slots ?? []).flatMap(slot => slot.workers)
  return workers.filter(worker => worker.startTime !== '' && startTimeOf(worker.pid) === worker.startTime)
}
