/**
 * Counts the spans that get lost between a processor and its collector: those for which its queue had no room, those that its exporter
 * gave up, and those that were left at the end. A processor of an SDK keeps its queue bounded and tells nobody what it leaves out.
 *
 * Invariant: each recorded span that is handed over is waiting, being sent, or done with: sent, or counted in `spanCounts`.
 */
import { TraceFlags } from '@opentelemetry/api'
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace'
import { spanCounts } from '../span-counts.ts'

type ExportDone = Parameters<SpanExporter['export']>[1]

/** `ExportResultCode.SUCCESS`; the package that names it is none of ours. */
const SUCCESS = 0

const FAILED = 1

/** A processor in front of another one, which it tells of no more spans than that one has room for. */
export class SpanLedger implements SpanProcessor {
  readonly #processor: SpanProcessor
  readonly #capacity: number
  readonly #onLost: (reason: string) => void
  /** Ended, and not yet given to the exporter. */
  #waiting = 0
  /** Given to the exporter, which has not said what became of them. */
  #sending = 0
  #closed = false

  /**
   * @param exporter the one of `processor`: what it is given from now on is counted
   * @param capacity of the queue of `processor`; Infinity: it has none
   * @param onLost told of each loss, which is counted by then
   */
  constructor(processor: SpanProcessor, exporter: SpanExporter, capacity: number, onLost: (reason: string) => void) {
    this.#processor = processor
    this.#capacity = capacity
    this.#onLost = onLost
    const send = exporter.export.bind(exporter)
    exporter.export = (spans, done) => this.#send(spans, done, send)
  }

  onStart(...given: Parameters<SpanProcessor['onStart']>): void { this.#processor.onStart(...given) }

  onEnd(span: ReadableSpan): void {
    // Others are for nobody's eyes, and the processor leaves them out.
    const isRecorded = (span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0
    if (isRecorded && this.#waiting >= this.#capacity) {
      this.#lose(1, 'too many wait for the collector')
      return
    }
    if (isRecorded) this.#waiting++
    this.#processor.onEnd(span)
  }

  #send(spans: ReadableSpan[], done: ExportDone, send: SpanExporter['export']): void {
    const count = spans.length
    this.#waiting -= count
    this.#sending += count
    const ended: ExportDone = result => {
      if (!this.#closed) {
        this.#sending -= count
        if (result.code !== SUCCESS) this.#lose(count, result.error?.message ?? 'the collector did not take them')
      }
      done(result)
    }
    try {
      send(spans, ended)
    } catch (thrown) {
      ended({ code: FAILED, error: thrown instanceof Error ? thrown : new Error(String(thrown)) })
    }
  }

  #lose(count: number, reason: string): void {
    spanCounts.dropped += count
    this.#onLost(reason)
  }

  forceFlush(): Promise<void> { return this.#processor.forceFlush() }
  shutdown(): Promise<void> { return this.#processor.shutdown() }

  /** Nobody sends what is left: it is lost. @returns how many spans those are */
  close(): number {
    this.#closed = true
    const left = this.#waiting + this.#sending
    spanCounts.dropped += left
    return left
  }
}
