/** The proof client over TLS, against servers that are well behaved or fail on purpose. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import https from 'node:https'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { createOrigin } from '../../examples/demo-origins.ts'
import type { PopulationName, PopulationReport, ProofReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions, type ProveOptions } from '../../src/config/prove-options.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { HeldTransport, type HeldStage } from '../../src/prove/held-transport.ts'
import { CannotProve } from '../../src/prove/preflight.ts'
import { Proof } from '../../src/prove/proof.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { waitFor } from '../support/wait-for.ts'

const { cert, key } = makeTestCa().issue({ names: ['a.test'] })

async function listening(t: TestContext, server: net.Server): Promise<number> {
  const sockets = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as net.AddressInfo).port
}

/** The demo origin over TLS. */
function secureOrigin(): https.Server {
  const demo = createOrigin('origin')
  const server = https.createServer({ cert, key }, (request, response) => { demo.emit('request', request, response) })
  server.on('upgrade', (request, socket, head) => demo.emit('upgrade', request, socket, head))
  server.on('tlsClientError', () => {})
  server.keepAliveTimeout = 75_000
  return server
}

async function watch(port: number, options: Omit<ProveOptions, 'url'> = {}): Promise<ProofReport> {
  const url = `https://127.0.0.1:${port}`
  const resolved = resolveProveOptions({ url, beforeMs: 0, forMs: 700, delayMs: 5, timeoutMs: 1000, rate: 50, ...options })
  const proof = await Proof.prepare(resolved)
  proof.start()
  const { promise, resolve } = Promise.withResolvers<void>()
  systemClock.after(resolved.forMs, resolve)
  await promise
  await proof.finish()
  return proof.report(null)
}

function population({ populations }: ProofReport, name: PopulationName): PopulationReport {
  return populations.find(each => each.name === name)!
}

test('proof over TLS: nothing is lost at a server that does everything right, and handshakes have populations of their own', async t => {
  const port = await listening(t, secureOrigin())
  const report = await watch(port, { ws: '/ws', download: '/download?bytes=3000000', upload: '/upload', uploadBytes: 500_000 })
  assert.deepEqual([report.losses, report.lost], [[], 0])
  for (const { name, attempted, outcomes } of report.populations) {
    assert.ok(attempted > 0, name)
    assert.equal(outcomes.ok, attempted, name)
  }
  assert.equal(report.populations.length, 7)
  assert.equal(population(report, 'resumed handshakes').refusedSessions, 0)
})

test('proof over TLS: sessions that are not taken up are counted, and are no loss', async t => {
  const server = secureOrigin()
  // Another key for each ticket, as with workers that do not share theirs.
  server.on('secureConnection', () => server.setTicketKeys(Buffer.from(crypto.getRandomValues(new Uint8Array(48)))))
  const report = await watch(await listening(t, server))
  assert.equal(report.lost, 0)
  assert.ok(population(report, 'resumed handshakes').refusedSessions > 0)
})

test('proof over TLS: handshakes that are cut or go wrong are lost, at whatever stage', async t => {
  const port = await listening(t, secureOrigin())
  let count = 0
  const relay = net.createServer({ allowHalfOpen: true }, client => {
    const upstream = net.connect(port, '127.0.0.1')
    upstream.on('error', () => client.destroy())
    client.on('close', () => upstream.destroy())
    client.pipe(upstream)
    switch (count++ > 0 ? count % 4 : 0) {
      case 1:
        upstream.once('data', () => client.resetAndDestroy())
        break
      case 2:
        // A record of no kind that there is.
        upstream.once('data', () => client.end(Buffer.alloc(40, 7)))
        break
      case 3:
        client.end()
        break
      default:
        upstream.pipe(client)
    }
  })
  const report = await watch(await listening(t, relay))
  const fresh = population(report, 'fresh connections').outcomes, held = population(report, 'slow handshakes').outcomes
  assert.ok(fresh.ok > 0 && fresh.reset > 0 && fresh.wrong > 0, JSON.stringify(fresh))
  assert.ok(held.reset + held.wrong + held.truncated > 0, JSON.stringify(held))
  const details = report.losses.map(({ detail }) => detail).join('\n')
  assert.match(details, /ECONNRESET in the handshake/)
  assert.match(details, /ERR_SSL_\w+ in the handshake/)
  assert.equal(report.lost, report.attempted - report.populations.reduce((sum, { outcomes }) => sum + outcomes.ok, 0))
})

test('proof over TLS: what speaks no TLS cannot be proven anything of', async t => {
  const port = await listening(t, createOrigin('origin'))
  await assert.rejects(watch(port), error => {
    return error instanceof CannotProve && /has no good answer to begin with: ERR_SSL_/.test(error.message)
  })
})

for (const [stage, before] of [['dialled', 0], ['hello', 5], ['answer', 10]] as const) {
  test(`proof over TLS: a handshake that stops at '${stage}' goes on when it is time`, async t => {
    const clock = new FakeClock()
    let got = 0
    const server = net.createServer(socket => { socket.on('data', bytes => { got += bytes.length }) })
    const port = await listening(t, server)
    const socket = net.connect(port, '127.0.0.1')
    const transport = new HeldTransport(socket, { stage: stage as HeldStage, ms: 1_000 }, clock)
    t.after(() => transport.destroy())
    transport.write(Buffer.alloc(10))
    transport.write(Buffer.alloc(10))
    await once(socket, 'connect')
    await waitFor(`${before} bytes`, () => got === before)
    clock.advance(999)
    await new Promise(setImmediate)
    assert.equal(got, before)
    clock.advance(1)
    await waitFor('all of them', () => got === 20)
  })
}
