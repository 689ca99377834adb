/** Header blocks that are written: byte for byte as in RFC 7541, read back by ours and by Node.js, and what is never indexed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { HpackEncoder, Indexing } from '../../../src/protocols/http2/hpack-encoder.ts'
import { SERIES, type Fields } from './rfc7541-examples.ts'

function write(encoder: HpackEncoder, fields: Fields, indexing?: Indexing): Buffer {
  encoder.length = 0
  encoder.begin()
  for (const [name, value] of fields) encoder.field(name, value, indexing)
  return Buffer.from(encoder.bytes.subarray(0, encoder.length))
}

function read(decoder: HpackDecoder, block: Buffer): Fields | null {
  const fields: (readonly [string, string])[] = []
  return decoder.decode(block, 0, block.length, { onField: ({ name, value }) => { fields.push([name, value]) } }) ? fields : null
}

for (const { name, tableBytes, huffman, examples } of SERIES) {
  if (!huffman) continue
  test(`hpack encoder: RFC 7541 ${name}, byte for byte`, () => {
    const encoder = new HpackEncoder(tableBytes)
    for (const { block, fields, size } of examples) {
      assert.equal(write(encoder, fields, Indexing.Index).toString('hex'), block)
      assert.equal(encoder.size, size)
    }
  })
}

test('hpack encoder: secrets are never indexed, what always changes is written out, all else is indexed', () => {
  const encoder = new HpackEncoder()
  const first = (name: string, value: string): number => write(encoder, [[name, value]])[0]! & 0xf0
  for (const [name, value] of [
    ['authorization', 'Basic abc'], ['proxy-authorization', 'x'], ['set-cookie', 'a=b; HttpOnly'], ['cookie', 'pin=1234'],
  ] as const) {
    assert.equal(first(name, value), 0x10, name)
    assert.equal(first(name, value), 0x10, `${name} again`)
  }
  for (const name of ['etag', 'content-length', ':path', 'x-request-id']) assert.equal(first(name, 'x1'), 0, name)
  assert.equal(first('cookie', 'session=0123456789abcdef0123456789'), 0x60)
  assert.equal(first('server', 'origin') & 0xc0, 0x40)
  assert.equal(first('server', 'origin') & 0x80, 0x80)
  assert.equal(first('x-frame-options', 'DENY') & 0xc0, 0x40)
  assert.equal(first('x-frame-options', 'DENY') & 0x80, 0x80)
})

test('hpack encoder: the table of the other side may shrink, and grow again, between two blocks', () => {
  const encoder = new HpackEncoder(), decoder = new HpackDecoder(4096)
  const list: Fields = [['server', 'a'], ['x-one', 'b']]
  assert.deepEqual(read(decoder, write(encoder, list)), list)
  encoder.limitTable(0)
  encoder.limitTable(100_000)
  const block = write(encoder, list)
  assert.equal(block.subarray(0, 4).toString('hex'), '203fe11f', 'the smallest, and the last')
  assert.deepEqual(read(decoder, block), list)
  assert.equal(decoder.length, 2)
  assert.equal(encoder.size, decoder.size)
  encoder.limitTable(40)
  assert.deepEqual(read(decoder, write(encoder, list)), list)
  assert.equal(encoder.size, decoder.size)
  encoder.limitTable(40)
  assert.equal(write(encoder, [])[0], undefined, 'nothing has changed')
})

const NAME = fc.oneof(
  fc.constantFrom('server', 'date', 'set-cookie', 'cookie', 'x-a', 'x-b', 'etag', 'vary', ':status', ':path', 'accept-encoding', 'age'),
  fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/),
)
const VALUE = fc.oneof(
  fc.constantFrom('', '200', 'gzip, deflate', 'a', 'b', 'GET', '/', 'x'.repeat(300)),
  fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes).toString('latin1')),
)

test('hpack encoder: any lists come back, with tables that change, and both tables stay alike', () => {
  const step = fc.record({ list: fc.array(fc.tuple(NAME, VALUE), { maxLength: 12 }), limit: fc.option(fc.nat(6000), { freq: 6 }) })
  fc.assert(fc.property(fc.array(step, { maxLength: 30 }), steps => {
    const encoder = new HpackEncoder(), decoder = new HpackDecoder(4096)
    for (const { list, limit } of steps) {
      if (limit !== null) encoder.limitTable(limit)
      assert.deepEqual(read(decoder, write(encoder, list)), list)
      assert.equal(encoder.size, decoder.size)
    }
  }), { numRuns: 400 })
})

test('hpack encoder: names that never come again leave nothing behind', () => {
  const encoder = new HpackEncoder(), decoder = new HpackDecoder(4096)
  for (let i = 0; i < 5000; i++) {
    const list: Fields = [[`x-${i}`, String(i)], ['server', String(i)]]
    assert.deepEqual(read(decoder, write(encoder, list)), list)
  }
  assert.equal(encoder.size, decoder.size)
})
