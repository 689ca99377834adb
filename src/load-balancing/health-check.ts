/**
 * Active health checks: probes that find out whether a backend can take traffic, before traffic does.
 *
 * A `HealthCheck` knows how to probe one backend once; the `HealthMonitor` decides when, how many at a time and how
 * long, and what a series of outcomes means. A probe never outlives its time limit or the service: its signal is
 * aborted, and a probe that does not listen is no longer waited for.
 *
 * Probes are no hot path, so they use node:net, node:tls and node:http as they are. The latter two are loaded by the first check that
 * needs them: an application without checks does without their memory.
 */
import type http from 'node:http'
import type https from 'node:https'
import net from 'node:net'
import type tls from 'node:tls'
import { isExhausted } from '../errors/local-faults.ts'
import { isToken } from '../http/header-map.ts'
import { clientCertificate, describeBadSni } from '../peer/http-peer.ts'
import { describeBadAuthorities } from '../peer/peer-certificates.ts'
import { isPem, orTrue, type ClientCert } from '../peer/peer-options.ts'
import type { Clock } from '../primitives/clock.ts'
import {
  callback, code, count, defaultsOf, duration, flag, options, resolveOptions, text,
  type OptionTable,
} from '../primitives/option-table.ts'
import type { Backend } from './backend.ts'
import { forEachParallel, jittered, pause, untilAborted } from './periodic.ts'

/** When and how often every check probes, and what a series of outcomes means. Every option may be left out. */
export interface HealthCheckOptions {
  /** From the start of one round of probes to the next, in ms, give or take a tenth. @default 5000 */
  intervalMs?: number
  /** Longest time for one probe, in ms. @default 1000 */
  timeoutMs?: number
  /** Good probes in a row that make a backend healthy. @default 1 */
  consecutiveSuccess?: number
  /** Bad probes in a row that make it unhealthy. @default 1 */
  consecutiveFailure?: number
  /** Probes at the same time. @default 16 */
  maxParallel?: number
  /** Whether a backend gets traffic only after its first good probes. @default false */
  startUnhealthy?: boolean
}
/** The options that every check has, complete and checked. */
export type ResolvedHealthCheckOptions = Readonly<Required<HealthCheckOptions>>

export const HEALTH_CHECK_OPTIONS = {
  intervalMs: duration(5000),
  timeoutMs: duration(1000),
  consecutiveSuccess: count(1),
  consecutiveFailure: count(1),
  maxParallel: count(16),
  startUnhealthy: flag(false),
} satisfies OptionTable<HealthCheckOptions>

export const HEALTH_CHECK_DEFAULTS: ResolvedHealthCheckOptions = defaultsOf<HealthCheckOptions>(HEALTH_CHECK_OPTIONS)

/** Finds out whether a backend can take traffic: `HttpHealthCheck`, `TcpHealthCheck`, `GrpcHealthCheck`, or an object of your own. */
export interface HealthCheck {
  /** When and how often to probe: what `resolveHealthCheckOptions()` makes of those that were given. */
  readonly options: ResolvedHealthCheckOptions
  /**
   * Resolves when the backend is well, rejects with the reason when not, or resolves with false. Ends soon after `signal` is aborted,
   * with nothing left open.
   */
  probe(backend: Backend, signal: AbortSignal): Promise<boolean | void>
  /** Closes what is kept between probes. Called when the service ends. */
  close?(): void | Promise<void>
}

/**
 * For checks of one's own: the options of every check, defaulted and checked. What else `given` holds is the check's
 * own. @throws OptionError
 */
export function resolveHealthCheckOptions(given: HealthCheckOptions): ResolvedHealthCheckOptions {
  const own = Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(HEALTH_CHECK_OPTIONS, name)))
  return resolveOptions<HealthCheckOptions>('healthCheck', HEALTH_CHECK_OPTIONS, own, HEALTH_CHECK_DEFAULTS)
}

/** TLS of a probe. */
export interface ProbeTlsOptions {
  /** Server name for SNI and for the certificate; null: the host name of the backend, none for a numeric address. @default null */
  sni?: string | null
  /** Whether the certificate is verified. @default true */
  verifyCert?: boolean
  /** Certificate authorities to trust, PEM, or a list of it as a peer has; null: the built-in ones. @default null */
  ca?: string | Buffer | readonly (string | Buffer)[] | null
  /** Certificate to show to the backend; null shows none. @default null */
  clientCert?: ClientCert | null
}
export type ResolvedProbeTlsOptions = Readonly<Required<ProbeTlsOptions>>

export const PROBE_TLS_OPTIONS = {
  sni: code<string | null>(null, 'a host name or null', value => value === null || describeBadSni(value)),
  verifyCert: flag(true),
  ca: code<string | Buffer | readonly (string | Buffer)[] | null>(null, 'PEM, a list of PEM, or null', isAuthorities),
  clientCert: clientCertificate(),
} satisfies OptionTable<ProbeTlsOptions>

export const PROBE_TLS_DEFAULTS: ResolvedProbeTlsOptions = defaultsOf<ProbeTlsOptions>(PROBE_TLS_OPTIONS)

function isAuthorities(value: unknown): boolean | string {
  if (value === null) return true
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.length > 0 && list.every(isPem) && orTrue(describeBadAuthorities(list))
}

/** Of the backend that is probed. */
export const PROBE_PORT = count(0, { max: 65_535, zero: "takes the backend's own" })

/** What a TcpHealthCheck connects to. Every option may be left out. */
export interface TcpHealthCheckOptions extends HealthCheckOptions {
  /** A TLS handshake must succeed, too; null: no TLS. @default null */
  tls?: ProbeTlsOptions | null
  /** Port to probe. 0 takes the backend's own. @default 0 */
  port?: number
}
export type ResolvedTcpHealthCheckOptions = Readonly<Required<TcpHealthCheckOptions>>

export const TCP_HEALTH_CHECK_OPTIONS = {
  ...HEALTH_CHECK_OPTIONS,
  tls: options<ProbeTlsOptions, null>(PROBE_TLS_OPTIONS, null),
  port: PROBE_PORT,
} satisfies OptionTable<TcpHealthCheckOptions>

export const TCP_HEALTH_CHECK_DEFAULTS: ResolvedTcpHealthCheckOptions = defaultsOf<TcpHealthCheckOptions>(TCP_HEALTH_CHECK_OPTIONS)

/** A connection can be established. */
export class TcpHealthCheck implements HealthCheck {
  /** Its options, complete and checked. */
  readonly options: ResolvedTcpHealthCheckOptions
  readonly #tls: ResolvedProbeTlsOptions | null

  /** @throws OptionError with every option that would not do. */
  constructor(given: TcpHealthCheckOptions = {}) {
    this.options = resolveOptions<TcpHealthCheckOptions>('healthCheck', TCP_HEALTH_CHECK_OPTIONS, given, TCP_HEALTH_CHECK_DEFAULTS)
    // Completed with the rest.
    this.#tls = this.options.tls as ResolvedProbeTlsOptions | null
  }

  /** As `HealthCheck` has it. */
  probe(backend: Backend, signal: AbortSignal): Promise<void> {
    const where = probeAddress(backend, this.options.port)
    const socket = this.#tls === null
      ? net.connect(where)
      : process.getBuiltinModule('node:tls').connect({ ...where, ...probeTls(this.#tls, backend) })
    return settled(signal, () => socket.destroy(), (resolve, reject) => {
      socket.once(this.#tls === null ? 'connect' : 'secureConnect', resolve)
      socket.on('error', reject)
      socket.once('close', () => reject(new Error('closed during the handshake')))
    })
  }
}

/** What an HttpHealthCheck asks, and what a healthy backend answers. Every option may be left out. */
export interface HttpHealthCheckOptions extends HealthCheckOptions {
  /** Method of the request. @default 'GET' */
  method?: string
  /** Path of the request, with its query. @default '/' */
  path?: string
  /** Host field; '': the backend's address as configured. @default '' */
  host?: string
  /** Further fields, in this order. @default [] */
  headers?: readonly (readonly [name: string, value: string])[]
  /** Port to probe. 0 takes the backend's own. @default 0 */
  port?: number
  /** How to probe over TLS; null: no TLS. @default null */
  tls?: ProbeTlsOptions | null
  /** Whether the connection is kept for the next probe. @default false */
  reuse?: boolean
  /**
   * Throws, or returns false, or a promise of either, when this answer is not that of a healthy backend; a promise counts into the
   * time of the probe. The body is not read. @default status 200
   */
  validate?: (status: number, headers: http.IncomingHttpHeaders) => boolean | void | Promise<boolean | void>
}
export type ResolvedHttpHealthCheckOptions = Readonly<Required<HttpHealthCheckOptions>>

export const HTTP_HEALTH_CHECK_OPTIONS = {
  ...HEALTH_CHECK_OPTIONS,
  method: text('GET', 'a method such as GET', isToken),
  path: text('/', 'a path that begins with /', path => path.startsWith('/')),
  host: text('', "a value for the Host field, or ''"),
  headers: code<readonly (readonly [name: string, value: string])[]>([], 'a list of [name, value]', isFieldList),
  port: PROBE_PORT,
  tls: options<ProbeTlsOptions, null>(PROBE_TLS_OPTIONS, null),
  reuse: flag(false),
  validate: callback<NonNullable<HttpHealthCheckOptions['validate']>>(status => status === 200),
} satisfies OptionTable<HttpHealthCheckOptions>

export const HTTP_HEALTH_CHECK_DEFAULTS: ResolvedHttpHealthCheckOptions = defaultsOf<HttpHealthCheckOptions>(HTTP_HEALTH_CHECK_OPTIONS)

function isFieldList(value: unknown): boolean {
  const isPair = (one: unknown): boolean => Array.isArray(one) && one.length === 2 && one.every(part => typeof part === 'string')
  return Array.isArray(value) && value.every(isPair)
}

/** Bytes of a probe's body that are read so that its connection can be used again. */
const REUSE_BODY_BYTES_MAX = 65_536

/** A request is answered as it should be. */
export class HttpHealthCheck implements HealthCheck {
  /** Its options, complete and checked. */
  readonly options: ResolvedHttpHealthCheckOptions
  readonly #tls: ResolvedProbeTlsOptions | null
  /** Null when connections are not kept. */
  readonly #agent: http.Agent | null

  /** @throws OptionError with every option that would not do. */
  constructor(given: HttpHealthCheckOptions = {}) {
    this.options = resolveOptions<HttpHealthCheckOptions>('healthCheck', HTTP_HEALTH_CHECK_OPTIONS, given, HTTP_HEALTH_CHECK_DEFAULTS)
    const { reuse } = this.options
    this.#tls = this.options.tls as ResolvedProbeTlsOptions | null
    const keep = { keepAlive: true, maxSockets: 1, maxFreeSockets: 1 }
    this.#agent = !reuse ? null : this.#tls === null ? new (nodeHttp().Agent)(keep) : new (nodeHttps().Agent)(keep)
  }

  /** As `HealthCheck` has it. */
  probe(backend: Backend, signal: AbortSignal): Promise<void> {
    const { host, headers: further, method, path, port, validate } = this.options
    const headers = ['Host', host === '' ? hostField(backend) : host, 'User-Agent', 'cirque-health-check', ...further.flat()]
    if (this.#agent === null) headers.push('Connection', 'close')
    const common = { ...requestAddress(backend, port), method, path, headers, agent: this.#agent ?? false as const }
    const request = this.#tls === null
      ? nodeHttp().request(common)
      : nodeHttps().request({ ...common, ...probeTls(this.#tls, backend) })
    let keepConnection = false, answered = false
    return settled(signal, () => { if (!keepConnection) request.destroy() }, (resolve, reject) => {
      request.on('error', reject)
      // An answer may be there whole before it is judged.
      request.once('close', () => { if (!answered) reject(new Error('closed before an answer')) })
      request.once('upgrade', () => reject(new Error('answered with an upgrade')))
      request.once('response', response => {
        answered = true
        const status = response.statusCode ?? 0
        const judged = (async () => {
          if (await validate(status, response.headers) === false) throw new Error(`answered with status ${status}`)
        })()
        // Not waited for where the answer itself fails.
        judged.catch(reject)
        const done = (): void => { void judged.then(resolve, reject) }
        response.on('error', reject)
        if (this.#agent === null) {
          done()
          return
        }
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > REUSE_BODY_BYTES_MAX) done()
        })
        response.once('end', () => {
          keepConnection = true
          done()
        })
      })
      request.end()
    })
  }

  /** As `HealthCheck` has it. */
  close(): void { this.#agent?.destroy() }
}

type BeginProbe = (resolve: () => void, reject: (reason: unknown) => void) => void

/**
 * The promise of one probe: settled once by `begin` or by the signal, `release` called on every path, and an error that
 * comes late is caught and dropped.
 */
export function settled(signal: AbortSignal, release: () => void, begin: BeginProbe): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onAbort = () => reject(signal.reason)
  begin(resolve, reject)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  return promise.finally(() => {
    signal.removeEventListener('abort', onAbort)
    release()
  })
}

export function probeAddress(backend: Backend, port: number): { path: string } | { host: string; port: number } {
  const address = backend.peerAddress
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: port === 0 ? address.port : port }
}

function requestAddress(backend: Backend, port: number): { socketPath: string } | { host: string; port: number } {
  const address = backend.peerAddress
  return address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: port === 0 ? address.port : port }
}

export function hostField(backend: Backend): string {
  return backend.peerAddress.kind === 'unix' ? 'localhost' : backend.origin
}

/** Not by import, which would load undici as well. */
function nodeHttp(): typeof http { return process.getBuiltinModule('node:http') }
function nodeHttps(): typeof https { return process.getBuiltinModule('node:https') }

export function probeTls(options: ResolvedProbeTlsOptions, backend: Backend): tls.ConnectionOptions {
  const { ca, clientCert } = options
  return {
    servername: options.sni ?? backend.hostName, rejectUnauthorized: options.verifyCert,
    ...ca === null ? null : { ca: typeof ca === 'string' || Buffer.isBuffer(ca) ? ca : [...ca as readonly (string | Buffer)[]] },
    ...clientCert === null ? null : { cert: clientCert.cert, key: clientCert.key },
  }
}

export interface HealthMonitorContext {
  /** The backends to probe now. */
  backends(): readonly Backend[]
  /** Code of the application's failed where nothing depends on it. */
  onFault(error: unknown, context: string): void
  /** Applies a change of state. @param reason why, for a person */
  onState(backend: Backend, healthy: boolean, reason: string): void
  readonly clock: Clock
  readonly random: () => number
}

/** Probes all backends round by round and turns outcomes into states. */
export class HealthMonitor {
  readonly #check: HealthCheck
  readonly #context: HealthMonitorContext

  constructor(check: HealthCheck, context: HealthMonitorContext) {
    this.#check = check
    this.#context = context
  }

  /**
   * Goes round until `signal` is aborted. Never rejects.
   * @param afterRound a round was just made, so the first thing is to wait
   */
  async run(signal: AbortSignal, afterRound: boolean): Promise<void> {
    const { clock, random } = this.#context
    let nextAtMs = clock.exact() + (afterRound ? this.#intervalMs(random) : 0)
    while (!signal.aborted) {
      if (nextAtMs > clock.exact()) await pause(clock, nextAtMs - clock.exact(), signal)
      nextAtMs = clock.exact() + this.#intervalMs(random)
      await this.round(signal)
    }
    try { await this.#check.close?.() } catch (error) { this.#context.onFault(error, 'closing the health check') }
  }

  #intervalMs(random: () => number): number { return jittered(this.#check.options.intervalMs, random) }

  /** Probes every backend once. Never rejects. */
  round(signal: AbortSignal): Promise<void> {
    return forEachParallel(this.#context.backends(), this.#check.options.maxParallel, signal, backend => this.#probe(backend, signal))
  }

  async #probe(backend: Backend, signal: AbortSignal): Promise<void> {
    try {
      const { clock } = this.#context, { timeoutMs } = this.#check.options
      const well: unknown = await untilAborted(clock, timeoutMs, signal, async ending => this.#check.probe(backend, ending))
      if (well === false) throw new Error('the check said false')
      this.#count(backend, true, 'the probe succeeded')
    } catch (error) {
      // A probe that was cut by the end of the service says nothing about the backend, nor does one that could not begin here.
      if (signal.aborted || isExhausted(error)) return
      this.#count(backend, false, `the probe failed: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #count(backend: Backend, success: boolean, reason: string): void {
    const { consecutiveSuccess, consecutiveFailure } = this.#check.options
    backend.probeStreak = success ? Math.max(backend.probeStreak, 0) + 1 : Math.min(backend.probeStreak, 0) - 1
    if (success && !backend.healthy && backend.probeStreak >= consecutiveSuccess) this.#context.onState(backend, true, reason)
    else if (!success && backend.healthy && -backend.probeStreak >= consecutiveFailure) this.#context.onState(backend, false, reason)
  }
}
