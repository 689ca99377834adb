/**
 * Every metric that Cirque has: what it is called, what it counts, its labels. docs/metrics.md has its tables from here, and a
 * metric that is in no table can be neither counted nor shown.
 *
 * Names begin with `cirque_`, or are those of OpenTelemetry's conventions (`http_server_…`, `http_client_…`) and of Prometheus
 * (`process_…`). Times are in seconds, sizes in bytes. Values of labels are closed sets, or names that an operator or the
 * application has given: never a path, a host or an address of a client.
 */
import type { GaugeSum, MetricKind } from './metric-memory.ts'
import type { OpenCounts } from './open-counts.ts'

export interface MetricRow {
  readonly kind: MetricKind
  readonly help: string
  readonly labels: readonly string[]
  /** Of a gauge, see GaugeSum. @default 'sum' */
  readonly over?: GaugeSum
  /** Of a histogram: whether its series have exemplars. @default false */
  readonly exemplars?: boolean
}

const ON_LISTENER = ['service', 'listener'] as const

/** Counted by workers as it happens, and exact whatever ends a worker. */
export const TRAFFIC_METRICS = {
  'cirque_requests_total': {
    kind: 'counter', labels: [...ON_LISTENER, 'method', 'code', 'flag'],
    help: 'Requests that ended, by method (_OTHER: unusual), class of the status sent (none: none was) and flag of the access log.',
  },
  'cirque_requests_refused_total': {
    kind: 'counter', labels: [...ON_LISTENER, 'flag'], help: 'Heads that broke the rules before they became a request.',
  },
  'http_server_request_duration_seconds': {
    kind: 'histogram', labels: ['listener', 'http_request_method', 'http_response_status_code'], exemplars: true,
    help: 'From the whole head of a request to the end of its exchange; the status is empty where none was sent.',
  },
  'cirque_time_to_first_byte_seconds': {
    kind: 'histogram', labels: ['listener'], help: 'From the whole head of a request to the first head of the answer of its origin.',
  },
  'cirque_request_bytes_total': { kind: 'counter', labels: ['listener'], help: 'Bytes of request bodies received from clients.' },
  'cirque_response_bytes_total': { kind: 'counter', labels: ['listener'], help: 'Bytes of response bodies sent to clients.' },
  'cirque_limit_exceeded_total': {
    kind: 'counter', labels: ['limit'], help: 'Requests and connections that passed a limit, by its name in the access log.',
  },
  'cirque_connections_total': {
    kind: 'counter', labels: [...ON_LISTENER, 'result'],
    help: 'Connections of clients: accepted, or turned away by the limit that is named.',
  },
  'cirque_tls_handshakes_total': {
    kind: 'counter', labels: ['listener', 'version', 'resumed', 'result'],
    help: 'Handshakes with clients, by how they ended: ok, or why not; the version is empty then.',
  },
  'cirque_tls_handshake_seconds': {
    kind: 'histogram', labels: ['listener', 'resumed'],
    help: 'Of handshakes that went well, from the whole ClientHello to their end, waiting for their turn included.',
  },
  'http_client_request_duration_seconds': {
    kind: 'histogram', labels: ['upstream', 'http_response_status_code', 'error_type'],
    help: 'Attempts at origins, from the choice of a peer to their end; the status is empty where none came.',
  },
  'cirque_upstream_first_byte_seconds': {
    kind: 'histogram', labels: ['upstream'], help: 'From the head of a request being sent to an origin to the first head of its answer.',
  },
  'cirque_upstream_reuse_total': {
    kind: 'counter', labels: ['upstream', 'reused'], help: 'Attempts that had a connection, by whether it had carried exchanges before.',
  },
  'cirque_upstream_retries_total': {
    kind: 'counter', labels: ['upstream', 'reason'],
    help: 'Attempts that failed and were followed by another one.',
  },
  'cirque_upstream_retry_budget_exhausted_total': {
    kind: 'counter', labels: [], help: 'Requests whose repetition was called for and not allowed by the retry budget.',
  },
  'cirque_upstream_connects_total': {
    kind: 'counter', labels: ['upstream', 'result'],
    help: 'Dials of origins that ended: ok, or the kind of error.',
  },
  'cirque_upstream_connect_seconds': {
    kind: 'histogram', labels: ['upstream'], help: 'Dials of origins that succeeded: name, addresses and handshakes included.',
  },
  'cirque_upstream_tls_handshake_seconds': {
    kind: 'histogram', labels: ['upstream', 'resumed'],
    help: 'TLS handshakes with origins that succeeded, by whether an earlier session was taken up again.',
  },
} as const satisfies Readonly<Record<string, MetricRow>>

/** What a worker has measured of itself; told with each heartbeat. */
export const PROCESS_METRICS = {
  'cirque_worker_event_loop_delay_seconds': { kind: 'gauge', labels: ['slot'], over: 'greatest', help: 'How late the last heartbeat was.' },
  'cirque_worker_event_loop_utilization_ratio': {
    kind: 'gauge', labels: ['slot'], over: 'greatest',
    help: 'Share of the time since the heartbeat before in which the event loop was busy, 0 to 1.',
  },
  'cirque_worker_rss_bytes': { kind: 'gauge', labels: ['slot'], help: 'Resident memory.' },
  'cirque_worker_heap_used_bytes': { kind: 'gauge', labels: ['slot'], help: 'Memory that JavaScript objects take.' },
  'cirque_worker_cpu_seconds_total': { kind: 'counter', labels: ['slot', 'mode'], help: 'Processor time.' },
  'cirque_worker_open_descriptors': { kind: 'gauge', labels: ['slot'], help: 'Open descriptors.' },
  'cirque_worker_max_descriptors': {
    kind: 'gauge', labels: ['slot'], over: 'least', help: 'Descriptors that the process may have open; left out where there is no limit.',
  },
  'cirque_worker_gc_seconds_total': {
    kind: 'counter', labels: ['slot', 'type'],
    help: 'Time in which garbage was collected and nothing else was done.',
  },
  'cirque_worker_gc_runs_total': { kind: 'counter', labels: ['slot', 'type'], help: 'Garbage collections.' },
  'cirque_upstream_target_up': {
    kind: 'gauge', labels: ['upstream', 'target'], over: 'least',
    help: '1 while a backend of a load balancer gets traffic, 0 while it does not; 0 as soon as one worker says so.',
  },
  'cirque_upstream_ejections_total': {
    kind: 'counter', labels: ['upstream', 'reason'],
    help: 'Backends that a load balancer took out of traffic, counted in each worker: after failed attempts, or by a health check.',
  },
  'cirque_metrics_overflowed_total': {
    kind: 'counter', labels: [], help: 'How often values of labels found no series of their own, and were counted as _overflow.',
  },
} as const satisfies Readonly<Record<string, MetricRow>>

/** Of the supervisor. */
export const SUPERVISOR_METRICS = {
  'cirque_build_info': { kind: 'gauge', labels: ['version', 'node'], help: '1, with what runs as its labels.' },
  'cirque_workers': { kind: 'gauge', labels: ['state'], help: 'Worker processes.' },
  'cirque_worker_restarts_total': { kind: 'counter', labels: ['reason'], help: 'Workers that ended although they were not to.' },
  'cirque_config_generation': {
    kind: 'gauge', labels: [],
    help: 'Generation that serves: one more with each committed reload or upgrade.',
  },
  'cirque_config_last_reload_successful': {
    kind: 'gauge', labels: [],
    help: '1 when the last reload, upgrade or roll-back was committed, or there was none; 0 otherwise.',
  },
  'cirque_config_last_reload_success_timestamp_seconds': {
    kind: 'gauge', labels: [], help: 'When a reload, upgrade or roll-back was committed last; left out when there was none.',
  },
  'cirque_upgrades_total': { kind: 'counter', labels: ['kind', 'result'], help: 'Upgrades, reloads and roll-backs that ended.' },
  'cirque_sentry_suppressed_total': {
    kind: 'counter', labels: [],
    help: 'Faults that no error report was made of: one of their kind was told, or there were many.',
  },
  'cirque_scrape_missing_workers': { kind: 'gauge', labels: [], help: 'Workers whose metrics could not be read for this answer.' },
  'process_resident_memory_bytes': { kind: 'gauge', labels: [], help: 'Resident memory of the supervisor.' },
  'process_cpu_seconds_total': { kind: 'counter', labels: [], help: 'Processor time of the supervisor.' },
  'process_start_time_seconds': {
    kind: 'gauge', labels: [],
    help: 'When this server was started; a replacement in place changes nothing.',
  },
} as const satisfies Readonly<Record<string, MetricRow>>

/**
 * What of the counts of heartbeats becomes which metric, with which labels. Counters are as of the last heartbeat.
 * Series of one metric never contain each other, so that their sum is a number with a meaning.
 */
export const COUNT_METRICS: readonly CountMetric[] = [
  gauge('cirque_connections', 'Connections of clients that are open.', '', { connections: '' }),
  gauge('cirque_connections_idle', 'Of the open connections of clients, those that wait for their next request.', '', {
    idleConnections: '',
  }),
  gauge('cirque_connections_upgraded', 'Of the open connections of clients, those that switched protocols.', '', { upgraded: '' }),
  gauge('cirque_connections_websocket', 'Of the connections that switched protocols, the WebSockets.', '', { webSockets: '' }),
  gauge('cirque_connections_limit', 'Connections of clients that there is room for; 0: there is no limit.', '', {
    connectionLimit: '',
  }),
  gauge('http_server_active_requests', 'Requests under way.', '', { activeExchanges: '' }),
  counter('cirque_own_faults_total', '5xx answers made here: of internal faults, or because an upstream could not be reached or broke off.',
    'source', { ownFaults: 'internal', upstreamFaults: 'upstream' }),
  counter('cirque_requests_shed_total', 'Requests answered with 503 because of the load.', '', { shed: '' }),
  counter('cirque_connections_evicted_total', 'Connections that were cut while they waited, for want of room.', '', { evicted: '' }),
  gauge('cirque_held_bytes', 'What connections and requests hold, as the memory budget counts it.', '', { heldBytes: '' }),
  gauge('cirque_memory_budget_bytes', 'What connections and requests may hold; past 90 % of it requests are shed.', '', {
    memoryBudgetBytes: '',
  }),
  gauge('cirque_memory_exhausted_workers', 'Workers that have spent their budget of memory.', '', { exhausted: '' }),
  gauge('cirque_upstream_connections', 'Connections to origins.', 'state', {
    poolLent: 'active', poolIdle: 'idle', poolDialling: 'dialling',
  }),
  gauge('cirque_pool_waiting_requests', 'Requests that wait for a connection to an origin.', '', { poolWaiting: '' }),
  counter('cirque_pool_requests_total', 'Requests that asked the pool for a connection.', 'result', {
    poolHits: 'hit', poolMisses: 'miss',
  }),
  counter('cirque_pool_closed_total', 'Connections at rest that ended.', 'reason', {
    poolEvicted: 'evicted', poolSurplus: 'surplus', poolDoubted: 'doubted', poolRetired: 'retired', poolClosedByOrigin: 'closed-by-origin',
    poolUnexpectedBytes: 'unexpected-bytes', poolIdleTimeouts: 'idle-timeout',
  }),
  counter('cirque_pool_queued_total', 'Requests that had to wait for a connection to an origin.', '', { poolQueued: '' }),
  counter('cirque_pool_queue_failed_total', 'Requests that found the queue for connections full, or waited in it for too long.', 'reason', {
    poolQueueFull: 'full', poolQueueTimeouts: 'timeout',
  }),
  counter('cirque_dials_total', 'Dials of origins that were begun.', '', { dials: '' }),
  counter('cirque_dials_failed_total', 'Dials of origins that failed.', '', { dialsFailed: '' }),
  counter('cirque_dials_cancelled_total', 'Dials of origins that nobody waited for any more.', '', { dialsCancelled: '' }),
  counter('cirque_resolver_questions_total', 'Questions to name servers.', '', { nameQuestions: '' }),
  counter('cirque_resolver_answers_total', 'How questions to name servers ended.', 'result', {
    nameAnswers: 'answered', nameNegatives: 'no-such-name', nameFailures: 'failed',
  }),
  counter('cirque_resolver_lookups_total', 'Names that were known, that an old answer stood in for, or whose answer took too long.',
    'result', { nameHits: 'hit', nameStale: 'stale', nameTimeouts: 'timeout' }),
  gauge('cirque_backends', 'Backends of load balancers, counted in each worker.', '', { backends: '' }),
  gauge('cirque_backends_ready', 'Of the backends of load balancers, those that get traffic, counted in each worker.', '', {
    backendsReady: '',
  }),
  counter('cirque_log_lines_dropped_total', 'Lines that a log did not take.', '', { logLinesDropped: '' }),
  counter('cirque_log_faults_total', 'Writes to logs, and openings of them, that failed.', '', { logFaults: '' }),
  counter('cirque_tracer_faults_total', 'What tracers threw or rejected.', '', { tracerFaults: '' }),
  counter('cirque_trace_spans_dropped_total', 'Spans that the collector did not take, or that found no room to wait for it.', '', {
    traceSpansDropped: '',
  }),
  counter('cirque_unhandled_rejections_total', 'Rejected promises that nobody handled.', '', { unhandledRejections: '' }),
]

export interface CountMetric extends MetricRow {
  readonly name: string
  /** Which count is the series with which value of the label. */
  readonly counts: Readonly<Partial<Record<keyof OpenCounts, string>>>
}

function gauge(name: string, help: string, label: string, counts: CountMetric['counts']): CountMetric {
  return { name, kind: 'gauge', help, labels: label === '' ? [] : [label], counts }
}

function counter(name: string, help: string, label: string, counts: CountMetric['counts']): CountMetric {
  return { ...gauge(name, help, label, counts), kind: 'counter' }
}
