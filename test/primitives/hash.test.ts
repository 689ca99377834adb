import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 as zlibCrc32 } from 'node:zlib'
import fc from 'fast-check'
import { CRC32_START, crc32, crc32Add, crc32AddUint32, crc32End, fnv1a, keyBytes, mix32 } from '../../src/primitives/hash.ts'

test('hash: crc32 gives the published check value', () => {
  assert.equal(crc32('123456789'), 0xcbf43926)
  assert.equal(crc32(''), 0)
})

test('hash: crc32 is that of zlib for bytes of every length, whole or in two pieces', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, cut) => {
    assert.equal(crc32(bytes), zlibCrc32(bytes))
    assert.equal(crc32End(crc32Add(crc32Add(CRC32_START, bytes.subarray(0, cut)), bytes.subarray(cut))), zlibCrc32(bytes))
  }))
})

test('hash: a 32-bit number is added as its four bytes, lowest first', () => {
  fc.assert(fc.property(fc.nat(0xffffffff), fc.nat(0xffffffff), (before, value) => {
    const bytes = Buffer.alloc(8)
    bytes.writeUInt32LE(before, 0)
    bytes.writeUInt32LE(value, 4)
    assert.equal(crc32End(crc32AddUint32(crc32AddUint32(CRC32_START, before), value)), zlibCrc32(bytes))
  }))
})

test('hash: a string is hashed as the bytes that it was read from, and as UTF-8 when it cannot have been read', () => {
  assert.equal(crc32('caf\u00e9'), zlibCrc32(Buffer.from([0x63, 0x61, 0x66, 0xe9])))
  assert.equal(crc32('\u20ac'), zlibCrc32(Buffer.from('\u20ac')))
  const unit = fc.oneof(fc.string({ unit: 'binary', maxLength: 120 }), fc.string({ unit: 'grapheme-ascii', maxLength: 120 }))
  fc.assert(fc.property(unit, text => {
    assert.equal(crc32(text), zlibCrc32(keyBytes(text)))
    assert.equal(fnv1a(text), fnv1a(keyBytes(text)))
  }))
})

test('hash: fnv1a gives the published values', () => {
  assert.equal(fnv1a(''), 0x811c9dc5)
  assert.equal(fnv1a('a'), 0xe40c292c)
  assert.equal(fnv1a('foobar'), 0xbf9cf968)
})

test('hash: mix32 keeps different numbers different and spreads neighbours over the whole range', () => {
  const mixed = new Set<number>()
  const counts = Array.from({ length: 16 }, () => 0)
  for (let value = 0; value < 16_000; value++) {
    mixed.add(mix32(value))
    counts[mix32(value) >>> 28]!++
  }
  assert.equal(mixed.size, 16_000)
  for (const count of counts) assert.ok(count > 850 && count < 1150, `a sixteenth of the range got ${count} of 16000`)
})
