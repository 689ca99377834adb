import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Token } from '../../../src/http/header-map.ts'
import type { AccessRecord } from '../../../src/telemetry/exporters/access-line.ts'
import { formatText } from '../../../src/telemetry/exporters/access-text.ts'

const RECORD: AccessRecord = {
  ts: new Date(2026, 10, 21, 9, 5, 3).getTime(), id: '0198-a' as Token, trace_id: '', span_id: '',
  listener: 'proxy/127.0.0.1:6188', client: '203.0.113.7',
  peer: '', method: 'GET', scheme: 'http', host: 'example.com', path: '/a', query: '',
  proto: 'HTTP/1.1', tls: '', sni: '', alpn: '', status: 200, flag: '-', bytes_in: 0, bytes_out: 1234, dur_ms: 12.3456, ttfb_ms: 11,
  upstream: '10.0.0.1:443', up_status: 200, up_connect_ms: 3.1, up_ttfb_ms: 7.5,
  attempts: 1, reused: true, limit: '', ua: 'curl/8.5.0', referer: '', worker: '1.0.1', gen: 1, err: '', w: 1, app: null,
}

test('access text: a person reads time, status, method, target, duration, upstream, and what went wrong', () => {
  assert.equal(formatText(RECORD, Infinity, false), '09:05:03  200  GET   /a                        12.3 ms  -> 10.0.0.1:443\n')
  const failed = { ...RECORD, status: 502, query: 'n=1&token=abc', flag: 'UC', err: 'CONNECT_REFUSED:ECONNREFUSED', dur_ms: 1234.5 }
  const line = /502 {2}GET {3}\/a\?n=1&token=\*\*\* +123[45] ms {2}-> 10\.0\.0\.1:443 {2}UC CONNECT_REFUSED:ECONNREFUSED\n$/
  assert.match(formatText(failed, Infinity, false), line)
  const named = { ...RECORD, app: new Map<string, string | number>([['tenant', 'a\n'], ['n', 1]]) }
  assert.match(formatText(named, Infinity, false), /-> 10\.0\.0\.1:443 {2}tenant=a\\u000a {2}n=1\n$/)
  assert.match(formatText({ ...RECORD, w: 10 }, Infinity, false), /-> 10\.0\.0\.1:443 {2}w=10\n$/)
  const refused = { ...RECORD, method: '', path: '', status: 400, flag: 'PE', upstream: '', err: 'BAD_HEAD' }
  assert.match(formatText(refused, Infinity, false), /400 {8}\(no request\) +12\.3 ms {2}PE BAD_HEAD\n$/)
})

test('access text: colours are asked for, and nothing else in a line is more than printable ASCII', () => {
  assert.match(formatText(RECORD, Infinity, true), /\x1B\[32m200\x1B\[0m/)
  const text = fc.string({ unit: 'binary', maxLength: 3000 })
  fc.assert(fc.property(text, text, text, (method, path, query) => {
    const line = formatText({ ...RECORD, method, path, query, err: path, flag: 'UC' }, 4096, false)
    assert.match(line, /^[\x20-\x7E]+\n$/)
    assert.ok(line.length <= 4096)
  }))
})
