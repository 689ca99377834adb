/**
 * A service is a named application bound to listeners, or a background task. Services start in the order of their
 * dependencies; the server (server.ts) owns that order.
 */
import type net from 'node:net'
import type { ProxyError } from '../errors/proxy-error.ts'
import type { DrainRequest } from '../ipc/drain-times.ts'
import type { WorkerSettings } from '../config/worker-settings.ts'
import type { ExplainRequest, Explanation } from '../ipc/explanation.ts'
import type { Counted, OpenCounts } from '../ipc/open-counts.ts'
import type { DescribedAddress, DescribedService } from '../ipc/server-description.ts'
import type { Acceptor } from '../listener/acceptor.ts'
import type { CertificateChange } from '../certificates/certificate-files.ts'
import type { ServedCertificate } from '../certificates/served-certificates.ts'
import type { HttpListenerOptions } from '../listener/http-listener-options.ts'
import type { TlsListenerOptions } from '../listener/tls-listener-options.ts'
import type { ListenerOptions } from '../listener/listener-options.ts'
import type { Admission } from './admission.ts'
import type { ExchangeWatcher } from './exchange-watcher.ts'
import type { ServerContext } from './server-context.ts'

/** A listener as its service describes it. */
export interface ListenerSpec<Options extends ListenerOptions = ListenerOptions> {
  /** Unique in the server: `<service>/<address as written>`; `:port` gives two listeners. */
  readonly name: string
  /** Where to bind: TCP, of which port 0 is one that is free, or a Unix path with its mode. */
  readonly address: DescribedAddress
  /** Limits of the listener. Whoever binds it reads `backlog` alone; left out there, it is 4096. */
  readonly options: Options
  /** Whether TLS is spoken on it. Left out: it is not. */
  readonly secure?: boolean
}

/** A listener of a service that has started. */
export interface RunningListener {
  /** What it was bound from, with what an operator set in its options. */
  readonly spec: ListenerSpec
  /** Creates an acceptor whose traffic goes to the service. Each serves one socket, once; several may accept at the same time. */
  createAcceptor(): Acceptor
}

/** What a service has open, and what it has done so far: of the counts in ipc/open-counts.ts those that it knows. */
export type ServiceStats = Partial<OpenCounts>

export type { DrainRequest }

/** Hooks of its application, methods that are none, and the same of its modules. */
export type ServiceParts = Required<Pick<DescribedService, 'hooks' | 'otherMethods' | 'modules'>>

/** What came of reading the certificates of one listener again. */
export interface CertificateReload {
  /** Name of the listener. */
  readonly listener: string
  /** Entries that are served now, and those that are not, with the reason; none: nothing has changed in the files. */
  readonly changes: readonly CertificateChange[]
}

/** A connection of the process to itself, for the test that made it. */
export interface TestedConnection {
  /** Why its request failed, or was refused; null: it did not, or not yet. */
  readonly error: ProxyError | null
  /** Where in the application it failed, or what it waits for stands, as a stack; '' when nothing is known of that. */
  readonly stack: string
  /** For a test that is late: what the request is at. */
  readonly waitsFor: string
  /** The test does not reach the upstream, and the request failed since the application had no peer for it. */
  readonly namedNoPeer: boolean
}

/**
 * A service with listeners. `httpProxyService` makes them; write one for another protocol. The server, or the worker around it, calls
 * what stands here.
 */
export interface ListeningService {
  /** Tells it from a `BackgroundService`. */
  readonly kind: 'listening'
  /** Unique in the server; `dependsOn` and messages name it by that. */
  readonly name: string
  /** All there are, at least one; read before `start`, and again behind it. */
  readonly listeners: readonly ListenerSpec[]
  /** What it is made of, for `cirque validate`. Left out: nothing that could be told. */
  parts?(): ServiceParts
  /** @internal What its start would refuse, without one. @param listeners overrides of an operator. @throws the same. Left out: nothing */
  check?(listeners: WorkerSettings['listeners']): void
  /** Reads certificates of its listeners whose files have changed, and serves them where they will do. Left out: it has none. */
  reloadCertificates?(): Promise<readonly CertificateReload[]>
  /** @internal Certificates as they are served. Left out: it has none. */
  certificates?(): Iterable<ServedCertificate>
  /** What an operator who asks should know of it now, a line each, the first ones first. Left out: nothing. */
  notices?(): Iterable<string>
  /** Builds what is built once per service; called before any listener accepts. `admission` is that of the whole server. */
  start(context: ServerContext, admission: Admission): Promise<void> | void
  /**
   * Makes one of `listeners` ready for acceptors, once, behind `start`; an acceptor listens, not this. A throw ends the start
   * of the server.
   */
  bind(spec: ListenerSpec): RunningListener
  /**
   * Serves a connection of this process to itself, which no listener accepted and no count knows; from a `net.Server` with
   * `pauseOnConnect`. Left out: there is nothing that a request could test.
   * @param upstream its request goes on to the peer that the application names; otherwise the process answers in its place
   */
  acceptSelfTest?(socket: net.Socket, upstream: boolean): TestedConnection
  /** @internal Somebody looks at what passes, or, with null, nobody does any more. Left out: there is nothing to be seen. */
  watch?(watcher: ExchangeWatcher | null): void
  /** @internal What would happen to a request; null: none of its listeners takes it. Left out: nothing that could be told. */
  explain?(request: ExplainRequest): Promise<Explanation> | null
  /** From now on answers say `Connection: close`; resolves when nothing is open any more (or all of it was cut). */
  drain(request: DrainRequest): Promise<{ cut: number }>
  /** What it has open, and has done so far; asked at any time, before `start` too. */
  stats(): ServiceStats
  /** What else counts for it, and may count for other services too. Left out: nothing. */
  counted?(): Iterable<Counted>
  /** Cuts everything that is left. */
  close(): void
}

/**
 * A task that runs beside the listeners: `LoadBalancer.asBackgroundService()`, or one of your own. A rejection of `start` ends the start
 * of the server.
 */
export interface BackgroundService {
  /** Tells it from a `ListeningService`. */
  readonly kind: 'background'
  /** Unique in the server; `dependsOn` and messages name it by that. */
  readonly name: string
  /**
   * Resolves when the service is ready for its dependents; what it goes on doing afterwards ends with `signal`.
   * @param context what the process gives its services, its log among it
   */
  start(signal: AbortSignal, context: ServerContext): Promise<void> | void
  /** What counts for it, and may count for other services too. Left out: nothing. */
  counted?(): Iterable<Counted>
  /** What an operator who asks should know of it now, a line each, the first ones first. Left out: nothing. */
  notices?(): Iterable<string>
}

/** What a server runs. */
export type Service = ListeningService | BackgroundService

/** What an application does with a proxy service before it adds it to a server. */
export interface HttpProxyService {
  /** Unique in the server: option `name`. */
  readonly name: string
  /**
   * Listens on `host:port`, `[v6]:port` or `:port` (both families). Port 0 is one that is free.
   * @throws OptionError on an address or option that would not do
   */
  addTcp(address: string, options?: HttpListenerOptions): this
  /**
   * The same over TLS: `addTls(':443', { certificates: [{ cert: '/etc/site.crt', key: '/etc/site.key' }] })`. Files are read when the
   * server starts, which fails with a CertificateError where they would not do. `unix:` with a path is an address here as well.
   * @param options of the listener besides
   * @throws OptionError on an address or option that would not do
   */
  addTls(address: string, tls: TlsListenerOptions, options?: HttpListenerOptions): this
  /** Listens on a path, or `unix:/path?mode=660`. @throws OptionError on an address or option that would not do */
  addUnix(path: string, options?: HttpListenerOptions): this
  /** What it has open, and has done so far. */
  stats(): ServiceStats
}
