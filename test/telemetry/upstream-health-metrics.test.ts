import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { UpstreamHealth } from '../../src/ipc/open-counts.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { UpstreamHealthMetrics } from '../../src/telemetry/upstream-health-metrics.ts'
import { readMetrics } from '../support/read-metrics.ts'

const NONE = { attempts: 0, check: 0 }

function healthOf(upstream: string, targets: Readonly<Record<string, boolean>>, ejections = NONE): UpstreamHealth {
  return { upstream, targets: Object.entries(targets).map(([name, ready]) => ({ name, ready })), ejections }
}

/** Targets that are shown, with 1 or 0. */
function shown(metrics: Metrics): Record<string, number> {
  const all = [...readMetrics(metrics.memory).get('cirque_upstream_target_up') ?? []]
  return Object.fromEntries(all.map(([labels, [value = NaN]]) => [labels, value] as const).filter(([, value]) => !Number.isNaN(value)))
}

test('upstream health: what is shown is what the last heartbeat said, whatever came and went', () => {
  const targets = fc.dictionary(fc.constantFrom('a:1', 'b:1', 'c:1'), fc.boolean(), { noNullPrototype: true })
  const beats = fc.array(fc.array(fc.record({ upstream: fc.constantFrom('api', 'web'), targets }), { maxLength: 3 }), { maxLength: 8 })
  fc.assert(fc.property(beats, all => {
    const metrics = new Metrics(), health = new UpstreamHealthMetrics(metrics)
    for (const parts of all) {
      health.beat(parts.map(part => healthOf(part.upstream, part.targets)))
      const expected: Record<string, number> = {}
      for (const part of parts) {
        for (const [name, ready] of Object.entries(part.targets)) {
          const key = `${part.upstream} ${name}`
          expected[key] = Math.min(expected[key] ?? 1, Number(ready))
        }
      }
      assert.deepEqual(shown(metrics), expected)
    }
  }))
})

test('upstream health: backends that change for ever, and balancers without number, make no more series than there may be', () => {
  const metrics = new Metrics(), health = new UpstreamHealthMetrics(metrics)
  for (let n = 0; n < 2000; n++) health.beat([healthOf('pods', { [`10.0.${n >> 8}.${n & 255}:80`]: n !== 1999 })])
  assert.deepEqual(shown(metrics), { '_overflow _overflow': 0 })
  assert.equal(readMetrics(metrics.memory).get('cirque_upstream_target_up')!.size, 501)

  const many = new Metrics()
  new UpstreamHealthMetrics(many).beat(Array.from({ length: 300 }, (_, n) => healthOf(`u${n}`, { a: true, b: true, c: true })))
  const { size } = readMetrics(many.memory).get('cirque_upstream_ejections_total')!
  assert.equal(size, 200)
  assert.equal(Object.keys(shown(many)).length, 300)
})

test('upstream health: a balancer of many thousand backends shows the first ones', () => {
  const metrics = new Metrics()
  let walked = 0
  const targets = function* (): Generator<{ name: string; ready: boolean }> {
    for (; walked < 60_000; walked++) yield { name: `10.0.0.1:${walked}`, ready: true }
  }
  new UpstreamHealthMetrics(metrics).beat([{ upstream: 'big', targets: targets(), ejections: NONE }])
  assert.equal(Object.keys(shown(metrics)).length, 500)
  assert.ok(walked <= 501, String(walked))
})

test('upstream health: ejections of balancers of one name are counted together', () => {
  const metrics = new Metrics(), health = new UpstreamHealthMetrics(metrics)
  health.beat([healthOf('api', {}, { attempts: 1, check: 0 }), healthOf('api', {}, { attempts: 2, check: 5 })])
  health.beat([healthOf('api', {}, { attempts: 1, check: 0 }), healthOf('api', {}, { attempts: 4, check: 5 })])
  const counted = readMetrics(metrics.memory).get('cirque_upstream_ejections_total')!
  assert.deepEqual(Object.fromEntries(counted), { 'api attempts': [5], 'api check': [5] })
})
