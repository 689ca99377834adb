/** Tells origins which trace a request belongs to: the last filter of each attempt of a recorded request, and of no other. */
import type { RequestHead } from '../http/message-head.ts'
import type { Session } from '../proxy/session.ts'
import type { RequestTrace } from '../telemetry/request-trace.ts'
import type { HttpModule } from './http-module.ts'

/** The session of a recorded request. */
export interface RecordedSession extends Session {
  readonly trace: RequestTrace
}

export const TRACE_FIELDS: HttpModule = {
  name: 'traces',
  // Whatever other filters made of the fields.
  order: Number.NEGATIVE_INFINITY,
  upstreamRequestFilter(session: Session, request: RequestHead): void { (session as RecordedSession).trace.sendOn(request) },
}
