/**
 * Whether a request is recorded, and as a part of which trace; and the fields that tell an origin so. Decided when its head is there,
 * before anything is made for it: by whoever sent it where that one is believed, otherwise by the id of the trace (trace-context.ts).
 *
 * A request that is not recorded goes on with the fields that it came with: whoever decided that is still right. Those of a client that
 * is not believed are removed from each of its requests, recorded or not. Otherwise anybody could have everything behind us recorded.
 */
import { isTraceFormat, type ResolvedTracesOptions, type TraceFormat } from '../config/traces-options.ts'
import type { HeaderMap } from '../http/header-map.ts'
import {
  isSampled, isTracestate, readB3, readB3Fields, readTraceparent, samplingThreshold, writeB3, writeTraceparent, type TraceParent,
} from './trace-context.ts'
import type { TraceIds } from './trace-ids.ts'

/** Of a request that is recorded: where its span stands. Its texts keep no head of a request alive. */
export interface TraceStart {
  readonly traceId: string
  /** The span above it, of whoever sent the request; '': it begins the trace. */
  readonly parentId: string
  /** A span that is not believed, to which the trace is linked; null: there is none. */
  readonly linked: Pick<TraceParent, 'traceId' | 'spanId' | 'sampled'> | null
  readonly debug: boolean
  readonly random: boolean
  /** `tracestate` as it came and goes on; ''. */
  readonly state: string
}

const TRACEPARENT = 'traceparent', TRACESTATE = 'tracestate', B3 = 'b3'
const B3_TRACE_ID = 'x-b3-traceid', B3_SPAN_ID = 'x-b3-spanid', B3_PARENT_ID = 'x-b3-parentspanid'
const B3_SAMPLED = 'x-b3-sampled', B3_FLAGS = 'x-b3-flags'
const W3C_FIELDS: ReadonlySet<string> = new Set([TRACEPARENT, TRACESTATE])
const B3_NAMES = [B3, B3_TRACE_ID, B3_SPAN_ID, B3_PARENT_ID, B3_SAMPLED, B3_FLAGS] as const
const B3_FIELDS: ReadonlySet<string> = new Set(B3_NAMES)

/** How requests become parts of traces. */
export interface TraceRules extends Pick<ResolvedTracesOptions, 'propagate' | 'ratio' | 'trustParent'> {
  /** Whether what a believed parent decided counts. Otherwise its trace goes on, and the id decides. */
  readonly heedsParent: boolean
}

export class TracePropagation {
  readonly #formats: readonly TraceFormat[]
  readonly #trust: ResolvedTracesOptions['trustParent']
  readonly #heedsParent: boolean
  readonly #threshold: number
  readonly #ids: TraceIds
  /** Of the formats, each once. */
  readonly #fields: ReadonlySet<string>

  constructor({ propagate, ratio, trustParent, heedsParent }: TraceRules, ids: TraceIds) {
    this.#formats = [...new Set(propagate.filter(isTraceFormat))]
    this.#fields = new Set(this.#formats.flatMap(format => [...fieldsOf(format)]))
    this.#threshold = samplingThreshold(ratio)
    this.#trust = trustParent
    this.#heedsParent = heedsParent
    this.#ids = ids
  }

  /** What an application records by itself, outside of requests, follows the same share. */
  samples(traceId: string): boolean { return isSampled(traceId, this.#threshold) }

  /**
   * @param headers of the request as it came; fields of a client that is not believed are removed
   * @param trusted the client is inside `trustedHops`
   * @returns null: the request is not recorded
   */
  begin(headers: HeaderMap, trusted: boolean): TraceStart | null {
    const format = this.#formatOf(headers)
    if (format === null) return this.#newTrace(false, null)
    const parent = parentIn(headers, format)
    if (!(this.#trust === 'always' || (trusted && this.#trust === 'hops'))) {
      headers.deleteAll(this.#fields)
      return this.#newTrace(false, parent)
    }
    if (parent === null) return this.#newTrace(false, null)
    const { traceId, spanId, debug, random } = parent, sampled = this.#heedsParent ? parent.sampled : null
    if (sampled === false) return null
    if (traceId === '') return this.#newTrace(debug, null, sampled === true ? 0 : this.#threshold)
    if (sampled === null && !isSampled(traceId, this.#threshold)) return null
    const state = format === 'w3c' ? stateIn(headers) : ''
    return { traceId: owned(traceId), parentId: owned(spanId), linked: null, debug, random, state: owned(state) }
  }

  /** The first format of which a request has a field. */
  #formatOf(headers: HeaderMap): TraceFormat | null {
    for (const format of this.#formats) {
      if (format === 'w3c' ? headers.has(TRACEPARENT) : headers.hasOneOf(B3_NAMES)) return format
    }
    return null
  }

  #newTrace(debug: boolean, stranger: TraceParent | null, threshold = this.#threshold): TraceStart | null {
    const traceId = this.#ids.sampledTrace(threshold)
    if (traceId === null) return null
    const linked = stranger === null || stranger.traceId === '' ? null
      : { traceId: owned(stranger.traceId), spanId: owned(stranger.spanId), sampled: stranger.sampled }
    return { traceId, parentId: '', linked, debug, random: false, state: '' }
  }

  /**
   * Tells an origin of the span that its own will stand below.
   * @param headers of the request as it is sent
   * @param spanId of the attempt; `parentId` the one above it
   */
  write(headers: HeaderMap, { traceId, debug, random, state }: TraceStart, spanId: string, parentId: string): void {
    for (const format of this.#formats) {
      if (format === 'w3c') {
        headers.set(TRACEPARENT, writeTraceparent(traceId, spanId, random))
        if (state === '') headers.delete(TRACESTATE)
        else headers.set(TRACESTATE, state)
        continue
      }
      // Two forms that differ would be two traces. Of both, the one that is asked for last goes out.
      headers.deleteAll(B3_FIELDS)
      if (format === 'b3') headers.set(B3, writeB3(traceId, spanId, parentId, debug))
      else writeB3Fields(headers, { traceId, spanId, parentId, debug })
    }
  }
}

function fieldsOf(format: TraceFormat): ReadonlySet<string> { return format === 'w3c' ? W3C_FIELDS : B3_FIELDS }

/** @returns null where its fields break a rule */
function parentIn(headers: HeaderMap, format: TraceFormat): TraceParent | null {
  if (format === 'w3c') return readTraceparent(onlyLine(headers, TRACEPARENT) ?? '')
  const single = onlyLine(headers, B3)
  const parent = single === undefined ? null : readB3(single)
  if (parent !== null) return parent
  return readB3Fields({
    traceId: onlyLine(headers, B3_TRACE_ID), spanId: onlyLine(headers, B3_SPAN_ID),
    sampled: onlyLine(headers, B3_SAMPLED), flags: onlyLine(headers, B3_FLAGS),
  })
}

/** A field that is there twice says nothing: whoever reads it next might take the other one. */
function onlyLine(headers: HeaderMap, name: string): string | undefined {
  const lines = headers.getAll(name)
  return lines.length === 1 ? lines[0] : undefined
}

function stateIn(headers: HeaderMap): string {
  const state = headers.getAll(TRACESTATE).join(',')
  return isTracestate(state) ? state : ''
}

interface B3Ids { readonly traceId: string; readonly spanId: string; readonly parentId: string; readonly debug: boolean }

function writeB3Fields(headers: HeaderMap, { traceId, spanId, parentId, debug }: B3Ids): void {
  headers.set('X-B3-TraceId', traceId).set('X-B3-SpanId', spanId).set('X-B3-ParentSpanId', parentId)
  // Debug says that it is recorded.
  if (debug) headers.set('X-B3-Flags', '1')
  else headers.set('X-B3-Sampled', '1')
}

/** A copy: what is cut out of a head keeps all of it alive, and spans wait for a collector. */
export function owned(text: string): string { return Buffer.from(text, 'latin1').latin1Slice(0, text.length) }
