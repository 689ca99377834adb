/**
 * An HTTP proxy as a service: an application's phases, and the listeners on which it is reached. What it does with a
 * connection is http-proxy-core.ts.
 */
import type net from 'node:net'
import type { ExplainRequest, Explanation } from '../ipc/explanation.ts'
import type { ServedCertificate } from '../certificates/served-certificates.ts'
import type { HttpListenerOptions, ResolvedHttpListenerOptions } from '../listener/http-listener-options.ts'
import { NOBODY } from '../listener/tcp-listener.ts'
import type { TlsListenerOptions } from '../listener/tls-listener-options.ts'
import { proveTicketCallback } from '../protocols/tls/ticket-keys.ts'
import { tlsSelfTest } from '../protocols/tls/tls-self-test.ts'
import { TcpStream } from '../protocols/tcp/tcp-stream.ts'
import type { FaultWatcher } from '../proxy/fault-watcher.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import type { Admission } from './admission.ts'
import type { ExchangeWatcher } from './exchange-watcher.ts'
import { HttpProxyCore } from './http-proxy-core.ts'
import type { HttpProxyOptions } from './http-proxy-options.ts'
import { HTTP_PROTOCOLS } from './http-protocols.ts'
import { addSecure, ListeningBase } from './listening-base.ts'
import type { ServerContext } from './server-context.ts'
import type { CertificateReload, HttpProxyService, ServiceParts, TestedConnection } from './service.ts'

/**
 * A service that proxies HTTP as `app` says. Give it listeners and add it to a server:
 *
 *   server.addService(httpProxyService(app).addTcp('0.0.0.0:6188'))
 *
 * @throws OptionError with every option that would not do, TypeError with every hook that would not
 */
export function httpProxyService<Ctx>(app: ProxyHttp<Ctx>, options: HttpProxyOptions = {}): HttpProxyService {
  return new HttpProxy(app, options)
}

/** The service as the server and the worker around it see it. */
export class HttpProxy<Ctx> extends ListeningBase<HttpListenerOptions, ResolvedHttpListenerOptions> {
  readonly #core: HttpProxyCore<Ctx>

  /**
   * @param faults hears of every fault; left out: the process log does
   * @throws OptionError with every option that would not do.
   */
  constructor(app: ProxyHttp<Ctx>, options: HttpProxyOptions, faults: FaultWatcher | null = null) {
    const core = new HttpProxyCore(app, options, HTTP_PROTOCOLS, faults)
    super(core.name, core)
    this.#core = core
  }

  /** As `HttpProxyService` has it. */
  addTls(address: string, tls: TlsListenerOptions, options: HttpListenerOptions = {}): this {
    addSecure<HttpListenerOptions, ResolvedHttpListenerOptions>(this, address, { ...options, tls })
    return this
  }

  override async start(context?: ServerContext, admission?: Admission): Promise<void> {
    // Before the first secure context is made.
    if (this.listeners.some(({ secure = false }) => secure)) await Promise.all([proveTicketCallback(), tlsSelfTest()])
    await super.start(context, admission)
  }

  reloadCertificates(): Promise<readonly CertificateReload[]> {
    return Promise.all(this.#core.tlsStages.map(async stage => ({ listener: stage.host.listener, changes: await stage.reload() })))
  }

  * certificates(): Generator<ServedCertificate> {
    for (const { files, host: { listener } } of this.#core.tlsStages) for (const one of files.status()) yield { listener, ...one }
  }

  * notices(): Generator<string> {
    for (const { files, host: { listener } } of this.#core.tlsStages) for (const line of files.notices()) yield `${listener}: ${line}`
  }

  parts(): ServiceParts { return this.#core.parts() }

  watch(watcher: ExchangeWatcher | null): void { this.#core.watch(watcher) }

  explain(request: ExplainRequest): Promise<Explanation> | null {
    const listener = this.listeners.find(({ name }) => name === request.listener)
    return listener === undefined ? null : this.#core.explain(request, listener)
  }

  acceptSelfTest(socket: net.Socket, upstream: boolean): TestedConnection {
    return this.#core.openSelfTest(TcpStream.accept(socket, NOBODY), this.listeners[0]!, upstream)
  }
}
