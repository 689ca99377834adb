/**
 * A plan beside the real one whose hooks are the same, each called by way of something else: an observer (watched-plan.ts), the span of
 * a recorded request (recorded-phases.ts).
 *
 * Invariant: the application sees no difference. Its hooks are called on its own objects, with the state that belongs to the module
 * itself, and what they give or throw reaches the engine as it is, unless whoever wraps them says otherwise.
 */
import { MODULE_HOOKS, type HttpModule } from '../modules/http-module.ts'
import { hookOfModule, planPhases, type PhasePlan } from './phases.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'
import type { Session } from './session.ts'

/** Calls a hook with what the engine gives it, which begins with the session. */
export type CallOfHook = (args: unknown[]) => unknown

/** Makes what the engine calls in the place of a hook. @param hook as messages name it */
export type WrapHook = (hook: string, call: CallOfHook) => (...args: unknown[]) => unknown

export interface WrappedParts {
  /** Whether the plan has a hook at all. Left out: it has all of them. */
  readonly keeps?: (hook: string) => boolean
  /** Modules besides, which are not wrapped. Left out: none. */
  readonly more?: readonly HttpModule[]
}

type Callable = Readonly<Record<string, (...args: unknown[]) => unknown>>

/** `newCtx` and `newState`, which are given no session, are called as they are. */
export function wrapPlan<Ctx>({ app, modules }: PhasePlan<Ctx>, wrap: WrapHook, { keeps = () => true, more = [] }: WrappedParts = {}):
PhasePlan<Ctx> {
  const wrapped: Record<string, unknown> = { modules: [...modules.map(module => wrapModule(module, wrap, keeps)), ...more] }
  if (app.keepsLength !== undefined) wrapped['keepsLength'] = app.keepsLength
  for (const hook of HOOKS) {
    if (app[hook] === undefined || !keeps(hook)) continue
    const owner = app as unknown as Callable
    wrapped[hook] = hook === 'newCtx' ? () => owner[hook]!() : wrap(hook, args => owner[hook]!(...args))
  }
  return planPhases(wrapped as unknown as ProxyHttp<Ctx>)
}

/** Has no state of its own: whatever asks for the module's state asks for that of the module which is wrapped. */
function wrapModule(module: HttpModule, wrap: WrapHook, keeps: (hook: string) => boolean): HttpModule {
  const wrapped: Record<string, unknown> = { name: module.name, order: module.order ?? 0, keepsLength: module.keepsLength === true }
  const owner = module as unknown as Callable
  for (const hook of MODULE_HOOKS) {
    if (hook === 'newState' || module[hook] === undefined || !keeps(hook)) continue
    wrapped[hook] = wrap(hookOfModule(hook, module), args => {
      const session = args[0] as Session
      // The state is the last of what each of these hooks is given.
      return owner[hook]!(...args.slice(0, -1), session.moduleState(module))
    })
  }
  return wrapped as unknown as HttpModule
}
