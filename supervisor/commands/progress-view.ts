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
import type { Screen } from './terminal.ts'

/** What of a status is looked at. The fields that are optional are left out by supervisors of older builds. */
export type SeenStatus = Pick<SupervisorStatus, 'progress'> & { readonly slots: readonly SeenSlot[] }
interface SeenSlot { readonly slot: number; readonly worker: { readonly generation?: number } | null }

type Step = OperationProgress['steps'][number]

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
    if (this.#line !== '' && this.#screen.rewritable) this.#screen.rewrite('')
    this.#line = ''
  }

  #finish(steps: readonly Step[], gaveUp: boolean): void {
    const { rewritable } = this.#screen
    for (const [index, { step, ms }] of steps.entries()) {
      if (index < this.#over) continue
      this.#over = index + 1
      const end = gaveUp && index === steps.length - 1 ? 'given up after' : 'done in'
      // What was seen while it went on has its line already, where lines stay as they are.
      if (rewritable || this.#step !== step) this.#write(`${step}: ${end} ${elapsed(ms)}`)
      if (rewritable) this.#screen.write('\n')
      this.#line = ''
    }
  }

  #show(step: string, detail: string): void {
    const line = detail === '' ? step : `${step}: ${detail}`
    this.#step = step
    if (line === this.#line) return
    this.#write(line)
    this.#line = line
  }

  #write(text: string): void {
    const line = `${this.#id}: ${text}`
    if (this.#screen.rewritable) this.#screen.rewrite(line)
    else this.#screen.write(`${line}\n`)
  }
}

/** Where an operation is at this moment: `upgrade-3: soak: the first new worker serves alone, 7s left`. */
export function progressText(progress: OperationProgress, slots: readonly object[]): string {
  const detail = detailOf(progress, slots as readonly SeenSlot[], true)
  return [progress.id, progress.step, ...detail === '' ? [] : [detail]].join(': ')
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
