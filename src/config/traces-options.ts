/** Distributed traces: which requests are recorded, and who is believed; an operator sets it in the section `traces`. */
import { choice, defaultsOf, flag, list, number, text, type OptionTable } from '../primitives/option-table.ts'

/** What is recorded as a part of traces, and where its spans go. */
export interface TracesOptions {
  /** Whether requests are traced. Off, nothing of OpenTelemetry is loaded. @default false */
  enabled?: boolean
  /**
   * Share of the requests that begin a trace here which are recorded, 0 to 1; those that come with a trace are recorded as whoever began
   * it decided. 0 records only what others decided. Left out, `OTEL_TRACES_SAMPLER` counts where it is set. @default 0.01
   */
  ratio?: number
  /**
   * Whose trace a request may continue, and whose decision to record it counts: hops, of clients inside `trustedHops` of the service;
   * always, of everybody; never. From others the fields are removed, and what is recorded begins a trace with a link to
   * theirs. @default 'hops'
   */
  trustParent?: 'hops' | 'always' | 'never'
  /**
   * Fields that carry a trace, read and sent on: w3c (traceparent, tracestate), b3 (one field), b3multi (several); both forms of B3 are
   * read with either. The first that a request has counts. @default ['w3c']
   */
  propagate?: readonly string[]
  /**
   * Where spans are sent by OTLP over HTTP: the URL to which /v1/traces is added. It counts over the variables
   * `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. '' leaves it to them, or to http://localhost:4318. @default ''
   */
  endpoint?: string
  /** Name of the service in its spans, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names it. @default 'cirque' */
  serviceName?: string
  /**
   * Without `@opentelemetry/sdk-node`, which takes half of the memory: OTLP as JSON over HTTP only, and of the variables of
   * OpenTelemetry only those of the endpoint, of batches and of the service. @default false
   */
  lean?: boolean
}
export type ResolvedTracesOptions = Readonly<Required<TracesOptions>>

/** What may stand in `propagate`. */
export const TRACE_FORMATS = ['w3c', 'b3', 'b3multi'] as const
export type TraceFormat = (typeof TRACE_FORMATS)[number]

export function isTraceFormat(word: string): word is TraceFormat { return (TRACE_FORMATS as readonly string[]).includes(word) }

export const TRACES_OPTIONS = {
  enabled: flag(false),
  ratio: number(0.01, 0, 1, 'records only what others decided'),
  trustParent: choice('hops', ['hops', 'always', 'never']),
  propagate: list(['w3c'], TRACE_FORMATS.join(', '), isTraceFormat),
  endpoint: text('', 'an http or https URL without user, query and fragment, such as http://127.0.0.1:4318', isEndpoint),
  serviceName: text('cirque', 'a name of at least one character', name => name !== ''),
  lean: flag(false),
} satisfies OptionTable<TracesOptions>

export const TRACES_DEFAULTS: ResolvedTracesOptions = defaultsOf<TracesOptions>(TRACES_OPTIONS)

/** What is secret belongs into OTEL_EXPORTER_OTLP_HEADERS. */
function isEndpoint(text: string): boolean {
  if (text === '') return true
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return false
  return url.username === '' && url.password === '' && url.search === '' && url.hash === ''
}
