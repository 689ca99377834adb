/**
 * The level of the process log while an operator has set another one: for this process and all workers, those that start meanwhile
 * included, and for a time that ends by itself. The configuration is not touched; what it says holds again afterwards.
 *
 * Each worker counts the time for itself as well, so that one whose supervisor is gone goes back all the same.
 */
import { LOG_LEVELS, type LogLevel } from '../src/config/log-options.ts'
import type { LevelForNow } from '../src/ipc/messages.ts'
import type { Fleet } from './fleet.ts'
import type { ProcessHost } from './process-host.ts'

/** What another image, or another supervisor, has to know of it. */
export interface LevelRecord {
  readonly level: LogLevel
  /** In ms since 1970. */
  readonly until: number
}

/** What `status` and `log-level` say. */
export interface LevelStatus {
  /** In force. */
  readonly level: LogLevel
  /** Of the configuration. */
  readonly configured: LogLevel
  /** Until that holds again; null: it holds. */
  readonly endsInMs: number | null
}

/** A day. What is wanted for longer belongs into the configuration. */
export const LEVEL_MAX_MS = 86_400_000

export class LevelOverride {
  readonly #host: Pick<ProcessHost, 'nowMs' | 'after'>
  readonly #apply: (now: LevelForNow | null) => void
  #level: LogLevel | null = null
  #endsAtMs = 0
  #cancel: () => void = () => {}

  /** @param apply told of each change; null: what is configured holds again */
  constructor(host: Pick<ProcessHost, 'nowMs' | 'after'>, apply: (now: LevelForNow | null) => void) {
    this.#host = host
    this.#apply = apply
  }

  /** What holds now, and how long; null: what is configured. */
  get now(): LevelForNow | null {
    return this.#level === null ? null : { level: this.#level, forMs: Math.max(0, Math.round(this.#endsAtMs - this.#host.nowMs())) }
  }

  set(level: LogLevel, forMs: number): void {
    this.#cancel()
    this.#level = level
    this.#endsAtMs = this.#host.nowMs() + forMs
    this.#cancel = this.#host.after(forMs, () => this.clear())
    this.#apply(this.now)
  }

  /** Back to what is configured. */
  clear(): void {
    this.#cancel()
    if (this.#level === null) return
    this.#level = null
    this.#apply(null)
  }

  /** The process ends: nothing is told any more. */
  end(): void { this.#cancel() }

  status(configured: LogLevel): LevelStatus {
    const { now } = this
    return now === null ? { level: configured, configured, endsInMs: null } : { level: now.level, configured, endsInMs: now.forMs }
  }

  record(wallMs: number): LevelRecord | null {
    const { now } = this
    return now === null ? null : { level: now.level, until: wallMs + now.forMs }
  }

  /** What an image or a supervisor before us has left, of whatever build. */
  restore(record: LevelRecord | null | undefined, wallMs: number): void {
    if (!isLogLevel(record?.level) || typeof record.until !== 'number') return
    const left = record.until - wallMs
    if (left > 0 && left <= LEVEL_MAX_MS) this.set(record.level, left)
  }
}

/** Those that start later, or have no connection now, hear of it when they say hello. @param now null: what is configured */
export function tellWorkers(fleet: Pick<Fleet, 'workers' | 'generationOf'>, now: LevelForNow | null): void {
  for (const worker of fleet.workers()) {
    const level = now?.level ?? fleet.generationOf(worker).settings.log.level
    worker.link?.send({ tag: 'log-level', level, forMs: now?.forMs ?? 0 })
  }
}

export function isLogLevel(value: unknown): value is LogLevel { return (LOG_LEVELS as readonly unknown[]).includes(value) }
