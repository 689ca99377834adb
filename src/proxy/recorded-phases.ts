/**
 * The phases of recorded requests (telemetry/request-trace.ts): the same hooks in the same order, each called so that it finds the
 * request's span as the current one, and a last filter that tells the origin of it. A service has this plan beside its own, and an
 * exchange takes one of the two when it begins; so what recording costs is paid by the requests that are recorded.
 */
import type { HeaderMap } from '../http/header-map.ts'
import { MODULE_HOOKS, type HttpModule } from '../modules/http-module.ts'
import { TRACE_FIELDS, type RecordedSession } from '../modules/trace-fields.ts'
import type { RequestTrace, RequestTracing } from '../telemetry/request-trace.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import { planPhases, type PhasePlan } from './phases.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'

type Hook = (...args: never[]) => unknown

export class RecordedPhases<Ctx> {
  readonly plan: PhasePlan<Ctx>
  readonly tracer: Tracer
  readonly #tracing: RequestTracing

  constructor({ app, modules }: PhasePlan<Ctx>, tracing: RequestTracing) {
    this.plan = planPhases({ ...withinSpan(app), modules: [...modules.map(moduleWithinSpan), TRACE_FIELDS] })
    this.tracer = tracing.tracer
    this.#tracing = tracing
  }

  begin(headers: HeaderMap, trusted: boolean): RequestTrace | null { return this.#tracing.begin(headers, trusted) }
}

function withinSpan<Ctx>(app: ProxyHttp<Ctx>): ProxyHttp<Ctx> {
  const within: Record<string, unknown> = {}
  if (app.keepsLength !== undefined) within['keepsLength'] = app.keepsLength
  for (const name of HOOKS) {
    const hook = app[name] as Hook | undefined
    if (hook === undefined) continue
    // Before there is a session, there is no span that it could be given.
    within[name] = name === 'newCtx' ? () => app.newCtx!()
      : (session: RecordedSession, ...rest: unknown[]) => session.trace.run(hook, app, [session, ...rest])
  }
  return within as unknown as ProxyHttp<Ctx>
}

/** Its state stays that of the module which the application knows: it is asked for by that one. */
function moduleWithinSpan(module: HttpModule): HttpModule {
  const { name, order, keepsLength } = module
  const within: Record<string, unknown> = { name }
  if (order !== undefined) within['order'] = order
  if (keepsLength !== undefined) within['keepsLength'] = keepsLength
  for (const hookName of MODULE_HOOKS) {
    const hook = module[hookName] as Hook | undefined
    if (hook === undefined || hookName === 'newState') continue
    within[hookName] = (session: RecordedSession, ...rest: unknown[]) => {
      // The last one is the state of this stand-in, which has none.
      return session.trace.run(hook, module, [session, ...rest.slice(0, -1), session.moduleState(module)])
    }
  }
  return within as unknown as HttpModule
}
