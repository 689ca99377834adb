/**
 * The phases of recorded requests (telemetry/request-trace.ts): the same hooks in the same order, each called so that it finds the
 * request's span as the current one, and a last filter that tells the origin of it. A service has this plan beside its own, and an
 * exchange takes one of the two when it begins; so what recording costs is paid by the requests that are recorded.
 */
import type { HeaderMap } from '../http/header-map.ts'
import { TRACE_FIELDS, type RecordedSession } from '../modules/trace-fields.ts'
import type { RequestTrace, RequestTracing } from '../telemetry/request-trace.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import type { PhasePlan } from './phases.ts'
import { wrapPlan, type WrapHook } from './wrapped-plan.ts'

export class RecordedPhases<Ctx> {
  readonly plan: PhasePlan<Ctx>
  readonly tracer: Tracer
  readonly #tracing: RequestTracing

  /** @param plan of requests that are not recorded */
  constructor(plan: PhasePlan<Ctx>, tracing: RequestTracing) {
    this.plan = wrapPlan(plan, withinSpan, { more: [TRACE_FIELDS] })
    this.tracer = tracing.tracer
    this.#tracing = tracing
  }

  begin(headers: HeaderMap, trusted: boolean): RequestTrace | null { return this.#tracing.begin(headers, trusted) }
}

/** Only recorded requests have these phases. */
const withinSpan: WrapHook = (_hook, call) => (...args) => (args[0] as RecordedSession).trace.run(() => call(args))
