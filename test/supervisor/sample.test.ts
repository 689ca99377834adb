import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MetricMemory } from '../../src/ipc/metric-memory.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { CountedAttempt, CountedExchange } from '../../src/telemetry/exchange-counter.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import type { SlotStatus, WorkerStatus } from '../../supervisor/fleet-status.ts'
import { MetricLedger } from '../../supervisor/metric-ledger.ts'
import type { CurrentStatus } from '../../supervisor/operator-desk.ts'
import { sampleOf, type Sample, type SampledServer } from '../../supervisor/sample.ts'
import { MemoryMetricDisk } from '../support/memory-metric-disk.ts'
import { HOSTILE_NAMES } from '../support/samples.ts'

const BOUND = { service: 'shop', address: ':80', bound: '0.0.0.0:80', sockets: 1 }
const STATUS: CurrentStatus = {
  version: '1.2.3', protocol: 1, pid: 4711, node: 'v26.10.0', state: 'running', application: '/srv/edge/current/app.ts', startedIn: '/srv',
  release: '/srv/edge/releases/two', previousRelease: '/srv/edge/releases/one', generation: 7, startedAt: '', uptimeMs: 0, operation: '',
  progress: null, stateDir: '/run/cirque', controlSocket: '/run/cirque/control.sock', admin: '127.0.0.1:9901', systemCalls: 'available',
  listeners: [{ name: 'shop/:80', ...BOUND }, { name: 'shop/unused', ...BOUND }], slots: [], totals: NO_COUNTS, outcomes: [],
}
const SERVER: SampledServer = {
  status: STATUS, health: { ready: true, started: true, reason: '' }, takenAtMs: 2_000, startedAtMs: 1_000, counting: true,
}

const WORKER: WorkerStatus = {
  id: '7.0.0', pid: 5000, generation: 7, state: 'accepting', silent: false, ageMs: 10, acceptingMs: 5,
  drainingMs: null, drainEndsInMs: null, loopLagMs: 1, utilization: 0.5, rssBytes: 1024,
  open: { ...NO_COUNTS, connections: 4, activeExchanges: 2, exchanges: 9 }, notices: [],
}
const SLOT: SlotStatus = {
  slot: 0, state: 'serving', restarts: 1, standIn: null, worker: WORKER, incoming: null, previous: null, spare: null, draining: [],
}

/** What a worker has counted that was told of these. */
function sampled(tell: (traffic: TrafficMetrics) => void, server: Partial<SampledServer> = {}): Sample {
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, SILENT_LOG)
  ledger.begin(new Set())
  const file = ledger.create('7.0.0', { uid: null, gid: null })
  tell(new TrafficMetrics(new Metrics(new MetricMemory(disk.files.get(file) as ArrayBuffer))))
  return sampleOf({ ...SERVER, ...server }, ledger.totals())
}

function over(more: Partial<CountedExchange>): CountedExchange {
  return {
    listener: 'shop/:80', request: { method: 'GET' }, status: 200, flag: '-', startedAt: 0, endedAt: 4, firstByteAt: 0,
    bytesReceived: 0, bytesSent: 10, retryBudgetSpent: false, error: null, trace: null, ...more,
  }
}

function attempt(more: Partial<CountedAttempt>): CountedAttempt {
  return {
    peer: { name: '10.0.0.1:80' }, status: 200, reused: true, startedAt: 0, connectedAt: 1, sentAt: 1, firstByteAt: 3, endedAt: 9, ...more,
  }
}

test('sample: a listener has its requests by class and flag, and one that nobody has used is there as well', () => {
  const { listeners, bounds, flags } = sampled(traffic => {
    for (const method of ['GET', 'POST', 'GET']) traffic.exchangeOver(over({ request: { method } }))
    traffic.exchangeOver(over({ status: 502, flag: 'UC', endedAt: 20_000 }))
    traffic.exchangeOver(over({ status: 0, flag: 'DC' }))
    traffic.requestRefused({ listener: 'shop/:80', flag: 'PE', error: new ProxyError('BAD_HEAD', 'downstream', 'x') } as never)
  })
  const [used, unused] = listeners
  assert.deepEqual(used!.requests.toSorted(), [['2xx', '-', 3], ['5xx', 'UC', 1], ['none', 'DC', 1]])
  assert.deepEqual(used!.refused, [['PE', 1]])
  assert.deepEqual([used!.bytesOut, used!.durations[2], used!.durations.length, used!.durations.at(-1)], [50, 4, bounds.length + 1, 1])
  const nothing = { requests: [], refused: [], durations: [], bytesIn: 0, bytesOut: 0 }
  assert.deepEqual(unused, { name: 'shop/unused', address: '0.0.0.0:80', ...nothing })
  assert.deepEqual(flags.map(([flag]) => flag), ['DC', 'PE', 'UC'])
  assert.equal(flags[2]![1], 'the upstream could not be reached')
})

test('sample: what a client brings about is no failure of an origin', () => {
  const { upstreams: [one] } = sampled(traffic => {
    traffic.attemptOver(attempt({ status: 0 }), new ProxyError('CLIENT_GONE', 'downstream', 'x'), false)
    traffic.attemptOver(attempt({ status: 0 }), new ProxyError('READ_TIMEOUT', 'upstream', 'x'), true)
    traffic.attemptOver(attempt({ status: 503, reused: false }), null, false)
    traffic.upstreamConnected({ peer: '10.0.0.1:80', durationMs: 0.5, connection: { tls: null } } as never)
  })
  const { connectTimes, firstBytes, ...counts } = one!
  assert.deepEqual(counts, { name: '10.0.0.1:80', attempts: 3, errors: [['READ_TIMEOUT', 1]], faults: 1, retries: 1, reused: 2, fresh: 1 })
  assert.deepEqual([connectTimes, firstBytes], [[1], [0, 3]])
})

test('sample: names hold what they hold, and JSON brings them back as they were', () => {
  const names = HOSTILE_NAMES.map(name => name.slice(0, 128)).filter(name => !name.includes('\0'))
  const sample = sampled(traffic => {
    for (const name of names) {
      traffic.exchangeOver(over({ listener: name }))
      traffic.attemptOver(attempt({ peer: { name } }), null, false)
    }
  })
  const back = JSON.parse(JSON.stringify(sample)) as Sample
  assert.deepEqual(back, sample)
  for (const list of [back.listeners, back.upstreams]) assert.deepEqual(list.map(({ name }) => name).slice(-names.length), names)
})

test('sample: workers stand in their slots with their place, and of the disk there are only names of folders', () => {
  const draining = { ...WORKER, id: '6.0.0', drainEndsInMs: 100 }
  const slots: SlotStatus[] = [{ ...SLOT, incoming: { ...WORKER, id: '8.0.0' }, draining: [draining] }]
  const sample = sampled(() => {}, { status: { ...STATUS, slots } })
  assert.deepEqual(sample.slots[0]!.workers.map(({ place, id, requests }) => [place, id, requests]), [
    ['current', '7.0.0', 9], ['incoming', '8.0.0', 9], ['draining', '6.0.0', 9],
  ])
  assert.deepEqual([sample.application, sample.release, sample.previousRelease], ['app.ts', 'two', 'one'])
  assert.ok(!JSON.stringify(sample).includes('/srv') && !JSON.stringify(sample).includes('/run'))
})

test('sample: what an operator should look at is said in sentences, each once', () => {
  const notice = 'balancer shop: 2 of 4 backends get no traffic'
  const slots: SlotStatus[] = [
    { ...SLOT, worker: { ...WORKER, silent: true, notices: [notice] } },
    { ...SLOT, slot: 1, worker: { ...WORKER, notices: [notice, { toString: () => 'of another build' } as never] } },
    { ...SLOT, slot: 2, state: 'waiting', worker: null, standIn: '7.1.0' }, { ...SLOT, slot: 3, state: 'surplus', worker: null },
  ]
  const totals = { ...NO_COUNTS, exhausted: 1, logLinesDropped: 12, traceSpansDropped: 5 }
  const errorReports = { problem: 'https://key@sentry.internal/4: connect ECONNREFUSED' } as CurrentStatus['errorReports'] & object
  assert.deepEqual(sampled(() => {}, { status: { ...STATUS, slots, totals, errorReports } }).notices, [
    'slot 2 is waiting, and 7.1.0 serves there as well', 'nothing is heard of 7.0.0', '1 worker has spent the budget of memory',
    'logs: 12 lines were lost, 0 writes have failed', 'traces: 5 spans were lost',
    'error reports do not get through: https://***@sentry.internal/4: connect ECONNREFUSED', notice, 'of another build',
  ])
  assert.deepEqual(sampled(() => {}).notices, [])
})

test('sample: the last changes come first, and a reason shows no password', () => {
  const outcomes = Array.from({ length: 7 }, (_, index) => ({
    id: `reload-${index}`, kind: 'reload' as const, result: 'refused' as const, configuration: false, from: '/srv/a', to: '/srv/b',
    reason: `cannot reach postgres://admin:secret@db/shop ${'x'.repeat(1000)}`, generation: 7, supervisorReplaced: false, steps: [],
    ...index === 6 ? { endedAt: 500 } : {},
  }))
  const { changes } = sampled(() => {}, { status: { ...STATUS, outcomes } })
  assert.deepEqual(changes.map(({ id, endedAtMs }) => [id, endedAtMs]), [
    ['reload-6', 500], ['reload-5', 0], ['reload-4', 0], ['reload-3', 0], ['reload-2', 0],
  ])
  assert.ok(changes[0]!.reason.startsWith('cannot reach postgres://***@db/shop xxx') && changes[0]!.reason.length === 400)
  assert.equal(changes[0]!.release, 'b')
})
