import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SocketAddress } from 'node:net'
import fc from 'fast-check'
import {
  addressBytes, derBitString, derBoolean, derExplicit, derIa5String, derImplicit, derInteger, derLength, derNamedBits, derNull,
  derObjectIdentifier, derOctetString, derPrintableString, derSequence, derSet, derTime, derUtf8String, pemOf,
} from '../../src/primitives/der.ts'

/** A reader that refuses what is not the shortest form; written from X.690 and not from the writer. */
function readElement(bytes: Uint8Array): { tag: number; content: Uint8Array; rest: Uint8Array } {
  const first = bytes[1]!
  if (first < 0x80) return { tag: bytes[0]!, content: bytes.subarray(2, 2 + first), rest: bytes.subarray(2 + first) }
  const count = first & 0x7f
  let length = 0
  for (let i = 0; i < count; i++) length = length * 256 + bytes[2 + i]!
  assert.ok(count > 0 && length >= 0x80 && bytes[2] !== 0, 'the length has a shorter form')
  assert.ok(bytes.length >= 2 + count + length, 'the element is cut')
  return { tag: bytes[0]!, content: bytes.subarray(2 + count, 2 + count + length), rest: bytes.subarray(2 + count + length) }
}

function readInteger(bytes: Uint8Array): bigint {
  const { tag, content, rest } = readElement(bytes)
  assert.equal(tag, 2)
  assert.equal(rest.length, 0)
  assert.ok(content.length > 0)
  const signByte = content[0]!, next = content[1]
  const repeated = next !== undefined && (next < 0x80 ? signByte === 0 : signByte === 0xff)
  assert.ok(!repeated, 'the integer has a shorter form')
  return BigInt.asIntN(8 * content.length, BigInt(`0x${Buffer.from(content).toString('hex')}`))
}

test('der: a length is the shortest that says it', () => {
  assert.deepEqual([...derLength(0)], [0])
  assert.deepEqual([...derLength(127)], [127])
  assert.deepEqual([...derLength(128)], [0x81, 128])
  assert.deepEqual([...derLength(256)], [0x82, 1, 0])
  for (const wrong of [-1, 1.5, Number.NaN, Infinity]) assert.throws(() => derLength(wrong), RangeError)
})

test('der: content of every length is found again, and nothing behind it', () => {
  fc.assert(fc.property(fc.oneof(fc.nat(300), fc.constantFrom(65_534, 65_535, 65_536, 70_000)), length => {
    const content = Buffer.alloc(length, 7)
    const read = readElement(derOctetString(content))
    assert.equal(read.tag, 4)
    assert.equal(read.rest.length, 0)
    assert.deepEqual(Buffer.from(read.content), content)
  }))
})

test('der: an integer of either sign is the shortest two\'s complement', () => {
  const written = new Map([
    [0, '020100'], [127, '02017f'], [128, '02020080'], [256, '02020100'], [-1, '0201ff'], [-128, '020180'], [-129, '0202ff7f'],
  ])
  for (const [value, hex] of written) assert.equal(derInteger(value).toString('hex'), hex)
  fc.assert(fc.property(fc.bigInt({ min: -(1n << 170n), max: 1n << 170n }), value => {
    assert.equal(readInteger(derInteger(value)), value)
  }))
})

test('der: object identifiers are those of the standards', () => {
  assert.equal(derObjectIdentifier('2.5.29.17').toString('hex'), '0603551d11')
  assert.equal(derObjectIdentifier('1.2.840.113549.1.1.11').toString('hex'), '06092a864886f70d01010b')
  assert.equal(derObjectIdentifier('2.999.3').toString('hex'), '0603883703')
  const refused = ['', '1', '3.1', '1.40', '1.02', '1.2.', '1.-2', 'a.b']
  for (const wrong of refused) assert.throws(() => derObjectIdentifier(wrong), TypeError, wrong)
})

test('der: named bits leave out what is not set behind the last', () => {
  assert.equal(derNamedBits().toString('hex'), '030100')
  assert.equal(derNamedBits(0).toString('hex'), '03020780')
  assert.equal(derNamedBits(5, 6).toString('hex'), '03020106')
  assert.equal(derNamedBits(8).toString('hex'), '0303070080')
  assert.equal(derBitString(Buffer.of(0xff), 3).toString('hex'), '030203f8')
  assert.throws(() => derBitString(Buffer.of(1), 8), RangeError)
  assert.throws(() => derBitString(Buffer.alloc(0), 1), RangeError)
})

test('der: a set is in order whatever order it is given in', () => {
  const parts = [derInteger(3), derBoolean(true), derInteger(1), derNull()]
  assert.deepEqual(derSet(...parts), derSet(...parts.toReversed()))
  assert.equal(derSet(...parts).toString('hex'), `310b${'0101ff'}${'020101'}${'020103'}${'0500'}`)
})

test('der: a moment has the form of its year', () => {
  assert.equal(derTime(new Date('2049-12-31T23:59:59.900Z')).toString('latin1'), '\x17\x0d491231235959Z')
  assert.equal(derTime(new Date('2050-01-01T00:00:00Z')).toString('latin1'), '\x18\x0f20500101000000Z')
  assert.equal(derTime(new Date('1950-01-01T00:00:00Z')).toString('latin1'), '\x17\x0d500101000000Z')
  for (const wrong of [new Date(Number.NaN), new Date('1949-12-31T00:00:00Z'), new Date('+010000-01-01T00:00:00Z')]) {
    assert.throws(() => derTime(wrong), RangeError)
  }
})

test('der: text that its alphabet does not have is refused', () => {
  assert.equal(derUtf8String('\u00fc').toString('hex'), '0c02c3bc')
  assert.equal(derPrintableString('DE').toString('hex'), '13024445')
  assert.throws(() => derPrintableString('a@b'), TypeError)
  assert.throws(() => derIa5String('\u00fc.test'), TypeError)
  assert.throws(() => derImplicit(2, '\u00fc.test'), TypeError)
})

test('der: tags of a context are constructed around elements, and primitive around bytes', () => {
  assert.equal(derExplicit(3, derNull(), derNull()).toString('hex'), 'a30405000500')
  assert.equal(derImplicit(2, 'ab').toString('hex'), '82026162')
  for (const wrong of [-1, 31, 1.5]) assert.throws(() => derImplicit(wrong, ''), RangeError)
})

test('der: sequences in sequences are read back as they were nested', () => {
  const { tree } = fc.letrec<{ tree: Tree }>(tie => ({
    tree: fc.oneof({ maxDepth: 4 }, fc.bigInt({ min: 0n, max: 1n << 80n }), fc.array(tie('tree'), { maxLength: 6 })),
  }))
  fc.assert(fc.property(tree, value => { assert.deepEqual(readTree(writeTree(value)), value) }))
})

type Tree = bigint | Tree[]
function writeTree(tree: Tree): Buffer { return typeof tree === 'bigint' ? derInteger(tree) : derSequence(...tree.map(writeTree)) }
function readTree(bytes: Uint8Array): Tree {
  if (bytes[0] === 2) return readInteger(bytes)
  const parts: Tree[] = []
  for (let { content: left } = readElement(bytes); left.length > 0;) {
    const { rest } = readElement(left)
    parts.push(readTree(left.subarray(0, left.length - rest.length)))
    left = rest
  }
  return parts
}

test('der: an address is its bytes, however it is written', () => {
  assert.deepEqual([...addressBytes('127.0.0.1')], [127, 0, 0, 1])
  assert.equal(addressBytes('::').toString('hex'), '0'.repeat(32))
  assert.equal(addressBytes('::1').toString('hex'), '1'.padStart(32, '0'))
  assert.equal(addressBytes('2001:db8::ff00:42:8329').toString('hex'), '20010db8000000000000ff0000428329')
  assert.equal(addressBytes('::ffff:10.1.2.3').toString('hex'), '00000000000000000000ffff0a010203')
  assert.equal(addressBytes('1:2:3:4:5:6:7.8.9.10').toString('hex'), '0001000200030004000500060708090a')
  assert.equal(addressBytes('1:2:3:4:5:6:7::').toString('hex'), '00010002000300040005000600070000')
  for (const wrong of ['', 'a.test', '1.2.3', 'fe80::1%eth0', '10.0.0.0/8']) assert.throws(() => addressBytes(wrong), TypeError, wrong)
})

test('der: every address that is written is the one that the bytes say', () => {
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), address => {
    const bytes = addressBytes(address)
    const again = bytes.length === 4 ? bytes.join('.') : bytes.toString('hex').match(/.{4}/g)!.join(':')
    const family = bytes.length === 4 ? 'ipv4' : 'ipv6'
    assert.equal(new SocketAddress({ address: again, family }).address, new SocketAddress({ address, family }).address)
  }))
})

test('der: PEM has lines of 64', () => {
  assert.equal(pemOf('X', Buffer.alloc(49, 1)), `-----BEGIN X-----\n${'AQEB'.repeat(16)}\nAQ==\n-----END X-----\n`)
})
