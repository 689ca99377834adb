/**
 * The real proxy service in real workers: what a crash, a replacement and a stop cost clients that never repeat a
 * request, on connections of every kind.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test, type TestContext } from 'node:test'
import { acceptedBy, freeze, waitingInQueue } from '../support/accepted-connections.ts'
import { DelayRelay } from '../support/delay-relay.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answerOk, response, ScriptedOrigin, type OriginExchange, type Script } from '../support/scripted-origin.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { isAlive, SupervisedApp, type SupervisedOptions } from '../support/supervised-app.ts'
import { waitFor, within } from '../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const ALL_ANSWERED = { failed: {}, lost: [] }

interface Pair { readonly origin: ScriptedOrigin; readonly app: SupervisedApp; connect(): Promise<RawClient> }

/** Two workers in front of one origin, without an access log. */
async function startPair(t: TestContext, script: Script = answerWorker, options: SupervisedOptions = {}): Promise<Pair> {
  const origin = await ScriptedOrigin.start(script)
  t.after(() => origin.stop())
  const app = await SupervisedApp.start(t, { app: 'proxy', env: { PROXY_ORIGIN: origin.authority }, log: { access: 'off' }, ...options })
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
    t.after(() => client.destroy())
    return client
  }
  return { origin, app, connect }
}

/** Answers with the pid of the worker that asked. */
async function answerWorker(exchange: OriginExchange): Promise<void> {
  await exchange.whole()
  await exchange.send(response(200, exchange.request.field('x-worker') ?? ''))
}

async function roll(app: SupervisedApp): Promise<void> {
  const { replaced } = await app.ask({ tag: 'restart-workers', worker: '', wait: true }) as { replaced: object[] }
  assert.equal(replaced.length, 2)
}

function oldOnesGone(app: SupervisedApp): Promise<unknown> {
  return app.until('the old workers to be gone', slots => slots.every(slot => slot.draining.length === 0 && slot.state === 'serving'))
}

for (const victims of ['one', 'all'] as const) {
  test(`retire and stop: kill -9 of ${victims} of the workers fails only requests that the dead had accepted`, LINUX_ONLY, async t => {
    // Nobody stands in before the dead are dead: what waits has to wait.
    const { app, connect } = await startPair(t, answerWorker, { options: { standInAfterSilenceMs: 15_000 } })
    const load = new SteadyLoad({ to: app.port, fresh: 6, keepAlive: 6, pauseMs: 1 })
    t.after(() => load.stop())
    await waitFor('load', () => load.ledger.ok > 300)
    const pids = (await app.workerPids()).slice(0, victims === 'one' ? 1 : 2)
    for (const pid of pids) freeze(pid)
    // On top of the load, whose clients may all have been accepted.
    const waiting = await Promise.all(Array.from({ length: 20 }, connect))
    const answers = Promise.all(waiting.map(async client => {
      await client.write(get())
      return (await client.readResponse({ deadlineMs: 15_000 })).status
    }))
    assert.ok(waitingInQueue(app.port) > 0)
    const accepted = new Set(pids.flatMap(pid => [...acceptedBy(pid, app.port)]))
    for (const pid of pids) process.kill(pid, 'SIGKILL')
    const before = load.ledger.ok
    await app.until('replacements', slots => slots.every(slot => slot.state === 'serving' && !pids.includes(slot.worker!.pid)))
    await waitFor('more load', () => load.ledger.ok > before + 300)
    assert.deepEqual([...new Set(await answers)], [200])
    const { lost, ok } = await load.stop()
    t.diagnostic(`${ok} answered, ${lost.length} failed, all among the ${accepted.size} connections that the dead had accepted`)
    assert.ok(accepted.size > 0)
    assert.deepEqual(lost.filter(({ port, how }) => how === 'ECONNREFUSED' || !accepted.has(port)), [])
  })
}

for (const delayMs of [0, 20]) {
  test(`retire and stop: a rolling restart loses no request${delayMs === 0 ? '' : `, ${delayMs} ms away`}`, async t => {
    const { app } = await startPair(t)
    const before = await app.workerPids()
    let { port } = app
    if (delayMs > 0) {
      const relay = await DelayRelay.start({ host: '127.0.0.1', port }, delayMs)
      t.after(() => relay.stop())
      port = relay.port
    }
    const load = new SteadyLoad({ to: port, fresh: 8, keepAlive: 24, pauseMs: 3 })
    t.after(() => load.stop())
    await waitFor('load', () => load.ledger.ok > 200)
    for (let rolls = 0; rolls < 2; rolls++) {
      await roll(app)
      await oldOnesGone(app)
      const seen = load.ledger.ok
      await waitFor('more load', () => load.ledger.ok > seen + 100)
    }
    const { ok, failed, lost, bodies } = await load.stop()
    t.diagnostic(`${ok} answered by ${Object.keys(bodies).length} workers over 2 rolling restarts`)
    assert.deepEqual({ failed, lost }, ALL_ANSWERED)
    assert.equal(Object.keys(bodies).length, 6)
    assert.deepEqual(before.filter(isAlive), [])
  })
}

test('retire and stop: a download under way during a rolling restart arrives whole', async t => {
  const half = Buffer.alloc(5_000_000)
  for (let at = 0; at < half.length; at += 4) half.writeUInt32LE(at, at)
  const gate = Promise.withResolvers<void>()
  const { app, connect } = await startPair(t, async exchange => {
    if (exchange.request.target !== '/download') return answerOk(exchange)
    await exchange.send(`HTTP/1.1 200 OK\r\nContent-Length: ${2 * half.length}\r\n\r\n`)
    await exchange.send(half)
    await gate.promise
    await exchange.send(half)
  })
  const client = await connect()
  await client.write(get('/download'))
  const body = client.readResponse({ deadlineMs: 20_000 })
  await waitFor('the first half', () => client.unread.length >= half.length)
  await roll(app)
  const [slot] = (await app.slots()).filter(({ draining }) => draining.length > 0)
  assert.equal(slot?.draining[0]?.open.activeExchanges, 1)
  gate.resolve()
  const { complete, body: bytes } = await body
  assert.equal(complete, true)
  assert.equal(bytes.length, 2 * half.length)
  assert.equal(createHash('sha256').update(bytes).digest('hex'), createHash('sha256').update(half).update(half).digest('hex'))
  client.destroy()
  await oldOnesGone(app)
})

/** Agrees to an upgrade, then sends everything back. */
function echoAfterUpgrade(exchange: OriginExchange): void {
  const { socket } = exchange.connection
  void exchange.send('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n')
  socket.on('data', bytes => { socket.write(bytes) })
}

test('retire and stop: an upgraded connection outlives a rolling restart until its deadline', async t => {
  const tunnelDrainMs = 1_500
  const { app, connect } = await startPair(t, echoAfterUpgrade, { options: { drain: { tunnelDrainMs, closeSpreadMs: 0 } } })
  const client = await connect()
  const echo = async (text: string): Promise<void> => {
    await client.write(text)
    assert.equal((await client.readExactly(text.length)).toString(), text)
  }
  await client.write(get('/', 'Connection: upgrade', 'Upgrade: echo'))
  await waitFor('101', () => client.unread.includes('\r\n\r\n'))
  assert.match((await client.readExactly(client.unread.length)).toString(), /^HTTP\/1\.1 101 /)
  await echo('before')
  const startedMs = performance.now()
  await roll(app)
  await echo('after')
  assert.ok((await client.closes(10_000)))
  const tookMs = performance.now() - startedMs
  assert.equal(client.error, null)
  assert.ok(tookMs >= tunnelDrainMs && tookMs < tunnelDrainMs + 2_500, `ended after ${Math.round(tookMs)} ms`)
  client.end()
  await oldOnesGone(app)
})

test('retire and stop: a stop with nothing but idle connections ends at once, and politely', async t => {
  const { app, connect } = await startPair(t)
  const clients = await Promise.all(Array.from({ length: 20 }, connect))
  for (const client of clients) {
    await client.write(get())
    assert.equal((await client.readResponse()).status, 200)
    client.socket.once('end', () => client.end())
  }
  const startedMs = performance.now()
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  const tookMs = performance.now() - startedMs
  t.diagnostic(`ended after ${Math.round(tookMs)} ms`)
  assert.ok(tookMs < 1_000, `ended after ${Math.round(tookMs)} ms`)
  assert.deepEqual(clients.map(client => [client.ended, client.error, client.unread.length]), clients.map(() => [true, null, 0]))
})

test('retire and stop: idle connections whose clients do not close hold up a stop for little more than a second', async t => {
  const { app, connect } = await startPair(t)
  const client = await connect()
  await client.write(get())
  assert.equal((await client.readResponse()).status, 200)
  const startedMs = performance.now()
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.ok(performance.now() - startedMs < 2_500)
})

test('retire and stop: a stop finishes what is in flight and refuses what comes later', async t => {
  const gate = Promise.withResolvers<void>()
  const { app, origin, connect } = await startPair(t, async exchange => {
    await gate.promise
    await answerOk(exchange)
  })
  const { port } = app
  const client = await connect()
  await client.write(get())
  await waitFor('the request at the origin', () => origin.requests.length === 1)
  app.signal('SIGTERM')
  await waitFor(
    'a refused dial',
    () => RawClient.connect({ host: '127.0.0.1', port }).then(
      late => { late.destroy(); return false },
      (error: unknown) => (error as NodeJS.ErrnoException).code === 'ECONNREFUSED',
    ),
  )
  gate.resolve()
  const { status, field } = await client.readResponse()
  assert.deepEqual([status, field('connection')], [200, 'close'])
  client.destroy()
  assert.deepEqual(await app.end(), { code: 0, signal: null })
})

test('retire and stop: Ctrl-C cuts a request that takes longer than three seconds', async t => {
  const { app, origin, connect } = await startPair(t, () => {})
  const client = await connect()
  await client.write(get())
  await waitFor('the request at the origin', () => origin.requests.length === 1)
  const startedMs = performance.now()
  app.signal('SIGINT')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  const tookMs = performance.now() - startedMs
  t.diagnostic(`ended after ${Math.round(tookMs)} ms`)
  assert.ok(tookMs > 2_500 && tookMs < 4_500, `ended after ${Math.round(tookMs)} ms`)
  assert.equal((await app.line('stopped'))['cut'], 1)
  const { status } = await client.readResponse().catch(() => ({ status: 0 }))
  assert.ok(status === 503 || status === 0, `answered with ${status}`)
})

test('retire and stop: a stop that follows a roll cuts short the wait of the old workers', async t => {
  const { app, origin, connect } = await startPair(t, () => {}, { options: { drain: { interruptTimeoutMs: 300 } } })
  const client = await connect()
  await client.write(get())
  await waitFor('the request at the origin', () => origin.requests.length === 1)
  await roll(app)
  app.signal('SIGINT')
  // The old worker began to drain with minutes ahead of it.
  assert.deepEqual(await app.end(3_000), { code: 0, signal: null })
  assert.equal((await app.line('stopped'))['cut'], 1)
})

test('retire and stop: a second signal does not wait', async t => {
  const { app, origin, connect } = await startPair(t, () => {})
  const client = await connect()
  await client.write(get())
  await waitFor('the request at the origin', () => origin.requests.length === 1)
  app.signal('SIGTERM')
  await app.line('SIGTERM')
  app.signal('SIGINT')
  assert.deepEqual(await within('the end', app.end(), 2_000), { code: 1, signal: null })
})

test('retire and stop: SIGUSR2 upgrades in place', async t => {
  const { app } = await startPair(t)
  const before = await app.workerPids()
  app.signal('SIGUSR2')
  await app.line('upgrade-1: committed')
  const after = await app.workerPids()
  assert.equal(after.length, before.length)
  assert.deepEqual(after.filter(pid => before.includes(pid)), [])
})
