import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LoggedRequest, Seen } from '../../scripts/interop/http2/counted-edge.ts'
import {
  DOWNLOAD_BYTES, faultOfClient, faultOfOrigin, faultOfPage, MANY, mostAtOnce, PIECE_BYTES,
} from '../../scripts/interop/http2/judge.ts'

function line(path: string, more: Partial<LoggedRequest> = {}): LoggedRequest {
  return {
    ts: '2026-01-01T00:00:00.000Z', dur_ms: 10, method: 'GET', path, proto: 'HTTP/2', alpn: 'h2', status: 200, flag: '-', up_status: 200,
    ...more,
  }
}

function seen(requests: readonly LoggedRequest[], connections = 1, dials = 1): Seen { return { requests, connections, dials } }

test('interop http2: what the edge has counted decides how a client came', () => {
  assert.equal(faultOfClient('get', true, seen([line('/')])), '')
  assert.equal(faultOfClient('get', true, seen([line('/', { proto: 'HTTP/1.1' })])), '1 of 1 requests came in HTTP/1.1')
  assert.equal(faultOfClient('get', true, seen([line('/')], 2)), '2 connections instead of 1')
  assert.equal(faultOfClient('get', true, seen([line('/', { status: 502, flag: 'UC', err: 'gone' })])), '/: status 502, flag UC gone')
  assert.equal(faultOfClient('together', true, seen([line('/together')])), `1 requests instead of ${MANY}`)
  assert.equal(faultOfClient('download', true, seen([line('/download', { bytes_out: 7 })])), `bytes_out is 7 instead of ${DOWNLOAD_BYTES}`)
})

test('interop http2: an origin has few connections, and all requests at once on them', () => {
  const run = { check: 'together', version: 'HTTP/2', secure: true, echoes: true } as const
  const pieces = Array.from({ length: MANY }, () => line('/piece', { bytes_out: PIECE_BYTES }))
  assert.equal(mostAtOnce(pieces), MANY)
  assert.equal(faultOfOrigin(run, seen(pieces)), '')
  assert.equal(faultOfOrigin(run, seen(pieces, 1, 9)), '9 connections to the origin')
  const inTurn = pieces.map((piece, at) => ({ ...piece, ts: new Date(Date.parse(piece.ts) + at * 10).toISOString() }))
  assert.equal(mostAtOnce(inTurn), 1)
  assert.equal(faultOfOrigin(run, seen(inTurn)), `1 at once instead of ${MANY}`)
  assert.equal(faultOfOrigin({ ...run, check: 'get' }, seen([line('/', { up_status: 404 })])), 'the origin answered with 404')
})

test('interop http2: a WebSocket of a browser is a stream of its connection', () => {
  const socket = line('/ws', { status: 101 })
  assert.equal(faultOfPage('webSocket', { webSocket: 'ok' }, seen([socket])), '')
  assert.equal(faultOfPage('webSocket', { webSocket: 'ok' }, seen([{ ...socket, proto: 'HTTP/1.1' }])), 'the WebSocket came in HTTP/1.1')
  assert.equal(faultOfPage('webSocket', { webSocket: 'ok' }, seen([socket], 2)), '2 connections instead of 1')
  assert.equal(faultOfPage('webSocket', {}, seen([socket])), 'nothing was said')
})
