/**
 * Faults on their way from a worker to its supervisor (src/ipc/fault-report.ts). However often one happens, it is told at once,
 * then once a period with a count; a hook that throws at every request costs a look-up.
 *
 * Invariants: what is remembered and what is sent are bounded, whoever makes up the names; none is lost without being counted in
 * a later report; nothing here throws or waits. A report that found no supervisor is kept, one of each sort, and told when one
 * is back.
 * There is an object of these only where the supervisor asked for it.
 */
import type { FaultKind, FaultReport } from '../ipc/fault-report.ts'
import { systemClock, type Clock } from '../primitives/clock.ts'

/** At least this long lies between two reports of one fault, in ms. */
export const REPORT_PERIOD_MS = 1_000
/** Reports of all faults together in a period. With 12 kB at most each, a supervisor reads these easily. */
export const MAX_REPORTS_A_PERIOD = 10
/** Faults that are told apart. Further ones are told as one of their kind. */
export const MAX_FAULTS = 32

export type FaultDetails = Omit<FaultReport, 'kind' | 'name' | 'where' | 'count' | 'again'>

interface Fault {
  readonly kind: FaultKind
  readonly name: string
  readonly where: string
  saidAt: number
  /** It has happened so often since it was told. */
  held: number
  /** In words, when nobody could be told yet; null: somebody was. */
  unsent: FaultDetails | null
}

const NEVER = Number.NEGATIVE_INFINITY

/** What is told apart by more than this is told as one. */
const MAX_NAME_LENGTH = 200

/** Stands for the names of the faults that are one too many. */
const OTHERS = 'other faults'
const COUNT_ALONE = { message: '', stack: '', again: true } as const

export class FaultReports {
  readonly #send: (report: FaultReport) => boolean
  readonly #clock: Pick<Clock, 'exact' | 'after'>
  readonly #faults = new Map<string, Fault>()
  #cancelSweep: (() => void) | null = null
  #periodSince = NEVER
  #sentInPeriod = 0

  /** @param send false: nobody was there to be told */
  constructor(send: (report: FaultReport) => boolean, clock: Pick<Clock, 'exact' | 'after'> = systemClock) {
    this.#send = send
    this.#clock = clock
  }

  /**
   * @param name class of what was thrown. @param where hook or function; ''
   * @param details what else is to be told; asked only when it is told. It must not throw
   */
  report(kind: FaultKind, name: string, where: string, details: () => FaultDetails): void {
    const fault = this.#faultOf(kind, name, where)
    const now = this.#clock.exact()
    fault.held++
    this.#cancelSweep ??= this.#clock.after(REPORT_PERIOD_MS, () => this.#sweep())
    if (now - fault.saidAt < REPORT_PERIOD_MS) return
    if (this.#mayTell(now)) this.#tell(fault, now, details())
    else if (fault.saidAt === NEVER) fault.unsent ??= details()
  }

  #faultOf(kind: FaultKind, name: string, where: string): Fault {
    if (name.length > MAX_NAME_LENGTH || where.length > MAX_NAME_LENGTH) return this.#faultOf(kind, cut(name), cut(where))
    const key = `${kind}\0${name}\0${where}`
    const known = this.#faults.get(key)
    if (known !== undefined) return known
    const isOneTooMany = this.#faults.size >= MAX_FAULTS
    if (isOneTooMany && name !== OTHERS) return this.#faultOf(kind, OTHERS, '')
    const fault: Fault = { kind, name, where, saidAt: NEVER, held: 0, unsent: null }
    this.#faults.set(key, fault)
    return fault
  }

  #mayTell(now: number): boolean {
    if (now - this.#periodSince >= REPORT_PERIOD_MS) {
      this.#periodSince = now
      this.#sentInPeriod = 0
    }
    return this.#sentInPeriod++ < MAX_REPORTS_A_PERIOD
  }

  /** @param details null: it was told in words before, and a count is enough */
  #tell(fault: Fault, now: number, details: FaultDetails | null): void {
    const { kind, name, where, held } = fault
    fault.saidAt = now
    const told = this.#send({ kind, name, where, ...details ?? COUNT_ALONE, count: held })
    fault.unsent = told ? null : details ?? fault.unsent
    if (told) fault.held = 0
  }

  /** Counts that no report has told are told now, and what has not happened meanwhile is forgotten. */
  #sweep(): void {
    this.#cancelSweep = null
    const now = this.#clock.exact()
    for (const [key, fault] of this.#faults) {
      const isFresh = now - fault.saidAt < REPORT_PERIOD_MS
      if (fault.held === 0 && !isFresh) this.#faults.delete(key)
      else if (fault.held > 0 && !isFresh && this.#mayTell(now)) this.#tell(fault, now, fault.unsent)
    }
    if (this.#faults.size > 0) this.#cancelSweep = this.#clock.after(REPORT_PERIOD_MS, () => this.#sweep())
  }

  /** Tells what was left out so far, and forgets it all. */
  close(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = null
    const now = this.#clock.exact()
    for (const fault of this.#faults.values()) if (fault.held > 0) this.#tell(fault, now, fault.unsent)
    this.#faults.clear()
  }
}

function cut(name: string): string { return name.slice(0, MAX_NAME_LENGTH) }
