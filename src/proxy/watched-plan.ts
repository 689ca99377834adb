/**
 * A plan whose hooks tell an observer when they begin and how they end: what a probe measures, and an explanation records. It is a
 * plan of its own beside the real one, put in its place while somebody looks, so that a request pays nothing at other times.
 *
 * Invariant: the application sees no difference. Its hooks are called on its own objects, with the state that belongs to the module
 * itself, and what they give or throw reaches the engine as it is.
 */
import { MODULE_HOOKS, type HttpModule } from '../modules/http-module.ts'
import { isPromise } from '../primitives/application-call.ts'
import { hookOfModule, planPhases, type PhasePlan } from './phases.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'
import type { Session } from './session.ts'

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

type Callable = Readonly<Record<string, (...args: unknown[]) => unknown>>

/** @param keeps of each hook: whether the plan has it at all. Left out: all of them */
export function watchPlan<Ctx>(
  { app, modules }: PhasePlan<Ctx>, observer: HookObserver, keeps: (hook: string) => boolean = () => true,
): PhasePlan<Ctx> {
  const watched: Record<string, unknown> = { modules: modules.map(module => watchModule(module, observer, keeps)) }
  if (app.keepsLength !== undefined) watched['keepsLength'] = app.keepsLength
  for (const hook of HOOKS) {
    if (app[hook] === undefined || !keeps(hook)) continue
    const owner = app as unknown as Callable
    watched[hook] = hook === 'newCtx' ? () => owner[hook]!() : watch(hook, args => owner[hook]!(...args), observer)
  }
  return planPhases(watched as unknown as ProxyHttp<Ctx>)
}

/** Has no state of its own: whatever asks for the module's state asks for that of the module which is watched. */
function watchModule(module: HttpModule, observer: HookObserver, keeps: (hook: string) => boolean): HttpModule {
  const watched: Record<string, unknown> = { name: module.name, order: module.order ?? 0, keepsLength: module.keepsLength === true }
  const owner = module as unknown as Callable
  for (const hook of MODULE_HOOKS) {
    if (hook === 'newState' || module[hook] === undefined || !keeps(hook)) continue
    watched[hook] = watch(hookOfModule(hook, module), args => {
      const session = args[0] as Session
      // The state is the last of what each of these hooks is given.
      return owner[hook]!(...args.slice(0, -1), session.moduleState(module))
    }, observer)
  }
  return watched as unknown as HttpModule
}

function watch(hook: string, call: (args: unknown[]) => unknown, observer: HookObserver): (...args: unknown[]) => unknown {
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
