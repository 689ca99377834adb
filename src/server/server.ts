/**
 * A server: services, the order they start in, and one life for all of them. It knows nothing of processes, installs no
 * signal handlers and never ends the process; supervisor/ and workers/ do that around it.
 *
 *   Created --prepare--> Preparing --> Ready --drain--> Draining --close--> Closed
 *                            \____________\________________\______close____/
 *
 * Invariant: no listener exists before every service it belongs to has started. The sockets themselves belong to
 * whoever listens: a worker on inherited descriptors, or `start()` on its own.
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ServedCertificate } from '../certificates/served-certificates.ts'
import type { WorkerSettings } from '../config/worker-settings.ts'
import { resolveLimitOptions, type LimitOptions } from '../config/limit-options.ts'
import { DRAIN_DEFAULTS } from '../config/supervisor-options.ts'
import { isToken } from '../http/header-map.ts'
import type { HttpListenerOptions } from '../listener/http-listener-options.ts'
import { TLS_LISTENER_DEFAULTS } from '../listener/tls-listener-options.ts'
import type { Acceptor, ListenerCalls } from '../listener/acceptor.ts'
import { withCompileCache } from '../ipc/compile-cache.ts'
import { loadSystemCalls } from '../ipc/system-calls.ts'
import { SUPERVISOR_FLAGS } from '../ipc/supervisor-flags.ts'
import { passInheritedSockets } from '../ipc/inherited-sockets.ts'
import { sumCounts, type Counted, type OpenCounts, type UpstreamHealth } from '../ipc/open-counts.ts'
import { stderrLog, type ProcessLog } from '../ipc/process-log.ts'
import { drainOrder } from '../ipc/drain-times.ts'
import { canonicalAddress, DESCRIPTION_FORMAT, hostAndPort } from '../ipc/server-description.ts'
import type { ExplainRequest, Explanation } from '../ipc/explanation.ts'
import type { SelfTestOutcome } from '../ipc/messages.ts'
import type { SelfTest, ServerDescription } from '../ipc/server-description.ts'
import { code, defaultsOf, duration, flag, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import { Admission, systemSupply } from './admission.ts'
import type { ExchangeWatcher } from './exchange-watcher.ts'
import { currentRunHost } from './run-host.ts'
import { runSelfTest } from './self-test.ts'
import { SERVER_CONTEXT_DEFAULTS, type ServerContext, type StartContext } from './server-context.ts'
import type { DrainRequest, HttpProxyService, ListenerSpec, ListeningService, RunningListener, Service } from './service.ts'
import { startOrder } from './start-order.ts'

/** Accept queue of a listener that does not say. 4096: what the kernel allows at most by default (somaxconn). */
export const DEFAULT_BACKLOG = 4096

/** The request that a fresh worker has to answer before it gets traffic, and what passes: what `server.selfTest()` takes. */
export interface SelfTestOptions {
  /** Method of the request. @default 'GET' */
  method?: string
  /** Path of the request, with its query. @default '/' */
  path?: string
  /** Fields of the request. @default { host: 'self-test.cirque.invalid' } */
  headers?: Readonly<Record<string, string>>
  /** A status, or the lowest and highest that pass. @default [100, 499] */
  expect?: number | readonly [number, number]
  /** Longest wait for the answer, in ms. At least 1. @default 2_000 */
  timeoutMs?: number
  /**
   * Whether the request goes on to the peer that `upstreamPeer` names; with an origin that is down, or slower than
   * `timeoutMs`, no release and no configuration gets in then. Otherwise the worker answers in the peer's place with 200 and
   * a line of text. @default false
   */
  upstream?: boolean
}

export const SELF_TEST_OPTIONS = {
  method: text('GET', 'a method such as GET', isToken),
  path: code<string>('/', 'a path that begins with /', value => typeof value === 'string' && /^\/[!-~]*$/.test(value)),
  headers: code<Readonly<Record<string, string>>>({ host: 'self-test.cirque.invalid' }, 'an object of fields', isFields),
  expect: code<number | readonly [number, number]>([100, 499], 'a status, or the lowest and highest that pass', isExpectation),
  timeoutMs: duration(2_000),
  upstream: flag(false),
} satisfies OptionTable<SelfTestOptions>

export const SELF_TEST_DEFAULTS: Readonly<Required<SelfTestOptions>> = defaultsOf<SelfTestOptions>(SELF_TEST_OPTIONS)

function isFields(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.values(value).every(field => typeof field === 'string')
}

function isExpectation(value: unknown): boolean {
  const range: readonly unknown[] = Array.isArray(value) ? value : [value, value]
  return range.length === 2 && range.every(status => Number.isInteger(status))
}

/** What `addService` returns: says what must be ready before the service starts. */
export class ServiceHandle {
  /** The name of the service. */
  readonly name: string
  /** @internal */
  readonly dependencies: string[] = []

  /** @internal */
  constructor(name: string) { this.name = name }

  /** The named services are ready before this one starts. */
  dependsOn(...services: readonly (ServiceHandle | string)[]): this {
    for (const service of services) this.dependencies.push(typeof service === 'string' ? service : service.name)
    return this
  }
}

/** Where a listener of the in-process form really listens. */
export interface BoundAddress {
  /** Name of the listener: `<service>/<address as written>`; the second one of `:port` ends in `/v6`. */
  readonly name: string
  /** `host:port` or `unix:/path`, as a client would dial it. */
  readonly address: string
  /** Numeric, without brackets (`0.0.0.0`: all of IPv4); '' for a Unix path. */
  readonly host: string
  /** 0 for a Unix path. */
  readonly port: number
}

export const ServerState = { Created: 0, Preparing: 1, Ready: 2, Draining: 3, Closed: 4 } as const
export type ServerState = (typeof ServerState)[keyof typeof ServerState]

const MOVES: Readonly<Record<ServerState, readonly ServerState[]>> = {
  [ServerState.Created]: [ServerState.Preparing, ServerState.Closed],
  [ServerState.Preparing]: [ServerState.Ready, ServerState.Closed],
  [ServerState.Ready]: [ServerState.Draining, ServerState.Closed],
  [ServerState.Draining]: [ServerState.Closed],
  [ServerState.Closed]: [],
}

interface AddedService {
  readonly name: string
  readonly service: Service
  readonly dependsOn: readonly string[]
}


/** What a message shows of one that can be reached. */
const EXAMPLE_SERVICE = 'httpProxyService(app).addTcp(\'127.0.0.1:8080\')'

/** What one worker may say in each heartbeat. */
const MAX_NOTICES = 16
const MAX_NOTICE_LENGTH = 200
/**
 * The services of an application, the order in which they start, and one life for all of them.
 *
 *   const server = new Server()
 *   server.addService(httpProxyService(app).addTcp('0.0.0.0:6188'))
 *   await server.runForever()        // or `await server.start()` within a program or a test of your own
 */
export class Server {
  #state: ServerState = ServerState.Created
  readonly #services: AddedService[] = []
  readonly #background = new AbortController()
  #selfTest: SelfTest = resolveSelfTest({})
  #limits: LimitOptions = {}
  #admission: Admission | null = null
  #running: RunningListener[] = []
  /** The in-process form's own acceptors, and Unix paths to remove with them. */
  #acceptors: Acceptor[] = []
  #unixPaths: string[] = []

  /** @internal Where it stands in its life. */
  get state(): ServerState { return this.#state }

  /**
   * Adds what the server is to run, before it starts. What is returned says what has to be ready before the service starts.
   * @throws Error for a name that is taken and behind the start, TypeError for what is no service
   */
  addService(service: Service | HttpProxyService): ServiceHandle {
    if (!isService(service)) throw new TypeError(`addService was given ${notAService(service)}`)
    const { name } = service
    if (this.#state !== ServerState.Created) {
      throw new Error(`service '${name}' was added after the server had started; add it before start() or runForever()`)
    }
    if (this.#services.some(other => other.name === name)) throw new Error(`two services are called '${name}'; give each its own name`)
    const handle = new ServiceHandle(service.name)
    this.#services.push({ name: service.name, service, dependsOn: handle.dependencies })
    return handle
  }

  /**
   * The request that a fresh worker must answer before it gets traffic. It takes the whole way through filters and modules; the
   * upstream itself is asked only with `upstream: true`.
   * @throws OptionError
   */
  selfTest(options: SelfTestOptions): this {
    this.#selfTest = resolveSelfTest(options)
    return this
  }

  /**
   * Limits of this process, all services together; what an operator configures counts over them. Before the server starts.
   * @throws OptionError
   */
  limits(options: LimitOptions): this {
    resolveLimitOptions(options)
    this.#limits = { ...options }
    return this
  }

  /**
   * @internal Plain JSON: what there is to bind and start. Starts nothing. Throws when there is nothing that could be reached, and
   * when the services cannot be put in order.
   */
  describe(): ServerDescription {
    this.#checkServes()
    const ordered = startOrder(this.#services)
    const listeners = ordered.flatMap(({ name, service }) => service.kind !== 'listening' ? [] : service.listeners.map(spec => ({
      name: spec.name, service: name, address: spec.address, canonical: canonicalAddress(spec.address), backlog: backlogOf(spec),
      ...spec.secure === true ? { tls: { ticketLifetimeMs: ticketLifetimeOf(spec) } } : null,
    })))
    const names = new Set<string>()
    for (const listener of listeners) {
      if (names.has(listener.name)) throw new Error(`two listeners are called '${listener.name}'; add each address once`)
      names.add(listener.name)
    }
    return {
      format: DESCRIPTION_FORMAT,
      services: ordered.map(({ name, service, dependsOn }) => ({
        name, kind: service.kind, dependsOn: [...dependsOn], ...service.kind === 'listening' ? service.parts?.() : null,
      })),
      listeners,
      selfTest: this.#selfTest,
    }
  }

  /** @internal What a start would refuse of listeners, without one. @param listeners overrides @throws the same */
  check(listeners: WorkerSettings['listeners']): void { for (const service of this.#listening()) service.check?.(listeners) }

  /**
   * @internal
   * Starts every service in order; when it resolves, `listeners()` may accept. A rejection leaves the server closed.
   * @param context what the process gives the services; left out: nothing
   */
  async prepare(context: ServerContext = SERVER_CONTEXT_DEFAULTS): Promise<void> {
    if (!this.#moveTo(ServerState.Preparing)) throw new Error('this server was started before; make a new one')
    try {
      const running: RunningListener[] = []
      const limits = resolveLimitOptions({ ...this.#limits, ...context.settings.limits })
      const admission = this.#admission = new Admission(limits, systemSupply(context.workers))
      admission.report(context.log)
      for (const { service } of startOrder(this.#services)) {
        if (service.kind === 'background') {
          await service.start(this.#background.signal, context)
          continue
        }
        await service.start(context, admission)
        for (const spec of service.listeners) running.push(service.bind(spec))
      }
      this.#running = running
    } catch (error) {
      this.close()
      throw error
    }
    if (!this.#moveTo(ServerState.Ready)) throw new Error('this server was closed while it started')
  }

  /** @internal What can be listened on; empty before `prepare()`. */
  listeners(): readonly RunningListener[] { return this.#running }

  /** @internal Sends the self-test's request through the first service that can serve it, accepting or not. Never rejects. */
  async runSelfTest(): Promise<SelfTestOutcome> {
    const service = this.#listening().find(one => one.acceptSelfTest !== undefined && one.listeners.length > 0)
    if (service === undefined) return { passed: true, detail: 'nothing to test' }
    if (this.#running.length === 0) return { passed: false, detail: 'the server is not ready yet' }
    return runSelfTest(this.#selfTest, socket => service.acceptSelfTest!(socket, this.#selfTest.upstream))
  }

  /** @internal Somebody looks at what passes through all services; null: nobody does any more. */
  watch(watcher: ExchangeWatcher | null): void {
    for (const service of this.#listening()) service.watch?.(watcher)
  }

  /** @internal What would happen to a request. Null: no service has that listener, or it can tell nothing. */
  explain(request: ExplainRequest): Promise<Explanation> | null {
    if (this.#running.length === 0) return null
    for (const service of this.#listening()) {
      const explained = service.explain?.(request) ?? null
      if (explained !== null) return explained
    }
    return null
  }

  /**
   * @internal
   * Finishes what is in flight; what listens has stopped accepting. Resolves when nothing is open any more. Asked again with
   * shorter times, it takes those.
   */
  async drain(request: DrainRequest): Promise<{ cut: number }> {
    this.#moveTo(ServerState.Draining)
    const results = await Promise.all(this.#listening().map(service => service.drain(request)))
    return { cut: results.reduce((sum, result) => sum + result.cut, 0) }
  }

  /** What all services have open, and have done so far. */
  stats(): OpenCounts {
    const parts = [...this.#parts()].map(part => part.counts())
    return sumCounts([...this.#listening().map(service => service.stats()), ...parts])
  }

  /** @internal How the backends of load balancers that run as services are. */
  *health(): Iterable<UpstreamHealth> {
    for (const part of this.#parts()) {
      const health = part.health?.()
      if (health !== undefined) yield health
    }
  }

  /** What counts for the services, each once. */
  #parts(): ReadonlySet<Counted> {
    const parts = new Set<Counted>(this.#admission === null ? [] : [this.#admission])
    for (const { service } of this.#services) for (const part of service.counted?.() ?? []) parts.add(part)
    return parts
  }

  /** @internal Certificates of all listeners, as they are served. */
  *certificates(): Iterable<ServedCertificate> {
    for (const service of this.#listening()) yield* service.certificates?.() ?? []
  }

  /** @internal Reads what has changed in files of certificates. */
  async reloadCertificates(): Promise<void> {
    if (this.#running.length === 0) return
    await Promise.all(this.#listening().map(service => service.reloadCertificates?.()))
  }

  /** @internal What an operator should know of the services now, a line each: a few lines, and how many more there are. */
  notices(): string[] {
    const notices: string[] = []
    let more = 0
    for (const { service } of this.#services) {
      for (const notice of service.notices?.() ?? []) {
        if (notices.length < MAX_NOTICES) notices.push(notice.slice(0, MAX_NOTICE_LENGTH).replaceAll(/\p{Cc}+/gu, ' '))
        else more++
      }
    }
    if (more > 0) notices.push(`and ${more} more`)
    return notices
  }

  /** Cuts everything that is left and ends background services. Safe to call again. */
  close(): void {
    if (!this.#moveTo(ServerState.Closed)) return
    this.#stopAccepting()
    for (const service of this.#listening()) service.close()
    this.#admission?.close()
    this.#background.abort()
  }

  /**
   * The in-process form, for embedding and tests: starts the services and listens here.
   * @param context where services write to. `log` left out is stderr (`SILENT_LOG` is silence); no request is logged unless
   *   `accessLog` says where
   * @returns where it listens (port 0 was replaced)
   * @throws Error for a server without services, or a service without a listener
   */
  async start(context: StartContext = {}): Promise<readonly BoundAddress[]> {
    this.#checkServes()
    const { systemCalls = false, log = stderrLog('cirque'), ...given } = context
    const calls = systemCalls ? await loadListenerCalls(log) : null
    await this.prepare({ ...SERVER_CONTEXT_DEFAULTS, ...given, log, calls })
    try {
      const bound: BoundAddress[] = []
      for (const running of this.#running) bound.push(await this.#listen(running))
      return bound
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Ends what `start()` began: stops accepting, drains, closes. Times that are left out are the defaults of a stop. */
  async stop(request: Partial<DrainRequest> = {}): Promise<{ cut: number }> {
    if (this.#state !== ServerState.Ready && this.#state !== ServerState.Draining) {
      this.close()
      return { cut: 0 }
    }
    this.#stopAccepting()
    const result = await this.drain({ ...drainOrder('stop', DRAIN_DEFAULTS), ...request })
    this.close()
    return result
  }

  /**
   * Hands the process over and never returns. In a worker it serves; under `describe` it prints the listeners;
   * anywhere else this process becomes the supervisor of the application it was started with (same pid, by exec).
   */
  async runForever(): Promise<never> {
    const host = currentRunHost()
    if (host !== null) return host.run(this)
    return becomeSupervisor()
  }

  #listening(): ListeningService[] {
    return this.#services.flatMap(({ service }) => service.kind === 'listening' ? [service] : [])
  }

  /** A server that nobody can reach would look as if it ran. Tasks beside the listeners are none the less a server. */
  #checkServes(): void {
    if (this.#services.length === 0) {
      throw new Error(`the server has no services, so it would do nothing; add one: server.addService(${EXAMPLE_SERVICE})`)
    }
    const unreachable = this.#listening().find(service => service.listeners.length === 0)
    if (unreachable === undefined) return
    const remedy = `give it an address where you make it: ${EXAMPLE_SERVICE}`
    throw new Error(`service '${unreachable.name}' has no listener, so no client could reach it; ${remedy}`)
  }

  async #listen(running: RunningListener): Promise<BoundAddress> {
    const { name, address } = running.spec
    const acceptor = running.createAcceptor()
    this.#acceptors.push(acceptor)
    const { host, port } = await acceptor.listen(address, backlogOf(running.spec))
    if (address.kind !== 'unix') return { name, address: hostAndPort(host, port), host, port }
    this.#unixPaths.push(address.path)
    fs.chmodSync(address.path, address.mode)
    return { name, address: canonicalAddress(address), host, port }
  }

  #stopAccepting(): void {
    for (const acceptor of this.#acceptors) acceptor.close()
    this.#acceptors = []
    for (const unixPath of this.#unixPaths) fs.rmSync(unixPath, { force: true })
    this.#unixPaths = []
  }

  #moveTo(to: ServerState): boolean {
    if (!MOVES[this.#state].includes(to)) return false
    this.#state = to
    return true
  }
}

function resolveSelfTest(options: SelfTestOptions): SelfTest {
  const { expect, ...rest } = resolveOptions<SelfTestOptions>('selfTest', SELF_TEST_OPTIONS, options, SELF_TEST_DEFAULTS)
  const [statusMin, statusMax] = typeof expect === 'number' ? [expect, expect] : expect
  return { ...rest, expect: { statusMin, statusMax } }
}

function isService(given: Service | HttpProxyService): given is Service {
  return typeof given === 'object' && given !== null && 'kind' in given && typeof given.start === 'function'
}

/** In words, with what would do. */
function notAService(given: unknown): string {
  const members = (typeof given === 'object' ? given ?? {} : {}) as Readonly<Record<string, unknown>>
  if (typeof members['asBackgroundService'] === 'function') return 'what is no service itself; use its asBackgroundService()'
  if (typeof members['upstreamPeer'] === 'function') return 'an application; use httpProxyService(app), with a listener'
  return 'no service; use httpProxyService(app), or an object with kind, name and start()'
}

/** Of a service of another kind than HTTP nothing more is known. */
function ticketLifetimeOf({ options }: ListenerSpec): number {
  return (options as HttpListenerOptions).tls?.ticketLifetimeMs ?? TLS_LISTENER_DEFAULTS.ticketLifetimeMs
}

export function backlogOf(spec: ListenerSpec): number { return spec.options.backlog ?? DEFAULT_BACKLOG }

/** Null, and the log knows why, where there are no system calls. */
async function loadListenerCalls(log: ProcessLog): Promise<ListenerCalls | null> {
  const loaded = await loadSystemCalls()
  if (loaded.available) return loaded.calls
  log.warn('listeners take one connection in each turn of the event loop: there are no system calls', { reason: loaded.reason })
  return null
}

/** Same pid, same terminal, same environment: this image is replaced by the supervisor's, which never evaluates the application. */
async function becomeSupervisor(): Promise<never> {
  const application = process.argv[1]
  const instead = 'use start() to serve in this process'
  if (application === undefined) {
    throw new Error(`runForever() needs an application file: start it with \`node app.ts\` or \`cirque run app.ts\`, or ${instead}`)
  }
  if (process.execve === undefined) {
    throw new Error(`runForever() cannot hand over to the supervisor on ${process.platform}; ${instead}`)
  }
  // Source runs as .ts, the built package as .js.
  const extension = path.extname(import.meta.filename)
  const main = fileURLToPath(new URL(`../../supervisor/main${extension}`, import.meta.url))
  if (!fs.existsSync(main)) throw new Error(`the supervisor is missing: ${main}`)
  await passInheritedSockets()
  const { execPath, execArgv, argv } = process
  const command = [execPath, ...execArgv, ...SUPERVISOR_FLAGS, main, application, ...argv.slice(2)]
  const source = extension === '.ts'
  const { env } = process
  process.execve(execPath, command, source ? withCompileCache(env, path.resolve(main, '../..')) : env as Record<string, string>)
  throw new Error('execve returned')
}
