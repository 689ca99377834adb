/** What the fields of a call of gRPC say, and how answers of the proxy's own are said in gRPC. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isHttpFailure, trailersOnly } from '../../src/http/grpc-answer.ts'
import { grpcMediaType, grpcTimeoutMs, isGrpcWeb } from '../../src/http/grpc-request.ts'
import { GrpcStatus, grpcMessage, grpcStatusName, grpcStatusOfHttp } from '../../src/http/grpc-status.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { ResponseHead } from '../../src/http/message-head.ts'

test('grpc: a call is known by its media type, in any case and with parameters', () => {
  for (const [given, type] of [
    ['application/grpc', 'application/grpc'], ['application/grpc+proto', 'application/grpc+proto'],
    ['Application/gRPC', 'application/grpc'],
    ['application/grpc+json; charset=utf-8', 'application/grpc+json'], ['application/grpc ;q=1', 'application/grpc'],
    ['application/grpc-web', 'application/grpc-web'], ['application/grpc-web+proto', 'application/grpc-web+proto'],
    ['application/grpc-web-text', 'application/grpc-web-text'], ['application/grpc-web-text+proto', 'application/grpc-web-text+proto'],
  ] as const) assert.equal(grpcMediaType(given), type, given)
  for (const given of [
    '', 'application/json', 'application/grpcx', 'application/grpc+', 'application/grpc-foo', 'application/grpc web', 'application/grp',
    'text/application/grpc', 'application/grpc+a b', 'application/grpc\u212aweb', `application/grpc+${'x'.repeat(65)}`,
  ]) assert.equal(grpcMediaType(given), '', given)
  assert.deepEqual(['application/grpc', 'application/grpc+web', 'application/grpc-web', 'application/grpc-web-text'].map(isGrpcWeb),
    [false, false, true, true])
})

test('grpc: a timeout is up to eight digits and a unit, parts of a ms as a whole one; anything else is none', () => {
  for (const [given, ms] of [
    ['1H', 3_600_000], ['2M', 120_000], ['3S', 3000], ['4m', 4], ['5000u', 5], ['1u', 1], ['6000001n', 7], ['0S', 0], ['00000001S', 1000],
    ['99999999H', 99_999_999 * 3_600_000],
  ] as const) assert.equal(grpcTimeoutMs(given), ms, given)
  for (const given of ['', 'S', '1', '1s', '1h', '-1S', '+1S', '1.5S', ' 1S', '1S ', '1 S', '100000000S', '0x1S', '1SS', '١S', '1S, 2S']) {
    assert.equal(grpcTimeoutMs(given), -1, given)
  }
})

test('grpc: each status of HTTP has one of gRPC, and none of them says that all went well', () => {
  for (const [http, status] of [
    [400, 13], [401, 16], [403, 7], [404, 12], [429, 14], [502, 14], [503, 14], [504, 14],
    [408, 4], [413, 8], [414, 8], [431, 8], [421, 14], [500, 13], [501, 12], [302, 2], [405, 2], [508, 2],
  ] as const) assert.equal(grpcStatusOfHttp(http), status, String(http))
  for (let http = 300; http < 1000; http++) assert.notEqual(grpcStatusOfHttp(http), GrpcStatus.Ok)
  assert.deepEqual([0, 4, 14, 16, 17].map(grpcStatusName), ['OK', 'DEADLINE_EXCEEDED', 'UNAVAILABLE', 'UNAUTHENTICATED', '17'])
})

test('grpc: a message is printable ASCII, and reads the same once it is decoded', () => {
  assert.equal(grpcMessage('100 % of\tü\r\n☺'), '100 %25 of%09%C3%BC%0D%0A%E2%98%BA')
  assert.equal(grpcMessage('plain ~ text'), 'plain ~ text')
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), text => {
    const message = grpcMessage(text)
    assert.match(message, /^[\x20-\x7e]*$/)
    assert.equal(decodeURIComponent(message), text.toWellFormed())
  }))
})

function translated(head: ResponseHead, body: string | null): Record<string, string> {
  const { status, headers } = trailersOnly(head, 'application/grpc+json', body === null ? null : Buffer.from(body))
  assert.equal(status, 200)
  return Object.fromEntries([...headers].map(([name, value]) => [name.toLowerCase(), value]))
}

test('grpc: an answer of HTTP becomes one of trailers alone, and keeps what its head says besides the body', () => {
  const page = ResponseHead.build(503, HeaderMap.from({
    'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': '30', 'Transfer-Encoding': 'chunked', 'Content-Encoding': 'gzip',
    'Retry-After': '1', 'X-A': ['1', '2'],
  }))
  assert.deepEqual(translated(page, '503 Service Unavailable\nrequest abc\n'), {
    'retry-after': '1', 'x-a': '2', 'content-type': 'application/grpc+json',
    'grpc-status': '14', 'grpc-message': '503 Service Unavailable, request abc',
  })
  const html = ResponseHead.build(403, HeaderMap.from({ 'Content-Type': 'text/html' }))
  assert.equal(translated(html, '<h1>no</h1>')['grpc-message'], 'Forbidden')
  const bare = ResponseHead.build(403)
  for (const [body, message] of [
    [null, 'Forbidden'], ['', 'Forbidden'], ['\n \n', 'Forbidden'], ['not yours', 'not yours'], ['x'.repeat(1025), 'Forbidden'],
  ] as const) assert.equal(translated(bare, body)['grpc-message'], message)
  assert.equal(translated(ResponseHead.build(799), null)['grpc-message'], 'HTTP status 799')
})

test('grpc: what says how the call ended, or that it did well, is left alone', () => {
  const of = (status: number, fields: Record<string, string> = {}): boolean => {
    return isHttpFailure(ResponseHead.build(status, HeaderMap.from(fields)))
  }
  assert.deepEqual([of(200), of(204), of(302), of(404), of(503, { 'Grpc-Status': '14' })], [false, false, true, true, false])
})
