/**
 * A proxy service with tracers, between scripted clients and origins in memory, on a clock that moves only between steps. Both
 * ends write down what they saw and when; `check` compares that with every event that the tracers were told.
 *
 *   peer   its tracer
 *   a      one of its own
 *   b      the one that the service has as well: told once
 *   c      none
 *
 * Each client runs its scripts one after the other; whose turn it is is left to chance. A step is atomic: after it all bytes
 * are where they should be, so that what an end sees in a step happened at the time of that step. Only a time limit is met
 * within a step of the clock; ends that follow from one are known to within a tick.
 */
import assert from 'node:assert/strict'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { DialWaiter } from '../../src/connector/transport-connector.ts'
import { ProxyError, type ErrorKind } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker, TICK_MS } from '../../src/primitives/clock.ts'
import type { StreamDigest, StreamOwner } from '../../src/protocols/byte-stream.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import { admit } from '../../src/server/listening-base.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import type { RequestTracing } from '../../src/telemetry/request-trace.ts'
import type {
  AttemptConnected, AttemptEnded, AttemptResponded, AttemptStarted, DownstreamAccepted, DownstreamClosed, ExchangeEnded,
  ExchangeRetried, ExchangeStarted, RequestRefused, Tracer, UpstreamClosed, UpstreamConnected, UpstreamConnectFailed,
  UpstreamReused,
} from '../../src/telemetry/tracer.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { NO_TRACERS, tracerFaults, type TracerCallback } from '../../src/telemetry/tracer-group.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import { FakeClock } from './fake-clock.ts'
import { MemoryStream } from './memory-stream.ts'
import { readMetrics } from './read-metrics.ts'
import { StrictResponseReader, type ReadResponse, type ResponseWatcher } from './strict-response-reader.ts'

// ---- what can be asked of the world

export type PeerName = 'a' | 'b' | 'c'

/** What becomes of one attempt. */
export interface Outcome {
  readonly peer: PeerName
  /** `refuse` and `reset` before the answer, `cut` within it, `silent` past a time limit, `garbage` in its place. */
  readonly kind: 'answer' | 'refuse' | 'reset' | 'cut' | 'silent' | 'garbage'
  readonly status: 200 | 204 | 404 | 503
  readonly chunked: boolean
  /** Sizes of the pieces in which the body comes. */
  readonly pieces: readonly number[]
  /** 103 comes first. */
  readonly interim: boolean
  /** `Connection: close`. */
  readonly close: boolean
}

export interface Script {
  readonly client: number
  readonly method: 'GET' | 'PUT' | 'POST'
  readonly bodyBytes: number
  /** The head comes in two reads. */
  readonly split: boolean
  /** The first attempts, in their order; the last one stands for those that follow. */
  readonly outcomes: readonly Outcome[]
  /** `head` changes the status of the origin's answer. `bad` is no request at all. */
  readonly special: 'none' | 'responds' | 'throws' | 'head' | 'bad' | 'upgrade'
  /** When the client goes away; `filter`: while a filter of the origin's head waits. */
  readonly abort: 'never' | 'dial' | 'asked' | 'filter' | 'body'
  /** The origin closes an idle connection before it. */
  readonly idleFin: boolean
  /** ms between steps, in turns. */
  readonly waits: readonly number[]
}

/** Numbers in [0, 1), the same for the same seed. */
export type Chance = () => number

const ADDRESSES: Readonly<Record<PeerName, string>> = { a: '10.0.0.1', b: '10.0.0.2', c: '10.0.0.3' }
const FIRST_BYTE_TIMEOUT_MS = 300
const LONG_MS = 3_600_000
/** While a repetition is awaited the clock moves by this much. */
const RETRY_STEP_MS = 20

// ---- the ends

class NearStream extends MemoryStream {
  override readonly digest: StreamDigest
  #ended = false

  constructor(name: string, establishedAt: number) {
    super(name, Infinity)
    this.digest = { remoteAddress: name, remoteIp: '192.0.2.1', remotePort: 7, localAddress: 'memory:', establishedAt, tls: null }
  }

  // As forgiving as a socket: what is written behind the end is lost.
  override writeText(text: string): void { if (!this.#ended && !this.destroyed) super.writeText(text) }
  override writeBytes(bytes: Buffer): void { if (!this.#ended && !this.destroyed) super.writeBytes(bytes) }
  override end(): void {
    if (this.#ended) return
    super.end()
    this.#ended = true
  }
}

/** One end of a connection of the proxy, in the hand of a script. */
abstract class End implements StreamOwner {
  readonly world: TracedWorld
  readonly near: NearStream
  readonly far: MemoryStream
  readonly openedAt: number
  received = 0
  sent = 0
  /** Its end began, at this time; by this side, or by the proxy. */
  endedAt = 0
  endedBy: 'here' | 'proxy' | null = null

  constructor(world: TracedWorld, name: string) {
    this.world = world
    this.openedAt = world.now
    this.near = new NearStream(name, world.now)
    this.far = new MemoryStream(`${name}-far`, Infinity)
    this.near.peer = this.far
    this.far.peer = this.near
    this.far.owner = this
  }

  get open(): boolean { return this.endedBy === null }

  send(text: string): void {
    this.sent += text.length
    this.far.writeBytes(Buffer.from(text, 'latin1'))
  }

  fin(): void {
    this.ended('here')
    this.far.end()
  }

  cut(): void {
    this.ended('here')
    this.far.destroy(true)
  }

  ended(by: 'here' | 'proxy'): void {
    if (this.endedBy !== null) return
    this.endedBy = by
    this.endedAt = this.world.now
  }

  abstract onText(text: string): void
  onBytes(buffer: Buffer, from: number, to: number): void {
    this.received += to - from
    this.onText(buffer.latin1Slice(from, to))
  }
  onEnd(): void {
    this.ended('proxy')
    this.far.end()
  }
  onDrained(): void { /* nothing waits */ }
  onClosed(): void { this.ended('proxy') }

  /** Everything that is on its way arrives. @returns whether anything did */
  settle(): boolean {
    const before = this.received + this.near.bytesRead
    while (this.near.deliver() > 0 || this.far.deliver() > 0);
    const ended = [this.far.deliverEnd(), this.near.deliverEnd()].includes(true)
    return ended || this.received + this.near.bytesRead > before
  }
}

class Client extends End implements ResponseWatcher {
  readonly reader = new StrictResponseReader(this)
  readonly asked: (TrueExchange | null)[] = []
  /** Heads that were sent, bad ones included. */
  heads = 0

  onText(text: string): void {
    this.reader.push(Buffer.from(text, 'latin1'))
    assert.equal(this.reader.fault, '')
  }
  override onEnd(): void {
    this.reader.end()
    super.onEnd()
  }
  override ended(by: 'here' | 'proxy'): void {
    super.ended(by)
    this.asked.at(-1)?.over(this.world.now)
  }

  onInterim(): void { /* 103 is passed on */ }
  onHead(index: number, { status }: ReadResponse): void {
    const exchange = this.asked[index]
    if (exchange !== null) exchange!.status = status
  }
  onBody(index: number, _response: ReadResponse, bytes: Buffer): void {
    const exchange = this.asked[index]
    if (exchange !== null) exchange!.bytesToClient += bytes.length
  }
  onComplete(index: number, { status }: ReadResponse): void {
    const exchange = this.asked[index]
    if (exchange === null) return
    exchange!.complete = true
    if (status !== 101) exchange!.over(this.world.now)
  }
  onTunnel(index: number, bytes: Buffer): void { this.asked[index]!.bytesToClient += bytes.length }
}

class Origin extends End {
  readonly peer: PeerName
  readonly dial: Dial
  #text = ''
  /** Request heads that arrived. */
  heads = 0
  /** What it has to answer. */
  serving: TrueAttempt | null = null
  /** `serving` when its end began. */
  inUse = false

  constructor(world: TracedWorld, dial: Dial) {
    super(world, `${dial.peer.name}#${world.origins.length}`)
    this.peer = dial.attempt.peer
    this.dial = dial
  }

  onText(text: string): void {
    const { serving } = this
    if (serving !== null) {
      serving.bytesToOrigin += text.length
      return
    }
    this.#text += text
    const end = this.#text.indexOf('\r\n\r\n')
    if (end === -1) return
    const id = /^[A-Z]+ \/e(\d+) HTTP\/1\.1\r\n/.exec(this.#text)?.[1]
    assert.ok(id !== undefined, this.#text)
    const attempt = this.world.exchanges[Number(id)]!.attempts.at(-1)!
    assert.equal(attempt.origin, null, 'an attempt is sent once')
    attempt.origin = this
    attempt.reused = this.heads > 0
    // A repetition after a delay begins within a step of the clock, and what it writes to a pooled connection arrives behind it.
    const { now, stepFrom } = this.world, delayed = attempt.reused && attempt.chosenAt > stepFrom
    attempt.sentAt = delayed ? attempt.chosenAt : now
    attempt.bytesToOrigin = this.#text.length - end - 4
    this.heads++
    this.serving = attempt
    // Its limit may be met while another client's script has its turn.
    if (attempt.isSilent) this.world.exchanges[Number(id)]!.error = attempt.error = 'FIRST_BYTE_TIMEOUT'
    this.#text = ''
  }

  override ended(by: 'here' | 'proxy'): void {
    if (this.endedBy === null) {
      this.inUse = this.serving !== null
      this.serving?.over(this.world.now)
    }
    super.ended(by)
  }
}

// ---- what really happened

class TrueAttempt {
  readonly attempt: number
  readonly peer: PeerName
  readonly outcome: Outcome
  readonly chosenAt: number
  dial: Dial | null = null
  origin: Origin | null = null
  reused = false
  sentAt = 0
  firstByteAt = 0
  status = 0
  bytesToOrigin = 0
  bytesFromOrigin = 0
  endedAt = 0
  /** What the proxy has to say of it; null: it went well. */
  error: ErrorKind | null = null

  /** The origin lets its time limit pass. */
  readonly isSilent: boolean

  constructor(attempt: number, outcome: Outcome, chosenAt: number, isSilent: boolean) {
    this.attempt = attempt
    this.isSilent = isSilent
    this.peer = outcome.peer
    this.outcome = outcome
    this.chosenAt = chosenAt
  }

  over(at: number): void { if (this.endedAt === 0) this.endedAt = at }
}

class TrueExchange {
  readonly id: number
  readonly script: Script
  readonly client: Client
  readonly attempts: TrueAttempt[] = []
  startedAt = 0
  status = 0
  bytesToClient = 0
  /** Behind a 101. */
  upgraded = false
  bytesFromClient = 0
  complete = false
  endedAt = 0
  error: ErrorKind | null = null

  constructor(id: number, script: Script, client: Client) {
    this.id = id
    this.script = script
    this.client = client
  }

  get isOver(): boolean { return this.endedAt !== 0 }
  over(at: number): void { if (this.endedAt === 0) this.endedAt = at }
}

interface Dial {
  readonly peer: Peer
  readonly waiter: DialWaiter
  readonly attempt: TrueAttempt
  readonly begunAt: number
  /** It came to an end of its own, or was cancelled. */
  end: 'accepted' | 'refused' | 'cancelled' | null
  endedAt: number
}

export interface Told<Name extends TracerCallback = TracerCallback> {
  readonly name: Name
  readonly at: number
  readonly event: Parameters<NonNullable<Tracer[Name]>>[0]
}

const CALLBACKS = Object.keys(NO_TRACERS) as TracerCallback[]

// ---- the world

export class TracedWorld {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly exchanges: TrueExchange[] = []
  readonly clients: Client[] = []
  readonly origins: Origin[] = []
  /** Those that were refused, in that order. */
  readonly refused: Dial[] = []
  readonly byService: Told[] = []
  readonly byBoth: Told[] = []
  readonly byPeerA: Told[] = []
  refusedHeads = 0
  /** Where the last step of the clock began. */
  stepFrom = 0
  readonly #metrics = new Metrics()
  readonly #traffic = new TrafficMetrics(this.#metrics)
  readonly #service: HttpProxy<undefined>
  readonly #tracing: RequestTracing | null
  readonly #peerOptions: Readonly<Record<PeerName, readonly [usual: HttpPeerOptions, hasty: HttpPeerOptions]>>
  readonly #connector: HttpConnector
  readonly #faultsBefore = tracerFaults.count

  /** @param tracing records requests; null: none is recorded */
  constructor(tracing: RequestTracing | null = null) {
    this.#tracing = tracing
    const both = this.#tracer(this.byBoth)
    this.#peerOptions = { a: this.#options(this.#tracer(this.byPeerA)), b: this.#options(both), c: this.#options(null) }
    this.#connector = new HttpConnector({
      ticker: this.ticker, maxIdlePerKey: 2,
      transport: { dial: (peer, waiter) => this.#dial(peer, waiter) },
    })
    this.#service = new HttpProxy<undefined>(this.#application(), {
      connector: this.#connector, accessLog: null, upgrades: ['model'],
      tracers: [this.#tracer(this.byService), both, this.#traffic],
      listener: { keepAliveTimeoutMs: LONG_MS, bodyIdleTimeoutMs: LONG_MS, headTimeoutMs: LONG_MS },
    }).addTcp('127.0.0.1:0')
  }

  get now(): number { return this.clock.exact() }

  #tracer(told: Told[]): Tracer {
    return Object.fromEntries(CALLBACKS.map(name => [name, (event: never) => { told.push({ name, at: this.now, event }) }]))
  }

  #options(tracer: Tracer | null): readonly [HttpPeerOptions, HttpPeerOptions] {
    const usual: HttpPeerOptions = {
      tracer, retryBudgetPercent: 100, maxAttempts: 3, firstByteTimeoutMs: LONG_MS, readTimeoutMs: LONG_MS, idleTimeoutMs: LONG_MS,
    }
    return [Object.freeze(usual), Object.freeze({ ...usual, firstByteTimeoutMs: FIRST_BYTE_TIMEOUT_MS })]
  }

  #application(): ProxyHttp<undefined> {
    return {
      newCtx: () => undefined,
      suppressErrorLog: () => true,
      requestFilter: session => {
        const { special } = this.#exchangeOf(session).script
        if (special === 'throws') throw new Error('planned')
        return special === 'responds' ? session.respond(418, {}, 'teapot') : 'continue'
      },
      upstreamPeer: session => this.#choosePeer(this.#exchangeOf(session)),
      upstreamResponseFilter: (session, head) => {
        const { special, abort } = this.#exchangeOf(session).script
        if (special === 'head' && head.status === 200) head.status = 207
        return abort === 'filter' && special !== 'upgrade' ? new Promise(() => { /* for ever */ }) : undefined
      },
    }
  }

  #exchangeOf({ request }: Session): TrueExchange { return this.exchanges[Number(request.target.slice(2))]! }

  #choosePeer(exchange: TrueExchange): Peer {
    const { outcomes } = exchange.script
    const outcome = outcomes[Math.min(exchange.attempts.length, outcomes.length - 1)]!
    const host = ADDRESSES[outcome.peer], [usual, hasty] = this.#peerOptions[outcome.peer]
    const { special, abort } = exchange.script
    const isSilent = outcome.kind === 'silent' && special !== 'upgrade' && abort !== 'asked'
    exchange.attempts.push(new TrueAttempt(exchange.attempts.length + 1, outcome, this.now, isSilent))
    const address = { peerAddress: { kind: 'tcp', host, port: 80 } as const, name: `${host}:80` }
    return new HttpPeer(address, isSilent ? hasty : usual)
  }

  #dial(peer: Peer, waiter: DialWaiter): { cancel(): void } {
    // Whose it is: the exchange that has just chosen this peer.
    const attempt = this.exchanges.flatMap(({ attempts }) => attempts.slice(-1))
      .find(one => one.dial === null && one.origin === null && one.endedAt === 0 && `${ADDRESSES[one.peer]}:80` === peer.name)!
    const dial: Dial = { peer, waiter, attempt, begunAt: this.now, end: null, endedAt: 0 }
    attempt.dial = dial
    return { cancel: () => { dial.end ??= 'cancelled' } }
  }

  // ---- moving

  /** Promises, and all bytes. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 2;) {
      let moved = false
      for (const end of [...this.clients, ...this.origins]) if (end.settle()) moved = true
      await new Promise(setImmediate)
      quiet = moved ? 0 : quiet + 1
    }
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.stepFrom = this.now
      this.clock.advance(Math.min(left, TICK_MS))
      await this.settle()
    }
  }

  /** All scripts, each client's in their order. */
  async run(scripts: readonly Script[], chance: Chance): Promise<void> {
    await this.#service.start({ ...SERVER_CONTEXT_DEFAULTS, counting: this.#traffic, tracing: this.#tracing })
    const lines = new Map<number, Script[]>()
    for (const script of scripts) {
      const line = lines.get(script.client) ?? []
      lines.set(script.client, line)
      line.push(script)
    }
    const runners = [...lines.values()].map(line => this.#runLine(line))
    while (runners.length > 0) {
      const at = Math.floor(chance() * runners.length)
      const { done } = await runners[at]!.next()
      await this.settle()
      if (done === true) runners.splice(at, 1)
    }
    this.#service.close()
    this.#connector.close()
    await this.settle()
    await this.pass(200)
  }

  async *#runLine(scripts: readonly Script[]): AsyncGenerator<void> {
    let client: Client | null = null
    for (const script of scripts) {
      let waits = 0
      const wait = (): Promise<void> => this.pass(script.waits[waits++ % script.waits.length]!)
      await wait()
      if (client === null || !client.open) {
        client = new Client(this, `client${this.clients.length}`)
        this.clients.push(client)
        admit(this.#service, client.near, this.#service.listeners[0]!.name)
        yield
        await wait()
      }
      if (script.idleFin) {
        this.origins.find(origin => origin.open && origin.serving === null)?.fin()
        yield
        await wait()
      }
      if (script.special === 'bad') {
        this.#sendBad(client)
        yield
      } else yield* this.#runExchange(script, client, wait)
    }
    if (client?.open === true) client.cut()
  }

  #sendBad(client: Client): void {
    this.refusedHeads++
    client.heads++
    client.asked.push(null)
    client.reader.expect({ method: 'GET', old: false, upgrade: false })
    client.send('GET / HTTP/1.1\r\nHost : a\r\n\r\n')
  }

  async *#runExchange(script: Script, client: Client, wait: () => Promise<void>): AsyncGenerator<void> {
    const exchange = new TrueExchange(this.exchanges.length, script, client), upgrade = script.special === 'upgrade'
    this.exchanges.push(exchange)
    client.asked.push(exchange)
    client.heads++
    client.reader.expect({ method: upgrade ? 'GET' : script.method, old: false, upgrade })
    const head = headOf(exchange), middle = script.split ? 9 : 0
    if (script.split) {
      client.send(head.slice(0, middle))
      yield
      await wait()
    }
    exchange.startedAt = this.now
    client.send(head.slice(middle))
    yield
    for (let steps = 0; !exchange.isOver; steps++) {
      assert.ok(steps < 200, `exchange ${exchange.id} does not end: ${JSON.stringify(script)}`)
      const attempt = exchange.attempts.at(-1)
      if (attempt === undefined || attempt.endedAt !== 0) {
        // The next attempt is awaited.
        await this.pass(RETRY_STEP_MS)
        continue
      }
      await wait()
      if (attempt.dial !== null && attempt.dial.end === null) this.#decideDial(exchange, attempt, attempt.dial)
      else yield* this.#serve(exchange, attempt, wait)
      yield
    }
  }

  #leaves(exchange: TrueExchange): void {
    const attempt = exchange.attempts.at(-1)!
    exchange.error = attempt.error = 'CLIENT_GONE'
    attempt.over(this.now)
    exchange.client.cut()
  }

  #decideDial(exchange: TrueExchange, attempt: TrueAttempt, dial: Dial): void {
    const { script } = exchange
    if (script.abort === 'dial') {
      this.#leaves(exchange)
      return
    }
    dial.endedAt = this.now
    if (attempt.outcome.kind === 'refuse') {
      dial.end = 'refused'
      this.refused.push(dial)
      exchange.error = attempt.error = 'CONNECT_REFUSED'
      attempt.over(this.now)
      dial.waiter.onDialFailed(new ProxyError('CONNECT_REFUSED', 'upstream', 'planned', { retry: 'always' }))
      return
    }
    dial.end = 'accepted'
    const origin = new Origin(this, dial)
    this.origins.push(origin)
    dial.waiter.onDialed(origin.near, null)
  }

  async *#serve(exchange: TrueExchange, attempt: TrueAttempt, wait: () => Promise<void>): AsyncGenerator<void> {
    const origin = attempt.origin!, { script } = exchange, { kind } = attempt.outcome
    if (script.abort === 'asked') {
      this.#leaves(exchange)
      return
    }
    if (script.special === 'upgrade') {
      yield* this.#serveTunnel(exchange, attempt, wait)
      return
    }
    if (kind === 'refuse' || kind === 'reset') this.#fail(exchange, attempt, 'CONNECTION_RESET', () => origin.cut())
    else if (kind === 'garbage') {
      this.#fail(exchange, attempt, 'BAD_HEAD', () => origin.send('nonsense at length\r\n\r\n'))
    } else if (kind === 'silent') {
      for (let ms = 0; attempt.endedAt === 0 && ms < 1000; ms += 50) await this.pass(50)
      assert.notEqual(attempt.endedAt, 0, 'the limit was not met')
    } else yield* this.#serveAnswer(exchange, attempt, wait)
  }

  #fail(exchange: TrueExchange, attempt: TrueAttempt, error: ErrorKind, act: () => void): void {
    exchange.error = attempt.error = error
    attempt.over(this.now)
    act()
  }

  async *#serveAnswer(exchange: TrueExchange, attempt: TrueAttempt, wait: () => Promise<void>): AsyncGenerator<void> {
    const origin = attempt.origin!, { kind, status, chunked, close, interim } = attempt.outcome
    if (interim) {
      attempt.firstByteAt = this.now
      origin.send('HTTP/1.1 103 Early Hints\r\n\r\n')
      yield
      await wait()
    }
    if (exchange.script.abort === 'filter') {
      if (attempt.firstByteAt === 0) attempt.firstByteAt = this.now
      attempt.status = 200
      origin.send('HTTP/1.1 200 Fine\r\n\r\n')
      yield
      await wait()
      this.#leaves(exchange)
      return
    }
    const pieces = status === 204 ? [] : attempt.outcome.pieces
    const total = pieces.reduce((sum, piece) => sum + piece, 0)
    // One that is to be cut announces more than it has.
    const length = kind === 'cut' && status !== 204 ? total + 1 : total
    let head = `HTTP/1.1 ${status} Fine\r\n${close ? 'Connection: close\r\n' : ''}`
    if (status !== 204) head += chunked ? 'Transfer-Encoding: chunked\r\n' : `Content-Length: ${length}\r\n`
    if (attempt.firstByteAt === 0) attempt.firstByteAt = this.now
    attempt.status = status
    if (status === 204 || (length === 0 && !chunked)) this.#answered(exchange, attempt)
    origin.send(`${head}\r\n`)
    for (const [at, size] of pieces.entries()) {
      yield
      if (exchange.isOver) return
      await wait()
      if (exchange.script.abort === 'body') {
        this.#leaves(exchange)
        return
      }
      attempt.bytesFromOrigin += size
      const text = '.'.repeat(size)
      if (at === pieces.length - 1 && kind !== 'cut' && !chunked) this.#answered(exchange, attempt)
      origin.send(chunked ? `${size.toString(16)}\r\n${text}\r\n` : text)
    }
    if (kind === 'cut' && status !== 204) {
      yield
      await wait()
      this.#fail(exchange, attempt, 'CONNECTION_RESET', () => origin.cut())
    } else if (chunked && status !== 204) {
      yield
      await wait()
      this.#answered(exchange, attempt)
      origin.send('0\r\n\r\n')
    }
  }

  /** The whole answer is about to be on its way. */
  #answered(exchange: TrueExchange, attempt: TrueAttempt): void {
    exchange.error = attempt.error = null
    attempt.over(this.now)
    attempt.origin!.serving = null
  }

  async *#serveTunnel(exchange: TrueExchange, attempt: TrueAttempt, wait: () => Promise<void>): AsyncGenerator<void> {
    const origin = attempt.origin!, { client } = exchange, { pieces, close } = attempt.outcome
    attempt.firstByteAt = this.now
    attempt.status = 101
    exchange.upgraded = true
    origin.send('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: model\r\n\r\n')
    for (const size of pieces) {
      yield
      await wait()
      client.send('c'.repeat(size))
      exchange.bytesFromClient += size
      yield
      await wait()
      origin.send('o'.repeat(size + 1))
      attempt.bytesFromOrigin += size + 1
    }
    yield
    await wait()
    exchange.error = attempt.error = null
    // One side closes, and the other does when it hears of it.
    if (close) client.fin()
    else origin.fin()
  }

  // ---- what was counted

  /** Against what the service's first tracer was told, which is compared with the truth below. */
  #checkMetrics(): void {
    const counted = readMetrics(this.#metrics.memory)
    const sumOf = (name: string, ...labels: string[]): number => counted.get(name)?.get(labels.join(' '))?.[0] ?? 0
    const ended = this.#told('exchangeEnded').map(({ event }) => event)
    const expected = new Map<string, number>()
    for (const { listener, method, status, flag } of ended) {
      const key = `http-proxy ${listener} ${method} ${status === 0 ? 'none' : `${Math.floor(status / 100)}xx`} ${flag}`
      expected.set(key, (expected.get(key) ?? 0) + 1)
    }
    const requests = [...counted.get('cirque_requests_total') ?? []].map(([labels, [count = 0]]) => [labels, count] as const)
    assert.deepEqual(new Map(requests), expected)
    const listener = ended[0]?.listener ?? ''
    if (ended.length > 0) {
      assert.equal(sumOf('cirque_request_bytes_total', listener), ended.reduce((sum, one) => sum + one.bytesReceived, 0))
      assert.equal(sumOf('cirque_response_bytes_total', listener), ended.reduce((sum, one) => sum + one.bytesSent, 0))
    }
    const seriesOf = (name: string): readonly (readonly number[])[] => [...counted.get(name)?.values() ?? []]
    // The last slot is the sum of what was observed.
    const countOf = (name: string): number => seriesOf(name).flatMap(slots => slots.slice(0, -1)).reduce((sum, one) => sum + one, 0)
    assert.equal(countOf('http_server_request_duration_seconds'), ended.length)
    assert.equal(countOf('http_client_request_duration_seconds'), this.#told('attemptEnded').length)
    const totalOf = (name: string): number => seriesOf(name).reduce((sum, [value = 0]) => sum + value, 0)
    assert.equal(totalOf('cirque_upstream_retries_total'), this.#told('exchangeRetried').length)
    assert.equal(totalOf('cirque_requests_refused_total'), this.#told('requestRefused').length)
    const told = (...names: readonly TracerCallback[]): number => this.byService.filter(({ name }) => names.includes(name)).length
    assert.equal(totalOf('cirque_connections_total'), told('downstreamAccepted', 'downstreamRefused'))
    assert.equal(totalOf('cirque_upstream_connects_total'), told('upstreamConnected', 'upstreamConnectFailed'))
    assert.equal(totalOf('cirque_upstream_reuse_total'), this.#told('attemptConnected').length)
  }

  // ---- what the tracers were told

  check(): void {
    this.#checkMetrics()
    assert.equal(tracerFaults.count, this.#faultsBefore)
    assert.deepEqual(this.byBoth, this.byService, 'a tracer that was given twice is told once')
    const ids = new Map<string, number>()
    for (const { event } of this.#told('exchangeStarted')) ids.set(event.request.target, event.exchangeId)
    assert.equal(this.#told('exchangeStarted').length, this.exchanges.length)
    assert.equal(new Set(ids.values()).size, this.exchanges.length)
    for (const exchange of this.exchanges) this.#checkExchange(exchange, ids.get(`/e${exchange.id}`)!)
    this.#checkOrigins()
    this.#checkClients()
    this.#checkPeerTracer()
  }

  #told<Name extends TracerCallback>(name: Name): Told<Name>[] {
    return this.byService.filter(one => one.name === name) as Told<Name>[]
  }

  #checkExchange(exchange: TrueExchange, exchangeId: number): void {
    const mine = this.byService.filter(({ event }) => 'exchangeId' in event && event.exchangeId === exchangeId)
    const expected: TracerCallback[] = ['exchangeStarted']
    for (const attempt of exchange.attempts) {
      expected.push('attemptStarted')
      if (attempt.origin !== null) expected.push('attemptConnected')
      if (attempt.status !== 0) expected.push('attemptResponded')
      expected.push('attemptEnded')
      if (attempt !== exchange.attempts.at(-1)) expected.push('exchangeRetried')
    }
    expected.push('exchangeEnded')
    assert.deepEqual(mine.map(({ name }) => name), expected, `exchange ${exchange.id}: ${JSON.stringify(exchange.script)}`)
    const started = mine[0]!.event as ExchangeStarted, { requestId } = started
    const { clientIp, listener, client, startedAt, startedWallMs } = started
    assert.deepEqual([clientIp, listener, startedAt], ['192.0.2.1', 'http-proxy/127.0.0.1:0', exchange.startedAt])
    assert.equal(client, exchange.client.near.digest)
    assert.equal(startedWallMs - startedAt, this.clock.wall() - this.now)
    for (const { event } of mine) assert.equal((event as ExchangeStarted).requestId, requestId)
    let at = 1
    for (const attempt of exchange.attempts) at = this.#checkAttempt(exchange, attempt, mine, at)
    this.#checkExchangeEnd(exchange, mine.at(-1)!.event as ExchangeEnded, started)
  }

  /** @returns where the events of the next attempt begin */
  #checkAttempt(exchange: TrueExchange, attempt: TrueAttempt, mine: readonly Told[], from: number): number {
    const peer = `${ADDRESSES[attempt.peer]}:80`, { origin } = attempt
    const where = `attempt ${attempt.attempt} of exchange ${exchange.id}: ${JSON.stringify(exchange.script)}`
    let at = from
    const begun = mine[at++]!.event as AttemptStarted
    assert.deepEqual([begun.attempt, begun.peer, begun.startedAt], [attempt.attempt, peer, attempt.chosenAt], where)
    // A new connection is used in the step in which its dial was accepted, a pooled one in the step that asked for it.
    const connectedAt = origin === null ? 0 : attempt.dial === null ? attempt.chosenAt : attempt.dial.endedAt
    if (origin !== null) {
      const connected = mine[at++]!.event as AttemptConnected
      assert.equal(connected.connection, origin.near.digest, where)
      assert.deepEqual([connected.reused, connected.protocol, connected.connectedAt], [attempt.reused, 'h1', connectedAt], where)
      assert.equal(attempt.reused, attempt.dial === null, where)
      assert.equal(connectedAt, attempt.sentAt, where)
    }
    if (attempt.status !== 0) {
      const { status, firstByteAt } = mine[at++]!.event as AttemptResponded
      assert.deepEqual([status, firstByteAt], [attempt.status, attempt.firstByteAt], where)
    }
    const ended = mine[at++]!.event as AttemptEnded
    const isLast = attempt === exchange.attempts.at(-1)
    assert.deepEqual({ ...ended, exchangeId: 0, requestId: '', error: ended.error?.kind ?? null, endedAt: 0 }, {
      exchangeId: 0, requestId: '', attempt: attempt.attempt, peer, reused: attempt.reused, status: attempt.status,
      startedAt: attempt.chosenAt, connectedAt, sentAt: attempt.sentAt, firstByteAt: attempt.firstByteAt, endedAt: 0,
      bytesSent: attempt.bytesToOrigin, bytesReceived: attempt.bytesFromOrigin,
      error: attempt.error, retried: !isLast,
    }, where)
    near(ended.endedAt, isLast ? exchange.endedAt : attempt.endedAt, attempt.error === 'FIRST_BYTE_TIMEOUT', where)
    if (isLast) return at
    const told = mine[at++]!, retried = told.event as ExchangeRetried
    assert.deepEqual([retried.attempt, retried.peer, retried.error], [attempt.attempt, peer, ended.error], where)
    const next = exchange.attempts[attempt.attempt]!
    assert.ok(Math.abs(next.chosenAt - told.at - retried.delayMs) < 1e-6, where)
    return at
  }

  #checkExchangeEnd(exchange: TrueExchange, ended: ExchangeEnded, started: ExchangeStarted): void {
    const { script } = exchange, last = exchange.attempts.at(-1) ?? null, upgraded = exchange.upgraded
    const where = `exchange ${exchange.id}: ${JSON.stringify(script)}`
    const own = exchange.status !== 0 && (last === null || last.status === 0)
    const error = script.special === 'throws' ? 'HOOK_FAILED' : exchange.error
    const { connectedAt, bytesReceived, flag, endedAt, durationMs, ...rest } = ended
    assert.deepEqual({ ...rest, error: ended.error?.kind ?? null }, {
      exchangeId: started.exchangeId, requestId: started.requestId, listener: started.listener, clientIp: started.clientIp,
      client: started.client, method: script.special === 'upgrade' ? 'GET' : script.method, scheme: 'http', authority: 'a.example',
      target: `/e${exchange.id}`, version: '1.1', status: exchange.status, bytesSent: exchange.bytesToClient,
      startedAt: exchange.startedAt, startedWallMs: started.startedWallMs, attempts: exchange.attempts.length,
      peer: last === null ? '' : `${ADDRESSES[last.peer]}:80`, reused: last?.reused ?? false, upstreamStatus: last?.status ?? 0,
      sentAt: last?.sentAt ?? 0, firstByteAt: last?.firstByteAt ?? 0, upgraded, ownAnswer: own, retryBudgetSpent: false,
      error, trace: started.trace,
    }, where)
    assert.equal(connectedAt, last?.sentAt ?? 0, where)
    assert.equal(flag === '-', error === null, where)
    near(endedAt, exchange.endedAt, error === 'FIRST_BYTE_TIMEOUT', where)
    assert.equal(durationMs, endedAt - exchange.startedAt, where)
    const sent = bodyBytesOf(script)
    if (upgraded) assert.equal(bytesReceived, exchange.bytesFromClient, where)
    else if (exchange.attempts.some(({ origin }) => origin !== null)) assert.equal(bytesReceived, sent, where)
    // Without an origin nobody asked for the body; what came with the head may have been read all the same.
    else assert.ok(bytesReceived <= sent, where)
  }

  #checkOrigins(): void {
    const connected = this.#told('upstreamConnected'), closed = this.#told('upstreamClosed'), reused = this.#told('upstreamReused')
    assert.deepEqual([connected.length, closed.length], [this.origins.length, this.origins.length])
    for (const [at, origin] of this.origins.entries()) {
      const peer = `${ADDRESSES[origin.peer]}:80`, connection = origin.near.digest
      const durationMs = origin.dial.endedAt - origin.dial.begunAt
      const told: UpstreamConnected = connected[at]!.event
      assert.deepEqual(told, { peer, connection, protocol: 'h1', durationMs, addressesTried: 1 })
      assert.equal(told.connection, connection)
      const [end, ...more] = closed.filter(({ event }) => event.connection === connection)
      assert.equal(more.length, 0)
      const { openMs, error, ...rest }: UpstreamClosed = end!.event
      assert.deepEqual(rest, {
        peer, connection, protocol: 'h1', exchanges: origin.heads, bytesReceived: origin.sent, bytesSent: origin.received,
        closedBy: origin.endedBy === 'here' ? 'origin' : 'proxy', inUse: origin.inUse,
      })
      assert.equal(error === null, origin.endedBy === 'proxy' || !origin.far.destroyed || error === null)
      near(origin.openedAt + openMs, origin.endedAt, true, `origin ${at}`)
      const again = reused.filter(({ event }) => event.connection === connection)
      assert.equal(again.length, Math.max(0, origin.heads - 1))
      for (const { event } of again) assert.deepEqual(event satisfies UpstreamReused, { peer, connection })
    }
    const failed: UpstreamConnectFailed[] = this.#told('upstreamConnectFailed').map(({ event }) => event)
    const kinds = failed.map(({ error, ...rest }) => ({ ...rest, error: error.kind }))
    assert.deepEqual(kinds, this.refused.map(({ peer, begunAt, endedAt }) => {
      return { peer: peer.name, durationMs: endedAt - begunAt, addressesTried: 1, error: 'CONNECT_REFUSED' }
    }))
    const inPlace = this.exchanges.flatMap(({ attempts }) => attempts).filter(({ reused: again }) => again).length
    assert.equal(reused.length, inPlace)
  }

  #checkClients(): void {
    const listener = 'http-proxy/127.0.0.1:0'
    const accepted: DownstreamAccepted[] = this.#told('downstreamAccepted').map(({ event }) => event)
    assert.deepEqual(accepted, this.clients.map(({ near: { digest } }) => ({ listener, client: digest })))
    const closed: DownstreamClosed[] = this.#told('downstreamClosed').map(({ event }) => event)
    assert.equal(closed.length, this.clients.length)
    for (const client of this.clients) {
      const { openMs, ...rest } = closed.find(event => event.client === client.near.digest)!
      assert.deepEqual(rest, {
        listener, client: client.near.digest, protocol: 'h1', requests: client.heads, bytesReceived: client.sent,
        bytesSent: client.received,
      })
      assert.ok(client.openedAt + openMs >= client.endedAt - TICK_MS)
    }
    const refused: RequestRefused[] = this.#told('requestRefused').map(({ event }) => event)
    assert.equal(refused.length, this.refusedHeads)
    for (const { error, flag } of refused) assert.deepEqual([error.kind, error.status, flag], ['BAD_HEAD', 400, 'PE'])
    assert.equal(this.#told('downstreamRefused').length, 0)
  }

  /** The peer's tracer was told what the service's was, as far as it concerns that peer: the same records, in the same order. */
  #checkPeerTracer(): void {
    const peer = `${ADDRESSES.a}:80`, joined = new Set<number>()
    const expected: Told[] = []
    for (const told of this.byService) {
      const { name, event } = told
      if (name === 'exchangeStarted' || name.startsWith('downstream') || name === 'requestRefused') continue
      const isExchange = name === 'exchangeRetried' || name === 'exchangeEnded'
      if (name === 'attemptStarted' && (event as AttemptStarted).peer === peer) joined.add((event as AttemptStarted).exchangeId)
      if (isExchange ? joined.has((event as ExchangeEnded).exchangeId) : (event as AttemptStarted).peer === peer) expected.push(told)
    }
    const rest = this.byPeerA.filter(({ name }) => name !== 'exchangeStarted')
    assert.equal(rest.length, expected.length)
    for (const [at, told] of rest.entries()) assert.ok(told.event === expected[at]!.event && told.name === expected[at]!.name)
    const started = this.byPeerA.filter(({ name }) => name === 'exchangeStarted') as Told<'exchangeStarted'>[]
    assert.deepEqual(new Set(started.map(({ event }) => event.exchangeId)), joined)
    assert.equal(started.length, joined.size)
    for (const told of started) {
      const of = this.#told('exchangeStarted').find(({ event }) => event.exchangeId === told.event.exchangeId)!
      assert.deepEqual(told.event, of.event)
      const next = this.byPeerA[this.byPeerA.indexOf(told) + 1]!
      assert.deepEqual([next.name, (next.event as AttemptStarted).exchangeId], ['attemptStarted', told.event.exchangeId])
    }
  }
}

/** What follows from a time limit is seen up to a tick late; anything else happens in the step that brought it about. */
function near(told: number, seen: number, late: boolean, where: string): void {
  assert.ok(late ? Math.abs(told - seen) <= TICK_MS : told === seen, `${told} was told, ${seen} was seen: ${where}`)
}

function bodyBytesOf({ method, bodyBytes, special }: Script): number { return method === 'GET' || special === 'upgrade' ? 0 : bodyBytes }

function headOf({ id, script }: TrueExchange): string {
  const upgrade = script.special === 'upgrade', bytes = bodyBytesOf(script)
  let head = `${upgrade ? 'GET' : script.method} /e${id} HTTP/1.1\r\nHost: a.example\r\n`
  if (upgrade) head += 'Connection: upgrade\r\nUpgrade: model\r\n'
  else if (script.method !== 'GET') head += `Content-Length: ${bytes}\r\n`
  return `${head}\r\n${'b'.repeat(bytes)}`
}
