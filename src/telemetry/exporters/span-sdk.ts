/**
 * Starts an SDK of OpenTelemetry that takes spans to a collector: `@opentelemetry/sdk-node`, which does all that the variables OTEL_...
 * say, or without it the two packages that spans alone need. Its queue of spans is bounded, and what it loses is counted
 * (span-ledger.ts). Metrics and logs of OpenTelemetry are not started, and nothing is instrumented.
 *
 * Loaded when traces are configured, and in workers only: the packages take 13 to 25 MB of each (**measured**).
 */
import { context, diag, DiagLogLevel, propagation, trace, type Tracer } from '@opentelemetry/api'
import type { ReadableSpan, SpanExporter, SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import type { ResolvedTracesOptions } from '../../config/traces-options.ts'
import { HookContext } from './hook-context.ts'
import type { SpanChoices } from './span-choices.ts'
import { SpanLedger } from './span-ledger.ts'

/** Of OpenTelemetry, as its variables would set them. */
const MAX_QUEUE_SPANS = 2048
const MAX_BATCH_SPANS = 512
const BATCH_DELAY_MS = 5_000
const EXPORT_TIMEOUT_MS = 30_000

/** Name of what makes the spans, beside the name of the service. */
const SCOPE = 'cirque'

export interface SpanSdk {
  readonly maker: Tracer
  /** Sends what waits. Resolves when it is over, whatever became of it. */
  shutdown(): Promise<void>
  /** Behind `shutdown`, or in its place: what was not sent is lost. @returns how many spans */
  close(): number
}

/** What is to be told. */
export interface SdkEvents {
  lost(reason: string): void
  said(text: string): void
}

/** The variables of OpenTelemetry. Packages read them from the process by themselves. */
const { env } = process

/** @returns null when the variables of OpenTelemetry turn traces off. @throws when a package cannot be loaded */
export async function startSdk(options: ResolvedTracesOptions, choices: SpanChoices, events: SdkEvents): Promise<SpanSdk | null> {
  if (env['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true') return null
  const say = (...said: unknown[]): void => events.said(said.map(String).join(' '))
  const silent = (): void => {}
  const logger = { error: say, warn: say, info: silent, debug: silent, verbose: silent }
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
  const ledgers: SpanLedger[] = []
  const counted = (processor: SpanProcessor, exporter: SpanExporter, capacity: number): SpanProcessor => {
    const ledger = new SpanLedger(processor, exporter, capacity, events.lost)
    ledgers.push(ledger)
    return ledger
  }
  const provider = await (options.lean ? startLean : startNodeSdk)(options, choices, counted)
  if (provider === null) return null
  return {
    maker: provider.getTracer(SCOPE),
    shutdown: () => provider.shutdown().catch(silent),
    close() {
      for (const one of [trace, context, propagation, diag]) one.disable()
      return ledgers.reduce((left, ledger) => left + ledger.close(), 0)
    },
  }
}

type Counted = (processor: SpanProcessor, exporter: SpanExporter, capacity: number) => SpanProcessor

// ---- by the variables of OpenTelemetry

/** NodeSDK shows nobody what it has made. Its version is pinned, and a test of lost spans fails when this is otherwise in another one. */
interface NodeSdkInside { readonly _tracerProvider?: TracerProvider }
interface ProviderInside { readonly _activeSpanProcessor: { readonly _spanProcessors: ProcessorInside[] } }
interface ProcessorInside extends SpanProcessor {
  readonly _exporter: SpanExporter
  readonly _maxQueueSize?: number
}

async function startNodeSdk(options: ResolvedTracesOptions, choices: SpanChoices, counted: Counted): Promise<TracerProvider | null> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  const sdk = withEndpoint(options.endpoint, () => {
    const made = new NodeSDK({
      sampler: choices, idGenerator: choices, instrumentations: [], metricReaders: [], logRecordProcessors: [],
      ...isServiceNamed() ? null : { serviceName: options.serviceName },
    })
    made.start()
    return made
  })
  const provider = (sdk as unknown as NodeSdkInside)._tracerProvider
  // OTEL_TRACES_EXPORTER=none
  if (provider === undefined) return null
  const processors = (provider as unknown as ProviderInside)._activeSpanProcessor._spanProcessors
  for (const [at, processor] of processors.entries()) {
    processors[at] = counted(processor, processor._exporter, processor._maxQueueSize ?? Infinity) as ProcessorInside
  }
  return provider
}

const ENDPOINT = 'OTEL_EXPORTER_OTLP_ENDPOINT'
const TRACES_ENDPOINT = 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'

/** Exporters look for their endpoint when they are made, whichever they are, and only there. */
function withEndpoint<Made>(endpoint: string, make: () => Made): Made {
  if (endpoint === '') return make()
  const before = { [ENDPOINT]: env[ENDPOINT], [TRACES_ENDPOINT]: env[TRACES_ENDPOINT] }
  env[ENDPOINT] = endpoint
  delete env[TRACES_ENDPOINT]
  try {
    return make()
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete env[name]
      else env[name] = value
    }
  }
}

function isServiceNamed(): boolean {
  return (env['OTEL_SERVICE_NAME'] ?? '') !== '' || Object.hasOwn(resourceVariables(), 'service.name')
}

// ---- lean

async function startLean(
  { endpoint, serviceName }: ResolvedTracesOptions, choices: SpanChoices, counted: Counted,
): Promise<TracerProvider> {
  const [{ BatchSpanProcessor, TracerProvider }, { OTLPTraceExporter }] = await Promise.all([
    import('@opentelemetry/sdk-trace'), import('@opentelemetry/exporter-trace-otlp-http'),
  ])
  const exporter = new OTLPTraceExporter(endpoint === '' ? {} : { url: `${endpoint.replace(/\/$/, '')}/v1/traces` })
  const maxQueueSize = positive('OTEL_BSP_MAX_QUEUE_SIZE', MAX_QUEUE_SPANS)
  const batch = new BatchSpanProcessor({
    exporter, maxQueueSize,
    maxExportBatchSize: Math.min(maxQueueSize, positive('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', MAX_BATCH_SPANS)),
    scheduledDelayMillis: positive('OTEL_BSP_SCHEDULE_DELAY', BATCH_DELAY_MS),
    exportTimeoutMillis: positive('OTEL_BSP_EXPORT_TIMEOUT', EXPORT_TIMEOUT_MS),
  })
  const { resource } = new TracerProvider().getTracer(SCOPE).startSpan('') as unknown as ReadableSpan
  const named: Record<string, string> = { 'service.name': serviceName, ...resourceVariables() }
  const byVariable = env['OTEL_SERVICE_NAME'] ?? ''
  if (byVariable !== '') named['service.name'] = byVariable
  // The package that makes resources is none of ours; one takes whatever says its attributes.
  const ours = { attributes: named, getRawAttributes: () => Object.entries(named), merge: () => resource }
  const provider = new TracerProvider({
    sampler: choices, idGenerator: choices, resource: resource.merge(ours), spanProcessors: [counted(batch, exporter, maxQueueSize)],
  })
  context.setGlobalContextManager(new HookContext())
  trace.setGlobalTracerProvider(provider)
  return provider
}

function positive(name: string, usual: number): number {
  const value = Number(env[name] ?? '')
  return Number.isFinite(value) && value > 0 ? value : usual
}

/** `OTEL_RESOURCE_ATTRIBUTES=name=value,name=value`, percent-encoded. One mistake, and none of it counts, as OpenTelemetry wants it. */
function resourceVariables(): Record<string, string> {
  const attributes: Record<string, string> = {}
  try {
    for (const pair of (env['OTEL_RESOURCE_ATTRIBUTES'] ?? '').split(',')) {
      const [name = '', ...value] = pair.split('=')
      if (pair.trim() !== '') attributes[decodeURIComponent(name.trim())] = decodeURIComponent(value.join('=').trim())
    }
    return attributes
  } catch {
    return {}
  }
}
