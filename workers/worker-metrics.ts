/**
 * A worker's metrics: counted in the file that the supervisor has made for it, so that they are known to the last request whatever
 * ends this process. Without system calls the file cannot be mapped: then what was counted is written to it with every heartbeat,
 * and a kill loses what came after the last one.
 */
import fs from 'node:fs'
import { METRIC_MEMORY_BYTES } from '../src/ipc/metric-memory.ts'
import type { OpenCounts, UpstreamHealth } from '../src/ipc/open-counts.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import type { ExchangeCounter } from '../src/telemetry/exchange-counter.ts'
import { metrics } from '../src/telemetry/metrics.ts'
import { ProcessMetrics, type ProcessVitals } from '../src/telemetry/process-metrics.ts'
import { TrafficMetrics } from '../src/telemetry/traffic-metrics.ts'
import type { Tracer } from '../src/telemetry/tracer.ts'

export class WorkerMetrics {
  /** For every service of this process. */
  readonly tracers: readonly Tracer[]
  /** Likewise. */
  readonly counting: ExchangeCounter
  readonly #process: ProcessMetrics
  readonly #log: ProcessLog
  /** Where to write with every heartbeat; -1: the file is mapped, or cannot be written any more. */
  #fd: number

  /**
   * Before the application is loaded, which may have metrics of its own. @param file '': nothing is counted
   * @param calls null: there are none
   * @returns null where nothing is counted, or nobody could read it
   */
  static open(file: string, slot: number, calls: Pick<SystemCalls, 'mapFile'> | null, log: ProcessLog): WorkerMetrics | null {
    if (file === '') return null
    try {
      const fd = fs.openSync(file, 'r+')
      if (calls === null) return new WorkerMetrics(slot, log, fd)
      try {
        lengthen(fd)
        metrics.memory.moveTo(calls.mapFile(fd, METRIC_MEMORY_BYTES))
      } finally {
        fs.closeSync(fd)
      }
      return new WorkerMetrics(slot, log, -1)
    } catch (error) {
      log.warn('what this worker does is not counted: its file cannot be used', { file, error })
      return null
    }
  }

  private constructor(slot: number, log: ProcessLog, fd: number) {
    const traffic = new TrafficMetrics(metrics)
    this.tracers = [traffic]
    this.counting = traffic
    this.#process = new ProcessMetrics(metrics, slot)
    this.#process.start()
    this.#log = log
    this.#fd = fd
  }

  /** With every heartbeat, and once more at the end. */
  beat(open: OpenCounts, vitals: ProcessVitals, health: Iterable<UpstreamHealth>): void {
    this.#process.beat(open, vitals, health)
    if (this.#fd === -1) return
    try {
      fs.writeSync(this.#fd, metrics.memory.bytes, 0, METRIC_MEMORY_BYTES, 0)
    } catch (error) {
      this.#fd = -1
      this.#log.warn('what this worker counts cannot be written any more', { error })
    }
  }
}

/**
 * Of a supervisor of another build the file may be shorter. It is written, not only made longer: a mapped file that finds the disk full
 * later, or has no such place, kills its process. @throws when the disk has no room
 */
function lengthen(fd: number): void {
  const { size } = fs.fstatSync(fd), missing = METRIC_MEMORY_BYTES - size
  if (missing > 0 && fs.writeSync(fd, new Uint8Array(missing), 0, missing, size) < missing) throw new Error('there is no room on its disk')
}
