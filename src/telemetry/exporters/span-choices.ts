/**
 * Has an SDK of OpenTelemetry follow what was decided before it was asked: which ids a span has, and that it is recorded. An SDK asks its
 * id generator and its sampler while it makes a span, so both are this one object, which knows the span that is being made.
 *
 * What an application makes by itself is sampled as its parent was, and where it has none by the id of its trace, as requests are.
 */
import { ROOT_CONTEXT, trace, TraceFlags, type Context, type SpanContext } from '@opentelemetry/api'
import type { IdGenerator, Sampler, SamplingResult } from '@opentelemetry/sdk-trace'
import { samplingThreshold } from '../trace-context.ts'
import type { TraceIds } from '../trace-ids.ts'

/** `SamplingDecision.RECORD_AND_SAMPLED` and `NOT_RECORD`. Which copy of their package is loaded is up to the SDK. */
const RECORDED: SamplingResult = { decision: 2 }
const LEFT_OUT: SamplingResult = { decision: 0 }
/** No id is turned away. */
const ALL = samplingThreshold(1)

export class SpanChoices implements IdGenerator, Sampler {
  readonly #ids: TraceIds
  readonly #samples: (traceId: string) => boolean
  /** Of the span that is being made; '': none of ours is. */
  #traceId = ''
  #spanId = ''

  /** @param samples which traces are recorded that an application begins by itself */
  constructor(ids: TraceIds, samples: (traceId: string) => boolean) {
    this.#ids = ids
    this.#samples = samples
  }

  /** @param make makes one span, in the context that it is given. @param parent null: the span begins the trace */
  withIds<Made>(traceId: string, spanId: string, parent: SpanContext | null, make: (context: Context) => Made): Made {
    this.#traceId = traceId
    this.#spanId = spanId
    try {
      return make(parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent))
    } finally {
      this.#traceId = this.#spanId = ''
    }
  }

  generateTraceId(): string {
    if (this.#traceId !== '') return this.#traceId
    // Null stands for an id of zeros alone.
    return this.#ids.sampledTrace(ALL) ?? this.generateTraceId()
  }

  generateSpanId(): string { return this.#spanId === '' ? this.#ids.span() : this.#spanId }

  shouldSample(context: Context, traceId: string): SamplingResult {
    if (this.#spanId !== '') return RECORDED
    const parent = trace.getSpanContext(context)
    const isRecorded = parent === undefined ? this.#samples(traceId) : (parent.traceFlags & TraceFlags.SAMPLED) !== 0
    return isRecorded ? RECORDED : LEFT_OUT
  }

  toString(): string { return 'Cirque' }
}
