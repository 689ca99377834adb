import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Token } from '../../../src/http/header-map.ts'
import {
  ACCESS_FIELDS, CUT_MARK, escaped, formatRecord, JsonLines, MAX_FIELD_LENGTH, MIN_LINE_LENGTH, type AccessRecord,
} from '../../../src/telemetry/exporters/access-line.ts'
import { QUERY_SECRETS } from '../../../src/telemetry/exporters/query-secrets.ts'

const RECORD: AccessRecord = {
  ts: Date.UTC(2026, 10, 21, 9, 5, 3, 7), id: '0198-a' as Token, trace_id: '', span_id: '',
  listener: 'proxy/127.0.0.1:6188', client: '203.0.113.7',
  peer: '', method: 'GET', scheme: 'http', host: 'example.com', path: '/a', query: 'b=1',
  proto: 'HTTP/1.1', tls: '', sni: '', alpn: '', status: 200, flag: '-', bytes_in: 0, bytes_out: 1234, dur_ms: 12.3456, ttfb_ms: 11,
  upstream: '10.0.0.1:443', up_status: 200, up_connect_ms: 3.1, up_ttfb_ms: 7.5,
  attempts: 1, reused: true, limit: '', ua: 'curl/8.5.0', referer: '', worker: '1.0.1', gen: 1, err: '', w: 1, app: null,
}

/** With something in every field. */
const FULL: AccessRecord = {
  ...RECORD, trace_id: '4bf92f3577b34da6a3ce929d0e0e4736', span_id: '00f067aa0ba902b7',
  tls: 'TLSv1.3', sni: 'example.com', alpn: 'http/1.1',
  peer: '10.0.0.9', limit: 'head-bytes', referer: 'https://a/', err: 'READ_TIMEOUT', w: 10, app: new Map([['tenant', 'acme']]),
}

function parsed(record: AccessRecord, maxLength?: number): Partial<AccessRecord> {
  return JSON.parse(formatRecord(record, maxLength)) as Partial<AccessRecord>
}

test('access line: the line of a plain request, byte for byte', () => {
  assert.equal(formatRecord(RECORD),
    '{"ts":"2026-11-21T09:05:03.007Z","id":"0198-a","listener":"proxy/127.0.0.1:6188","client":"203.0.113.7",'
    + '"method":"GET","scheme":"http","host":"example.com","path":"/a","query":"b=1",'
    + '"proto":"HTTP/1.1","status":200,"flag":"-","bytes_in":0,"bytes_out":1234,"dur_ms":12.346,"ttfb_ms":11,'
    + '"upstream":"10.0.0.1:443","up_status":200,"up_connect_ms":3.100,"up_ttfb_ms":7.500,'
    + '"attempts":1,"reused":true,"ua":"curl/8.5.0","worker":"1.0.1","gen":1}\n')
})

test('access line: fields come in the published order, each once', () => {
  assert.deepEqual(Object.keys(parsed(FULL)), [...ACCESS_FIELDS])
  assert.deepEqual(Object.keys(FULL), [...ACCESS_FIELDS])
})

test('access line: what there was not is left out, and what is there keeps its order and value', () => {
  const gone = fc.subarray([
    'id', 'client', 'peer', 'query', 'tls', 'sni', 'alpn', 'limit', 'ua', 'referer', 'err', 'ttfb_ms', 'up_connect_ms', 'up_ttfb_ms',
  ] as const)
  fc.assert(fc.property(gone, names => {
    const record = { ...FULL, ...Object.fromEntries(names.map(name => [name, name.endsWith('_ms') ? null : ''])) }
    assert.deepEqual(Object.keys(parsed(record)), ACCESS_FIELDS.filter(name => !(names as readonly string[]).includes(name)))
  }))
  const refused = parsed({ ...FULL, method: '', attempts: 0 })
  for (const name of ['method', 'path', 'query', 'upstream', 'up_status', 'attempts', 'reused']) assert.ok(!(name in refused), name)
  assert.deepEqual([refused.status, refused.bytes_in, refused.err], [200, 0, 'READ_TIMEOUT'])
})

test('access line: a client cannot add a line, a field, or speak to a terminal', () => {
  const evil = 'a"}\r\n{"ts":"fake"}\u001b[2J\u009b31m\u0000\u007f\u2028\\'
  const line = formatRecord({ ...FULL, ua: evil, path: evil, host: evil, method: evil, referer: evil, query: evil })
  assert.match(line, /^[\x20-\x7E]+\n$/)
  const parsed = JSON.parse(line) as AccessRecord
  assert.deepEqual(Object.keys(parsed), [...ACCESS_FIELDS])
  assert.equal(parsed.ua, evil)
})

test('access line: whatever the texts are, the line is one line of printable ASCII and gives them back', () => {
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
    assert.deepEqual([parsed.ua ?? '', parsed.host, parsed.listener, parsed.err ?? ''], [ua, host, listener, err])
  }), { numRuns: 1000 })
})

test('access line: numbers are numbers of JSON, whatever a clock did', () => {
  for (const value of [0, 1, 0.0004, 1.9999, 999.9996, 1e7, 1e21, -5, Number.NaN, Number.POSITIVE_INFINITY]) {
    const line = parsed({ ...RECORD, dur_ms: value, ttfb_ms: value, status: value, bytes_in: value, ts: value })
    assert.equal(line.status, Number.isFinite(value) ? value : 0)
    if (!Number.isFinite(value)) assert.equal(line.dur_ms, null)
    else assert.ok(Math.abs(line.dur_ms! - value) <= (value < 1e6 ? 0.0006 : 0.5), `${value} became ${line.dur_ms}`)
  }
})

test('access line: a time is written to the microsecond', () => {
  const time = fc.integer({ min: 0, max: 2 ** 30 }).map(microseconds => microseconds / 1000)
  fc.assert(fc.property(time, ms => parsed({ ...RECORD, dur_ms: ms }).dur_ms === ms))
})

test('access line: times are right to the millisecond in any order', () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: 4e12 }),
    ms => (JSON.parse(formatRecord({ ...RECORD, ts: ms })) as { ts: string }).ts === new Date(ms).toISOString(),
  ))
})

test('access line: a text that is too long is cut, with a mark, and says so only then', () => {
  assert.equal(escaped('x'.repeat(MAX_FIELD_LENGTH), MAX_FIELD_LENGTH).length, MAX_FIELD_LENGTH)
  assert.equal(escaped('x'.repeat(MAX_FIELD_LENGTH + 1), MAX_FIELD_LENGTH), 'x'.repeat(MAX_FIELD_LENGTH - CUT_MARK.length) + CUT_MARK)
  const unit = fc.constantFrom('a', '"', '\\', '\n', '\u00E9', '\uD83D')
  fc.assert(fc.property(fc.string({ unit, maxLength: 60 }), fc.integer({ min: 10, max: 100 }), (text, longest) => {
    const written = escaped(text, longest)
    const read = JSON.parse(`"${written}"`) as string
    assert.ok(written.length <= longest)
    const isCut = JSON.stringify(text).replaceAll('\\n', '\\u000a').replaceAll('\u00E9', '\\u00e9').length - 2 > longest
    if (!isCut) assert.equal(read, text)
    else {
      assert.ok(read.endsWith(CUT_MARK) && text.startsWith(read.slice(0, -CUT_MARK.length)))
      assert.ok(written.length > longest - 6 - CUT_MARK.length, 'no more is cut than must be')
    }
  }))
})

test('access line: whatever a client sent, a line is one object and no longer than its stream takes', () => {
  const units = ['a', '"', '\\', '\n', '\u00E9', '\u0000', '&', 'token=1&', '%']
  const length = fc.integer({ min: 0, max: 60_000 })
  const text = fc.tuple(fc.constantFrom(...units), length).map(([unit, wanted]) => unit.repeat(wanted / unit.length))
  const longest = fc.constantFrom(4096, MIN_LINE_LENGTH)
  fc.assert(fc.property(text, text, text, text, longest, (path, query, ua, host, maxLength) => {
    const id = ua.replace(/[^a-z]/g, 'x') as Token
    const record = { ...FULL, path, query, ua, host, referer: `https://a/?${query}`, id, method: host || 'GET' }
    const line = formatRecord(record, maxLength)
    assert.match(line, /^[\x20-\x7E]+\n$/)
    assert.ok(line.length <= maxLength, `${line.length}`)
    const read = JSON.parse(line) as AccessRecord
    assert.deepEqual([read.ts, read.status, read.err], ['2026-11-21T09:05:03.007Z', 200, 'READ_TIMEOUT'])
  }), { numRuns: 200 })
})

test('access line: fields of hooks keep their types, their order and their bytes, and are cut like all others', () => {
  const value = fc.oneof(fc.string({ unit: 'binary', maxLength: 60 }), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean())
  const fields = fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9_]{0,31}$/), value, { maxKeys: 16 })
  fc.assert(fc.property(fields, given => {
    const line = formatRecord({ ...FULL, app: new Map(Object.entries(given)) })
    assert.match(line, /^[\x20-\x7E]+\n$/)
    const { app } = JSON.parse(line) as { app: Record<string, unknown> }
    assert.deepEqual(Object.entries(app), Object.entries(given).map(([name, one]) => [name, one === 0 ? 0 : one]))
  }))
  const long = Array.from({ length: 16 }, (_, at) => [`f${String(at).padStart(31, '0')}`, '\u0000'.repeat(900)] as const)
  const record = { ...FULL, ua: 'u'.repeat(3000), path: 'p'.repeat(3000), host: 'h'.repeat(3000), query: 'q'.repeat(3000) }
  for (const maxLength of [4096, MIN_LINE_LENGTH]) {
    const line = formatRecord({ ...record, app: new Map(long) }, maxLength)
    assert.ok(line.length <= maxLength, `${line.length}`)
    const { app } = JSON.parse(line) as { app: Record<string, string> }
    assert.equal(Object.values(app).every(text => text.endsWith(CUT_MARK)), true)
  }
})

test('access line: only long texts pay for a line that would be too long', () => {
  const line = formatRecord({ ...FULL, ua: 'u'.repeat(9000), path: 'p'.repeat(1500), host: 'h'.repeat(200) }, 4096)
  const read = JSON.parse(line) as AccessRecord
  assert.equal(read.host, 'h'.repeat(200))
  assert.equal(read.path, 'p'.repeat(1500))
  assert.ok(read.ua.length > 1500 && read.ua.endsWith(CUT_MARK))
  assert.ok(line.length > 4000, `${line.length}`)
})

test('access line: secrets stand neither in the query nor in Referer, also where they are cut', () => {
  const line = formatRecord({ ...FULL, query: `a=1&token=secret&${'x'.repeat(9000)}`, referer: 'https://a/?sig=secret' }, 4096)
  assert.doesNotMatch(line, /secret/)
  assert.match(line, /a=1&token=\*\*\*&x/)
  // The end of what is looked at lies within the secret.
  for (const longest of [4096, Infinity]) {
    const cut = formatRecord({ ...FULL, query: `${'x'.repeat(MAX_FIELD_LENGTH - 20)}&token=${'secret'.repeat(2000)}` }, longest)
    assert.match(cut, /xxx&token=\*\*\*\.\.\."/)
  }
})

test('access line: the weight of a line stands in it when it stands for more requests than one', () => {
  assert.equal(parsed({ ...RECORD, w: 20 }).w, 20)
  assert.equal(parsed({ ...RECORD, w: 3.333333 }).w, 3.333333)
  assert.doesNotMatch(formatRecord(RECORD), /"w"/)
})

test('access line: keys that an operator has named are hidden as well, in the query and in Referer', () => {
  const lines = new JsonLines(QUERY_SECRETS.with(['Session']))
  const line = lines.compose({ ...RECORD, query: 'session=abc&token=def&a=1', referer: 'https://a/?SESSION=abc' }, Infinity)
  const { query, referer } = JSON.parse(line) as AccessRecord
  assert.deepEqual([query, referer], ['session=***&token=***&a=1', 'https://a/?SESSION=***'])
})
