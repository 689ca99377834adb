/**
 * Metrics, access log, spans and tracer of one service, compared with what clients and origin saw: over real sockets, 1,000 random
 * exchanges, some of which fail, are repeated, or are given up by their client.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import {
  AccessLog, HttpPeer, httpProxyService, Server, SILENT_LOG, startTraces, tracerFaults, type ExchangeEnded, type Tracer,
} from '../../src/index.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import { chance } from '../support/exchange-sides.ts'
import { OtlpReceiver, type ReceivedSpan } from '../support/otlp-receiver.ts'
import { readMetrics } from '../support/read-metrics.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const EXCHANGES = 1000
const CLIENTS = 8
/** For the spans that still wait. */
const LIMIT_MS = 20_000
const SEED = Number(process.env['CIRQUE_MODEL_SEED'] ?? Date.now() % 1_000_000)

/** One exchange, as it is meant to go. */
interface Wanted {
  readonly id: number
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST'
  readonly requestBytes: number
  readonly responseBytes: number
  readonly status: 200 | 204 | 404 | 503
  /** So many attempts are broken off by the origin before it answers. */
  readonly broken: number
  /** The client goes away before its answer; the origin keeps it waiting. */
  readonly leaves: boolean
}

/** What became of it, by those who were there. */
interface Seen {
  /** By the client; 0: it went, or was cut off. */
  status: number
  bodyBytes: number
  /** By the origin. */
  attempts: number
  receivedBytes: number
  sentStatus: number
}

function wish(random: () => number, id: number): Wanted {
  const pick = <T>(...from: readonly T[]): T => from[Math.floor(random() * from.length)]!
  const method = pick('GET', 'GET', 'GET', 'HEAD', 'PUT', 'POST')
  const status = pick(200, 200, 200, 204, 404, 503)
  return {
    id, method, status,
    requestBytes: method === 'PUT' || method === 'POST' ? pick(0, 10, 5000, 40_000) : 0,
    responseBytes: status === 204 ? 0 : pick(0, 1, 900, 60_000, 300_000),
    broken: random() < 0.15 ? pick(1, 2, 3) : 0,
    leaves: random() < 0.05,
  }
}

test('telemetry: metrics, access log, spans and tracer agree with what clients and origin saw, over 1,000 random exchanges', async t => {
  const random = chance(SEED)
  t.diagnostic(`CIRQUE_MODEL_SEED=${SEED}`)
  const wanted = Array.from({ length: EXCHANGES }, (_, id) => wish(random, id))
  const seen = wanted.map((): Seen => ({ status: 0, bodyBytes: 0, attempts: 0, receivedBytes: 0, sentStatus: 0 }))
  const leaveOf = new Map<number, () => void>()

  const origin = http.createServer((request, response) => {
    const id = Number(request.url!.slice(2)), plan = wanted[id]!, fact = seen[id]!
    fact.attempts++
    let received = 0
    request.on('data', (chunk: Buffer) => { received += chunk.length }).on('error', () => {})
    request.on('end', () => {
      if (fact.attempts <= plan.broken) { request.socket.destroy(); return }
      fact.receivedBytes = received
      if (plan.leaves) { leaveOf.get(id)!(); return }
      fact.sentStatus = plan.status
      response.writeHead(plan.status, plan.status === 204 ? {} : { 'content-length': plan.responseBytes })
      response.end(plan.method === 'HEAD' || plan.status === 204 ? undefined : Buffer.alloc(plan.responseBytes, 'x'))
    })
  })
  await new Promise<void>(resolve => { origin.listen(0, '127.0.0.1', resolve) })
  t.after(() => {
    origin.close()
    origin.closeAllConnections()
  })

  const metrics = new Metrics(), ended: ExchangeEnded[] = []
  const tracer: Tracer = { exchangeEnded: event => { ended.push(event) } }
  const file = path.join(temporaryFolder(t), 'access.log')
  const accessLog = new AccessLog({ file })
  const peer = new HttpPeer(`127.0.0.1:${(origin.address() as net.AddressInfo).port}`)
  const server = new Server().limits({ maxLoopDelayMs: 0 })
  server.addService(httpProxyService<undefined>({
    newCtx: () => undefined,
    upstreamPeer: () => peer,
    errorWhileProxy(_session, _peer, error) { if (error.source === 'upstream') error.retry = 'always' },
    suppressErrorLog: () => true,
  }, { accessLog, tracers: [tracer] }).addTcp('127.0.0.1:0', { maxRequestsPerConnection: 0 }))
  const collector = await OtlpReceiver.start(t), faults = tracerFaults.count
  const traces = await startTraces({ lean: true, ratio: 1, endpoint: collector.endpoint })
  const traffic = new TrafficMetrics(metrics)
  const [bound] = await server.start({ log: SILENT_LOG, tracers: [traffic], counting: traffic, tracing: traces.tracing })
  t.after(() => server.close())

  const queue = wanted.toReversed()
  const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS })
  t.after(() => agent.destroy())
  await Promise.all(Array.from({ length: CLIENTS }, async () => {
    for (let plan = queue.pop(); plan !== undefined; plan = queue.pop()) await ask(plan)
  }))
  await waitFor('every end', () => ended.length === EXCHANGES, { seen: () => ended.length })
  await accessLog.close()
  await traces.close(LIMIT_MS)
  assert.equal(tracerFaults.count, faults)

  function ask({ id, method, requestBytes, leaves }: Wanted): Promise<void> {
    return new Promise(resolve => {
      const fact = seen[id]!
      // One that leaves takes its connection along, which is therefore its own.
      const request = http.request({
        port: bound!.port, host: '127.0.0.1', method, path: `/${method[0]}${id}`, agent: leaves ? false : agent,
        headers: requestBytes === 0 ? {} : { 'content-length': requestBytes },
      }, response => {
        fact.status = response.statusCode!
        response.on('data', (chunk: Buffer) => { fact.bodyBytes += chunk.length }).on('end', resolve).on('error', () => resolve())
      })
      request.on('error', () => resolve())
      if (leaves) leaveOf.set(id, () => request.destroy())
      request.end(Buffer.alloc(requestBytes, 'y'))
    })
  }

  // ---- what all of them say of each exchange

  const lines = new Map(fs.readFileSync(file, 'utf8').trimEnd().split('\n').map(line => {
    const record = JSON.parse(line) as Record<string, unknown>
    return [Number(String(record['path']).slice(2)), record] as const
  }))
  assert.equal(lines.size, EXCHANGES)
  const told = new Map(ended.map(event => [Number(event.target.slice(2)), event]))
  const servers = new Map(collector.spans.filter(({ kind }) => kind === 'server').map(span => {
    return [Number(String(span.attributes['url.path']).slice(2)), span] as const
  }))
  assert.equal(servers.size, EXCHANGES)
  const attemptsOf = Map.groupBy(collector.spans.filter(({ kind }) => kind === 'client'), ({ parentSpanId }) => parentSpanId)
  for (const [id, { method, responseBytes, leaves }] of wanted.entries()) {
    const fact = seen[id]!, line = lines.get(id)!, event = told.get(id)!
    const what = JSON.stringify({ plan: wanted[id], fact, line, status: event.status, attempts: event.attempts })
    assert.deepEqual([line['method'], event.method], [method, method], what)
    assert.deepEqual([line['status'], event.status], [fact.status, fact.status], what)
    assert.deepEqual([line['attempts'], event.attempts], [fact.attempts, fact.attempts], what)
    assert.deepEqual([line['bytes_out'], event.bytesSent], [fact.bodyBytes, fact.bodyBytes], what)
    assert.equal(line['flag'], event.flag, what)
    const span: ReceivedSpan = servers.get(id)!, attempts = attemptsOf.get(span.spanId) ?? []
    assert.deepEqual([line['trace_id'], line['span_id']], [span.traceId, span.spanId], what)
    assert.deepEqual([span.attributes['http.request.method'], attempts.length], [method, fact.attempts], what)
    assert.equal(span.attributes['http.response.status_code'] ?? 0, fact.status, what)
    assert.equal(span.status === 'error', fact.status >= 500 || (fact.status === 0 && event.error?.source !== 'downstream'), what)
    assert.deepEqual(attempts.map(({ traceId }) => traceId), attempts.map(() => span.traceId), what)
    const statuses = attempts.toSorted((one, other) => Number(one.startNs - other.startNs))
      .map(({ attributes }) => attributes['http.response.status_code'] ?? 0)
    assert.deepEqual(statuses, attempts.map((_, at) => at === fact.attempts - 1 ? fact.sentStatus : 0), what)
    if (leaves && fact.status === 0) assert.equal(event.flag, 'DC', what)
    if (fact.sentStatus === 0) continue
    assert.deepEqual([line['up_status'], event.upstreamStatus, fact.status], [fact.sentStatus, fact.sentStatus, fact.sentStatus], what)
    assert.deepEqual([line['bytes_in'], event.bytesReceived], [fact.receivedBytes, fact.receivedBytes], what)
    assert.equal(fact.bodyBytes, method === 'HEAD' ? 0 : responseBytes, what)
  }

  // ---- and of all together

  const counted = readMetrics(metrics.memory)
  const series = (name: string): readonly (readonly [string, readonly number[]])[] => [...counted.get(name) ?? []]
  const sum = (name: string): number => series(name).reduce((total, [, values]) => total + values[0]!, 0)
  const tally = (of: (event: ExchangeEnded) => string): ReadonlyMap<string, number> => {
    const totals = new Map<string, number>()
    for (const event of ended) totals.set(of(event), (totals.get(of(event)) ?? 0) + 1)
    return totals
  }
  const classOf = (status: number): string => status === 0 ? 'none' : `${Math.floor(status / 100)}xx`
  const bySeries = new Map(series('cirque_requests_total').map(([labels, [count = 0]]) => [labels.split(' ').slice(2).join(' '), count]))
  assert.deepEqual(bySeries, tally(({ method, status, flag }) => `${method} ${classOf(status)} ${flag}`))
  assert.equal(sum('cirque_response_bytes_total'), seen.reduce((total, { bodyBytes }) => total + bodyBytes, 0))
  assert.equal(sum('cirque_request_bytes_total'), ended.reduce((total, { bytesReceived }) => total + bytesReceived, 0))
  const attempts = seen.reduce((total, fact) => total + fact.attempts, 0)
  assert.equal(sum('cirque_upstream_reuse_total'), attempts)
  const retried = ended.reduce((total, event) => total + Math.max(0, event.attempts - 1), 0)
  assert.equal(sum('cirque_upstream_retries_total'), retried)
  const failed = ended.filter(({ flag }) => flag !== '-').length
  t.diagnostic(`${attempts} attempts, ${retried} of them repetitions, ${failed} exchanges that failed`)
  assert.ok(retried > 50 && failed > 10, 'a run in which nothing fails proves little')
})
