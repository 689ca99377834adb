/**
 * The steps of an upgrade, a reload or a roll-back while somebody waits for it, a line a step. On a terminal the line of
 * the step of now is written again as it goes on, and says in the end how long the step took; elsewhere each line is
 * written once, when there is something new.
 *
 * What it knows is the answer to `status`, asked again and again (control-client.ts): a step that was over before it was
 * seen gets its line all the same. A supervisor of an older build does not say where it is, and nothing is shown.
 */
import type { OperationOutcome } from '../../src/ipc/messages.ts'
import type { SupervisorStatus } from '../operator-desk.ts'
import type { OperationProgress } from '../upgrade.ts'
import { duration, elapsed } from './duration-text.ts'

/** Where it is shown. */
export interface Screen {
  /** Lines can be written again. */
  readonly rewritable: boolean
  /** Width in characters; read at each line, as a window may change. */
  readonly columns: number
  write(text: string): void
}

/** What of a status is looked at. The fields that are optional are left out by supervisors of older builds. */
export type SeenStatus = Pick<SupervisorStatus, 'progress'> & { readonly slots: readonly SeenSlot[] }
interface SeenSlot { readonly slot: number; readonly worker: { readonly generation?: number } | null }

type Step = OperationProgress['steps'][number]

/** Goes to the first column and empties the line. */
const ERASE_LINE = '\r\u001B[2K'

export class ProgressView {
  readonly #id: string
  readonly #screen: Screen
  /** Steps that are over and have their line. */
  #over = 0
  /** The line that may still change; '': there is none. */
  #line = ''
  /** The step that it is about. */
  #step = ''

  constructor(id: string, screen: Screen) {
    this.#id = id
    this.#screen = screen
  }

  /** @param status what the supervisor says now */
  see({ progress, slots }: SeenStatus): void {
    if (progress === undefined || progress === null) return
    if (progress.id !== this.#id) {
      // It has ended, and its outcome is under way, or its turn has not come.
      if (this.#over === 0 && (this.#step === '' || this.#step === 'waiting')) {
        this.#show('waiting', `until ${progress.id} has ended, which is at its step ${progress.step}`)
      }
      return
    }
    this.#finish(progress.steps, progress.step === 'reverting')
    this.#show(progress.step, detailOf(progress, slots, this.#screen.rewritable))
  }

  /** What was not seen until now; nothing changes any more. */
  end({ steps, result }: Pick<OperationOutcome, 'steps' | 'result'>): void {
    this.#finish(steps, result !== 'committed')
    this.interrupt()
  }

  /** Leaves the place where the next output begins. */
  interrupt(): void {
    if (this.#line !== '' && this.#screen.rewritable) this.#screen.write(ERASE_LINE)
    this.#line = ''
  }

  #finish(steps: readonly Step[], gaveUp: boolean): void {
    for (const [index, { step, ms }] of steps.entries()) {
      if (index < this.#over) continue
      this.#over = index + 1
      const seen = this.#step === step
      const end = gaveUp && index === steps.length - 1 ? 'given up after' : 'done in'
      if (this.#screen.rewritable) this.#write(`${step}: ${end} ${elapsed(ms)}`, '\n')
      // Its line is there already.
      else if (!seen) this.#write(`${step}: ${end} ${elapsed(ms)}`, '')
      this.#line = ''
    }
  }

  #show(step: string, detail: string): void {
    const line = detail === '' ? step : `${step}: ${detail}`
    this.#step = step
    if (line === this.#line) return
    this.#write(line, '')
    this.#line = line
  }

  /** @param ending of a line that is not written again, on a terminal */
  #write(text: string, ending: string): void {
    const { rewritable, columns } = this.#screen
    const line = `${this.#id}: ${text}`
    // A line that wraps could not be erased.
    this.#screen.write(rewritable ? `${ERASE_LINE}${line.slice(0, Math.max(0, columns - 1))}${ending}` : `${line}\n`)
  }
}

/** @param counting whether it is shown again and again, so that it may say how long it will take from now on */
function detailOf({ step, stepMs, soakMs, generation, workers }: OperationProgress, slots: readonly SeenSlot[], counting: boolean): string {
  switch (step) {
    case 'waiting': return 'until the workers can be replaced'
    case 'preflight': return 'reads configuration and application'
    case 'canary': return 'starts a first new worker and tests it'
    case 'soak': {
      if (soakMs === null) return 'the first new worker serves alone'
      const time = counting ? `${duration(Math.max(0, soakMs - stepMs) + 999)} left` : `for ${elapsed(soakMs)}`
      return `the first new worker serves alone${counting ? ', ' : ' '}${time}`
    }
    case 'rolling': {
      if (workers === null) return ''
      const fresh = slots.filter(({ slot, worker }) => slot < workers && worker?.generation === generation).length
      return `${fresh} of ${workers} workers replaced`
    }
    case 'supervisor': return 'replaces itself'
    case 'committing': case 'committed': return 'the old workers take nothing new'
    case 'reverting': return 'the old workers take their places back'
    // Of a build that has more of them.
    default: return ''
  }
}
