/**
 * Accepting against a plain model of it: connections of a few clients go through a pretended handshake that passes, fails,
 * throws, reports late, twice or never, while clients leave, time passes, and the service drains, is closed, or is at its
 * limits. What must hold at every moment: the counts are those of what is open, no client is over its limit, and nothing
 * that ended is heard of again. At the end nothing is left: no count, no deadline, no stream, no stage that was not told.
 *
 * The protocol behind the handshake is one of the test's own, chosen by ALPN in the table that is handed to the core.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import type { ProcessLog } from '../../src/ipc/process-log.ts'
import type { HttpListenerOptions, ResolvedHttpListenerOptions } from '../../src/listener/http-listener-options.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { BUFFER_RESERVE, type ByteStream, type StreamOwner } from '../../src/protocols/byte-stream.ts'
import type { AcceptingListener, DownstreamConnection } from '../../src/protocols/http-connection.ts'
import type { HttpProxyOptions } from '../../src/server/http-proxy-options.ts'
import type { AcceptFacts, AcceptStage, RunningStage, ServedConnection, StageWaiter } from '../../src/server/accept-pipeline.ts'
import { HttpProxyCore } from '../../src/server/http-proxy-core.ts'
import { HTTP_PROTOCOLS, type OpenHttp } from '../../src/server/http-protocols.ts'
import { admit, ListeningBase } from '../../src/server/listening-base.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../support/memory-stream.ts'

const CLIENTS = ['192.0.2.1', '192.0.2.2', '2001:db8::1']
const MAX_CONNECTIONS = 6, MAX_PER_CLIENT = 3, HEAD_TIMEOUT_MS = 10_000

const LIMITS: HttpListenerOptions = { maxConnections: MAX_CONNECTIONS, maxConnectionsPerClient: MAX_PER_CLIENT }

/** One run of the pretended handshake, in the test's hand. */
class Handshake implements RunningStage, StreamOwner {
  readonly stream: ByteStream
  readonly early: Buffer | null
  readonly #waiter: StageWaiter
  reports = 0
  cancels = 0
  streamClosed = false

  constructor(stream: ByteStream, early: Buffer | null, waiter: StageWaiter) {
    this.stream = stream
    this.early = early
    this.#waiter = waiter
    stream.owner = this
  }

  /** It has said what it had to say, or was told to stop. */
  get over(): boolean { return this.reports > 0 || this.cancels > 0 }

  pass(alpn: string, early: Buffer | null = null, stream: ByteStream = this.stream): void {
    this.reports++
    this.#waiter.onPassed(stream, early, { alpn, site: null })
  }
  fail(): void {
    this.reports++
    this.#waiter.onFailed()
  }
  cancel(): void { this.cancels++ }

  onBytes(): void {}
  onEnd(): void {}
  onDrained(): void {}
  onClosed(): void {
    this.streamClosed = true
    if (!this.over) this.fail()
  }
}

type AtStart = 'waits' | 'passes' | 'fails' | 'throws' | 'is ended'

class PretendedStage implements AcceptStage {
  readonly name = 'pretended'
  readonly runs: Handshake[] = []
  atStart: AtStart = 'waits'
  readonly #world: World
  constructor(world: World) { this.#world = world }

  start(stream: ByteStream, early: Buffer | null, _facts: AcceptFacts, waiter: StageWaiter): RunningStage {
    const run = new Handshake(stream, early, waiter)
    this.runs.push(run)
    if (this.atStart === 'throws') {
      run.reports++
      throw new Error('planned')
    }
    if (this.atStart === 'passes') run.pass('pretended/1')
    else if (this.atStart === 'fails') run.fail()
    else if (this.atStart === 'is ended') this.#world.service.close()
    return run
  }
}

/** A protocol of the test's own: each byte of the client is a request that is under way until the next one. */
class PretendedConnection implements DownstreamConnection, StreamOwner {
  readonly protocol = 'pretended'
  readonly stream: ByteStream
  readonly listener: string
  facts: object | null = null
  acceptedBy: AcceptingListener | null = null
  countedAs = ''
  requests = 0
  active = 0
  readonly tunnels = 0
  lingering = false
  readonly parting = false
  closed = 0
  drains = 0
  bookNewer: DownstreamConnection | null = null
  bookOlder: DownstreamConnection | null = null
  listNewer: DownstreamConnection | null = null
  listOlder: DownstreamConnection | null = null
  inList: object | null = null

  constructor(stream: ByteStream, listener: string) {
    this.stream = stream
    this.listener = listener
  }

  get idle(): boolean { return this.active === 0 && this.closed === 0 }
  onBytes(_buffer: Buffer, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      this.active = 1 - this.active
      this.requests += this.active
      if (this.active === 1) this.acceptedBy?.onActive(this)
      else this.acceptedBy?.onIdle(this)
    }
  }
  onEnd(): void { this.stream.end() }
  onDrained(): void {}
  onClosed(): void {
    this.closed++
    this.acceptedBy?.onClosed(this)
  }
  closeIdle(): void { if (this.idle) this.stream.destroy() }
  drain(): void { this.drains++ }
  cut(): void { this.stream.destroy(true) }
  destroy(): void { this.stream.destroy(true) }
}

class StagedCore extends HttpProxyCore<undefined> {
  readonly pretended: readonly PretendedStage[]
  constructor(stages: readonly PretendedStage[], options: HttpProxyOptions, protocols: ReadonlyMap<string, OpenHttp>) {
    const app = {
      newCtx: () => undefined, upstreamPeer: () => new HttpPeer('192.0.2.9:1'),
      requestFilter: (session: { respond(status: number): 'responded' }) => session.respond(204),
    }
    super(app as never, { ...options, accessLog: null }, protocols)
    this.pretended = stages
  }
  override stages(): readonly PretendedStage[] { return this.pretended }
}

class World {
  readonly clock = new FakeClock()
  readonly connectorTicker = new Ticker(this.clock)
  readonly stages: readonly PretendedStage[]
  readonly core: StagedCore
  readonly service: ListeningBase<HttpListenerOptions, ResolvedHttpListenerOptions>
  readonly pairs: MemoryPair[] = []
  readonly wires: WireEnd[] = []
  readonly served: PretendedConnection[] = []
  drained: Promise<{ cut: number }> | null = null
  drainOver = false

  constructor(stageCount: number, limits: HttpListenerOptions = LIMITS, options: HttpProxyOptions = {}) {
    this.stages = Array.from({ length: stageCount }, () => new PretendedStage(this))
    const pretended: OpenHttp = (stream, listener): ServedConnection => {
      const connection = new PretendedConnection(stream, listener)
      this.served.push(connection)
      return connection
    }
    const protocols = new Map([...HTTP_PROTOCOLS, ['pretended/1', pretended]])
    const connector = new HttpConnector({ ticker: this.connectorTicker })
    this.core = new StagedCore(this.stages, { connector, ...options, listener: { ...limits, headTimeoutMs: HEAD_TIMEOUT_MS } }, protocols)
    this.service = new ListeningBase('staged', this.core).addTcp('127.0.0.1:0')
  }

  static async start(stageCount: number, limits?: HttpListenerOptions, options?: HttpProxyOptions): Promise<World> {
    const world = new World(stageCount, limits, options)
    await world.service.start()
    return world
  }

  connect(client: number): MemoryPair {
    const pair = new MemoryPair({ remoteIp: CLIENTS[client % CLIENTS.length]! })
    this.pairs.push(pair)
    this.wires.push(new WireEnd(pair.far))
    admit(this.service, pair.near, this.service.listeners[0]!.name)
    return pair
  }

  settle(): void { for (const pair of this.pairs) pair.settle() }
  wait(ms: number): void {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.advance(Math.min(100, left))
      this.settle()
    }
  }
  get waiting(): Handshake[] { return this.stages.flatMap(({ runs }) => runs.filter(run => !run.over)) }
  get open(): number { return this.service.stats().connections ?? -1 }

  drain(mode: 'retire' | 'stop'): void {
    this.drained ??= this.service.drain({
      ...drainOrder(mode, DRAIN_DEFAULTS, 0), hardDrainMs: 4000, idleDrainMs: 500, closeSpreadMs: 100,
    })
    void this.drained.then(() => { this.drainOver = true })
  }

  /** What holds at every moment at which nothing is under way. */
  check(): void {
    const { connections, idleConnections } = this.service.stats()
    const inStage = this.waiting.length
    const served = this.served.filter(({ closed }) => closed === 0)
    assert.equal(connections, inStage + served.length, 'the count is not that of what is open')
    assert.ok(connections <= MAX_CONNECTIONS, `${connections} connections at once`)
    assert.equal(idleConnections, inStage + served.filter(({ idle }) => idle).length, 'the idle ones are not those that are idle')
    for (const ip of CLIENTS) {
      const open = this.pairs.filter(({ near }) => near.digest.remoteIp === ip && !near.destroyed).length
      assert.ok(open <= MAX_PER_CLIENT, `${ip} has ${open} connections`)
    }
    for (const connection of this.served) assert.ok(connection.closed <= 1)
    for (const run of this.stages.flatMap(({ runs }) => runs)) assert.ok(run.cancels <= 1, 'a stage was cancelled twice')
  }

  /** Everything is ended: what is left then was forgotten. */
  async end(): Promise<void> {
    this.service.close()
    this.settle()
    this.wait(200)
    if (this.drained !== null) await this.drained
    this.check()
    assert.deepEqual([this.open, this.core.ticker.size, this.connectorTicker.size], [0, 0, 0])
    assert.deepEqual(this.pairs.filter(({ near }) => !near.destroyed).length, 0, 'streams are left open')
    assert.equal(this.waiting.length, 0, 'a stage was not told')
    // Each client has its whole limit again: no count was kept.
    for (const [client] of CLIENTS.entries()) {
      const again = Array.from({ length: MAX_PER_CLIENT + 1 }, () => this.connect(client))
      assert.deepEqual(again.map(({ near }) => near.destroyed), [...again.slice(1).map(() => false), true], `client ${client}`)
      this.service.close()
      this.settle()
    }
    this.wait(200)
    assert.equal(this.clock.pending, 0, 'timers are left')
  }
}

type Step =
  | { readonly what: 'connect'; readonly which: number; readonly atStart: AtStart }
  | { readonly what: 'pass' | 'pass to nothing' | 'fail' | 'report late' | 'client goes' | 'client says'; readonly which: number }
  | { readonly what: 'wait'; readonly ms: number }
  | { readonly what: 'retire' | 'stop' | 'close' }

const which = fc.nat(1000)
/** Most handshakes take a while. */
const atStart = fc.oneof(
  { weight: 2, arbitrary: fc.constant<AtStart>('waits') },
  { weight: 1, arbitrary: fc.constantFrom<AtStart>('passes', 'passes', 'fails', 'throws', 'is ended') },
)
const happening = fc.constantFrom('pass', 'pass', 'pass to nothing', 'fail', 'report late', 'client goes', 'client says')
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ what: fc.constant('connect' as const), which, atStart }) },
  { weight: 10, arbitrary: fc.record({ what: happening, which }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('wait' as const), ms: fc.constantFrom(100, 3000, 11_000) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('retire', 'stop', 'close') }) },
)

function take(world: World, given: Step): void {
  const pick = <T>(from: readonly T[], at: number): T | undefined => from[at % Math.max(1, from.length)]
  switch (given.what) {
    case 'connect': {
      const before = world.open, ip = CLIENTS[given.which % CLIENTS.length]
      const ofClient = world.pairs.filter(({ near }) => near.digest.remoteIp === ip && !near.destroyed).length
      const idle = world.service.stats().idleConnections ?? 0
      world.stages[0]!.atStart = given.atStart
      const { near } = world.connect(given.which)
      world.stages[0]!.atStart = 'waits'
      if (before >= MAX_CONNECTIONS) {
        if (idle === 0) assert.equal(near.destroyed, true, 'the limit of the listener')
      } else if (given.atStart === 'waits') assert.equal(near.destroyed, ofClient >= MAX_PER_CLIENT, 'the limit of a client')
      break
    }
    case 'pass': pick(world.waiting, given.which)?.pass('pretended/1'); break
    case 'pass to nothing': pick(world.waiting, given.which)?.pass('unknown/9'); break
    case 'fail': pick(world.waiting, given.which)?.fail(); break
    case 'report late': {
      // A second word, or one behind a cancel: with a stream that nothing knows.
      const over = pick(world.stages.flatMap(({ runs }) => runs.filter(run => run.over)), given.which)
      if (over === undefined) break
      const ended = over.stream.destroyed, other = new MemoryPair()
      if (given.which % 2 === 0) over.pass('pretended/1', null, other.near)
      else over.fail()
      assert.equal(over.stream.destroyed, ended, 'a late word ended a connection')
      if (given.which % 2 === 0) assert.equal(other.near.destroyed, true, 'a stream that was passed too late is left open')
      other.near.destroy()
      break
    }
    case 'client goes': pick(world.pairs.filter(({ far }) => !far.destroyed), given.which)?.far.destroy(given.which % 2 === 0); break
    case 'client says': pick(world.wires.filter(({ stream }) => !stream.destroyed), given.which)?.send('x'); break
    case 'wait': world.wait(given.ms); break
    case 'retire': case 'stop': world.drain(given.what); break
    case 'close': world.service.close(); break
  }
}

test('accepting: whatever a handshake does, and whatever happens to it, the counts are right and nothing is left', async () => {
  await fc.assert(fc.asyncProperty(fc.constantFrom(1, 2), fc.array(step, { maxLength: 40 }), async (stageCount, steps) => {
    const world = await World.start(stageCount)
    for (const given of steps) {
      take(world, given)
      world.settle()
      world.check()
    }
    if (world.drained !== null) {
      world.wait(20_000)
      await Promise.resolve()
      assert.equal(world.drainOver, true, 'the drain does not end')
    }
    await world.end()
  }), { numRuns: 400 })
})

test('accepting: a client that does not finish its handshake is cut when its first head would have been due', async () => {
  const world = await World.start(1)
  const { near } = world.connect(0)
  world.wait(HEAD_TIMEOUT_MS - 200)
  assert.equal(near.destroyed, false)
  world.wait(300)
  assert.deepEqual([near.destroyed, world.stages[0]!.runs[0]!.cancels, world.open], [true, 1, 0])
  await world.end()
})

test('accepting: the time of a handshake counts for the first head behind it', async () => {
  const world = await World.start(1)
  world.connect(0)
  world.wait(6000)
  world.stages[0]!.runs[0]!.pass('http/1.1')
  world.wires[0]!.send('GET / HTTP/1.1\r\n')
  world.settle()
  world.wait(HEAD_TIMEOUT_MS - 6200)
  assert.equal(world.wires[0]!.text, '')
  world.wait(300)
  assert.match(world.wires[0]!.text, /^HTTP\/1\.1 408 /)
  world.service.close()
})

test('accepting: bytes that came behind a handshake reach the protocol that ALPN chose', async () => {
  const world = await World.start(2)
  world.connect(0)
  const request = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
  const early = Buffer.alloc(20 + 2 * BUFFER_RESERVE)
  early.write(request.slice(0, 20), BUFFER_RESERVE, 'latin1')
  const first = world.stages[0]!.runs[0]!
  first.stream.pause()
  first.pass('', early)
  const second = world.stages[1]!.runs[0]!
  assert.equal(second.early, early)
  second.pass('http/1.1', early)
  world.wires[0]!.send(request.slice(20))
  world.settle()
  assert.match(world.wires[0]!.text, /^HTTP\/1\.1 204 /)
  world.service.close()
})

test('accepting: at its limit a listener evicts the handshake that has waited for longest', async () => {
  const world = await World.start(1, { maxConnections: 2, maxConnectionsPerClient: 0 })
  const pairs = [world.connect(0), world.connect(1)]
  world.stages[0]!.runs[0]!.pass('pretended/1')
  world.wires[0]!.send('x')
  world.settle()
  pairs.push(world.connect(2))
  assert.deepEqual(pairs.map(({ near }) => near.destroyed), [false, true, false])
  assert.equal(world.stages[0]!.runs[1]!.cancels, 1)
  world.service.close()
})

test('accepting: a drain that only a handshake holds up ends without a cut', async () => {
  const world = await World.start(1)
  world.connect(0)
  const drained = world.service.drain(drainOrder('stop', DRAIN_DEFAULTS))
  world.wait(2000)
  assert.deepEqual(await drained, { cut: 0 })
  assert.equal(world.stages[0]!.runs[0]!.cancels, 1)
})

test('accepting: a connection whose handshake ends in a drain is told that it drains, as one that was served already', async () => {
  const world = await World.start(1)
  for (const client of [0, 1]) world.connect(client)
  const [early, late] = world.stages[0]!.runs
  early!.pass('pretended/1')
  world.drain('retire')
  late!.pass('pretended/1')
  assert.deepEqual(world.served.map(({ drains }) => drains), [1, 1])
  world.wait(2000)
  await world.end()
})

test('accepting: connections that are cut for others are counted, and told to the log once a second', async () => {
  const world = new World(1, { maxConnections: 2, maxConnectionsPerClient: 0 }), said: unknown[] = []
  const warn: ProcessLog['warn'] = (message, fields) => { said.push([message, fields]) }
  await world.service.start({ ...SERVER_CONTEXT_DEFAULTS, log: { info() {}, error() {}, warn } })
  for (let count = 0; count < 5; count++) world.connect(count)
  const { accepted, evicted, turnedAway } = world.service.stats()
  assert.deepEqual([accepted, evicted, turnedAway], [5, 3, 0])
  const fields = { listener: 'staged/127.0.0.1:0', client: '192.0.2.1', suppressed: undefined }
  assert.deepEqual(said, [['connections that waited are cut for want of room', fields]])
  world.service.close()
})

test('accepting: a trusted hop speaks for many clients, so that the limit of one is not for it', async () => {
  const world = await World.start(1, { maxConnectionsPerClient: 2 }, { trustedHops: ['192.0.2.1', '2001:db8::/32'] })
  const open = (client: number): boolean[] => Array.from({ length: 4 }, () => !world.connect(client).near.destroyed)
  assert.deepEqual([0, 1, 2].map(open), [[true, true, true, true], [true, true, false, false], [true, true, true, true]])
  world.service.close()
})

test('accepting: clients that are turned away are told to the log once a second, with why and how many', async () => {
  const world = new World(1, { maxConnectionsPerClient: 1 }), said: unknown[] = []
  const warn: ProcessLog['warn'] = (message, fields) => { said.push([message, fields]) }
  await world.service.start({ ...SERVER_CONTEXT_DEFAULTS, log: { info() {}, error() {}, warn } })
  for (let count = 0; count < 4; count++) world.connect(0)
  world.wait(1100)
  world.connect(0)
  const line = { listener: 'staged/127.0.0.1:0', reason: 'max-connections-per-client', client: '192.0.2.1' }
  assert.deepEqual(said, [
    ['connections are turned away', { ...line, suppressed: undefined }], ['connections are turned away', { ...line, suppressed: 2 }],
  ])
  assert.equal(world.service.stats().turnedAway, 4)
  world.service.close()
})
