/**
 * Spans of random exchanges in the traced world, compared with what its clients and origins really saw: one span of each exchange,
 * whatever became of it, one of each attempt below it, and the times at which things happened.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { context, SpanKind, SpanStatusCode, type HrTime } from '@opentelemetry/api'
import { TracerProvider, type ReadableSpan, type SpanProcessor } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import { SpanChoices } from '../../../src/telemetry/exporters/span-choices.ts'
import { SpanTracer } from '../../../src/telemetry/exporters/span-tracer.ts'
import { TraceIds } from '../../../src/telemetry/trace-ids.ts'
import { TracePropagation } from '../../../src/telemetry/trace-propagation.ts'
import type { AttemptEnded, ExchangeEnded } from '../../../src/telemetry/tracer.ts'
import { chance } from '../../support/exchange-sides.ts'
import { anyScripts } from '../../support/traced-scripts.ts'
import { TracedWorld } from '../../support/traced-world.ts'

const RUNS = 60

class Kept implements SpanProcessor {
  readonly spans: ReadableSpan[] = []
  started = 0
  onStart(): void { this.started++ }
  onEnd(span: ReadableSpan): void { this.spans.push(span) }
  forceFlush(): Promise<void> { return Promise.resolve() }
  shutdown(): Promise<void> { return Promise.resolve() }
}

function tracing(kept: Kept, ratio: number): SpanTracer {
  const ids = new TraceIds()
  const propagation = new TracePropagation({ propagate: ['w3c'], ratio, trustParent: 'hops', heedsParent: true }, ids)
  const choices = new SpanChoices(ids, traceId => propagation.samples(traceId))
  const maker = new TracerProvider({ sampler: choices, idGenerator: choices, spanProcessors: [kept] }).getTracer('model')
  return new SpanTracer({ maker, choices, context, propagation, ids, worker: '', shownClient: address => address })
}

function ms([seconds, nanoseconds]: HrTime): number { return seconds * 1000 + nanoseconds / 1e6 }

function near(one: number, other: number): boolean { return Math.abs(one - other) < 1e-3 }

test('spans: over random exchanges each has its span and those of its attempts, which end, with the times of what happened', async () => {
  const seen = { exchanges: 0, attempts: 0, retried: 0, failed: 0 }
  await fc.assert(fc.asyncProperty(anyScripts, fc.nat(), async (scripts, seed) => {
    const kept = new Kept(), tracer = tracing(kept, 1), world = new TracedWorld(tracer)
    await world.run(scripts, chance(seed))
    world.check()
    assert.equal(tracer.active, 0, 'nothing of a request is kept')
    assert.equal(kept.started, kept.spans.length, 'every span ends')
    const ended = world.byService.filter(({ name }) => name === 'exchangeEnded').map(({ event }) => event as ExchangeEnded)
    assert.equal(kept.spans.filter(({ kind }) => kind === SpanKind.SERVER).length, ended.length)
    for (const event of ended) {
      const { traceId, spanId } = event.trace!
      const mine = kept.spans.filter(span => span.spanContext().traceId === traceId)
      const server = mine.find(span => span.spanContext().spanId === spanId)!
      const clients = mine.filter(span => span !== server)
      assert.equal(server.parentSpanContext, undefined)
      const offset = event.startedWallMs - event.startedAt
      assert.ok(near(ms(server.startTime), event.startedWallMs) && near(ms(server.endTime), event.endedAt + offset))
      assert.equal(server.attributes['http.response.status_code'], event.status === 0 ? undefined : event.status)
      const failed = event.status >= 500 || (event.error !== null && event.error.source !== 'downstream' && event.status < 400)
      assert.equal(server.status.code, failed ? SpanStatusCode.ERROR : SpanStatusCode.UNSET)

      const told = world.byService.filter(({ name }) => name === 'attemptEnded').map(({ event: other }) => other as AttemptEnded)
        .filter(({ exchangeId }) => exchangeId === event.exchangeId)
      assert.equal(clients.length, told.length)
      for (const [at, client] of clients.entries()) {
        assert.equal(client.kind, SpanKind.CLIENT)
        assert.equal(client.parentSpanContext?.spanId, spanId)
        const { startedAt, endedAt, status } = told[at]!
        assert.ok(near(ms(client.startTime), startedAt + offset) && near(ms(client.endTime), endedAt + offset))
        assert.equal(client.attributes['http.response.status_code'], status === 0 ? undefined : status)
        assert.deepEqual(client.links.map(link => link.context.spanId), at === 0 ? [] : [clients[at - 1]!.spanContext().spanId])
      }
      assert.equal(server.events.length, told.filter(({ retried }) => retried).length)
      seen.exchanges++
      seen.attempts += clients.length
      seen.retried += server.events.length
      if (failed) seen.failed++
    }
  }), { numRuns: RUNS })
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 20, `${what}: ${count}`)
})

test('spans: with a ratio some exchanges are recorded, and those that are not have none', async () => {
  let recorded = 0, others = 0
  await fc.assert(fc.asyncProperty(anyScripts, fc.nat(), async (scripts, seed) => {
    const kept = new Kept(), world = new TracedWorld(tracing(kept, 0.5))
    await world.run(scripts, chance(seed))
    world.check()
    const traces = new Set<string>()
    for (const { name, event } of world.byService) {
      if (name !== 'exchangeEnded') continue
      const { trace } = event as ExchangeEnded
      if (trace === null) others++
      else traces.add(trace.traceId)
    }
    assert.deepEqual(new Set(kept.spans.map(span => span.spanContext().traceId)), traces)
    recorded += traces.size
  }), { numRuns: RUNS / 3 })
  assert.ok(recorded > 20 && others > 20, `${recorded} recorded, ${others} not`)
})
