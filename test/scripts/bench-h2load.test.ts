import assert from 'node:assert/strict'
import { test } from 'node:test'
import { haproxyConfig, nginxConfig, type Place } from '../../scripts/bench/contenders.ts'
import { parseH2load } from '../../scripts/bench/h2load.ts'
import { grpcMessage, WORKLOADS } from '../../scripts/bench/workloads.ts'

function output({ total = 4, failed = 0, errored = 0, late = 0, good = 4, bad = 0 } = {}): string {
  return `starting benchmark...\n\nfinished in 2.01s, 2.00 req/s, 590B/s\n` +
    `requests: ${total} total, 132 started, 4 done, 4 succeeded, ${failed} failed, ${errored} errored, ${late} timeout\n` +
    `status codes: ${good} 2xx, ${bad} 3xx, ${bad} 4xx, ${bad} 5xx\n` +
    'traffic: 1.15KB (1180) total, 180B (180) headers (space savings 92.22%), 320B (320) data\n' +
    '                     min         max         mean         sd        +/- sd\n' +
    'time for request:       12us      1.33ms       412us       180us    81.00%\n'
}

const TIMES = '1700000000000001\t200\t400\n1700000000000002\t200\t100\n1700000000000003\t200\t300\n1700000000000004\t200\t200\n'

test('bench h2load: the result is what h2load prints, and times are of single requests', () => {
  assert.deepEqual(parseH2load(output(), TIMES), {
    requests: 4, bytes: 320, seconds: 2.01, socketErrors: 0, badStatus: 0, p50Micros: 200, p99Micros: 400, maxMicros: 400,
  })
})

test('bench h2load: what failed and what was answered with another status is no result', () => {
  const { socketErrors, badStatus } = parseH2load(output({ failed: 1, errored: 2, late: 4, bad: 1 }), TIMES)
  assert.deepEqual({ socketErrors, badStatus }, { socketErrors: 7, badStatus: 3 })
})

test('bench h2load: heads of answers that the end cut off are no failures', () => {
  assert.equal(parseH2load(output({ good: 6 }), TIMES).badStatus, 0)
})

test('bench h2load: output without a result is an error that shows it', () => {
  assert.throws(() => parseH2load('Could not connect to host\n', ''), /Could not connect to host/)
})

test('bench: a message of gRPC says its length', () => {
  const message = grpcMessage(), { answerBytes, uploadBytes } = WORKLOADS.find(({ grpc }) => grpc)!
  assert.deepEqual([message.length, message.length], [answerBytes, uploadBytes])
  assert.deepEqual([message.readUInt8(0), message.readUInt32BE(1)], [0, message.length - 5])
})

test('bench: the others speak HTTP/2 where the row is about it; nginx has HTTP/1 to an origin, and gRPC', () => {
  const tls = { certFile: '/site.crt', keyFile: '/site.key', bothFile: '/site.pem' }
  const place: Place = {
    originPort: 1, listenPort: 2, folder: '/folder', tls, originCaFile: null, originHttp2Port: null, http2: false, grpc: false,
  }
  assert.doesNotMatch(nginxConfig(place, ''), /http2|grpc/)
  assert.doesNotMatch(haproxyConfig(place), /alpn h2|proto h2/)
  const downstream = { ...place, http2: true }
  assert.match(nginxConfig(downstream, ''), /listen 127\.0\.0\.1:2 ssl http2 /)
  assert.match(haproxyConfig(downstream), / alpn h2,http\/1\.1/)
  const upstream = { ...place, tls: null, originHttp2Port: 3 }
  assert.match(nginxConfig(upstream, ''), /server 127\.0\.0\.1:1;[^]*proxy_pass http:/)
  assert.match(haproxyConfig(upstream), /server origin 127\.0\.0\.1:3 .* proto h2\n/)
  const grpc = nginxConfig({ ...upstream, tls, http2: true, grpc: true }, '')
  assert.match(grpc, /server 127\.0\.0\.1:3;[^]*grpc_pass grpc:[^]*grpc_set_header X-Forwarded-For /)
  assert.doesNotMatch(grpc, /proxy_(pass|set_header)/)
})
