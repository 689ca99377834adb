/** Moments of an exchange that are easier to say one by one than to meet by chance (exchange-model.test.ts does that). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import { admit } from '../../src/server/listening-base.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../support/memory-stream.ts'

interface Bench {
  readonly client: WireEnd
  readonly logged: (ProxyError | null)[]
  /** The origin's ends, in the order of dialling. */
  readonly origins: { readonly pair: MemoryPair; readonly end: WireEnd }[]
  readonly peers: { reports: number; releases: number }[]
  readonly service: HttpProxy<undefined>
  choosePeer(): Peer
  /** Promises, ticks, and all bytes both ways. */
  settle(): Promise<void>
}

function bench(hooks: (bench: Bench) => Partial<ProxyHttp<undefined>>): Bench {
  const clock = new FakeClock(), ticker = new Ticker(clock), down = new MemoryPair()
  const made = { logged: [], origins: [], peers: [] } as unknown as { -readonly [Key in keyof Bench]: Bench[Key] }
  made.client = new WireEnd(down.far)
  made.choosePeer = () => {
    const counts = { reports: 0, releases: 0 }
    made.peers.push(counts)
    return new HttpPeer({
      peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 },
      name: '10.0.0.1:80',
      report() { counts.reports++ },
      release() { counts.releases++ },
    })
  }
  const connector = new HttpConnector({
    ticker,
    transport: {
      dial(_peer, waiter) {
        let wanted = true
        process.nextTick(() => {
          if (!wanted) return
          const pair = new MemoryPair()
          made.origins.push({ pair, end: new WireEnd(pair.far) })
          waiter.onDialed(pair.near, null)
        })
        return { cancel() { wanted = false } }
      },
    },
  })
  made.service = new HttpProxy<undefined>({
    newCtx: () => undefined,
    upstreamPeer: () => made.choosePeer(),
    suppressErrorLog: () => true,
    logging: (_session, error) => { made.logged.push(error) },
    ...hooks(made),
  }, { connector, accessLog: null }).addTcp('127.0.0.1:0')
  admit(made.service, down.near, made.service.listeners[0]!.name)
  made.settle = async () => {
    for (let i = 0; i < 5; i++) {
      down.settle()
      for (const { pair } of made.origins) pair.settle()
      await new Promise(setImmediate)
    }
  }
  return made
}

for (const framing of ['Content-Length: 3\r\n\r\nabc', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n']) {
  test(`exchange: a request filter that throws at the end fails its request and nothing else (${framing.slice(0, 14)})`, async () => {
    const { client, logged, settle, origins, service } = bench(() => ({
      requestBodyFilter: (_session, chunk, last) => {
        if (last) throw new Error('planned')
        return chunk
      },
    }))
    client.send(`POST / HTTP/1.1\r\nHost: a\r\n${framing.slice(0, -1)}`)
    await settle()
    // The end comes by itself, when nobody but the connection is there to catch what is thrown.
    client.send(framing.slice(-1))
    await settle()
    assert.match(client.text, /^HTTP\/1\.1 500 /)
    assert.deepEqual(logged.map(error => error?.kind), ['HOOK_FAILED'])
    assert.equal(origins[0]!.end.text.includes('0\r\n\r\n'), false)
    service.close()
  })
}

test('exchange: a peer that is chosen after the client left is released, as an attempt without a verdict', async () => {
  const chosen = Promise.withResolvers<void>()
  const { client, logged, peers, settle, service } = bench(made => ({ upstreamPeer: () => chosen.promise.then(() => made.choosePeer()) }))
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await settle()
  client.stream.destroy(true)
  await settle()
  assert.deepEqual(logged.map(error => error?.kind), ['CLIENT_GONE'])
  chosen.resolve()
  await settle()
  assert.deepEqual(peers, [{ reports: 0, releases: 1 }])
  service.close()
})

test('exchange: the promise of an attempt that failed does not move the one that followed', async () => {
  const waits: PromiseWithResolvers<void>[] = []
  const { client, origins, settle, service } = bench(() => ({
    connectedToUpstream: () => {
      const wait = Promise.withResolvers<void>()
      waits.push(wait)
      return wait.promise
    },
    errorWhileProxy: (_session, _peer, error) => { error.retry = 'always' },
  }))
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await settle()
  origins[0]!.end.stream.destroy(true)
  await settle()
  assert.equal(waits.length, 2)
  waits[0]!.resolve()
  await settle()
  assert.equal(origins[1]!.end.text, '')
  waits[1]!.resolve()
  await settle()
  assert.match(origins[1]!.end.text, /^GET \/ HTTP\/1\.1\r\n/)
  service.close()
})

test('exchange: a peer that takes no upgrades gets an ordinary request', async () => {
  for (const upgrades of [true, false]) {
    const peer = new HttpPeer('10.0.0.1:80', { upgrades })
    const { client, origins, settle, service } = bench(() => ({ upstreamPeer: () => peer }))
    client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
    await settle()
    assert.equal(/\r\nUpgrade: websocket\r\n/i.test(origins[0]!.end.text), upgrades, origins[0]!.end.text)
    service.close()
  }
})

test('exchange: modules behind one whose promise comes after the end are not called', async () => {
  const wait = Promise.withResolvers<void>(), called: string[] = []
  const { client, settle, service } = bench(() => ({
    requestFilter: session => session.respond(200, {}, 'own'),
    modules: [
      { name: 'first', responseFilter: () => wait.promise },
      {
        name: 'second',
        responseFilter: () => { called.push('head') },
        responseBodyFilter: (_session, chunk) => { called.push('body'); return chunk },
      },
    ],
  }))
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await settle()
  client.stream.destroy(true)
  await settle()
  wait.resolve()
  await settle()
  assert.deepEqual(called, [])
  service.close()
})
