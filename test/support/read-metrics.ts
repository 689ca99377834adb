/** What a process has counted: by name of the metric, then by the values of its labels with blanks between them. */
import { MetricReader, type MetricMemory } from '../../src/ipc/metric-memory.ts'

export type CountedMetrics = ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>

export function readMetrics(memory: MetricMemory): CountedMetrics {
  const reader = new MetricReader((into, from) => into.set(memory.bytes.subarray(from, from + into.length)))
  const counted = new Map<string, Map<string, readonly number[]>>()
  for (const { family: { name }, labelValues, values } of reader.series()) {
    if (!counted.has(name)) counted.set(name, new Map())
    counted.get(name)!.set(labelValues.join(' '), [...values])
  }
  return counted
}
