import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ACCESS_FIELDS, MAX_TEMPLATE_FIELDS, MAX_TEMPLATE_LENGTH } from '../../../src/config/access-format.ts'
import type { Token } from '../../../src/http/header-map.ts'
import { CUT_MARK, MAX_FIELD_LENGTH, MIN_LINE_LENGTH, type AccessRecord } from '../../../src/telemetry/exporters/access-line.ts'
import { accessLines } from '../../../src/telemetry/exporters/access-lines.ts'
import { hexEscaped } from '../../../src/telemetry/exporters/access-template.ts'
import { QUERY_SECRETS } from '../../../src/telemetry/exporters/query-secrets.ts'

const RECORD: AccessRecord = {
  // Where the machine is.
  ts: new Date(2026, 10, 21, 9, 5, 2, 990).getTime(), id: '0198-a' as Token, trace_id: '', span_id: '',
  listener: 'proxy/127.0.0.1:6188', client: '203.0.113.7',
  peer: '', method: 'GET', scheme: 'http', host: 'example.com', path: '/a', query: 'b=1',
  proto: 'HTTP/1.1', tls: '', sni: '', alpn: '', status: 200, flag: '-', bytes_in: 0, bytes_out: 1234, dur_ms: 12.3456, ttfb_ms: 11,
  upstream: '10.0.0.1:443', up_status: 200, up_connect_ms: 3.1, up_ttfb_ms: 7.5,
  attempts: 1, reused: true, limit: '', ua: 'curl/8.5.0', referer: '', worker: '1.0.1', gen: 1, err: '', w: 1, app: null,
}
/** A head that was no request. */
const REFUSED: AccessRecord = {
  ...RECORD, id: '', method: '', scheme: '', host: '', path: '', query: '', proto: '', status: 400, flag: 'PE', bytes_out: 0,
  ttfb_ms: null, upstream: '', up_status: 0, up_connect_ms: null, up_ttfb_ms: null, attempts: 0, reused: false, ua: '', err: 'BAD_HEAD',
}

function line(format: string, record: AccessRecord = RECORD, maxLength = Infinity, secrets = QUERY_SECRETS): string {
  return accessLines(format, secrets, false).compose(record, maxLength)
}

/** The minutes that this machine is ahead, as logs write it. */
function zoneOf(at: number): string {
  const ahead = -new Date(at).getTimezoneOffset(), minutes = Math.abs(ahead)
  return `${ahead < 0 ? '-' : '+'}${String(100 * Math.trunc(minutes / 60) + minutes % 60).padStart(4, '0')}`
}
// A request is logged when it ends.
const TIME = `[21/Nov/2026:09:05:03 ${zoneOf(RECORD.ts)}]`

test('access template: combined and common, as their readers know them', () => {
  assert.equal(line('combined'), `203.0.113.7 - - ${TIME} "GET /a?b=1 HTTP/1.1" 200 1234 "-" "curl/8.5.0"\n`)
  assert.equal(line('common'), `203.0.113.7 - - ${TIME} "GET /a?b=1 HTTP/1.1" 200 1234\n`)
  const empty = { ...RECORD, status: 304, bytes_out: 0, ua: '', referer: 'https://a/?b', query: '' }
  assert.equal(line('combined', empty), `203.0.113.7 - - ${TIME} "GET /a HTTP/1.1" 304 0 "https://a/?b" "-"\n`)
  assert.equal(line('common', empty), `203.0.113.7 - - ${TIME} "GET /a HTTP/1.1" 304 -\n`)
  assert.match(line('combined', REFUSED), /^203\.0\.113\.7 - - \[[^\]]+\] "-" 400 0 "-" "-"\n$/)
  assert.match(line('combined', { ...RECORD, proto: 'HTTP/2' }), / "GET \/a\?b=1 HTTP\/2\.0" 200 /)
  // As nginx has it for a client that left, and for whatever else was sent no status.
  assert.match(line('combined', { ...RECORD, status: 0, flag: 'DC' }), /" 499 1234 /)
  assert.match(line('combined', { ...RECORD, status: 0, flag: 'UR' }), /" 000 1234 /)
  assert.match(line('combined', { ...RECORD, client: '' }), /^- - - \[/)
})

test('access template: a template has the values that the fields have, and a minus sign for what there is not', () => {
  assert.equal(line('$client - $method $path $status $dur_ms'), '203.0.113.7 - GET /a 200 12.346\n')
  assert.equal(line('$ts|$id|$query|$up_status|$reused|$ttfb_ms|$app|$app.tenant|$w'), `${
    new Date(RECORD.ts).toISOString()}|0198-a|b=1|200|true|11|-|-|1\n`)
  assert.equal(line('$id|$query|$up_status|$reused|$ttfb_ms|$attempts|$err|$flag', REFUSED), '-|-|-|-|-|0|BAD_HEAD|PE\n')
  const app = new Map<string, string | number | boolean>([['tenant', 'a b'], ['n', 1], ['ok', false]])
  assert.equal(line('$app|$app.tenant|$app.n|$app.ok|$app.other', { ...RECORD, app }), 'tenant=a b n=1 ok=false|a b|1|false|-\n')
  assert.equal(line('$$ ${status}ms\\t$w', { ...RECORD, w: 10 }), '$ 200ms\t10\n')
  const every = line(ACCESS_FIELDS.map(name => `$${name}`).join('|'))
  assert.equal(every.split('|').length, ACCESS_FIELDS.length)
})

test('access template: secrets are hidden in every form', () => {
  const secret = { ...RECORD, query: 'token=abc&session=def', referer: 'https://a/?sig=abc&session=def' }
  for (const format of ['json', 'text', 'common', 'combined', '$query $referer $request']) {
    const text = line(format, secret, Infinity, QUERY_SECRETS.with(['session']))
    assert.doesNotMatch(text, /abc|def/, format)
  }
})

/** What a reader of nginx's logs makes of a value. */
function unescaped(written: string): string {
  return written.replaceAll(/\\x([\dA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
}

const HOSTILE = fc.string({
  unit: fc.oneof(
    fc.constantFrom('"', '\\', '\r', '\n', '\t', '\u001B', '\u007F', '\u0080', '\u00FF', '\0', ' ', 'x', '\\x22', '$', '['),
    fc.integer({ min: 0, max: 0xFF }).map(code => String.fromCharCode(code)),
  ),
  maxLength: 60,
})

test('access template: whatever a client sends, it is one line, its quotes hold, and what it sent can be read back', () => {
  fc.assert(fc.property(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (path, ua, referer, method) => {
    // Secrets are hidden, which changes an address.
    const record = { ...RECORD, path: `/${path}`, ua: `u${ua}`, referer: `r${referer.replaceAll('?', '')}`, method: `M${method}` }
    const combined = line('combined', record)
    const match = /^203\.0\.113\.7 - - \[[^\]\n"]+\] "([\x20-\x7E]*)" 200 1234 "([^"]*)" "([^"]*)"\n$/.exec(combined)
    assert.ok(match, combined)
    assert.deepEqual([unescaped(match[2]!), unescaped(match[3]!)], [record.referer, record.ua])
    assert.equal(unescaped(match[1]!), `${record.method} ${record.path}?b=1 HTTP/1.1`)
    const tabbed = line('$path\\t$ua\\t$method', record).slice(0, -1).split('\t')
    assert.deepEqual(tabbed.map(unescaped), [record.path, record.ua, record.method])
  }), { numRuns: 1000 })
})

test('access template: a text beyond Latin-1 is written as the bytes of UTF-8', () => {
  assert.equal(hexEscaped('a\u20AC\u00E9', 100), 'a\\xE2\\x82\\xAC\\xC3\\xA9')
  assert.equal(hexEscaped('a\u00E9', 100), 'a\\xE9')
  assert.match(hexEscaped('\uD800', 100), /^(?:\\x[\dA-F]{2}){3}$/)
})

test('access template: a text that is too long is cut between two escapes, with a mark, and only then', () => {
  assert.equal(hexEscaped('x'.repeat(64), 64), 'x'.repeat(64))
  assert.equal(hexEscaped('x'.repeat(65), 64), 'x'.repeat(64 - CUT_MARK.length) + CUT_MARK)
  const any = fc.string({ unit: fc.constantFrom('a', '"', '\n', '\u00E9'), maxLength: 60 })
  fc.assert(fc.property(any, fc.integer({ min: 14, max: 100 }), (text, longest) => {
    const written = hexEscaped(text, longest), whole = hexEscaped(text, Infinity)
    assert.ok(written.length <= longest)
    if (whole.length <= longest) assert.equal(written, whole)
    else {
      assert.ok(written.endsWith(CUT_MARK) && whole.startsWith(written.slice(0, -CUT_MARK.length)))
      assert.ok(text.startsWith(unescaped(written.slice(0, -CUT_MARK.length))), 'no escape is cut')
      assert.ok(written.length > longest - 4 - CUT_MARK.length, 'no more is cut than must be')
    }
  }))
})

test('access template: every line can be cut so that its stream takes it in one piece', () => {
  const long = fc.tuple(fc.constantFrom('a', '"', '\u00E9', '\n', '%'), fc.integer({ min: 0, max: 60_000 }))
    .map(([unit, length]) => unit.repeat(length))
  const widest = '$request'.repeat(MAX_TEMPLATE_FIELDS).padEnd(MAX_TEMPLATE_LENGTH, '.')
  fc.assert(fc.property(long, long, long, fc.constantFrom('common', 'combined', widest), (path, ua, method, format) => {
    const record = { ...RECORD, path, ua, query: ua, referer: path, method: `M${method}`, proto: `HTTP/${method}` }
    for (const maxLength of [4096, MIN_LINE_LENGTH]) {
      const text = line(format, record, maxLength)
      assert.match(text, /^[\x20-\x7E]+\n$/)
      assert.ok(text.length <= maxLength, `${text.length}`)
    }
    assert.ok(line('combined', record).length < 3 * MAX_FIELD_LENGTH + 200)
  }), { numRuns: 100 })
})
