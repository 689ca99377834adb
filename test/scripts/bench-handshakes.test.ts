import assert from 'node:assert/strict'
import { test } from 'node:test'
import { haproxyConfig, nginxConfig, PLAIN_PLACE } from '../../scripts/bench/contenders.ts'
import { parseSTime } from '../../scripts/bench/handshakes.ts'
import { WORKLOADS } from '../../scripts/bench/workloads.ts'

const [full, resumed] = ['tlsfull', 'tlsresumed'].map(name => WORKLOADS.find(workload => workload.name === name)!)

function output(letters: string, requests: number, bytes: number): string {
  return `Collecting connection statistics for 1 seconds\n${letters}\n\n` +
    `${requests} connections in 0.31s; 1422.58 connections/user sec, bytes read ${bytes}\n` +
    `${requests} connections in 2 real seconds, ${Math.floor(bytes / requests)} bytes read per connection\n`
}

test('bench handshakes: what s_time prints is read, and each handshake of the other kind is a failure', () => {
  assert.deepEqual(parseSTime(output('****', 4, 800), full!), { requests: 4, bytes: 800, failures: 0 })
  assert.deepEqual(parseSTime(output('**r*', 4, 800), full!), { requests: 4, bytes: 800, failures: 1 })
  assert.deepEqual(parseSTime(output('rrrr', 4, 800), resumed!), { requests: 4, bytes: 800, failures: 0 })
  assert.deepEqual(parseSTime(output('*rr*', 4, 800), resumed!), { requests: 4, bytes: 800, failures: 2 })
})

test('bench handshakes: answers of several lengths, or shorter than the body, are a failure', () => {
  assert.equal(parseSTime(output('****', 4, 803), full!).failures, 1)
  assert.equal(parseSTime(output('****', 4, 4 * 79), full!).failures, 1)
})

test('bench handshakes: output without a result is an error that shows it', () => {
  assert.throws(() => parseSTime('connect: refused\n', full!), /connect: refused/)
})

test('bench: the others speak TLS where the row is about it, and to an origin whose certificate they verify', () => {
  const place = { originPort: 1, listenPort: 2, folder: '/folder', ...PLAIN_PLACE }
  for (const config of [nginxConfig(place, ''), haproxyConfig(place)]) assert.doesNotMatch(config, /ssl|https/)
  const tls = { certFile: '/site.crt', keyFile: '/site.key', bothFile: '/site.pem' }
  assert.match(nginxConfig({ ...place, tls }, ''), /listen 127\.0\.0\.1:2 ssl [^]*ssl_certificate \/site\.crt;/)
  assert.match(haproxyConfig({ ...place, tls }), /bind 127\.0\.0\.1:2 ssl crt \/site\.pem /)
  const upstream = { ...place, originCaFile: '/ca.crt' }
  assert.match(nginxConfig(upstream, ''), /proxy_pass https:[^]*proxy_ssl_verify on;[^]*proxy_ssl_trusted_certificate \/ca\.crt;/)
  assert.match(haproxyConfig(upstream), / ssl verify required ca-file \/ca\.crt /)
})
