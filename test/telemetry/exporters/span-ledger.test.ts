import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace'
import { SpanLedger } from '../../../src/telemetry/exporters/span-ledger.ts'
import { spanCounts } from '../../../src/telemetry/span-counts.ts'

type Done = Parameters<SpanExporter['export']>[1]

/** A processor whose queue is sent when the test says so. */
class Batch implements SpanProcessor {
  readonly queue: ReadableSpan[] = []
  onStart(): void { /* nothing is known of it yet */ }
  onEnd(span: ReadableSpan): void { this.queue.push(span) }
  forceFlush(): Promise<void> { return Promise.resolve() }
  shutdown(): Promise<void> { return Promise.resolve() }
}

function spanOf(traceFlags: number): ReadableSpan { return { spanContext: () => ({ traceFlags }) } as unknown as ReadableSpan }

interface World {
  readonly batch: Batch
  readonly exporter: SpanExporter
  readonly ledger: SpanLedger
  readonly reasons: string[]
  readonly answers: Done[]
  lost(): number
}

function world(capacity: number): World {
  const before = spanCounts.dropped, reasons: string[] = [], answers: Done[] = []
  const exporter: SpanExporter = { export(_spans, done) { answers.push(done) }, shutdown: () => Promise.resolve() }
  const batch = new Batch(), ledger = new SpanLedger(batch, exporter, capacity, reason => { reasons.push(reason) })
  return { batch, exporter, ledger, reasons, answers, lost: () => spanCounts.dropped - before }
}

test('span ledger: a span for which there is no room is counted, and its processor does not hear of it', () => {
  const { batch, ledger, exporter, answers, reasons, lost } = world(2)
  for (let count = 0; count < 5; count++) ledger.onEnd(spanOf(1))
  assert.deepEqual([batch.queue.length, lost(), reasons.length], [2, 3, 3])
  assert.equal(reasons[0], 'too many wait for the collector')
  // What is being sent makes room.
  exporter.export(batch.queue.splice(0), () => {})
  ledger.onEnd(spanOf(1))
  assert.deepEqual([batch.queue.length, lost()], [1, 3])
  answers[0]!({ code: 0 })
  assert.equal(lost(), 3)
})

test('span ledger: what an exporter gives up is counted once, with its reason, and its processor is told as before', () => {
  const { batch, ledger, exporter, answers, reasons, lost } = world(10)
  const told: number[] = []
  for (let count = 0; count < 3; count++) ledger.onEnd(spanOf(1))
  exporter.export(batch.queue.splice(0), ({ code }) => { told.push(code) })
  answers[0]!({ code: 1, error: new Error('503 Service Unavailable') })
  assert.deepEqual([told, lost(), reasons], [[1], 3, ['503 Service Unavailable']])
})

test('span ledger: an exporter that throws has failed', () => {
  const { batch, reasons, lost } = world(10)
  const exporter: SpanExporter = { export() { throw new Error('planned') }, shutdown: () => Promise.resolve() }
  const ledger = new SpanLedger(batch, exporter, 10, reason => { reasons.push(reason) })
  const told: number[] = []
  ledger.onEnd(spanOf(1))
  exporter.export(batch.queue.splice(0), ({ code }) => { told.push(code) })
  assert.deepEqual([told, lost(), reasons], [[1], 1, ['planned']])
})

test('span ledger: what waits or is being sent at the end is lost, and is not counted again when its answer comes', () => {
  const { batch, ledger, exporter, answers, lost } = world(10)
  for (let count = 0; count < 4; count++) ledger.onEnd(spanOf(1))
  exporter.export(batch.queue.splice(0, 3), () => {})
  assert.equal(ledger.close(), 4)
  answers[0]!({ code: 1 })
  assert.equal(lost(), 4)
})

test('span ledger: spans that are not recorded take no room and are not counted', () => {
  const { batch, ledger, lost } = world(1)
  for (let count = 0; count < 3; count++) ledger.onEnd(spanOf(0))
  ledger.onEnd(spanOf(1))
  assert.deepEqual([batch.queue.length, lost(), ledger.close()], [4, 0, 1])
})
