/**
 * A plan whose hooks tell an observer when they begin and how they end: what a probe measures, and an explanation records. It is a
 * plan of its own beside the real one, put in its place while somebody looks, so that a request pays nothing at other times.
 * Invariant: the application sees no difference (wrapped-plan.ts), and what its hooks give or throw reaches the engine as it is.
 */
import { isPromise } from '../primitives/application-call.ts'
import type { PhasePlan } from './phases.ts'
import type { Session } from './session.ts'
import { wrapPlan, type CallOfHook } from './wrapped-plan.ts'

/** Hears of hooks. `newCtx` and `newState`, which are given no session, are called without its knowing. */
export interface HookObserver {
  /** Right before the call. @param hook as messages name it @returns null: this request is of no interest */
  hookBegins(hook: string, session: Session): HookCall | null
}

/** One call of a hook. Exactly one of `gave` and `threw` is called, once, unless its promise never settles. */
export interface HookCall {
  /** Calls the hook, in surroundings of the observer's own. Left out: it is called as it is. */
  within?(call: () => unknown): unknown
  /** @param waited it gave a promise, which settled now */
  gave(result: unknown, waited: boolean): void
  threw(thrown: unknown, waited: boolean): void
}

/** @param keeps of each hook: whether the plan has it at all. Left out: all of them */
export function watchPlan<Ctx>(plan: PhasePlan<Ctx>, observer: HookObserver, keeps?: (hook: string) => boolean): PhasePlan<Ctx> {
  return wrapPlan(plan, (hook, call) => watch(hook, call, observer), keeps === undefined ? {} : { keeps })
}

function watch(hook: string, call: CallOfHook, observer: HookObserver): (...args: unknown[]) => unknown {
  return (...args) => {
    const told = observer.hookBegins(hook, args[0] as Session)
    if (told === null) return call(args)
    let result: unknown
    try {
      result = told.within === undefined ? call(args) : told.within(() => call(args))
    } catch (thrown) {
      told.threw(thrown, false)
      throw thrown
    }
    if (!isPromise(result)) {
      told.gave(result, false)
      return result
    }
    return Promise.resolve(result).then(
      value => {
        told.gave(value, true)
        return value
      },
      (thrown: unknown) => {
        told.threw(thrown, true)
        throw thrown
      },
    )
  }
}
