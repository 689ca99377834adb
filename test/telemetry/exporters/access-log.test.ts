import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import {
  ACCESS_FIELDS, AccessLog, escaped, formatRecord, MAX_FIELD_LENGTH, withoutSecrets, type AccessRecord,
} from '../../../src/telemetry/exporters/access-log.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const RECORD: AccessRecord = {
  ts: Date.UTC(2026, 10, 21, 9, 5, 3, 7), id: '0198-a', listener: 'proxy/127.0.0.1:6188', client: '203.0.113.7',
  peer: '', method: 'GET', scheme: 'http', host: 'example.com', path: '/a', query: 'b=1',
  proto: 'HTTP/1.1', status: 200, flag: '-', bytes_in: 0, bytes_out: 1234, dur_ms: 12.3456, ttfb_ms: 11,
  upstream: '10.0.0.1:443', up_status: 200, up_connect_ms: 3.1, up_ttfb_ms: 7.5,
  attempts: 1, reused: true, limit: '', ua: 'curl/8.5.0', referer: '', worker: '1.0.1', gen: 1, err: '',
}

test('access log: the line of a plain request, byte for byte', () => {
  assert.equal(formatRecord(RECORD),
    '{"ts":"2026-11-21T09:05:03.007Z","id":"0198-a","listener":"proxy/127.0.0.1:6188","client":"203.0.113.7","peer":"",'
    + '"method":"GET","scheme":"http","host":"example.com","path":"/a","query":"b=1",'
    + '"proto":"HTTP/1.1","status":200,"flag":"-","bytes_in":0,"bytes_out":1234,"dur_ms":12.346,"ttfb_ms":11,'
    + '"upstream":"10.0.0.1:443","up_status":200,"up_connect_ms":3.1,"up_ttfb_ms":7.5,'
    + '"attempts":1,"reused":true,"limit":"","ua":"curl/8.5.0","referer":"","worker":"1.0.1","gen":1,"err":""}\n')
})

test('access log: fields come in the published order, each once', () => {
  assert.deepEqual(Object.keys(JSON.parse(formatRecord(RECORD)) as object), [...ACCESS_FIELDS])
  assert.deepEqual(Object.keys(RECORD), [...ACCESS_FIELDS])
})

test('access log: a client cannot add a line, a field, or speak to a terminal', () => {
  const evil = 'a"}\r\n{"ts":"fake"}\u001b[2J\u009b31m\u0000\u007f\u2028\\'
  const line = formatRecord({ ...RECORD, ua: evil, path: evil, host: evil, method: evil, referer: evil, query: evil, id: evil })
  assert.match(line, /^[\x20-\x7E]+\n$/)
  const parsed = JSON.parse(line) as AccessRecord
  assert.deepEqual(Object.keys(parsed), [...ACCESS_FIELDS])
  assert.equal(parsed.ua, evil)
})

test('access log: whatever the texts are, the line is one line of printable ASCII and gives them back', () => {
  const text = fc.string({
    unit: fc.oneof(
      fc.constantFrom('"', '\\', '\r', '\n', '\u001B', '\u009B', '\u2028', '\uD800', '\0', '/', 'a'),
      fc.integer({ min: 0, max: 0xFFFF }).map(code => String.fromCharCode(code)),
    ),
    maxLength: 60,
  })
  fc.assert(fc.property(text, text, text, text, (ua, host, listener, err) => {
    const line = formatRecord({ ...RECORD, ua, host, listener, err })
    assert.match(line, /^[\x20-\x7E]+\n$/)
    const parsed = JSON.parse(line) as AccessRecord
    assert.deepEqual([parsed.ua, parsed.host, parsed.listener, parsed.err], [ua, host, listener, err])
  }), { numRuns: 1000 })
})

test('access log: numbers are numbers of JSON, whatever a clock did', () => {
  for (const value of [0, 1, 0.0004, 1.9999, 1e21, -5, Number.NaN, Number.POSITIVE_INFINITY]) {
    const parsed = JSON.parse(formatRecord({
      ...RECORD, dur_ms: value, ttfb_ms: value, up_connect_ms: null, status: value, bytes_in: value, ts: value,
    })) as AccessRecord
    assert.equal(parsed.up_connect_ms, null)
    assert.equal(parsed.status, Number.isFinite(value) ? value : 0)
  }
})

test('access log: times are right to the millisecond in any order', () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: 4e12 }),
    ms => (JSON.parse(formatRecord({ ...RECORD, ts: ms })) as { ts: string }).ts === new Date(ms).toISOString(),
  ))
})

test('access log: fields are cut', () => {
  assert.equal(escaped('x'.repeat(MAX_FIELD_LENGTH)).length, MAX_FIELD_LENGTH)
  assert.equal(escaped('x'.repeat(MAX_FIELD_LENGTH + 1)).length, MAX_FIELD_LENGTH)
  const line = formatRecord({ ...RECORD, ua: '\n'.repeat(100_000), path: '\\'.repeat(100_000) })
  assert.ok(line.length < 6 * MAX_FIELD_LENGTH + 2 * MAX_FIELD_LENGTH + 2000)
  assert.equal((JSON.parse(line) as AccessRecord).ua.length, MAX_FIELD_LENGTH)
})

test('access log: values of secret keys are not written, in the query and in Referer', () => {
  const table: readonly (readonly [string, string])[] = [
    ['', ''], ['a=1&b=2', 'a=1&b=2'], ['token=abc', 'token=***'],
    ['a=1&access_token=x.y.z&b=2', 'a=1&access_token=***&b=2'], ['TOKEN=a&Api_Key=b', 'TOKEN=***&Api_Key=***'],
    ['token=', 'token='], ['token', 'token'], ['tokens=1', 'tokens=1'], ['t%6Fken=abc', 't%6Fken=***'],
    ['%E0%A4%A=1&sig=2', '%E0%A4%A=1&sig=***'], ['a=token=1', 'a=token=1'],
    ['&&token=1&&', '&&token=***&&'], ['password=a=b&x', 'password=***&x'], ['a&b=1&code=9', 'a&b=1&code=***'],
  ]
  for (const [query, written] of table) assert.equal(withoutSecrets(query), written, query)
  assert.equal(
    (JSON.parse(formatRecord({ ...RECORD, referer: 'https://x/?token=1&a=2' })) as AccessRecord).referer,
    'https://x/?token=***&a=2',
  )
})

test('access log: a query without secrets comes out as it went in', () => {
  fc.assert(fc.property(
    fc.string({ unit: fc.constantFrom('a', '=', '&', '%', '4'), maxLength: 30 }),
    query => withoutSecrets(query) === query,
  ))
})

test('access log: a refused head has a line with its reason', async t => {
  const file = path.join(temporaryFolder(t), 'access.log')
  const log = new AccessLog({ file }, { worker: '2.1.4', generation: 2 })
  log.refused(
    'proxy/:80',
    '203.0.113.9',
    new ProxyError('HEAD_TOO_LARGE', 'downstream', 'too long', { status: 431, limit: 'head-bytes' }),
    'PE',
    Date.UTC(2026, 0, 1),
  )
  const cause = Object.assign(new Error('no'), { code: 'ECONNRESET' })
  log.refused('proxy/:80', '203.0.113.9', new ProxyError('CONNECTION_RESET', 'downstream', 'gone', { cause }), 'DC', Date.UTC(2026, 0, 1))
  await log.close()
  const [first, second] = readFileSync(file, 'utf8').trimEnd().split('\n').map(line => JSON.parse(line) as AccessRecord)
  assert.deepEqual([first?.status, first?.flag, first?.limit, first?.err, first?.worker, first?.gen, first?.ttfb_ms], [
    431, 'PE', 'head-bytes', 'HEAD_TOO_LARGE', '2.1.4', 2, null,
  ])
  assert.equal(second?.err, 'CONNECTION_RESET:ECONNRESET')
  assert.equal(log.dropped, 0)
})
