/**
 * What other proxies call what is counted here, for dashboards and alerts that know their names. Families with those names are made
 * from the totals of each scrape; nothing is counted for them. Pure.
 *
 * A row says from which of our metrics a family is made and which labels its series have. What another proxy has and we do not count
 * is left out, as are labels that we do not have: an empty one would be a false one. docs/metrics.md has the table, from here.
 *
 * Names, labels and kinds are those that the other proxies themselves show: Traefik 3 (pkg/observability/metrics), Caddy 2, HAProxy
 * 2.4 and later (its own exporter), and the exporter of nginx (nginx-prometheus-exporter, for stub_status). A test compares those of
 * Caddy and HAProxy with what the programs say.
 */
import type { MetricNames } from '../src/config/metric-names.ts'
import type { MetricFamily, MetricKind } from '../src/ipc/metric-memory.ts'
import { addAll, type MetricTotals } from './metric-ledger.ts'

type Labels = Readonly<Record<string, string>>

export interface CompatRow {
  readonly name: string
  readonly kind: MetricKind
  readonly help: string
  readonly labels: readonly string[]
  /** Names of our metrics, and by how much each counts: of the values of all their series that come to the same labels is made one. */
  readonly from: Readonly<Record<string, number>>
  /** The values of its labels, for a series of ours with these; null: that one is not a part of it. */
  readonly place: (own: Labels) => readonly string[] | null
  /** Of a histogram of ours: how many values it has. @default false */
  readonly count?: boolean
  /** What is shown for the value of a series of ours. @default the value */
  readonly as?: (value: number) => number
  /** What several series together have. @default 'sum' */
  readonly over?: 'sum' | 'least'
  /** Where it is another thing than the name says there; '' where it is the same. */
  readonly differs: string
}

const HTTP = 'http'
const OWN_BOUNDS = 'bounds of buckets are ours'

/** Families by the names of Traefik. It calls a listener entry point. */
const TRAEFIK: readonly CompatRow[] = [
  {
    name: 'traefik_entrypoint_requests_total', kind: 'counter', labels: ['code', 'method', 'protocol', 'entrypoint'], count: true,
    help: 'Requests, by status, method and listener.', from: { http_server_request_duration_seconds: 1 },
    place: own => [own['http_response_status_code']!, own['http_request_method']!, HTTP, own['listener']!],
    differs: 'protocol is always http; the code is empty where none was sent',
  },
  {
    name: 'traefik_entrypoint_request_duration_seconds', kind: 'histogram', labels: ['code', 'method', 'protocol', 'entrypoint'],
    help: 'Durations of requests, by status, method and listener.', from: { http_server_request_duration_seconds: 1 },
    place: own => [own['http_response_status_code']!, own['http_request_method']!, HTTP, own['listener']!], differs: OWN_BOUNDS,
  },
  {
    name: 'traefik_entrypoint_requests_bytes_total', kind: 'counter', labels: ['protocol', 'entrypoint'],
    help: 'Bytes of request bodies.', from: { cirque_request_bytes_total: 1 }, place: own => [HTTP, own['listener']!],
    differs: 'no code and method',
  },
  {
    name: 'traefik_entrypoint_responses_bytes_total', kind: 'counter', labels: ['protocol', 'entrypoint'],
    help: 'Bytes of response bodies.', from: { cirque_response_bytes_total: 1 }, place: own => [HTTP, own['listener']!],
    differs: 'no code and method',
  },
  {
    name: 'traefik_service_requests_total', kind: 'counter', labels: ['code', 'protocol', 'service'], count: true,
    help: 'Answers of origins, by status and upstream.', from: { http_client_request_duration_seconds: 1 },
    place: own => own['http_response_status_code'] === '' ? null : [own['http_response_status_code']!, HTTP, own['upstream']!],
    differs: 'attempts that an origin answered, retries each by itself; no method',
  },
  {
    name: 'traefik_service_request_duration_seconds', kind: 'histogram', labels: ['code', 'protocol', 'service'],
    help: 'Durations of attempts that origins answered.', from: { http_client_request_duration_seconds: 1 },
    place: own => own['http_response_status_code'] === '' ? null : [own['http_response_status_code']!, HTTP, own['upstream']!],
    differs: `no method; ${OWN_BOUNDS}`,
  },
  {
    name: 'traefik_service_retries_total', kind: 'counter', labels: ['service'], help: 'Attempts that were followed by another one.',
    from: { cirque_upstream_retries_total: 1 }, place: own => [own['upstream']!], differs: '',
  },
  {
    name: 'traefik_service_server_up', kind: 'gauge', labels: ['service', 'url'], help: '1 while a backend gets traffic.', over: 'least',
    from: { cirque_upstream_target_up: 1 }, place: own => [own['upstream']!, `http://${own['target']}`],
    differs: 'failed attempts take a backend out as well',
  },
  {
    name: 'traefik_open_connections', kind: 'gauge', labels: ['protocol'], help: 'Connections of clients that are open.',
    from: { cirque_connections: 1 }, place: () => ['TCP'], differs: 'no entrypoint',
  },
  {
    name: 'traefik_config_reloads_total', kind: 'counter', labels: [], help: 'Reloads, upgrades and roll-backs that came into force.',
    from: { cirque_upgrades_total: 1 }, place: own => own['result'] === 'committed' ? [] : null,
    differs: 'upgrades and roll-backs as well',
  },
  {
    name: 'traefik_config_last_reload_success', kind: 'gauge', labels: [], help: 'When the last of them came into force.',
    from: { cirque_config_last_reload_success_timestamp_seconds: 1 }, place: () => [], differs: '',
  },
]

const REVERSE_PROXY = 'reverse_proxy'

/** Families by the names of Caddy. It calls a service server. */
const CADDY: readonly CompatRow[] = [
  {
    name: 'caddy_http_requests_total', kind: 'counter', labels: ['server', 'handler'], help: 'Requests.',
    from: { cirque_requests_total: 1 }, place: own => [own['service']!, REVERSE_PROXY], differs: 'counted at their end',
  },
  {
    name: 'caddy_http_requests_in_flight', kind: 'gauge', labels: ['handler'], help: 'Requests under way.',
    from: { http_server_active_requests: 1 }, place: () => [REVERSE_PROXY], differs: 'no server',
  },
  {
    name: 'caddy_http_request_errors_total', kind: 'counter', labels: ['handler'], help: '5xx answers that were made here.',
    from: { cirque_own_faults_total: 1 }, place: () => [REVERSE_PROXY], differs: 'no server',
  },
  {
    name: 'caddy_http_request_duration_seconds', kind: 'histogram', labels: ['server', 'handler', 'code', 'method'],
    help: 'Durations of requests.', from: { http_server_request_duration_seconds: 1 },
    place: own => [serviceOf(own), REVERSE_PROXY, own['http_response_status_code']!, own['http_request_method']!], differs: OWN_BOUNDS,
  },
  {
    name: 'caddy_http_response_duration_seconds', kind: 'histogram', labels: ['server', 'handler'],
    help: 'From the head of a request to the first byte of its answer.', from: { cirque_time_to_first_byte_seconds: 1 },
    place: own => [serviceOf(own), REVERSE_PROXY], differs: `no code and method; answers of origins alone; ${OWN_BOUNDS}`,
  },
  {
    name: 'caddy_reverse_proxy_upstreams_healthy', kind: 'gauge', labels: ['upstream'], help: '1 while a backend gets traffic.',
    over: 'least', from: { cirque_upstream_target_up: 1 }, place: own => [own['target']!],
    differs: 'failed attempts take a backend out as well',
  },
]

const CLASSES: ReadonlySet<string> = new Set(['1xx', '2xx', '3xx', '4xx', '5xx'])

/** Families by the names of HAProxy. A service is a frontend, a load balancer is a backend, its backends are servers. */
const HAPROXY: readonly CompatRow[] = [
  {
    name: 'haproxy_frontend_http_requests_total', kind: 'counter', labels: ['proxy'], help: 'Requests.',
    from: { cirque_requests_total: 1 }, place: own => [own['service']!], differs: 'counted at their end',
  },
  {
    name: 'haproxy_frontend_http_responses_total', kind: 'counter', labels: ['proxy', 'code'], help: 'Answers, by class of the status.',
    from: { cirque_requests_total: 1 },
    place: own => CLASSES.has(own['code']!) ? [own['service']!, own['code']!] : null,
    differs: 'there is no other',
  },
  {
    name: 'haproxy_frontend_connections_total', kind: 'counter', labels: ['proxy'], help: 'Connections of clients that were accepted.',
    from: { cirque_connections_total: 1 }, place: own => own['result'] === 'accepted' ? [own['service']!] : null, differs: '',
  },
  {
    name: 'haproxy_backend_http_responses_total', kind: 'counter', labels: ['proxy', 'code'], count: true,
    help: 'Answers of origins, by class of the status.', from: { http_client_request_duration_seconds: 1 },
    place: own => {
      const code = `${own['http_response_status_code']!.slice(0, 1)}xx`
      return CLASSES.has(code) ? [own['upstream']!, code] : null
    },
    differs: 'proxy is the peer',
  },
  {
    name: 'haproxy_backend_retry_warnings_total', kind: 'counter', labels: ['proxy'], help: 'Attempts that were followed by another one.',
    from: { cirque_upstream_retries_total: 1 }, place: own => [own['upstream']!], differs: 'proxy is the peer',
  },
  {
    name: 'haproxy_backend_active_servers', kind: 'gauge', labels: ['proxy'], help: 'Backends that get traffic.',
    from: { cirque_upstream_target_up: 1 }, place: own => [own['upstream']!], differs: '',
  },
  serverStatus('UP', up => up),
  serverStatus('DOWN', up => 1 - up),
  {
    name: 'haproxy_process_current_connections', kind: 'gauge', labels: [], help: 'Connections of clients that are open.',
    from: { cirque_connections: 1 }, place: () => [], differs: 'those of clients alone',
  },
  {
    name: 'haproxy_process_max_connections', kind: 'gauge', labels: [], help: 'Connections of clients that there is room for.',
    from: { cirque_connections_limit: 1 }, place: () => [], differs: 'all workers together; 0: there is no limit',
  },
  {
    name: 'haproxy_process_connections_total', kind: 'counter', labels: [], help: 'Connections of clients that were accepted.',
    from: { cirque_connections_total: 1 }, place: own => own['result'] === 'accepted' ? [] : null, differs: '',
  },
  {
    name: 'haproxy_process_requests_total', kind: 'counter', labels: [], help: 'Requests.', from: { cirque_requests_total: 1 },
    place: () => [], differs: 'counted at their end',
  },
  {
    name: 'haproxy_process_start_time_seconds', kind: 'gauge', labels: [], help: 'When this server was started.',
    from: { process_start_time_seconds: 1 }, place: () => [], differs: 'a replacement in place changes nothing',
  },
]

/**
 * Families by the names of nginx' exporter. Its counters of connections do not end in _total, so that OpenMetrics, which adds that to
 * counters, would change their names: they are gauges here.
 */
const NGINX: readonly CompatRow[] = [
  {
    name: 'nginx_connections_accepted', kind: 'gauge', labels: [], help: 'Connections that came.', from: { cirque_connections_total: 1 },
    place: () => [], differs: 'its kind is gauge',
  },
  {
    name: 'nginx_connections_handled', kind: 'gauge', labels: [], help: 'Connections that were let in.',
    from: { cirque_connections_total: 1 }, place: own => own['result'] === 'accepted' ? [] : null, differs: 'its kind is gauge',
  },
  {
    name: 'nginx_connections_active', kind: 'gauge', labels: [], help: 'Connections that are open.', from: { cirque_connections: 1 },
    place: () => [], differs: '',
  },
  {
    name: 'nginx_connections_waiting', kind: 'gauge', labels: [], help: 'Connections that wait for their next request.',
    from: { cirque_connections_idle: 1 }, place: () => [], differs: '',
  },
  {
    name: 'nginx_connections_writing', kind: 'gauge', labels: [], help: 'Requests under way.', from: { http_server_active_requests: 1 },
    place: () => [], differs: 'from the whole head of the request on',
  },
  {
    name: 'nginx_connections_reading', kind: 'gauge', labels: [], help: 'Connections that have not sent a whole head.',
    from: { cirque_connections: 1, cirque_connections_idle: -1, http_server_active_requests: -1 }, place: () => [],
    differs: 'active less waiting and writing',
  },
  {
    name: 'nginx_http_requests_total', kind: 'counter', labels: [], help: 'Requests.', from: { cirque_requests_total: 1 },
    place: () => [], differs: 'counted at their end',
  },
]

export const COMPAT_NAMES: Readonly<Record<MetricNames, readonly CompatRow[]>> = {
  traefik: TRAEFIK, caddy: CADDY, haproxy: HAPROXY, nginx: NGINX,
}

function serverStatus(state: 'UP' | 'DOWN', as: (up: number) => number): CompatRow {
  return {
    name: 'haproxy_server_status', kind: 'gauge', labels: ['proxy', 'server', 'state'], help: 'Whether a backend gets traffic, by state.',
    from: { cirque_upstream_target_up: 1 }, place: own => [own['upstream']!, own['target']!, state], as, over: 'least',
    differs: 'UP and DOWN are the only states; server is the address',
  }
}

/** Listeners are called after their service: `service/address`. */
function serviceOf({ listener = '' }: Labels): string { return listener.split('/', 1)[0]! }

/** The families of other proxies, from totals that stay as they are. */
export function compatTotals(totals: MetricTotals, names: readonly MetricNames[]): MetricTotals {
  const made: MetricTotals = new Map()
  for (const name of new Set(names)) for (const row of COMPAT_NAMES[name]) addRow(made, row, totals)
  return made
}

function addRow(made: MetricTotals, row: CompatRow, totals: MetricTotals): void {
  const { name, kind, help, labels, from, place, count = false, as = (value: number) => value, over = 'sum' } = row
  for (const [source, factor] of Object.entries(from)) {
    const own = totals.get(source)
    if (own === undefined) continue
    const bounds = kind === 'histogram' ? own.family.bounds : []
    const family: MetricFamily = { name, kind, help, labels, bounds, over }
    for (const { labelValues, values } of own.series.values()) {
      const labelsOf = Object.fromEntries(own.family.labels.map((label, index) => [label, labelValues[index] ?? '']))
      const placed = place(labelsOf)
      if (placed === null) continue
      // Behind the buckets of a histogram stands its sum.
      const taken = count ? Float64Array.of(values.subarray(0, -1).reduce((sum, value) => sum + value, 0)) : values
      addAll(made, [{ family, labelValues: placed, values: taken.map(value => factor * as(value)) }])
    }
  }
  // A difference of counts of several workers, which come one after the other.
  if (Object.keys(from).length > 1) for (const { values } of made.get(name)?.series.values() ?? []) values[0] = Math.max(0, values[0]!)
}
