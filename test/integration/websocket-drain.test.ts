/**
 * What clients and origins that speak WebSocket see of a drain, through a real server and with a real library at both
 * ends: the code, the time, and whole messages.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type net from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { HttpPeer, type HttpProxyOptions } from '../../src/index.ts'
import type { DrainRequest } from '../../src/server/service.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { get, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { waitFor, within } from '../support/wait-for.ts'

/** Minutes, but for the spread. */
const RETIRE: DrainRequest = { ...drainOrder('retire', DRAIN_DEFAULTS), idleDrainMs: 600_000, closeSpreadMs: 0 }
const BIG_BYTES = 32 * 1024 * 1024

interface Ended { readonly code: number; readonly reason: string; readonly atMs: number }

class Watched {
  readonly socket: WebSocket
  readonly messages: Buffer[] = []
  readonly errors: (string | undefined)[] = []
  readonly ended: Promise<Ended>

  constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', bytes => this.messages.push(bytes as Buffer))
    socket.on('error', (error: NodeJS.ErrnoException) => this.errors.push(error.code))
    this.ended = new Promise(resolve => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString(), atMs: performance.now() }))
    })
  }
}

interface World { readonly proxy: ProxyUnderTest; readonly atOrigin: Watched[]; connect(): Promise<Watched> }

async function startWorld(t: TestContext, perMessageDeflate: boolean, service: HttpProxyOptions = {}): Promise<World> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate, maxPayload: 2 * BIG_BYTES })
  await once(server, 'listening')
  const atOrigin: Watched[] = []
  server.on('connection', socket => atOrigin.push(new Watched(socket)))
  t.after(() => {
    for (const { socket } of atOrigin) socket.terminate()
    server.close()
  })
  const { port } = server.address() as net.AddressInfo
  const peer = new HttpPeer(`127.0.0.1:${port}`)
  const proxy = await startProxy(t, {
    hooks: { upstreamPeer: session => session.request.target === '/raw' ? new HttpPeer(proxy.origin.authority) : peer },
    service: { upgrades: ['websocket', 'echo'], ...service }, leavesExchangesOpen: true, script: switchToEcho,
  })
  const connect = async (): Promise<Watched> => {
    const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/`, { perMessageDeflate, maxPayload: 2 * BIG_BYTES })
    t.after(() => socket.terminate())
    const watched = new Watched(socket)
    await within('the upgrade', once(socket, 'open'))
    return watched
  }
  return { proxy, atOrigin, connect }
}

function switchToEcho(exchange: { send(bytes: string): Promise<void>; connection: { socket: net.Socket } }): void {
  void exchange.send('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n')
  exchange.connection.socket.on('data', bytes => exchange.connection.socket.write(bytes))
}

/** Resolves when a message has begun to leave and cannot go on. */
async function stuck(socket: WebSocket): Promise<void> {
  // Only the handle knows how far the kernel is within one large write.
  const handle = (): number => (socket as unknown as { _socket: { _handle: { writeQueueSize: number } } })._socket._handle.writeQueueSize
  let last = 0, same = 0
  await waitFor('a message to be stuck', () => {
    const now = handle()
    same = now === last ? same + 1 : 0
    last = now
    return now > 0 && now < BIG_BYTES && same > 30
  })
}

for (const perMessageDeflate of [false, true]) {
  describe(`WebSockets in a drain, ${perMessageDeflate ? 'compressed' : 'plain'}`, () => {
    it('at webSocketDrainMs both ends get 1001, and messages sent before arrive whole', async t => {
      const { proxy, atOrigin, connect } = await startWorld(t, perMessageDeflate)
      const clients = [await connect(), await connect(), await connect()]
      const startedMs = performance.now()
      const drained = proxy.server.drain({ ...RETIRE, webSocketDrainMs: 400 })
      const up = clients.map((_, index) => randomBytes(index * 70_000 + 10))
      const down = clients.map((_, index) => randomBytes(index * 70_000 + 20))
      for (const [index, { socket }] of clients.entries()) {
        socket.send(up[index]!)
        atOrigin[index]!.socket.send(down[index]!)
      }
      for (const [index, client] of clients.entries()) {
        for (const { ended, messages, errors, sent } of [{ ...client, sent: down[index]! }, { ...atOrigin[index]!, sent: up[index]! }]) {
          const { code, reason, atMs } = await within('the close', ended)
          assert.deepEqual([code, reason, errors], [1001, 'going away', []])
          assert.ok(atMs - startedMs >= 400, `closed after ${Math.round(atMs - startedMs)} ms`)
          assert.deepEqual(messages.map(message => message.equals(sent)), [true])
        }
      }
      assert.deepEqual(await within('the end of the drain', drained), { cut: 3 })
    })

    for (const direction of ['down', 'up'] as const) {
      it(`a large message on its way ${direction} at the deadline arrives whole before the 1001`, async t => {
        const { proxy, atOrigin, connect } = await startWorld(t, perMessageDeflate)
        const client = await connect(), origin = atOrigin[0]!, [from, to] = direction === 'down' ? [origin, client] : [client, origin]
        const message = randomBytes(BIG_BYTES)
        to.socket.pause()
        from.socket.send(message)
        await stuck(from.socket)
        const drained = proxy.server.drain({ ...RETIRE, webSocketDrainMs: 200 })
        // The sender has nothing under way towards it and is told at once.
        await waitFor('the sender to be told', () => from.socket.readyState === WebSocket.CLOSING)
        assert.equal(to.messages.length, 0)
        to.socket.resume()
        assert.equal((await within('the close', to.ended)).code, 1001)
        assert.equal((await within('the close', from.ended)).code, 1001)
        assert.deepEqual([to.errors, from.errors], [[], []])
        assert.deepEqual(to.messages.map(bytes => bytes.equals(message)), [true])
        await within('the end of the drain', drained)
      })

      it(`a large message ${direction} that is not taken before hardDrainMs of a stop is cut, and never misread`, async t => {
        const { proxy, atOrigin, connect } = await startWorld(t, perMessageDeflate)
        const client = await connect(), origin = atOrigin[0]!, [from, to] = direction === 'down' ? [origin, client] : [client, origin]
        to.socket.pause()
        from.socket.send(randomBytes(BIG_BYTES))
        await stuck(from.socket)
        const startedMs = performance.now()
        await within('the end of the stop', proxy.server.stop({ ...RETIRE, mode: 'stop', hardDrainMs: 500 }))
        assert.ok(performance.now() - startedMs < 2500)
        to.socket.resume()
        assert.equal((await within('the end', to.ended)).code, 1006)
        assert.deepEqual([to.messages.length, to.errors.filter(code => code !== 'ECONNRESET')], [0, []])
      })
    }
  })
}

describe('upgraded connections in a drain', () => {
  it('a retirement spreads the closes', async t => {
    const { proxy, connect } = await startWorld(t, false)
    const clients = await Promise.all(Array.from({ length: 20 }, connect))
    const startedMs = performance.now()
    const drained = proxy.server.drain({ ...RETIRE, webSocketDrainMs: 200, closeSpreadMs: 1000 })
    const ends = await within('every close', Promise.all(clients.map(({ ended }) => ended)))
    assert.deepEqual(new Set(ends.map(({ code }) => code)), new Set([1001]))
    const times = ends.map(({ atMs }) => atMs - startedMs).sort((a, b) => a - b)
    assert.ok(times[0]! >= 200)
    assert.ok(times.at(-1)! - times[0]! > 200, `all within ${times.at(-1)! - times[0]!} ms`)
    assert.deepEqual(await drained, { cut: 20 })
  })

  it('a stop closes with 1001 in time for hardDrainMs', async t => {
    const { proxy, connect } = await startWorld(t, true)
    const client = await connect()
    const startedMs = performance.now()
    const stopped = proxy.server.stop({ ...RETIRE, mode: 'stop', hardDrainMs: 2300 })
    assert.equal((await within('the close', client.ended)).code, 1001)
    const tookMs = performance.now() - startedMs
    assert.ok(tookMs >= 290 && tookMs < 2200, `closed after ${Math.round(tookMs)} ms`)
    await within('the end of the stop', stopped)
    assert.ok(performance.now() - startedMs < 2300)
  })

  it('other tunnels have tunnelDrainMs, and stats tell what is open', async t => {
    const { proxy, connect } = await startWorld(t, false)
    const client = await connect(), raw = await proxy.connect()
    await raw.write(get('/raw', 'Connection: upgrade', 'Upgrade: echo'))
    assert.equal((await raw.readHead()).status, 101)
    const drained = proxy.server.drain({ ...RETIRE, tunnelDrainMs: 300 })
    const { upgraded, webSockets } = proxy.server.stats()
    assert.deepEqual([upgraded, webSockets], [2, 1])
    assert.ok(await raw.closes())
    assert.equal(raw.error, null)
    raw.end()
    await waitFor('the tunnel to be gone', () => proxy.server.stats().upgraded === 1, { seen: () => proxy.server.stats() })
    assert.ok(proxy.server.stats().oldestUpgradedMs >= 300)
    assert.equal(client.socket.readyState, WebSocket.OPEN)
    // Asked again: now.
    void proxy.server.drain({ ...RETIRE, webSocketDrainMs: 0 })
    assert.equal((await within('the close', client.ended)).code, 1001)
    assert.deepEqual(await within('the end of the drain', drained), { cut: 2 })
    const { webSockets: left, oldestUpgradedMs } = proxy.server.stats()
    assert.deepEqual([left, oldestUpgradedMs], [0, 0])
  })

  it('the idle limit closes a WebSocket with 1001', async t => {
    const { atOrigin, connect } = await startWorld(t, true, { tunnelIdleTimeoutMs: 300 })
    const client = await connect()
    const { code, reason } = await within('the close', client.ended)
    assert.deepEqual([code, reason, (await within('the close', atOrigin[0]!.ended)).code], [1001, 'idle', 1001])
  })
})
