import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { grpcStatusName, grpcStatusOfHttp, GrpcStatus } from '../../src/http/grpc-status.ts'

test('grpc page: the table of statuses has each that is not UNKNOWN, as the proxy says it', () => {
  const page = readFileSync(path.join(import.meta.dirname, '../../docs/grpc.md'), 'utf8')
  const found = page.matchAll(/^\| (\d{3}|others) \| (\d+) `(\w+)` \|/gm)
  const rows = Array.from(found, ([, http = '', code = '', name = '']) => ({ http, code, name }))
  const expected = Array.from({ length: 700 }, (_, index) => 300 + index)
    .filter(http => grpcStatusOfHttp(http) !== GrpcStatus.Unknown)
    .map(http => ({ http: String(http), code: String(grpcStatusOfHttp(http)), name: grpcStatusName(grpcStatusOfHttp(http)) }))
  assert.deepEqual(rows, [...expected, { http: 'others', code: '2', name: 'UNKNOWN' }])
})
