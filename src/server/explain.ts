/**
 * What would happen to a request: the application's own hooks are run on it in this process, up to the moment in which its head
 * would leave for an origin. Nothing is sent, no name is resolved, no socket is opened, and no count, log, tracer, retry budget or
 * verdict about a peer hears of it. What hooks do besides is done: whoever counts in a hook counts this request as well.
 *
 *   Running ──the head for the origin is written──▶ forwarded        whichever comes first; then the connection is cut. Hooks of
 *      ├──a head is written to the client──▶ answered                the response, `failToProxy` and `logging` are not in the plan
 *      ├──the exchange fails──▶ failed                               of this request, so that they are never called
 *      ├──the head is refused──▶ refused
 *      └──the time is over──▶ unfinished
 *
 * Load balancers say what they chose from (selection-watch.ts). A hook may wait before it asks one, so whose choice it is follows
 * from the asynchronous context.
 * Invariant: everything in an explanation is bounded, since it goes over a control socket.
 */
import type { AsyncLocalStorage } from 'node:async_hooks'
import type { Transport } from '../connector/connection-dial.ts'
import { HttpConnector } from '../connector/http-connector.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import { asciiLower, checkField } from '../http/header-map.ts'
import { RequestHead } from '../http/message-head.ts'
import type {
  ExplainedAnswer, ExplainedChoice, ExplainedError, ExplainedHead, ExplainedHook, ExplainedOutcome, ExplainRequest, Explanation,
} from '../ipc/explanation.ts'
import { NOBODY } from '../listener/tcp-listener.ts'
import { selectionWatch, type Choice, type SelectionWatch } from '../load-balancing/selection-watch.ts'
import { MODULE_HOOKS } from '../modules/http-module.ts'
import { formatAddress } from '../peer/peer-address.ts'
import type { Peer } from '../peer/peer.ts'
import { decisionOf } from '../primitives/application-call.ts'
import type { HashKey } from '../primitives/hash.ts'
import { showValue } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { ConnectionHost, DownstreamConnection } from '../protocols/http-connection.ts'
import { MemoryStream } from '../protocols/memory-stream.ts'
import { statusOf } from '../proxy/fail-to-proxy.ts'
import { hookOfModule, type PhasePlan } from '../proxy/phases.ts'
import { HOOKS } from '../proxy/proxy-http.ts'
import type { Session } from '../proxy/session.ts'
import { watchPlan, type HookCall, type HookObserver } from '../proxy/watched-plan.ts'
import { OwnRequestHost, type TestedService } from './own-request-host.ts'

/** All hooks together have as long, in ms. */
const EXPLAIN_LIMIT_MS = 10_000

/** What is longer is no head that an origin would take, in characters. */
const MAX_HEAD_LENGTH = 262_144
const MAX_FIELDS = 128
const MAX_CHOICES = 8
const MAX_CANDIDATES = 64
const MAX_TEXT_LENGTH = 1024
const MAX_STACK_LENGTH = 8192

/** Hooks that a request passes before its head leaves. `newCtx` makes what the others are given. */
const RUN: ReadonlySet<string> = new Set([
  'newCtx', 'earlyRequestFilter', 'requestFilter', 'proxyUpstreamFilter', 'upstreamPeer', 'connectedToUpstream', 'upstreamRequestFilter',
])
/** What every request has before its first phase, or only a later one of a connection. */
const UNTOLD: ReadonlySet<string> = new Set(['newCtx', 'newState', 'onConnectionReuse'])
/** Fields whose values are shown to nobody. */
const CREDENTIALS: ReadonlySet<string> = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie'])
const HIDDEN = '***'

/** The listener that takes the request. */
export interface ExplainedListener {
  readonly connectionFilter: ((remoteIp: string) => boolean) | null
  /** Serves the stream as one of its connections, which no count knows. */
  open(stream: ByteStream, host: ConnectionHost): void
}

/**
 * @param service its name, and what it does for requests of the process's own
 * @param plan the service's own
 * @throws TypeError for what is no request
 */
export async function explainRequest<Ctx>(
  service: TestedService<Ctx> & { readonly name: string }, plan: PhasePlan<Ctx>, request: ExplainRequest, listener: ExplainedListener,
): Promise<Explanation> {
  const text = textOf(request), recorder = new Recorder(service.clock)
  const { connectionFilter } = listener, { name } = service
  const filter = connectionFilter === null ? '' : filterSays(connectionFilter, request.from)
  const explaining = new Explaining(service, plan, recorder, request.from)
  try {
    if (filter === '' || filter === 'lets it in') await during(recorder, () => explaining.run(text, listener))
    else explaining.outcome = 'turned-away'
    return {
      service: name, listener: request.listener, filter,
      hooks: recorder.rowsOf(hooksBefore(plan)), later: hooksBehind(plan), choices: recorder.choices,
      ...explaining.result(),
    }
  } finally {
    explaining.close()
  }
}

/** As a client would write it. What a parser may refuse passes; what would be two requests does not. */
function textOf({ method, target, headers }: ExplainRequest): string {
  RequestHead.build(method, target)
  for (const [name, value] of headers) checkField(name, value)
  return `${method} ${target} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

function filterSays(connectionFilter: (remoteIp: string) => boolean, from: string): Explanation['filter'] {
  try { return decisionOf(connectionFilter(from)) ? 'lets it in' : 'turns it away' } catch { return 'failed' }
}

/** Hooks of a request up to its head, in the order in which they are called. */
function hooksBefore<Ctx>({ has, requestModules, upstreamRequestModules }: PhasePlan<Ctx>): string[] {
  const ofApp = (hook: keyof typeof has): string[] => has[hook] ? [hook] : []
  return [
    ...ofApp('earlyRequestFilter'), ...(requestModules ?? []).map(module => hookOfModule('requestFilter', module)),
    ...ofApp('requestFilter'), ...ofApp('proxyUpstreamFilter'), 'upstreamPeer', ...ofApp('connectedToUpstream'),
    ...ofApp('upstreamRequestFilter'),
    ...(upstreamRequestModules ?? []).map(module => hookOfModule('upstreamRequestFilter', module)),
  ]
}

/** The others that there are: of the application in their order, then those of modules. */
function hooksBehind<Ctx>({ has, modules }: PhasePlan<Ctx>): string[] {
  const isBehind = (hook: string): boolean => !RUN.has(hook) && !UNTOLD.has(hook)
  const ofModules = modules.flatMap(module => {
    return MODULE_HOOKS.filter(hook => module[hook] !== undefined && isBehind(hook)).map(hook => hookOfModule(hook, module))
  })
  return [...HOOKS.filter(hook => has[hook] && isBehind(hook)), ...ofModules]
}

/** One request on its way. */
class Explaining<Ctx> extends OwnRequestHost<Ctx> {
  outcome: ExplainedOutcome = 'unfinished'
  readonly #client: MemoryStream
  readonly #server: MemoryStream
  readonly #recorder: Recorder
  readonly #over = Promise.withResolvers<void>()
  #settled = false
  #cancelLimit: () => void = () => {}
  // As they were when it was settled: the end of the connection changes them.
  #peer: Peer | null = null
  #head = ''
  #answer: ExplainedAnswer | null = null
  #failure: ProxyError | null = null
  #lateFor = ''

  constructor(service: TestedService<Ctx>, plan: PhasePlan<Ctx>, recorder: Recorder, from: string) {
    const { ticker } = service, origin = new SilentOrigin()
    super(service, watchPlan(plan, recorder, hook => RUN.has(hook)), new HttpConnector({ ticker, transport: origin }), false)
    origin.onHead = head => {
      this.#head = head
      this.#settle('forwarded')
    }
    this.#recorder = recorder
    ;[this.#client, this.#server] = MemoryStream.pair(from === '' ? 'explain' : from, from)
  }

  run(text: string, listener: ExplainedListener): Promise<void> {
    const look = (): void => this.#look()
    this.#client.owner = { onBytes: look, onEnd: look, onDrained() {}, onClosed: look }
    this.#cancelLimit = this.clock.after(EXPLAIN_LIMIT_MS, () => this.#settle('unfinished'))
    listener.open(this.#server, this)
    this.#client.writeText(text)
    return this.#over.promise
  }

  close(): void {
    this.#cancelLimit()
    this.#client.destroy(true)
    this.connector.close()
  }

  tracersFor(): null { return null }
  exchangeEnded(): void { this.#look() }
  override hookFailed(): void { /* Of what ends no request, the first real one will tell. */ }

  override onRefused(connection: DownstreamConnection, error: ProxyError): void {
    super.onRefused(connection, error)
    this.#settle('refused')
  }

  /** Something was written to the client, or its connection is gone: an answer, unless that was an interim one. */
  #look(): void {
    const { exchange, error } = this
    if (error !== null) this.#settle(error.kind === 'STATUS' ? 'answered' : 'failed')
    else if (exchange !== null && exchange.response !== null) this.#settle('answered')
  }

  #settle(outcome: ExplainedOutcome): void {
    if (this.#settled) return
    this.#settled = true
    this.outcome = outcome
    this.#failure = this.error
    if (outcome === 'unfinished') this.#lateFor = this.waitsFor
    const { exchange } = this
    if (exchange !== null) {
      this.#peer = exchange.peer
      const { response } = exchange
      if (outcome === 'answered' && response !== null) {
        const { answeredBy, threwLast } = this.#recorder
        const hook = this.error === null ? answeredBy : threwLast
        this.#answer = { status: response.status, ...shownFields([...response.headers]), hook }
      }
    }
    this.#over.resolve()
  }

  result(): Pick<Explanation, 'outcome' | 'detail' | 'peer' | 'upstream' | 'answer' | 'error'> {
    const { outcome } = this, peer = this.#peer
    return {
      outcome,
      detail: this.#lateFor === '' ? '' : `it waits for ${this.#lateFor}`,
      peer: peer === null ? null : {
        name: cut(peer.name), tls: peer.tls, sni: cut(peer.sni),
        proxy: peer.connectProxy === null ? '' : cut(formatAddress(peer.connectProxy.nextHop)),
      },
      upstream: this.#head === '' ? null : shownHead(this.#head),
      answer: this.#answer,
      error: this.#failure === null || outcome === 'answered' ? null : this.#shownError(this.#failure),
    }
  }

  #shownError(error: ProxyError): ExplainedError {
    const { kind, message, hook } = error
    return {
      kind, message: cut(message), status: statusOf(error), hook: hook === '' ? this.#recorder.threwLast : hook,
      stack: cut(this.service.stackOf(error), MAX_STACK_LENGTH),
    }
  }
}

/** Dials nothing, takes a head, and never answers. */
class SilentOrigin implements Transport {
  onHead: (head: string) => void = () => {}

  dial(peer: Peer, waiter: Parameters<Transport['dial']>[1]): ReturnType<Transport['dial']> {
    const [near, far] = MemoryStream.pair(peer.name)
    let cancelled = false, text = ''
    far.owner = {
      ...NOBODY,
      onBytes: (buffer, from, to) => {
        text += buffer.latin1Slice(from, to)
        const end = text.indexOf('\r\n\r\n')
        if (end !== -1 || text.length > MAX_HEAD_LENGTH) this.onHead(text.slice(0, end === -1 ? MAX_HEAD_LENGTH : end))
      },
    }
    queueMicrotask(() => { if (!cancelled) waiter.onDialed(near, null) })
    return { cancel() { cancelled = true } }
  }
}

/** What hooks said, and what balancers chose. */
class Recorder implements HookObserver {
  /** What hooks have begun may go on, and asks balancers for others. */
  over = false
  readonly choices: ExplainedChoice[] = []
  /** '': the proxy itself. */
  answeredBy = ''
  threwLast = ''
  readonly #rows = new Map<string, ExplainedHook>()
  readonly #clock: { exact(): number }

  constructor(clock: { exact(): number }) { this.#clock = clock }

  hookBegins(hook: string, session: Session): HookCall {
    const startedAt = this.#clock.exact(), before = lineOf(session)
    this.#rows.set(hook, { hook, said: 'waiting', ms: 0, changed: '' })
    const ends = (said: string): void => {
      const hasAnswered = this.answeredBy === '' && session.response !== null
      if (hasAnswered) this.answeredBy = hook
      const changed = cut(changeOf(before, lineOf(session)))
      this.#rows.set(hook, { hook, said: hasAnswered ? 'responded' : said, ms: this.#clock.exact() - startedAt, changed })
    }
    return {
      // Hooks alone: what the engine begins meanwhile, a timer for all deadlines say, is everybody's.
      within: call => contexts().run(this, call),
      gave: result => ends(sayingOf(result)),
      threw: () => {
        this.threwLast = hook
        ends('threw')
      },
    }
  }

  /** @returns whether it was the request's own */
  onChoice({ balancer, selection, key, chosen, backends }: Choice): boolean {
    if (this.over || this.choices.length >= MAX_CHOICES) return !this.over
    const candidates = backends.slice(0, MAX_CANDIDATES).map(backend => {
      const { name, weight, ready, enabled, healthy, passive, reason, inFlight } = backend.status()
      return { name: cut(name), weight, ready, enabled, healthy, passive, reason: cut(reason), inFlight }
    })
    this.choices.push({
      balancer: cut(balancer), selection: cut(selection), key: cut(textOfKey(key)), chosen: chosen === null ? '' : cut(chosen.name),
      candidates, candidatesLeftOut: backends.length - candidates.length,
    })
    return true
  }

  rowsOf(hooks: readonly string[]): ExplainedHook[] {
    return hooks.map(hook => this.#rows.get(hook) ?? { hook, said: null, ms: 0, changed: '' })
  }
}

function sayingOf(result: unknown): string {
  if (typeof result === 'string') return cut(result)
  // A peer has a name, which an application's own may have to make.
  try {
    const { name } = Object(result) as { readonly name?: unknown }
    return typeof name === 'string' ? cut(name) : ''
  } catch { return '' }
}

interface RequestLine { readonly method: string; readonly target: string; readonly host: string }

function lineOf({ request: { method, target, authority } }: Session): RequestLine { return { method, target, host: authority } }

function changeOf(before: RequestLine, after: RequestLine): string {
  const changed = (['method', 'target', 'host'] as const).filter(name => before[name] !== after[name])
  // Of an application in plain JavaScript it may be anything.
  const shown = (value: unknown): string => typeof value === 'string' ? value : showValue(value)
  return changed.map(name => `${name} is now ${shown(after[name])}`).join(', ')
}

function textOfKey(key: HashKey): string { return typeof key === 'string' ? key : Buffer.from(key).toString('hex') }

function shownHead(head: string): ExplainedHead {
  const [line = '', ...lines] = head.split('\r\n'), [method = '', target = ''] = line.split(' ')
  const fields = lines.map((text): [string, string] => {
    const colon = text.indexOf(':')
    return [text.slice(0, colon), text.slice(colon + 1).trim()]
  })
  return { method: cut(method), target: cut(target, MAX_HEAD_LENGTH / 8), ...shownFields(fields) }
}

function shownFields(fields: readonly (readonly [string, string])[]): Pick<ExplainedHead, 'fields' | 'fieldsLeftOut'> {
  const shown = fields.slice(0, MAX_FIELDS).map(([name, value]): [string, string] => {
    return [cut(name), CREDENTIALS.has(asciiLower(name)) ? HIDDEN : cut(value)]
  })
  return { fields: shown, fieldsLeftOut: fields.length - shown.length }
}

function cut(text: string, longest = MAX_TEXT_LENGTH): string { return text.length <= longest ? text : `${text.slice(0, longest)}...` }

// ---- whose choice it is

let storage: AsyncLocalStorage<Recorder> | null = null
/** Explanations under way. */
let underWay = 0

const WATCH: SelectionWatch = { onChoice: choice => contexts().getStore()?.onChoice(choice) ?? false }

/** Whose hook it is that runs. Made when it is asked for: a process that only serves does without. */
function contexts(): AsyncLocalStorage<Recorder> {
  return storage ??= new (process.getBuiltinModule('node:async_hooks').AsyncLocalStorage)()
}

async function during(recorder: Recorder, run: () => Promise<void>): Promise<void> {
  underWay++
  selectionWatch.current = WATCH
  try {
    await run()
  } finally {
    recorder.over = true
    if (--underWay === 0) selectionWatch.current = null
  }
}
