/**
 * Every row of framing-cases.ts against a proxy over sockets, with an origin whose reader was written apart from the
 * proxy's: what is refused never reaches the origin, what passes arrives as exactly the request that it is, and an
 * origin's wrong answer becomes 502 or a cut, never a whole answer.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { HttpListenerOptions } from '../../src/listener/http-listener-options.ts'
import {
  ACCEPTED_REQUESTS, ORIGIN_RESPONSES, REFUSED_REQUESTS, type AcceptedRequest, type OriginResponse,
  type RefusedRequest,
} from '../protocols/http1/framing-cases.ts'
import type { RawClient, RawResponse } from '../support/raw-client.ts'
import { get, ProxyUnderTest, type ProxyUnderTestOptions } from '../support/proxy.ts'
import { answerOk, type OriginConnection } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

/** In one write, in two, and in three. Every split point is tried against the sessions alone (protocols/http1/framing.test.ts). */
function splits(bytes: string): (readonly number[])[] {
  return [[], [Math.floor(bytes.length / 2)], [3, bytes.length - 1]]
}

/** A proxy for all tests of the suite. */
function sharedProxy(options: ProxyUnderTestOptions): () => ProxyUnderTest {
  let proxy: ProxyUnderTest | null = null
  before(async () => { proxy = await ProxyUnderTest.start(options) })
  after(async () => { await proxy?.stop() })
  return () => proxy!
}

/** Rows that need the same options share a proxy, since each has a connection of its own anyway. */
function byOptions<Row extends RefusedRequest | AcceptedRequest>(rows: readonly Row[]): Map<string, Row[]> {
  return Map.groupBy(rows, row => JSON.stringify(row.options))
}

/** What is asked behind a refusal, so that a proxy that answered by falling over is found at once. */
async function stillServes(proxy: ProxyUnderTest): Promise<void> {
  const seenBefore = new Set(proxy.origin.requests)
  assert.equal((await proxy.exchange(get('/unharmed'))).status, 200, 'the next request is harmed')
  const seen = proxy.origin.requests.filter(request => !seenBefore.has(request))
  assert.deepEqual(seen.map(request => request.target), ['/unharmed'])
}

/** A listener that speaks HTTP/2 takes its preface for what it is. */
function withoutHttp2(row: RefusedRequest): RefusedRequest & { readonly options: HttpListenerOptions } {
  if (row.title !== 'the preface of HTTP/2') return row
  const options: HttpListenerOptions = { ...row.options, http2: { enabled: false } }
  return { ...row, options }
}

describe('http1 proxy: a request that could be read in two ways is refused, and its origin sees nothing', () => {
  for (const [options, rows] of byOptions(REFUSED_REQUESTS.map(withoutHttp2))) {
    describe(options === '{}' ? 'default limits' : options, () => {
      const proxy = sharedProxy({ listener: rows[0]!.options })
      for (const row of rows) {
        it(`${row.title}: ${row.status}`, async () => {
          for (const points of splits(row.bytes)) await refuses(proxy(), row, points)
          await stillServes(proxy())
        })
      }
    })
  }
})

async function refuses(proxy: ProxyUnderTest, row: RefusedRequest, points: readonly number[]): Promise<void> {
  const how = `cut at [${points.join()}]`
  const bytesBefore = proxy.origin.bytesReceived
  const client = await proxy.connect()
  await client.writeSplit(row.bytes, points)
  const response = await client.readResponse()
  assert.equal(response.status, row.status, how)
  assert.equal(response.field('connection'), 'close', how)
  assert.ok(await client.closes(), `${how}: the connection stays open`)
  assert.equal(client.unread.toString('latin1'), '', `${how}: something follows the answer`)
  client.destroy()
  if (row.originSees === 'nothing') assert.equal(proxy.origin.bytesReceived, bytesBefore, `${how}: the origin saw something`)
  else {
    await waitFor(
      'the origin to be left',
      () => proxy.origin.connections.every(connection => connection.closed || connection.reader.betweenRequests),
    )
    assert.deepEqual(
      proxy.origin.requests.filter(request => request.complete && request.target !== '/unharmed'),
      [],
      `${how}: the origin saw a whole request`,
    )
    assert.deepEqual(proxy.origin.faults, [], how)
  }
}

describe('http1 proxy: a request that passes reaches the origin as exactly the request it is', () => {
  for (const [options, rows] of byOptions(ACCEPTED_REQUESTS)) {
    describe(options === '{}' ? 'default limits' : options, () => {
      const proxy = sharedProxy({ listener: rows[0]!.options, peer: { continueTimeoutMs: 50 } })
      for (const row of rows) {
        it(row.title, async () => {
          for (const points of splits(row.bytes)) await passes(proxy(), row, points)
        })
      }
    })
  }
})

async function passes(proxy: ProxyUnderTest, row: AcceptedRequest, points: readonly number[]): Promise<void> {
  const how = `cut at [${points.join()}]`
  const seenBefore = new Set(proxy.origin.requests)
  const client = await proxy.connect()
  await client.writeSplit(row.bytes, points)
  const response = await client.readResponse({ method: row.origin.method })
  assert.equal(response.status, 200, how)
  // A second request on the connection shows that the first ended where it should.
  await client.write(get('/next'))
  assert.equal((await client.readResponse()).status, 200, `${how}: the connection is not used again`)
  client.destroy()
  assert.deepEqual(proxy.origin.faults, [], how)
  const seen = proxy.origin.requests.filter(request => !seenBefore.has(request))
  assert.equal(seen.length, 2, how)
  const [request, next] = seen
  assert.ok(request !== undefined && next !== undefined)
  const { method, target, host, framing, body, trailers, fields } = row.origin
  assert.equal(request.method, method, how)
  assert.equal(request.target, target, how)
  assert.equal(request.field('host'), host, how)
  assert.equal(request.framing, framing, how)
  assert.equal(request.bodyText, body, how)
  assert.deepEqual(request.trailers, trailers, how)
  for (const [name, value] of Object.entries(fields)) assert.equal(request.field(name), value, `${how}: field ${name}`)
  assert.equal(next.target, '/next', how)
}

describe('http1 proxy: an answer that could be read in two ways does not reach the client as a whole answer', () => {
  // What the origin does with the next request that is not for /next; the rows share a proxy.
  let row: OriginResponse
  let points: readonly number[] = []
  let served: OriginConnection | null = null
  const proxy = sharedProxy({
    script: async exchange => {
      if (exchange.request.target === '/next') return answerOk(exchange)
      served = exchange.connection
      const bytes = Buffer.from(row.bytes, 'latin1')
      let from = 0
      for (const to of [...points, bytes.length]) {
        await exchange.send(bytes.subarray(from, to))
        from = to
        await lineIsQuiet()
      }
      if (row.ends) exchange.end()
    },
  })
  for (const each of ORIGIN_RESPONSES) {
    it(`${each.title}: ${each.outcome}`, async () => {
      row = each
      for (const cut of each.bytes === '' ? [[]] : splits(each.bytes)) {
        points = cut
        await answers(proxy(), each, cut, () => served!)
      }
    })
  }
})

/** Lets what was written be read on its own. */
async function lineIsQuiet(): Promise<void> {
  for (let turn = 0; turn < 4; turn++) await new Promise<void>(resolve => setImmediate(resolve))
}

async function answers(
  proxy: ProxyUnderTest,
  row: OriginResponse,
  points: readonly number[],
  servedBy: () => OriginConnection,
): Promise<void> {
  const how = `cut at [${points.join()}]`
  const client = await proxy.connect()
  await client.write(`${row.method} / HTTP/1.1\r\nHost: a.example\r\n\r\n`)
  let response: RawResponse | null = null
  try { response = await client.readResponse({ method: row.method }) } catch (failure) {
    // A reset may overtake the head: that is a cut, too.
    if (row.outcome !== 'cut' || client.error?.code !== 'ECONNRESET') throw failure
  }
  if (row.outcome === 'cut') {
    assert.ok(
      response === null || response.status === 502 || !response.complete,
      `${how}: ${JSON.stringify(response?.raw.toString('latin1'))} passes for a whole answer`,
    )
    if (response?.status !== 502) assert.ok(await client.closes(), `${how}: the connection stays open behind a cut answer`)
  } else {
    assert.ok(response !== null)
    assert.equal(response.status, row.outcome, how)
    assert.equal(response.complete, true, how)
    if (row.outcome !== 502) assert.equal(response.body.toString('latin1'), row.body, how)
  }
  const connection = servedBy()
  // An origin that speaks too late is met by the next request: the pool can only know what has arrived.
  if (!row.reusable) await waitFor(`${how}: a connection in doubt to be closed`, () => connection.closed)
  if (response !== null && row.outcome !== 'cut') await nextIsClean(client, how)
  client.destroy()
  const after = connection.reader.requests.at(-1)?.target
  assert.equal(
    after,
    row.reusable ? '/next' : '/',
    `${how}: ${row.reusable ? 'a clean connection was not used again' : 'a connection in doubt was used again'}`,
  )
}

/** Whatever the origin sent, the next answer on the client's connection is the next answer, or there is none. */
async function nextIsClean(client: RawClient, how: string): Promise<void> {
  await client.write(get('/next'))
  let next: RawResponse
  try { next = await client.readResponse() } catch {
    assert.equal(client.unread.length, 0, `${how}: half an answer follows`)
    return
  }
  assert.equal(next.status, 200, `${how}: the next answer is not the next answer`)
  assert.equal(next.body.toString(), 'ok', `${how}: the next answer is not the next answer`)
}
