/** What is told of connections over TLS: tracers, metrics and the access log say the same. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tracer } from '../../src/index.ts'
import { formatRecord } from '../../src/telemetry/exporters/access-line.ts'
import { recordOfExchange } from '../../src/telemetry/exporters/exchange-record.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import { readMetrics } from '../support/read-metrics.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { gone, TlsProxy } from '../support/tls-proxy.ts'

const site = makeTestCa().issue({ names: ['a.test'] })

test('TLS telemetry: handshakes are told in their order, counted by how they ended, and in each line of the access log', async t => {
  const told: string[] = [], lines: Record<string, unknown>[] = [], metrics = new Metrics()
  const tracer: Tracer = {
    downstreamAccepted: ({ client }) => { told.push(`accepted ${client.tls === null ? 'plain' : 'TLS'}`) },
    handshakeEnded: ({ result, client }) => { told.push(`handshake ${result} ${client.tls?.version ?? '-'}`) },
    exchangeStarted: ({ client }) => { told.push(`exchange ${client.tls?.version ?? '-'}`) },
    exchangeEnded: ({ scheme, status }) => { told.push(`ended ${scheme} ${status}`) },
    downstreamClosed: ({ protocol }) => { told.push(`closed ${protocol}`) },
  }
  const proxy = await TlsProxy.start(t, { certificates: [site] }, {
    service: {
      tracers: [tracer, new TrafficMetrics(metrics)],
      accessLog: {
        exchange(exchange, at) {
          lines.push(JSON.parse(formatRecord(recordOfExchange(exchange, at, '', 0))) as Record<string, unknown>)
        },
        refused() {},
      },
    },
  })
  const first = await proxy.get('a.test', { maxVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] })
  await proxy.settled()
  assert.deepEqual(told, ['accepted plain', 'handshake ok TLSv1.2', 'exchange TLSv1.2', 'ended https 200', 'closed h1'])
  await proxy.get('a.test', { maxVersion: 'TLSv1.2', session: first.session! })
  await proxy.get('', {}, 'a.test')
  const shown = lines.map(({ scheme, tls, sni, alpn }) => [scheme, tls, sni, alpn])
  assert.deepEqual(shown, [
    ['https', 'TLSv1.2', 'a.test', 'http/1.1'], ['https', 'TLSv1.2', 'a.test', undefined], ['https', 'TLSv1.3', undefined, undefined],
  ])
  await proxy.settled()
  told.length = 0
  const plain = await proxy.connect(), isGone = gone(plain)
  plain.resume()
  plain.write('GET / HTTP/1.1\r\n\r\n')
  await isGone
  await proxy.settled()
  assert.deepEqual(told, ['accepted plain', 'handshake plain-http -', 'closed '])
  const counted = readMetrics(metrics.memory), name = 'tls/127.0.0.1:0'
  assert.deepEqual(Object.fromEntries(counted.get('cirque_tls_handshakes_total')!), {
    [`${name} TLSv1.2 false ok`]: [1], [`${name} TLSv1.2 true ok`]: [1], [`${name} TLSv1.3 false ok`]: [1],
    [`${name}  false plain-http`]: [1],
  })
  const times = counted.get('cirque_tls_handshake_seconds')!
  assert.deepEqual([...times.keys()].toSorted(), [`${name} false`, `${name} true`])
  // Of the slots the last is the sum of what was observed.
  assert.equal(times.get(`${name} false`)!.slice(0, -1).reduce((sum, one) => sum + one, 0), 2)
})
