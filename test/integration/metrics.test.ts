/** /metrics over real workers and supervisors: exact, and never backwards, whatever is killed or replaced meanwhile. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { requireProgram } from '../support/programs.ts'
import { CounterWatch, scrape, sumOf, type Samples } from '../support/scraped-metrics.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { get, SupervisedApp } from '../support/supervised-app.ts'
import { startOrigin } from '../support/origin-process.ts'
import { waitFor } from '../support/wait-for.ts'

/** Of one client; one asks 1000 times at most on a connection. */
const REQUESTS = 1000
const CLIENTS = 10

const adminOf = (app: SupervisedApp): string => String(app.lines.find(line => line.msg === 'running')!['admin'])

/** Requests of an instance that ended with 200. */
const served = (samples: Samples): number => sumOf(samples, 'cirque_requests_total', /code="2xx",flag="-"/)

test('metrics: totals are what clients counted, over kills, replacements and two supervisors', async t => {
  const options = { adminAddress: '127.0.0.1:0' }
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  let app = await SupervisedApp.start(t, { app: 'proxy', options, env })
  const { port } = app
  let admin = adminOf(app)
  const watch = new CounterWatch(() => admin)
  t.after(() => watch.abandon())
  const load = new SteadyLoad({ to: port, fresh: 3, keepAlive: 3, pauseMs: 5 })
  t.after(() => load.stop())
  const goesOn = async (): Promise<void> => {
    const before = { answers: load.ledger.ok, scrapes: watch.scrapes }
    const done = (): boolean => load.ledger.ok > before.answers + 50 && watch.scrapes > before.scrapes + 2
    await waitFor('more answers and scrapes', done, { deadlineMs: 20_000, seen: () => [load.ledger, watch.scrapes] })
  }
  await goesOn()
  const [first] = await app.workerPids()
  process.kill(first!, 'SIGKILL')
  await app.until('another worker', slots => slots.every(slot => slot.worker?.state === 'accepting' && slot.worker.pid !== first))
  await goesOn()
  await app.ask({ tag: 'restart-workers', worker: '', wait: true })
  await goesOn()
  const { id } = await app.ask({ tag: 'upgrade', folder: '', supervisor: 'always' }) as { id: string }
  const { result } = await app.ask({ tag: 'outcome', id }) as { result: string }
  assert.equal(result, 'committed')
  await goesOn()
  process.kill(app.pid, 'SIGKILL')
  await app.ended
  app = await SupervisedApp.start(t, { app: 'proxy', options, env, folder: app.folder })
  admin = adminOf(app)
  await goesOn()
  const ledger = await load.stop()
  await app.until('all to be told', slots => slots.every(slot => slot.draining.length === 0 && slot.worker?.open.activeExchanges === 0))
  await watch.stop()

  const { samples } = await scrape(admin)
  const lost = ledger.lost.length
  t.diagnostic(`${ledger.ok} answers, ${lost} lost with the worker that was killed, ${watch.scrapes} scrapes`)
  // What was lost with a worker may have been answered as far as that knew.
  assert.ok(served(samples) >= ledger.ok && served(samples) <= ledger.ok + lost, `${served(samples)} of ${ledger.ok} and ${lost}`)
  assert.equal(sumOf(samples, 'http_server_request_duration_seconds_count'), sumOf(samples, 'cirque_requests_total'))
  assert.equal(sumOf(samples, 'cirque_worker_restarts_total', /reason="signal"/), 1)
  assert.equal(sumOf(samples, 'cirque_upgrades_total', /kind="upgrade",result="committed"/), 1)
  assert.equal(sumOf(samples, 'cirque_workers', /state="accepting"/), 2)
  assert.equal(sumOf(samples, 'cirque_scrape_missing_workers'), 0)

  app.signal('SIGTERM')
  await app.end()
  assert.equal(fs.existsSync(path.join(app.stateDir, 'metrics')), false)
})

test('metrics: a worker that stands still fails no scrape, and is shown as it was', async t => {
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  const app = await SupervisedApp.start(t, { app: 'proxy', options: { adminAddress: '127.0.0.1:0' }, env })
  for (let n = 0; n < 20; n++) await get(app.port)
  const pids = await app.workerPids()
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  try {
    for (const headers of [{}, { accept: 'application/openmetrics-text' }]) {
      const { samples, text } = await scrape(adminOf(app), headers)
      assert.equal(served(samples), 20)
      assert.equal(text.endsWith('# EOF\n'), 'accept' in headers)
    }
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT')
  }
})

test('metrics: 10,000 hosts, paths and methods make no series', async t => {
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  const app = await SupervisedApp.start(t, { app: 'proxy', options: { adminAddress: '127.0.0.1:0', workers: 1 }, env })
  for (let client = 0; client < CLIENTS; client++) {
    const socket = net.connect(app.port, '127.0.0.1')
    t.after(() => { socket.destroy() })
    let answers = 0
    socket.setEncoding('latin1').on('data', (text: string) => { answers += text.split('HTTP/1.1 ').length - 1 })
    // Pipelined, by a client that makes everything up.
    for (let n = 0; n < REQUESTS; n++) {
      const made = `${client}x${n}`
      socket.write(`M${made} /${made}?${made} HTTP/1.1\r\nHost: h${made}.example\r\n\r\n`)
    }
    await waitFor('all answers', () => answers >= REQUESTS, { deadlineMs: 30_000, seen: () => answers })
  }
  const { samples } = await scrape(adminOf(app))
  assert.equal(sumOf(samples, 'cirque_requests_total', /method="_OTHER"/), CLIENTS * REQUESTS)
  assert.ok(samples.size < 400, `${samples.size} series`)
})

test('metrics: promtool finds nothing in the page of an instance that has served', async t => {
  const promtool = requireProgram(t, 'promtool')
  if (promtool === null) return
  const app = await SupervisedApp.start(t, {
    app: 'checked', options: { adminAddress: '127.0.0.1:0' }, env: { CHECKED_BACKENDS: await startOrigin(t) },
  })
  await get(app.port)
  await waitFor('the first counts', async () => {
    return sumOf((await scrape(adminOf(app))).samples, 'cirque_upstream_target_up') === 1
  }, { deadlineMs: 20_000 })
  const { text } = await scrape(adminOf(app))
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' })
  assert.deepEqual([status, stdout, stderr], [0, '', ''])
})

test('metrics: a backend that a health check takes out is down at once, and up again when it is back', async t => {
  const sockets = new Set<net.Socket>()
  const backend = net.createServer(socket => {
    sockets.add(socket.on('error', () => {}))
    socket.once('close', () => { sockets.delete(socket) })
  })
  const listen = (port: number): Promise<void> => new Promise(resolve => { backend.listen(port, '127.0.0.1', resolve) })
  await listen(0)
  t.after(() => { backend.close() })
  const { port } = backend.address() as net.AddressInfo
  const env = { CHECKED_BACKENDS: `127.0.0.1:${port}` }
  const app = await SupervisedApp.start(t, { app: 'checked', options: { adminAddress: '127.0.0.1:0' }, env })
  let seen: Samples = new Map()
  const until = (what: string, is: (samples: Samples) => boolean): Promise<unknown> => {
    return waitFor(what, async () => is(seen = (await scrape(adminOf(app))).samples), { deadlineMs: 20_000, seen: () => [...seen] })
  }
  const target = `cirque_upstream_target_up{upstream="api",target="127.0.0.1:${port}"}`
  const ejections = (samples: Samples): number => sumOf(samples, 'cirque_upstream_ejections_total', /upstream="api",reason="check"/)
  await until('the backend to be up', samples => samples.get(target) === 1)
  const closed = new Promise(resolve => { backend.close(resolve) })
  for (const socket of sockets) socket.destroy()
  await closed
  await until('the backend to be down in both workers', samples => samples.get(target) === 0 && ejections(samples) === 2)
  await listen(port)
  await until('the backend to be up again', samples => samples.get(target) === 1)
  assert.equal(ejections(seen), 2)
})

test('metrics: names of other proxies come and go with a reload, in both formats', async t => {
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  const options = { adminAddress: '127.0.0.1:0' }
  const app = await SupervisedApp.start(t, { app: 'proxy', options: { ...options, metricNames: ['nginx', 'haproxy'] }, env })
  for (let n = 0; n < 3; n++) await get(app.port)
  for (const headers of [{}, { accept: 'application/openmetrics-text' }]) {
    const { samples } = await scrape(adminOf(app), headers)
    assert.equal(sumOf(samples, 'nginx_http_requests_total'), 3)
    assert.ok(sumOf(samples, 'nginx_connections_accepted') >= 3)
    assert.equal(sumOf(samples, 'haproxy_frontend_http_responses_total', /code="2xx"/), 3)
    assert.equal(served(samples), 3)
  }
  app.configure({ options: { ...options, metricNames: ['traefik'] } })
  const { id } = await app.ask({ tag: 'reload' }) as { id: string }
  assert.equal((await app.ask({ tag: 'outcome', id }) as { result: string }).result, 'committed')
  const { samples } = await scrape(adminOf(app))
  assert.equal(sumOf(samples, 'traefik_entrypoint_requests_total', /code="200",method="GET",protocol="http"/), 3)
  assert.equal(sumOf(samples, 'nginx_http_requests_total'), 0)
})

test('metrics: supervisor.metrics off counts nothing, and what there is to see of the supervisor stays', async t => {
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  const app = await SupervisedApp.start(t, { app: 'proxy', options: { adminAddress: '127.0.0.1:0', metrics: false }, env })
  await get(app.port)
  const { samples } = await scrape(adminOf(app))
  assert.equal(sumOf(samples, 'cirque_requests_total'), 0)
  assert.equal(sumOf(samples, 'cirque_workers', /state="accepting"/), 2)
})
