import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { METRIC_NAMES, type MetricNames } from '../../src/config/metric-names.ts'
import { COUNT_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS, TRAFFIC_METRICS, type MetricRow } from '../../src/ipc/metric-table.ts'
import { DURATION_BOUNDS } from '../../src/telemetry/metrics.ts'
import { COMPAT_NAMES, compatTotals, type CompatRow } from '../../supervisor/compat-names.ts'
import { addAll, type MetricTotals } from '../../supervisor/metric-ledger.ts'

const OURS = new Map<string, MetricRow>([
  ...[TRAFFIC_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS].flatMap(table => Object.entries<MetricRow>(table)),
  ...COUNT_METRICS.map((row): [string, MetricRow] => [row.name, row]),
])
const ROWS: readonly CompatRow[] = Object.values(COMPAT_NAMES).flat()

/** Totals with one series: its labels by name, and its values. */
function add(totals: MetricTotals, name: string, labels: Readonly<Record<string, string>>, ...values: number[]): void {
  const { kind, labels: names, over } = OURS.get(name)!
  const bounds = kind === 'histogram' ? DURATION_BOUNDS : []
  const padded = new Float64Array(kind === 'histogram' ? DURATION_BOUNDS.length + 2 : 1)
  padded.set(values)
  const family = { name, kind, help: 'h', labels: names, bounds, ...over === undefined ? null : { over } }
  addAll(totals, [{ family, labelValues: names.map(label => labels[label] ?? ''), values: padded }])
}

/** What is shown under names of one proxy: `name{values of labels}` with its values. */
function shown(totals: MetricTotals, ...names: readonly MetricNames[]): Record<string, readonly number[]> {
  const all: Record<string, readonly number[]> = {}
  for (const [name, { series }] of compatTotals(totals, names)) {
    for (const { labelValues, values } of series.values()) all[`${name}{${labelValues.join()}}`] = [...values]
  }
  return all
}

test('compat names: rows name metrics and labels of ours, and have as many values as labels', () => {
  for (const { name, from, kind, labels, place, count = false } of ROWS) {
    for (const source of Object.keys(from)) {
      const own = OURS.get(source)
      assert.ok(own !== undefined, `${name} is made from ${source}, which is not in the table`)
      assert.equal(kind === 'histogram' || count, own.kind === 'histogram', name)
      const asked: string[] = []
      const placed = place(new Proxy<Record<string, string>>({}, { get: (_, label) => { asked.push(String(label)); return '200' } }))
      assert.deepEqual(asked.filter(label => !own.labels.includes(label)), [], name)
      if (placed !== null) assert.equal(placed.length, labels.length, name)
    }
  }
  for (const words of METRIC_NAMES) {
    for (const row of COMPAT_NAMES[words]) assert.ok(row.name.startsWith(`${words}_`), row.name)
  }
})

test('compat names: what is counted once shows under each name, and what has no place there does not', () => {
  const totals: MetricTotals = new Map()
  const web = { service: 'web', listener: 'web/127.0.0.1:80' }
  add(totals, 'cirque_requests_total', { ...web, method: 'GET', code: '2xx', flag: '-' }, 7)
  add(totals, 'cirque_requests_total', { ...web, method: 'GET', code: 'none', flag: 'CD' }, 1)
  add(totals, 'http_server_request_duration_seconds',
    { ...web, http_request_method: 'GET', http_response_status_code: '200' }, 3, 4)
  add(totals, 'http_client_request_duration_seconds', { upstream: 'api', http_response_status_code: '503' }, 2)
  add(totals, 'http_client_request_duration_seconds', { upstream: 'api', error_type: 'CONNECT_REFUSED' }, 5)
  add(totals, 'cirque_connections_total', { ...web, result: 'accepted' }, 9)
  add(totals, 'cirque_connections_total', { ...web, result: 'max-connections' }, 2)
  for (const [target, up] of [['a:1', 1], ['b:1', 0]] as const) add(totals, 'cirque_upstream_target_up', { upstream: 'api', target }, up)
  add(totals, 'cirque_upgrades_total', { kind: 'reload', result: 'committed' }, 3)
  add(totals, 'cirque_upgrades_total', { kind: 'upgrade', result: 'rolled-back' }, 1)
  for (const [name, value] of [['cirque_connections', 10], ['cirque_connections_idle', 4], ['http_server_active_requests', 5]] as const) {
    add(totals, name, {}, value)
  }

  const traefik = shown(totals, 'traefik')
  assert.deepEqual(traefik['traefik_entrypoint_requests_total{200,GET,http,web/127.0.0.1:80}'], [7])
  assert.deepEqual(traefik['traefik_entrypoint_request_duration_seconds{200,GET,http,web/127.0.0.1:80}']!.slice(0, 3), [3, 4, 0])
  assert.deepEqual(Object.entries(traefik).filter(([key]) => key.startsWith('traefik_service_requests')), [
    ['traefik_service_requests_total{503,http,api}', [2]],
  ])
  assert.deepEqual([traefik['traefik_service_server_up{api,http://a:1}'], traefik['traefik_config_reloads_total{}']], [[1], [3]])

  const caddy = shown(totals, 'caddy')
  assert.deepEqual(caddy['caddy_http_requests_total{web,reverse_proxy}'], [8])
  assert.deepEqual([caddy['caddy_reverse_proxy_upstreams_healthy{a:1}'], caddy['caddy_reverse_proxy_upstreams_healthy{b:1}']], [[1], [0]])
  assert.equal(caddy['caddy_http_request_duration_seconds{web,reverse_proxy,200,GET}']?.length, 18)

  const haproxy = shown(totals, 'haproxy')
  assert.deepEqual(Object.keys(haproxy).filter(key => key.startsWith('haproxy_frontend_http_responses')), [
    'haproxy_frontend_http_responses_total{web,2xx}',
  ])
  const status = ['a:1,UP', 'a:1,DOWN', 'b:1,UP', 'b:1,DOWN'].map(labels => haproxy[`haproxy_server_status{api,${labels}}`])
  assert.deepEqual(status, [[1], [0], [0], [1]])
  assert.deepEqual([haproxy['haproxy_backend_active_servers{api}'], haproxy['haproxy_backend_http_responses_total{api,5xx}']], [[1], [2]])

  assert.deepEqual(shown(totals, 'nginx'), {
    'nginx_connections_accepted{}': [11], 'nginx_connections_handled{}': [9], 'nginx_connections_active{}': [10],
    'nginx_connections_waiting{}': [4], 'nginx_connections_writing{}': [5], 'nginx_connections_reading{}': [1],
    'nginx_http_requests_total{}': [8],
  })
  add(totals, 'http_server_active_requests', {}, 20)
  assert.deepEqual(shown(totals, 'nginx')['nginx_connections_reading{}'], [0])
})

test('compat names: totals stay as they are, names asked for twice are there once, and none add nothing', () => {
  const counts = fc.array(fc.record({ code: fc.constantFrom('1xx', '2xx', '5xx', 'none'), by: fc.nat(1000) }), { maxLength: 20 })
  fc.assert(fc.property(counts, fc.array(fc.constantFrom(...METRIC_NAMES), { maxLength: 6 }), (all, names) => {
    const totals: MetricTotals = new Map()
    const own = { service: 's', listener: 's/l', method: 'GET', flag: '-' }
    for (const { code, by } of all) add(totals, 'cirque_requests_total', { ...own, code }, by)
    const sum = all.reduce((whole, { by }) => whole + by, 0)
    const written = (): string => JSON.stringify([...totals.values()].map(({ series }) => [...series]))
    const before = written()
    const seen = shown(totals, ...names)
    assert.equal(written(), before)
    assert.deepEqual(seen, shown(totals, ...new Set(names)))
    // Traefik has requests by their status alone.
    assert.equal(Object.keys(seen).length > 0, all.length > 0 && names.some(name => name !== 'traefik'))
    if (names.includes('nginx') && all.length > 0) assert.deepEqual(seen['nginx_http_requests_total{}'], [sum])
  }))
})
