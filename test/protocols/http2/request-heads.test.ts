import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FieldLines, FieldName } from '../../../src/http/field-lines.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead } from '../../../src/http/message-head.ts'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { RequestHeads } from '../../../src/protocols/http2/request-heads.ts'
import { setupFor } from '../../support/request-setup.ts'

type Field = readonly [name: string, value: string]

interface Asked {
  readonly method: string
  readonly path: string
  readonly authority: string
  readonly fields: readonly Field[]
  readonly lines: readonly Field[]
  readonly length: number
  readonly acceptsTrailers: boolean
  /** The other side says how large its table is; null: nothing. */
  readonly tableBytes: number | null
}

const FIELDS: readonly (readonly Field[])[] = [
  [], [['accept', '*/*'], ['user-agent', 'curl/8']], [['Accept', '*/*'], ['User-Agent', 'curl/9']], [['cookie', 'a='.padEnd(40, 'x')]],
  [['Connection', 'close'], ['X-One', '1'], ['x-one', '2']], [['Authorization', 'secret'], ['x-long', 'y'.repeat(1500)]],
]
const LINES: readonly (readonly Field[])[] = [
  [], [['X-Forwarded-For', '10.0.0.1'], ['Via', '1.1 x']], [['X-Forwarded-For', '10.0.0.2'], ['Via', '1.1 x']],
  [['X-Forwarded-For', '10.0.0.1'], ['X-Request-Id', 'ID'], ['Via', '1.1 x']], [['X-Request-Id', 'ID']],
]

const names = new Map<string, FieldName>()
let ids = 0

function lineName(name: string): FieldName {
  const known = names.get(name) ?? new FieldName(name)
  names.set(name, known)
  return known
}

function write(heads: RequestHeads, { method, path, authority, fields, lines, length, acceptsTrailers }: Asked): Field[] {
  const headers = new HeaderMap()
  for (const [name, value] of fields) headers.append(name, value)
  const head = RequestHead.build(method, path, headers)
  head.authority = authority
  const added = new FieldLines()
  const values = lines.map(([name, value]): Field => [name, value === 'ID' ? `id-${++ids}` : value])
  for (const [name, value] of values) added.add(lineName(name), value)
  heads.write(head, setupFor(length, { lines: added, acceptsTrailers }), 'https', '')
  return [
    [':method', method], [':authority', authority], [':scheme', 'https'], [':path', path],
    ...fields.filter(([name]) => name !== 'Connection').map(([name, value]): Field => [name.toLowerCase(), value]),
    ...length > 0 ? [['content-length', String(length)] as const] : [], ...acceptsTrailers ? [['te', 'trailers'] as const] : [],
    ...values.map(([name, value]): Field => [name.toLowerCase(), value]),
  ]
}

const asked: fc.Arbitrary<Asked> = fc.record({
  method: fc.constantFrom('GET', 'POST'), path: fc.constantFrom('/', '/a', '/b?c', `/${'x'.repeat(200)}`),
  authority: fc.constantFrom('a.test', 'b.test'), fields: fc.constantFrom(...FIELDS), lines: fc.constantFrom(...LINES),
  length: fc.constantFrom(-1, -1, 7, 8), acceptsTrailers: fc.boolean(),
  tableBytes: fc.oneof({ weight: 20, arbitrary: fc.constant(null) }, fc.constantFrom(0, 200, 4096)),
})

test('request heads: an origin reads what was asked, whichever heads came before', () => {
  fc.assert(fc.property(fc.array(asked, { maxLength: 6 }), fc.array(fc.nat(5), { maxLength: 60 }), (kinds, order) => {
    const heads = new RequestHeads(4096), decoder = new HpackDecoder()
    for (const at of order) {
      const one = kinds[at]
      if (one === undefined) continue
      if (one.tableBytes !== null) heads.limitTable(one.tableBytes)
      const expected = write(heads, one), read: Field[] = []
      assert.ok(decoder.decode(heads.block, 0, heads.size, { onField: ({ name, value }) => { read.push([name, value]) } }))
      assert.deepEqual(read, expected)
    }
  }), { numRuns: 500 })
})

test('request heads: heads that differ in one thing alone, each of them kept, are told apart', () => {
  const base: Asked = {
    method: 'GET', path: '/', authority: 'a.test', fields: FIELDS[1]!, lines: LINES[1]!, length: -1, acceptsTrailers: false,
    tableBytes: null,
  }
  // Fields of one length: heads are kept by that of their text.
  const kinds: readonly Asked[] = [
    base, { ...base, path: '/other' }, { ...base, authority: 'b.test' }, { ...base, fields: FIELDS[2]! }, { ...base, length: 7 },
    { ...base, acceptsTrailers: true }, ...LINES.map(lines => ({ ...base, lines })), { ...base, method: 'PUT' },
    { ...base, lines: [...LINES[1]!, ['X-Last', '1']] }, { ...base, lines: [['X-Forwarded-For', '10.0.0.1'], ['X-Request-Id', 'ID']] },
  ]
  fc.assert(fc.property(fc.array(fc.nat(kinds.length - 1), { maxLength: 40 }), order => {
    const heads = new RequestHeads(4096), decoder = new HpackDecoder()
    // Twice each, in their order, so that all of them have been kept at some time, then in any order.
    for (const at of [...kinds.keys(), ...kinds.keys(), ...order.flatMap(one => [one, one])]) {
      const expected = write(heads, kinds[at]!), read: Field[] = []
      assert.ok(decoder.decode(heads.block, 0, heads.size, { onField: ({ name, value }) => { read.push([name, value]) } }))
      assert.deepEqual(read, expected)
    }
  }), { numRuns: 200 })
})

test('request heads: one that comes again is the same bytes but for its path and what is another each time', () => {
  const heads = new RequestHeads(4096)
  const one: Asked = {
    method: 'GET', path: '/1', authority: 'a.test', fields: FIELDS[1]!, lines: LINES[3]!, length: -1, acceptsTrailers: false,
    tableBytes: null,
  }
  const sizes = Array.from({ length: 5 }, () => {
    write(heads, one)
    return heads.size
  })
  // Table indexes from the second on.
  assert.equal(new Set(sizes.slice(1)).size, 1)
  assert.ok(sizes[1]! < sizes[0]! / 2)
})
