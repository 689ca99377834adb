/**
 * Traces of one process, as section `traces` of the configuration asks for them: started once, before the application, and ended with a
 * limit. What OpenTelemetry has is loaded here and nowhere else, so that whoever does not trace pays nothing for it.
 */
import { TRACES_DEFAULTS, TRACES_OPTIONS, type TracesOptions } from '../../config/traces-options.ts'
import { SILENT_LOG, type ProcessLog } from '../../ipc/process-log.ts'
import { systemClock } from '../../primitives/clock.ts'
import { resolveOptions } from '../../primitives/option-table.ts'
import { RepeatedLines } from '../repeated-lines.ts'
import type { RequestTracing } from '../request-trace.ts'
import { spanCounts } from '../span-counts.ts'
import { TraceIds } from '../trace-ids.ts'
import { TracePropagation, type TraceRules } from '../trace-propagation.ts'

/** While spans are lost it is said this often, in ms: seldom, as it may last for days. */
const TROUBLE_PERIOD_MS = 10_000
/** What OpenTelemetry says may hold whole answers of a collector. */
const MAX_SAID = 500

/** Traces that were started. */
export interface Traces {
  /** For `server.start({ tracing })`. Null: variables of OpenTelemetry turn traces off. */
  readonly tracing: RequestTracing | null
  /** Sends what waits, for `limitMs` at most; what is left then is lost and counted. Never rejects. */
  close(limitMs: number): Promise<void>
}

/** Around the traces. */
export interface TracesContext {
  /** Told of spans that are lost, and of what OpenTelemetry complains about. @default silent */
  readonly log?: ProcessLog
  /** Worker of every span. @default '': none */
  readonly worker?: string
  /** The address of a client, as spans may have it; '' keeps it out of them. @default as it is */
  readonly shownClient?: (address: string) => string
}

/**
 * Starts what `traces.enabled` starts in workers, for a process of your own:
 *
 *   const { tracing, close } = await startTraces({ ratio: 0.1 })
 *   await server.start({ tracing })
 *
 * One at a time: `@opentelemetry/api` has one place for what it leads to.
 * @throws OptionError with every option that would not do, Error when a package of OpenTelemetry cannot be loaded
 */
export async function startTraces(given: Omit<TracesOptions, 'enabled'> = {}, around: TracesContext = {}): Promise<Traces> {
  const options = resolveOptions<TracesOptions>('traces', TRACES_OPTIONS, given, TRACES_DEFAULTS)
  const { log = SILENT_LOG, worker = '', shownClient = (address: string) => address } = around
  const lines = new RepeatedLines(log, systemClock, TROUBLE_PERIOD_MS)
  const [api, { startSdk }, { SpanChoices }, { SpanTracer }] = await Promise.all([
    import('@opentelemetry/api'), import('./span-sdk.ts'), import('./span-choices.ts'), import('./span-tracer.ts'),
  ])
  const rules: TraceRules = { ...options, ...samplingOf(options.ratio, given.ratio !== undefined, log) }
  const ids = new TraceIds(), propagation = new TracePropagation(rules, ids)
  const choices = new SpanChoices(ids, traceId => propagation.samples(traceId))
  const sdk = await startSdk(options, choices, {
    lost: reason => lines.warn('spans are lost', {}, () => ({ reason: reason.slice(0, MAX_SAID), dropped: spanCounts.dropped })),
    said: text => lines.warn('OpenTelemetry complains', {}, () => ({ said: text.slice(0, MAX_SAID) })),
  })
  if (sdk === null) {
    log.warn('traces are enabled, and OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER turns them off; unset it, or set traces.enabled to false')
    return { tracing: null, close: () => Promise.resolve() }
  }
  return {
    tracing: new SpanTracer({ maker: sdk.maker, choices, context: api.context, propagation, ids, worker, shownClient }),
    async close(limitMs) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const cancelLimit = systemClock.after(limitMs, resolve)
      await Promise.race([sdk.shutdown(), promise])
      cancelLimit()
      const left = sdk.close()
      lines.close()
      if (left > 0) log.warn('spans were not sent in time and are lost', { spans: left, limitMs })
    },
  }
}

/** What the samplers of OpenTelemetry come to. `ratio` null: it is in the argument. */
const SAMPLERS: Readonly<Record<string, { readonly ratio: number | null; readonly heedsParent: boolean }>> = {
  always_on: { ratio: 1, heedsParent: false },
  always_off: { ratio: 0, heedsParent: false },
  traceidratio: { ratio: null, heedsParent: false },
  parentbased_always_on: { ratio: 1, heedsParent: true },
  parentbased_always_off: { ratio: 0, heedsParent: true },
  parentbased_traceidratio: { ratio: null, heedsParent: true },
}

const SAMPLER = 'OTEL_TRACES_SAMPLER'
const ARGUMENT = 'OTEL_TRACES_SAMPLER_ARG'

/** A variable of OpenTelemetry says it where nothing else does. @param said the ratio is none that was left out */
function samplingOf(ratio: number, said: boolean, log: ProcessLog): Pick<TraceRules, 'ratio' | 'heedsParent'> {
  const usual = { ratio, heedsParent: true }, name = process.env[SAMPLER]?.trim() ?? ''
  if (name === '') return usual
  if (said) {
    log.warn(`${SAMPLER} does not count beside traces.ratio; leave one of them out`)
    return usual
  }
  const sampler = Object.hasOwn(SAMPLERS, name) ? SAMPLERS[name]! : null
  if (sampler === null) {
    const remedy = `use one of ${Object.keys(SAMPLERS).join(', ')}`
    log.warn(`${SAMPLER} is ${JSON.stringify(name)}; ${remedy}. traces.ratio counts, which is ${ratio}`)
    return usual
  }
  // Left out it is 1, as OpenTelemetry has it.
  const written = process.env[ARGUMENT]?.trim() ?? '', argument = written === '' ? 1 : Number(written)
  if (sampler.ratio !== null) return { ...sampler, ratio: sampler.ratio }
  if (argument >= 0 && argument <= 1) return { ...sampler, ratio: argument }
  log.warn(`${ARGUMENT} is ${JSON.stringify(written)}; use a number from 0 to 1. traces.ratio counts, which is ${ratio}`)
  return { ...sampler, ratio }
}
