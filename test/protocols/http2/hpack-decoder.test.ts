/** Header blocks: the examples of RFC 7541, the limits of tables and integers, and whatever else bytes may be. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { STATIC_TABLE } from '../../../src/protocols/http2/hpack-field.ts'
import { RecentLiterals } from '../../../src/protocols/http2/recent-literals.ts'
import { SERIES, type Fields } from './rfc7541-examples.ts'

function read(decoder: HpackDecoder, hex: string): Fields | null {
  const fields: (readonly [string, string])[] = [], bytes = Buffer.from(hex, 'hex')
  return decoder.decode(bytes, 0, bytes.length, { onField: ({ name, value }) => { fields.push([name, value]) } }) ? fields : null
}

function tableOf(decoder: HpackDecoder): Fields {
  return Array.from({ length: decoder.length }, (_, at) => {
    const { name, value } = decoder.fieldAt(STATIC_TABLE.length + 1 + at)!
    return [name, value] as const
  })
}

for (const { name, tableBytes, examples } of SERIES) {
  test(`hpack decoder: RFC 7541 ${name}`, () => {
    const decoder = new HpackDecoder(tableBytes)
    for (const { block, fields, table, size } of examples) {
      assert.deepEqual(read(decoder, block), fields)
      assert.deepEqual(tableOf(decoder), table)
      assert.equal(decoder.size, size)
    }
  })
}

test('hpack decoder: RFC 7541 C.2, one form of a field each', () => {
  const decoder = new HpackDecoder()
  assert.deepEqual(read(decoder, '400a637573746f6d2d6b65790d637573746f6d2d686561646572'), [['custom-key', 'custom-header']])
  assert.equal(decoder.length, 1)
  assert.deepEqual(read(decoder, '040c2f73616d706c652f70617468'), [[':path', '/sample/path']])
  assert.deepEqual(read(decoder, '100870617373776f726406736563726574'), [['password', 'secret']])
  assert.deepEqual(read(decoder, '82'), [[':method', 'GET']])
  assert.equal(decoder.length, 1)
})

test('hpack decoder: a block that ends anywhere within a field is none', () => {
  for (const { tableBytes, examples: [first] } of SERIES) {
    for (let length = 0; length < first!.block.length; length += 2) {
      const fields = read(new HpackDecoder(tableBytes), first!.block.slice(0, length))
      // Where a field ends the block may end too.
      if (fields !== null) assert.deepEqual(fields, first!.fields.slice(0, fields.length))
    }
  }
})

test('hpack decoder: indexes that nothing stands at, and index 0, are refused', () => {
  for (const hex of ['80', 'be', 'ff00', 'ffffffff0f', '7e0161', '0f2f0161']) assert.equal(read(new HpackDecoder(), hex), null, hex)
})

test('hpack decoder: integers of more than four bytes behind the prefix are refused, however small', () => {
  assert.equal(read(new HpackDecoder(), 'ff8080808000'), null)
  assert.equal(read(new HpackDecoder(), '407fffffffffff7f'), null)
  assert.equal(read(new HpackDecoder(), '00ff'), null)
  // 31 + 127 - 31: three bytes for what two would do.
  assert.deepEqual(read(new HpackDecoder(), '3fe180808000'), null)
  assert.deepEqual(read(new HpackDecoder(), '3fe1800082'), [[':method', 'GET']])
})

test('hpack decoder: a text is never longer than its block', () => {
  for (const hex of ['00016105', '0005', '00017f7f', '400161ff', '0085aec3771a']) assert.equal(read(new HpackDecoder(), hex), null, hex)
})

test('hpack decoder: the table shrinks and grows within its limit, at the beginning of a block alone', () => {
  const decoder = new HpackDecoder(4096)
  assert.equal(read(decoder, '4001610162')?.length, 1)
  assert.equal(decoder.length, 1)
  assert.deepEqual(read(decoder, '20'), [])
  assert.equal(decoder.length, 0, 'the size of 0 empties it')
  assert.deepEqual(read(decoder, '4001610162be'), null, 'nothing goes into a table of no size')
  assert.deepEqual(read(new HpackDecoder(4096), '203fe11f'), [], 'the smallest and the last')
  assert.equal(read(new HpackDecoder(4096), '20203fe11f'), null, 'three of them')
  assert.equal(read(new HpackDecoder(4096), '8220'), null, 'behind a field')
  assert.equal(read(new HpackDecoder(4096), '3fe21f'), null, 'one more than the limit')
})

test('hpack decoder: a field larger than the table empties it, and is a field all the same (RFC 7541 4.4)', () => {
  const decoder = new HpackDecoder(64)
  read(decoder, '4001610162')
  const long = '78'.repeat(40)
  assert.deepEqual(read(decoder, `40016128${long}`), [['a', 'x'.repeat(40)]])
  assert.equal(decoder.length, 0)
  assert.equal(decoder.size, 0)
})

test('hpack decoder: the table holds as many fields as there is room for, with 32 bytes for each', () => {
  const decoder = new HpackDecoder(4096)
  for (let i = 0; i < 1000; i++) assert.notEqual(read(decoder, '40000141'), undefined)
  assert.equal(decoder.length, Math.floor(4096 / 33))
  assert.deepEqual(read(decoder, 'be'), [['', 'A']])
})

test('hpack decoder: any bytes are read or refused, within the limit of the table', () => {
  const decoder = new HpackDecoder(512)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), bytes => {
    decoder.decode(Buffer.from(bytes), 0, bytes.length, { onField() {} })
    return decoder.size <= 512 && decoder.length <= 16
  }), { numRuns: 10_000 })
})

test('hpack decoder: literals that come again are read as they were the first time, whatever lies between', () => {
  const literal = fc.tuple(
    fc.constantFrom(0x00, 0x10, 0x40), fc.constantFrom(0, 1, 28, 31, 58, 62, 70), fc.constantFrom('a', 'b1', 'x-name'),
    fc.constantFrom('', 'v', 'value', 'valuf', 'w'.repeat(126), 'w'.repeat(200)),
  )
  const bytesOf = ([form, index, name, value]: readonly [number, number, string, string]): Buffer => {
    const prefix = form === 0x40 ? 0x3f : 0x0f, integer = index < prefix ? [form | index] : [form | prefix, index - prefix]
    const lengthOf = (of: string): Buffer => Buffer.from(of.length < 127 ? [of.length] : [127, of.length - 127])
    const text = (of: string): Buffer => Buffer.concat([lengthOf(of), Buffer.from(of)])
    return Buffer.concat([Buffer.from(integer), ...index === 0 ? [text(name)] : [], text(value)])
  }
  const piece = fc.oneof({ weight: 8, arbitrary: literal.map(bytesOf) }, fc.uint8Array({ maxLength: 6 }).map(bytes => Buffer.from(bytes)))
  const blocks = fc.array(fc.array(piece, { maxLength: 5 }).map(pieces => Buffer.concat(pieces)), { maxLength: 12 })
  fc.assert(fc.property(blocks, all => {
    const plain = new HpackDecoder(), recent = new HpackDecoder(4096, new RecentLiterals())
    for (const block of all) {
      const expected = read(plain, block.toString('hex'))
      assert.deepEqual(read(recent, block.toString('hex')), expected)
      assert.deepEqual(tableOf(recent), tableOf(plain))
      if (expected === null) return
    }
  }), { numRuns: 1000 })
})

test('hpack decoder: a literal whose name is one of the dynamic table is read for itself each time', () => {
  const decoder = new HpackDecoder(4096, new RecentLiterals())
  // One entry, a literal with its name (index 62, of two bytes), another entry, the same bytes again.
  assert.deepEqual(read(decoder, '4001610178'), [['a', 'x']])
  for (let again = 0; again < 2; again++) assert.deepEqual(read(decoder, '0f2f0179'), [['a', 'y']])
  assert.deepEqual(read(decoder, '4001620178'), [['b', 'x']])
  assert.deepEqual(read(decoder, '0f2f0179'), [['b', 'y']])
})
