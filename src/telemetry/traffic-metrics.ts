/**
 * Counts exchanges and attempts, and what a Tracer is told of connections (ipc/metric-table.ts says as what). It is called for every
 * request, so series are found once and kept: by the listener or peer of the one before, then by small whole numbers.
 *
 * Callbacks that would make each request dearer are left out: `upstreamClosed` has every byte from an origin pass a stream more.
 */
import { TRAFFIC_METRICS } from '../ipc/metric-table.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import type { Counter, Histogram, Metric, Metrics } from './metrics.ts'
import type { CountedAttempt, CountedExchange, ExchangeCounter } from './exchange-counter.ts'
import type {
  DownstreamAccepted, DownstreamRefused, HandshakeEnded, RequestRefused, Tracer, UpstreamConnected, UpstreamConnectFailed,
} from './tracer.ts'

/** RFC 9110 section 9.3, and PATCH (RFC 5789); others are counted as one. */
const METHODS: readonly string[] = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'CONNECT', 'TRACE']
const OTHER_METHOD = METHODS.length
const METHOD_NAMES: readonly string[] = [...METHODS, '_OTHER']
/** By the first digit of the status. */
const CLASSES: readonly string[] = ['none', '1xx', '2xx', '3xx', '4xx', '5xx']
/** A status is below this. */
const STATUS_END = 1000
const MS_PER_SECOND = 1000
/** Listeners and upstreams that a metric tells apart; further ones are counted together. */
const MAX_PLACES = 64
const MAX_UPSTREAMS = 200
/** Combinations of what HTTP says, for one place. */
const MAX_OF_HTTP = 500

/** What is counted of a handshake. */
interface TlsHandshake {
  readonly handshakeMs: number
  readonly resumed: boolean
}

/** Everything that is counted, made once. */
class Families {
  readonly requests: Metric<Counter>
  readonly refused: Metric<Counter>
  readonly durations: Metric<Histogram>
  readonly firstBytes: Metric<Histogram>
  readonly bytesIn: Metric<Counter>
  readonly bytesOut: Metric<Counter>
  readonly limits: Metric<Counter>
  readonly connections: Metric<Counter>
  readonly clientHandshakes: Metric<Counter>
  readonly clientHandshakeTimes: Metric<Histogram>
  readonly attempts: Metric<Histogram>
  readonly upstreamFirstBytes: Metric<Histogram>
  readonly reuse: Metric<Counter>
  readonly retries: Metric<Counter>
  readonly budgetSpent: Metric<Counter>
  readonly connects: Metric<Counter>
  readonly connectTimes: Metric<Histogram>
  readonly handshakes: Metric<Histogram>

  constructor(metrics: Metrics) {
    const add = <Series>(name: keyof typeof TRAFFIC_METRICS, maxSeries: number): Metric<Series> => {
      return metrics.add(TRAFFIC_METRICS[name].kind, { name, ...TRAFFIC_METRICS[name], maxSeries }) as Metric<unknown> as Metric<Series>
    }
    this.requests = add('cirque_requests_total', MAX_OF_HTTP)
    this.refused = add('cirque_requests_refused_total', MAX_OF_HTTP)
    this.durations = add('http_server_request_duration_seconds', MAX_UPSTREAMS)
    this.firstBytes = add('cirque_time_to_first_byte_seconds', MAX_PLACES)
    this.bytesIn = add('cirque_request_bytes_total', MAX_PLACES)
    this.bytesOut = add('cirque_response_bytes_total', MAX_PLACES)
    this.limits = add('cirque_limit_exceeded_total', MAX_PLACES)
    this.connections = add('cirque_connections_total', MAX_OF_HTTP)
    this.clientHandshakes = add('cirque_tls_handshakes_total', MAX_OF_HTTP)
    this.clientHandshakeTimes = add('cirque_tls_handshake_seconds', MAX_PLACES)
    this.attempts = add('http_client_request_duration_seconds', MAX_UPSTREAMS)
    this.upstreamFirstBytes = add('cirque_upstream_first_byte_seconds', MAX_PLACES)
    this.reuse = add('cirque_upstream_reuse_total', MAX_OF_HTTP)
    this.retries = add('cirque_upstream_retries_total', MAX_OF_HTTP)
    this.budgetSpent = add('cirque_upstream_retry_budget_exhausted_total', 1)
    this.connects = add('cirque_upstream_connects_total', MAX_OF_HTTP)
    this.connectTimes = add('cirque_upstream_connect_seconds', MAX_PLACES)
    this.handshakes = add('cirque_upstream_tls_handshake_seconds', MAX_PLACES)
  }
}

export class TrafficMetrics implements Tracer, ExchangeCounter {
  readonly #families: Families
  readonly #listeners = new Map<string, ListenerSeries>()
  readonly #upstreams = new Map<string, UpstreamSeries>()
  readonly #budgetSpent: Counter
  #listener: ListenerSeries | null = null
  #upstream: UpstreamSeries | null = null
  #others: UpstreamSeries | null = null

  constructor(metrics: Metrics) {
    this.#families = new Families(metrics)
    this.#budgetSpent = this.#families.budgetSpent.labels()
  }

  exchangeOver(exchange: CountedExchange): void {
    this.#listenerOf(exchange.listener).over(exchange)
    if (exchange.retryBudgetSpent) this.#budgetSpent.inc()
    if (exchange.error !== null) this.#passed(exchange.error)
  }

  attemptOver(attempt: CountedAttempt, error: ProxyError | null, retried: boolean): void {
    const upstream = this.#upstreamOf(attempt.peer.name)
    upstream.over(attempt, error)
    if (retried && error !== null) upstream.retried(error)
  }

  requestRefused({ listener, flag, error }: RequestRefused): void {
    this.#listenerOf(listener).refused(flag)
    this.#passed(error)
  }

  upstreamConnected({ peer, durationMs, connection }: UpstreamConnected): void {
    const upstream = this.#upstreamOf(peer)
    upstream.connected(durationMs)
    if (connection.tls !== null) upstream.shookHands(connection.tls)
  }

  upstreamConnectFailed({ peer, error }: UpstreamConnectFailed): void { this.#upstreamOf(peer).connectFailed(error) }

  downstreamAccepted({ listener }: DownstreamAccepted): void { this.#listenerOf(listener).accepted() }

  downstreamRefused({ listener, reason }: DownstreamRefused): void {
    this.#listenerOf(listener).turnedAway(reason)
    this.#families.limits.labels(reason).inc()
  }

  handshakeEnded(handshake: HandshakeEnded): void { this.#listenerOf(handshake.listener).shookHands(handshake) }

  #passed({ limit }: ProxyError): void { if (limit !== '') this.#families.limits.labels(limit).inc() }

  #listenerOf(name: string): ListenerSeries {
    const last = this.#listener
    if (last !== null && last.name === name) return last
    let found = this.#listeners.get(name)
    if (found === undefined) {
      found = new ListenerSeries(this.#families, name)
      // Listeners are of the application: there are as many as it has added.
      this.#listeners.set(name, found)
    }
    this.#listener = found
    return found
  }

  /** Peers may be made up for each request: those that have no series of their own share an object as well. */
  #upstreamOf(name: string): UpstreamSeries {
    const last = this.#upstream
    if (last !== null && last.name === name) return last
    let found = this.#upstreams.get(name)
    if (found === undefined) {
      if (this.#upstreams.size >= MAX_UPSTREAMS) return this.#others ??= new UpstreamSeries(this.#families, '_overflow')
      found = new UpstreamSeries(this.#families, name)
      this.#upstreams.set(name, found)
    }
    this.#upstream = found
    return found
  }
}

class ListenerSeries {
  readonly name: string
  readonly #service: string
  readonly #families: Families
  readonly #firstBytes: Histogram
  readonly #bytesIn: Counter
  readonly #bytesOut: Counter
  readonly #accepted: Counter
  /** By method and class, of those that went well. */
  readonly #ok: (Counter | undefined)[] = Array.from({ length: METHOD_NAMES.length * CLASSES.length })
  /** By method and status. */
  readonly #durations = new Map<number, Histogram>()
  #method = ''
  #methodNumber = OTHER_METHOD
  #duration: Histogram | null = null
  #durationKey = -1

  constructor(families: Families, name: string) {
    this.name = name
    this.#service = name.split('/', 1)[0]!
    this.#families = families
    this.#firstBytes = families.firstBytes.labels(name)
    this.#bytesIn = families.bytesIn.labels(name)
    this.#bytesOut = families.bytesOut.labels(name)
    this.#accepted = families.connections.labels(this.#service, name, 'accepted')
  }

  over(exchange: CountedExchange): void {
    const { request, status, flag, startedAt, endedAt, firstByteAt, bytesReceived, bytesSent, trace } = exchange
    const number = this.#numberOf(request.method)
    this.#outcome(number, Math.floor(status / 100), flag).inc()
    const duration = this.#durationOf(number, status), seconds = (endedAt - startedAt) / MS_PER_SECOND
    duration.observe(seconds)
    if (trace !== null) duration.exemplify(seconds, trace.traceId, Date.now() / MS_PER_SECOND)
    if (firstByteAt !== 0) this.#firstBytes.observe((firstByteAt - startedAt) / MS_PER_SECOND)
    if (bytesReceived !== 0) this.#bytesIn.inc(bytesReceived)
    if (bytesSent !== 0) this.#bytesOut.inc(bytesSent)
  }

  refused(flag: string): void { this.#families.refused.labels(this.#service, this.name, flag).inc() }

  accepted(): void { this.#accepted.inc() }

  turnedAway(reason: string): void { this.#families.connections.labels(this.#service, this.name, reason).inc() }

  shookHands({ version, resumed, result, durationMs }: HandshakeEnded): void {
    const { clientHandshakes, clientHandshakeTimes } = this.#families, again = String(resumed)
    clientHandshakes.labels(this.name, version, again, result).inc()
    if (result === 'ok') clientHandshakeTimes.labels(this.name, again).observe(durationMs / MS_PER_SECOND)
  }

  #numberOf(method: string): number {
    if (method !== this.#method) {
      const number = METHODS.indexOf(method)
      this.#method = method
      this.#methodNumber = number === -1 ? OTHER_METHOD : number
    }
    return this.#methodNumber
  }

  #outcome(method: number, statusClass: number, flag: string): Counter {
    if (flag !== '-') return this.#find(method, statusClass, flag)
    return this.#ok[method * CLASSES.length + statusClass] ??= this.#find(method, statusClass, flag)
  }

  #find(method: number, statusClass: number, flag: string): Counter {
    return this.#families.requests.labels(this.#service, this.name, METHOD_NAMES[method]!, CLASSES[statusClass] ?? 'none', flag)
  }

  #durationOf(method: number, status: number): Histogram {
    const key = method * STATUS_END + status
    if (this.#duration === null || key !== this.#durationKey) {
      let found = this.#durations.get(key)
      if (found === undefined) {
        found = this.#families.durations.labels(this.name, METHOD_NAMES[method]!, statusLabel(status))
        this.#durations.set(key, found)
      }
      this.#duration = found
      this.#durationKey = key
    }
    return this.#duration
  }
}

class UpstreamSeries {
  readonly name: string
  readonly #families: Families
  readonly #firstBytes: Histogram
  readonly #reused: Counter
  readonly #fresh: Counter
  /** By status, of those that went well. */
  readonly #ok = new Map<number, Histogram>()
  #last: Histogram | null = null
  #lastStatus = -1

  constructor(families: Families, name: string) {
    this.name = name
    this.#families = families
    this.#firstBytes = families.upstreamFirstBytes.labels(name)
    this.#reused = families.reuse.labels(name, 'true')
    this.#fresh = families.reuse.labels(name, 'false')
  }

  over({ status, reused, startedAt, connectedAt, sentAt, firstByteAt, endedAt }: CountedAttempt, error: ProxyError | null): void {
    const duration = error === null ? this.#okOf(status) : this.#find(status, error.kind)
    duration.observe((endedAt - startedAt) / MS_PER_SECOND)
    if (connectedAt !== 0) (reused ? this.#reused : this.#fresh).inc()
    if (firstByteAt !== 0 && sentAt !== 0) this.#firstBytes.observe((firstByteAt - sentAt) / MS_PER_SECOND)
  }

  retried({ kind }: ProxyError): void { this.#families.retries.labels(this.name, kind).inc() }

  connected(durationMs: number): void {
    this.#families.connects.labels(this.name, 'ok').inc()
    this.#families.connectTimes.labels(this.name).observe(durationMs / MS_PER_SECOND)
  }

  shookHands({ handshakeMs, resumed }: TlsHandshake): void {
    this.#families.handshakes.labels(this.name, String(resumed)).observe(handshakeMs / MS_PER_SECOND)
  }

  connectFailed({ kind }: ProxyError): void { this.#families.connects.labels(this.name, kind).inc() }

  #okOf(status: number): Histogram {
    if (this.#last === null || status !== this.#lastStatus) {
      let found = this.#ok.get(status)
      if (found === undefined) {
        found = this.#find(status, '')
        this.#ok.set(status, found)
      }
      this.#last = found
      this.#lastStatus = status
    }
    return this.#last
  }

  #find(status: number, errorType: string): Histogram {
    return this.#families.attempts.labels(this.name, statusLabel(status), errorType)
  }
}

/** Prometheus takes a label without a value for one that is not there, as OpenTelemetry's conventions want it where no status came. */
function statusLabel(status: number): string { return status === 0 ? '' : String(status) }
