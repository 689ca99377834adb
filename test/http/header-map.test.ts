import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FieldKind, HeaderMap, asciiLower, fieldKind, isToken } from '../../src/http/header-map.ts'
import type { RequestHead } from '../../src/http/message-head.ts'
import { HeadParser, Parsed } from '../../src/protocols/http1/parser.ts'

const LIMITS = { maxHeadBytes: 65_536, maxHeaderCount: 200, maxHeaderLineBytes: 65_536, maxMethodBytes: 32, maxUriBytes: 1000 }

function parse(text: string): RequestHead {
  const parser = new HeadParser('request', LIMITS), bytes = Buffer.from(text, 'latin1')
  assert.equal(parser.parse(bytes, 0, bytes.length), Parsed.Done)
  return parser.takeRequest()
}

type Line = readonly [name: string, value: string]

/** Ordered fields as anybody would write them. */
class NaiveFields {
  lines: Line[]
  constructor(lines: readonly Line[]) { this.lines = [...lines] }
  #is(line: Line, name: string): boolean { return line[0].toLowerCase() === name.toLowerCase() }
  get(name: string): string | undefined { return this.lines.find(line => this.#is(line, name))?.[1] }
  getAll(name: string): string[] { return this.lines.filter(line => this.#is(line, name)).map(line => line[1]) }
  append(name: string, value: string): void { this.lines.push([name, value]) }
  delete(name: string): boolean {
    const before = this.lines.length
    this.lines = this.lines.filter(line => !this.#is(line, name))
    return this.lines.length !== before
  }
  set(name: string, value: string): void {
    const at = this.lines.findIndex(line => this.#is(line, name))
    if (at === -1) return this.append(name, value)
    this.lines = this.lines.filter((line, index) => index === at || !this.#is(line, name))
    this.lines[at] = [this.lines[at]![0], value]
    return undefined
  }
  serialize(mask: number, names: readonly string[]): string {
    return this.lines.filter(([name]) => (mask & (1 << fieldKind(name, 0, name.length))) === 0 && !names.includes(name.toLowerCase()))
      .map(([name, value]) => `${name}: ${value}\r\n`).join('')
  }
}

const name = fc.constantFrom(
  'Host', 'host', 'Via', 'X-A', 'x-a', 'Connection', 'Content-Length', 'X-Forwarded-For', 'Te', 'Cookie',
  'X-Request-Id',
)
const value = fc.constantFrom('', 'a', 'b, c', '12', '\u00ff\u0080', 'x y', '0')
const operation = fc.oneof(
  fc.record({ t: fc.constantFrom('set', 'append'), name, value }),
  fc.record({ t: fc.constant('delete'), name }),
  fc.record({ t: fc.constant('deleteAll'), names: fc.uniqueArray(fc.constantFrom('host', 'x-a', 'via', 'te', 'nothing')) }),
  fc.record({ t: fc.constant('deleteKinds'), kinds: fc.uniqueArray(fc.constantFrom(FieldKind.Host, FieldKind.Via, FieldKind.XForwarded)) }),
  fc.record({ t: fc.constant('clone') }),
)

test('header map: it does what a plain list of lines does, however it came about and was changed', () => {
  const line = fc.tuple(name, value)
  const inputs = [
    fc.array(line, { maxLength: 6 }), fc.boolean(), fc.array(operation, { maxLength: 10 }),
    fc.subarray([1, 2, 3, 4, 8, 13, 15, 17]), fc.subarray(['x-a', 'cookie', 'host']),
  ] as const
  fc.assert(fc.property(...inputs, (lines, parsed, operations, kinds, names) => {
    let map = parsed
      ? parse(`GET / HTTP/1.1\r\n${lines.map(([one, text]) => `${one}: ${text}\r\n`).join('')}\r\n`).headers
      : HeaderMap.from(lines)
    const naive = new NaiveFields(lines)
    for (const one of operations) {
      if (one.t === 'clone') {
        const original = map
        map = map.clone()
        original.append('Lost', 'x').set('Host', 'lost').delete('Via')
      } else if ('names' in one) {
        map.deleteAll(new Set(one.names))
        naive.lines = naive.lines.filter(([each]) => !(one.names as string[]).includes(each.toLowerCase()))
      } else if ('kinds' in one) {
        map.deleteKinds(one.kinds.reduce((sum, kind) => sum | (1 << kind), 0))
        naive.lines = naive.lines.filter(([each]) => !(one.kinds as number[]).includes(fieldKind(each, 0, each.length)))
      } else if (one.t === 'delete') assert.equal(map.delete((one as { name: string }).name), naive.delete((one as { name: string }).name))
      else {
        const { t, name: at, value: text } = one as { t: 'set' | 'append'; name: string; value: string }
        map[t](at, text)
        naive[t](at, text)
      }
    }
    assert.deepEqual([...map], naive.lines)
    assert.equal(map.size, naive.lines.length)
    for (const each of ['host', 'VIA', 'x-A', 'content-length', 'nothing']) {
      assert.equal(map.get(each), naive.get(each))
      assert.deepEqual(map.getAll(each), naive.getAll(each))
      assert.equal(map.has(each), naive.get(each) !== undefined)
    }
    assert.equal(map.getKind(FieldKind.Via), naive.get('via'))
    assert.equal(map.hasKind(FieldKind.Te), naive.get('te') !== undefined)
    const lengths = naive.getAll('content-length'), length = lengths.length === 1 ? lengths[0] : undefined
    assert.equal(map.contentLength(), length !== undefined && /^[0-9]+$/.test(length) ? Number(length) : -1)
    const mask = kinds.reduce((sum, kind) => sum | (1 << kind), 0)
    assert.equal(map.serialize(mask, names.length === 0 ? null : names), naive.serialize(mask, names))
  }), { numRuns: 2000 })
})

test('header map: lines that nobody changed are sent as they were received', () => {
  const text = 'HOST:a.example\r\nX-Odd: \t two  \r\nvia:1.1 x\r\nX-End:\r\n', { headers } = parse(`GET / HTTP/1.1\r\n${text}\r\n`)
  assert.equal(headers.serialize(0, null), text)
  assert.equal(headers.serialize(1 << FieldKind.Via, null), text.replace('via:1.1 x\r\n', ''))
  assert.equal(headers.serialize(0, ['x-odd', 'x-end']), 'HOST:a.example\r\nvia:1.1 x\r\n')
  headers.set('x-odd', 'new')
  assert.equal(headers.serialize(0, null), 'HOST:a.example\r\nX-Odd: new\r\nvia:1.1 x\r\nX-End:\r\n')
})

for (const [what, text] of [
  ['CR', 'a\rb'], ['LF', 'a\nb'], ['CRLF and a field', 'a\r\nX-B: c'], ['NUL', 'a\0'], ['DEL', 'a\x7f'],
  ['U+010A, whose low byte is LF', 'a\u010ab'], ['U+010D, whose low byte is CR', 'a\u010db'], ['an emoji', '😀'],
] as const) {
  test(`header map: a value with ${what} is refused and changes nothing`, () => {
    const map = HeaderMap.from({ 'X-A': 'old' })
    assert.throws(() => map.set('X-A', text), TypeError)
    assert.throws(() => map.append('X-A', text), TypeError)
    assert.throws(() => HeaderMap.from([['X-A', text]]), TypeError)
    assert.deepEqual([...map], [['X-A', 'old']])
  })
}

for (const bad of ['', 'a b', 'a:', 'a\r\n', 'ä', 'a\0', '\u212aost', 'x-\u010a', '(a)']) {
  test(`header map: ${JSON.stringify(bad)} is no name of a field`, () => {
    assert.equal(isToken(bad), false)
    const map = new HeaderMap()
    assert.throws(() => map.set(bad, 'x'), TypeError)
    assert.throws(() => map.append(bad, 'x'), TypeError)
    assert.equal(map.size, 0)
  })
}

test('header map: a Kelvin sign is no k, and a long s no s', () => {
  assert.equal(asciiLower('\u212aEEP'), '\u212aeep')
  const map = HeaderMap.from({ 'Keep-Alive': 'x', 'Host': 'a' })
  assert.equal(map.get('\u212aeep-Alive'), undefined)
  assert.equal(map.get('Ho\u017ft'), undefined)
  assert.equal(map.delete('\u212aeep-alive'), false)
  assert.equal(fieldKind('\u212aeep-alive', 0, 10), FieldKind.Other)
  assert.equal(fieldKind('KEEP-ALIVE', 0, 10), FieldKind.KeepAlive)
})

test('header map: one of several names is found in any case, whoever set it, and no near miss is', () => {
  const names = ['b3', 'x-b3-traceid']
  for (const there of ['b3', 'B3', 'X-B3-TraceId']) {
    assert.equal(HeaderMap.from([['host', 'a'], [there, '1']]).hasOneOf(names), true, there)
  }
  assert.equal(HeaderMap.from([['host', 'a'], ['b', '1'], ['x-b3-traceids', '1'], ['b33', '1']]).hasOneOf(names), false)
  const taken = HeaderMap.from([['b3', '1']])
  taken.delete('b3')
  assert.equal(taken.hasOneOf(names), false)
  assert.equal(new HeaderMap().hasOneOf(names), false)
})

test('header map: every X-Forwarded name has its kind, and no near miss has one', () => {
  const forwarded = [
    'X-Forwarded-For', 'x-forwarded-proto', 'X-FORWARDED-HOST', 'X-Forwarded-Prefix', 'x-forwarded-client-cert',
    'X-Forwarded-Ssl', 'X-Forwarded-Server', 'X-Forwarded-Tls-Client-Cert',
  ]
  for (const one of forwarded) assert.equal(fieldKind(one, 0, one.length), FieldKind.XForwarded, one)
  for (const one of ['X-Forwarded', 'X-Forwarde-For', 'Y-Forwarded-For', 'Hosts', 'Hos', 'Viaa', 'Content_Length', 'Transfer-Encodin']) {
    assert.equal(fieldKind(one, 0, one.length), FieldKind.Other, one)
  }
})
