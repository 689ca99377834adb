import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { BUFFER_RESERVE, TEXT_RUN_MAX, writeRun } from '../../../src/protocols/byte-stream.ts'
import { BODY_UNKNOWN, BODY_UNTIL_CLOSE } from '../../../src/protocols/http-session.ts'
import { BodyFault, BodyReader, writeChunk, writeLastChunk } from '../../../src/protocols/http1/body.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'

const LIMITS = { maxChunkLineBytes: 32, maxChunkOverheadBytes: 200, maxTrailerBytes: 100, maxTrailerCount: 2 }

interface Read { readonly fault: number; readonly data: string; readonly done: boolean; readonly trailers: string; readonly behind: string }

/** Reads `wire` cut at `cuts`, each piece in a buffer with its reserve, whose surroundings must stay as they are. */
function read(length: number, wire: string, cuts: readonly number[], limits = LIMITS, padded = false): Read {
  const reader = new BodyReader(limits, padded)
  reader.begin(length)
  let data = '', behind = '', fault: number = BodyFault.None
  const ends = [...new Set([...cuts.filter(cut => cut > 0 && cut < wire.length), wire.length])].sort((a, b) => a - b)
  let at = 0
  for (const end of ends) {
    const piece = Buffer.from(wire.slice(at, end), 'latin1')
    at = end
    if (reader.done) {
      behind += piece.latin1Slice(0, piece.length)
      continue
    }
    const buffer = Buffer.alloc(piece.length + 2 * BUFFER_RESERVE, 0xa5)
    piece.copy(buffer, BUFFER_RESERVE)
    let from = BUFFER_RESERVE
    const to = BUFFER_RESERVE + piece.length
    while (from < to && !reader.done) {
      fault = reader.read(buffer, from, to)
      if (fault !== BodyFault.None) return { fault, data, done: false, trailers: '', behind }
      assert.ok(reader.dataFrom >= BUFFER_RESERVE && reader.dataTo <= to && reader.consumedTo > from && reader.consumedTo <= to)
      data += buffer.latin1Slice(reader.dataFrom, reader.dataTo)
      from = reader.consumedTo
    }
    behind += buffer.latin1Slice(from, to)
    assert.ok(buffer.subarray(0, BUFFER_RESERVE).every(byte => byte === 0xa5) && buffer.subarray(to).every(byte => byte === 0xa5))
  }
  return { fault, data, done: reader.done, trailers: reader.trailers === null ? '' : [...reader.trailers].join(';'), behind }
}

const GOOD = [
  ['by length', 5, 'hello', 'hello', ''], ['chunked', BODY_UNKNOWN, '5\r\nhello\r\n0\r\n\r\n', 'hello', ''],
  ['in two chunks', BODY_UNKNOWN, '1\r\nh\r\n4\r\nello\r\n0\r\n\r\n', 'hello', ''],
  ['with leading zeros and capitals', BODY_UNKNOWN, '000A\r\n0123456789\r\n00\r\n\r\n', '0123456789', ''],
  ['with extensions', BODY_UNKNOWN, '5;a=b\r\nhello\r\n0;x\r\n\r\n', 'hello', ''],
  ['with trailers', BODY_UNKNOWN, '1\r\na\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n', 'a', 'X-A,1;X-B,2'],
  ['empty', BODY_UNKNOWN, '0\r\n\r\n', '', ''],
] as const

for (const [what, length, wire, data, trailers] of GOOD) {
  test(`body: one ${what} is read alike wherever it is cut, and what is behind it is left`, () => {
    const text = `${wire}GET / HTTP/1.1\r\n`, wanted: Read = {
      fault: BodyFault.None, data, done: true, trailers, behind: 'GET / HTTP/1.1\r\n',
    }
    for (let a = 0; a <= text.length; a++) {
      for (let b = a; b <= text.length; b += 3) assert.deepEqual(read(length, text, [a, b]), wanted, `cut at ${a} and ${b}`)
    }
    assert.deepEqual(read(length, text, Array.from({ length: text.length }, (_, i) => i)), wanted)
  })
}

test('body: one until close takes everything and ends with the connection only', () => {
  const reader = new BodyReader(LIMITS)
  reader.begin(BODY_UNTIL_CLOSE)
  assert.equal(reader.read(Buffer.from('abc'), 0, 3), BodyFault.None)
  assert.deepEqual([reader.done, reader.bytes, reader.finish(), reader.done], [false, 3, true, true])
  reader.begin(5)
  reader.read(Buffer.from('abc'), 0, 3)
  assert.deepEqual([reader.finish(), reader.open], [false, true])
})

for (const [what, wire, fault] of [
  ['no size', '\r\nx', BodyFault.BadChunk], ['a size that is no number', 'x\r\n', BodyFault.BadChunk],
  ['a sign', '+5\r\n', BodyFault.BadChunk], ['0x', '0x5\r\nhello', BodyFault.BadChunk],
  ['a blank before the size', ' 5\r\n', BodyFault.BadChunk], ['a blank behind the size', '5 \r\n', BodyFault.BadChunk],
  ['a bare LF behind the size', '5\nhello', BodyFault.BadChunk], ['a bare CR', '5\rhello', BodyFault.BadChunk],
  ['more data than announced', '5\r\nhello!\r\n', BodyFault.BadChunk],
  ['a bare LF behind the data', '1\r\na\n', BodyFault.BadChunk],
  ['17 digits', `${'0'.repeat(16)}1\r\n`, BodyFault.BadChunk],
  ['a size over 2^53', '20000000000000\r\n', BodyFault.BadChunk],
  ['a control in an extension', '5;\x01\r\n', BodyFault.BadChunk],
  ['a bare LF in an extension', '5;a\nb', BodyFault.BadChunk],
  ['a size line that is too long', `5;${'a'.repeat(40)}\r\n`, BodyFault.ChunkLineTooLong],
  ['more framing than data', '1;aaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n'.repeat(30), BodyFault.ChunkOverhead],
  ['a bad trailer', '0\r\nX A: 1\r\n\r\n', BodyFault.BadTrailers],
  ['too many trailers', '0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n', BodyFault.TooManyTrailers],
  ['trailers that are too large', `0\r\na: ${'x'.repeat(120)}\r\n\r\n`, BodyFault.TrailersTooLarge],
] as const) {
  test(`body: a chunked one with ${what} is a fault wherever it is cut`, () => {
    assert.equal(read(BODY_UNKNOWN, wire, []).fault, fault)
    for (let cut = 1; cut < wire.length; cut++) assert.equal(read(BODY_UNKNOWN, wire, [cut]).fault, fault, `cut at ${cut}`)
    assert.equal(read(BODY_UNKNOWN, wire, Array.from({ length: wire.length }, (_, i) => i)).fault, fault)
  })
}

test('body: what is written in chunks is read again as it was, whatever its pieces, their reserve and their owner', () => {
  const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(TEXT_RUN_MAX - 1, TEXT_RUN_MAX, TEXT_RUN_MAX + 1, 0x10000))
  const piece = fc.record({ size, before: fc.nat({ max: BUFFER_RESERVE }), behind: fc.nat({ max: 4 }), owned: fc.boolean() })
  const cutsAt = fc.array(fc.nat({ max: 200_000 }), { maxLength: 6 })
  fc.assert(fc.property(fc.array(piece, { maxLength: 5 }), fc.boolean(), cutsAt, (pieces, trailers, cuts) => {
    const pair = new MemoryPair(), far = new WireEnd(pair.far)
    let wanted = ''
    for (const [index, { size: bytes, before, behind, owned }] of pieces.entries()) {
      const buffer = Buffer.alloc(before + bytes + behind, 0xa5).fill(97 + index, before, before + bytes)
      wanted += String.fromCharCode(97 + index).repeat(bytes)
      writeChunk(pair.near, buffer, before, before + bytes, owned)
      // Bytes that were only borrowed are gone when the call returns.
      if (!owned) buffer.fill(0xa5)
    }
    writeLastChunk(pair.near, trailers ? HeaderMap.from({ 'X-A': '1', 'Content-Length': '5' }) : null)
    pair.near.deliver()
    const expected = { fault: BodyFault.None, data: wanted, done: true, trailers: trailers ? 'X-A,1' : '', behind: '' }
    assert.deepEqual(read(BODY_UNKNOWN, far.text, cuts), expected)
  }), { numRuns: 300 })
})

test('body: a run is written as it lies, and only that; one that is borrowed may be overwritten at once', () => {
  for (const owned of [true, false]) {
    for (const size of [1, TEXT_RUN_MAX, TEXT_RUN_MAX + 1, 100_000]) {
      const pair = new MemoryPair(), far = new WireEnd(pair.far), buffer = Buffer.alloc(size + 7, 'x')
      const free = writeRun(pair.near, buffer, 3, 3 + size, owned)
      assert.equal(free, !owned || size <= TEXT_RUN_MAX)
      if (free) buffer.fill('y')
      pair.near.deliver()
      assert.equal(far.text, 'x'.repeat(size))
    }
  }
})

test('body: blanks behind a chunk size are passed over where an origin may write them, and nowhere else', () => {
  const wanted: Read = { fault: BodyFault.None, data: 'hello world', done: true, trailers: '', behind: 'x' }
  const wire = '5 \r\nhello\r\n6\t  ;a=b\r\n world\r\n0   \r\n\r\nx'
  for (let cut = 0; cut <= wire.length; cut++) assert.deepEqual(read(BODY_UNKNOWN, wire, [cut], LIMITS, true), wanted, `cut at ${cut}`)
  assert.equal(read(BODY_UNKNOWN, wire, []).fault, BodyFault.BadChunk)
  for (const bad of [' 5\r\n', '\t5\r\n', '1 0\r\n', '5 \n', '5 x\r\n', ' \r\n', '5 \v\r\n', '0x5 \r\n']) {
    assert.equal(read(BODY_UNKNOWN, bad, [], LIMITS, true).fault, BodyFault.BadChunk, JSON.stringify(bad))
  }
  assert.equal(read(BODY_UNKNOWN, `5${' '.repeat(40)}\r\n`, [], LIMITS, true).fault, BodyFault.ChunkLineTooLong)
})

test('body: with no trailers allowed they are left out, and the body is whole; their bytes stay bounded', () => {
  const none = { ...LIMITS, maxTrailerCount: 0 }
  const wire = '1\r\na\r\n0\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\nx'
  const wanted: Read = { fault: BodyFault.None, data: 'a', done: true, trailers: '', behind: 'x' }
  for (let cut = 0; cut <= wire.length; cut++) assert.deepEqual(read(BODY_UNKNOWN, wire, [cut], none), wanted)
  assert.equal(read(BODY_UNKNOWN, `0\r\n${'X: 1\r\n'.repeat(20)}\r\n`, [], none).fault, BodyFault.TrailersTooLarge)
  assert.equal(read(BODY_UNKNOWN, '0\r\nX-A : 1\r\n\r\n', [], none).fault, BodyFault.BadTrailers)
  assert.equal(read(BODY_UNKNOWN, wire, []).fault, BodyFault.TooManyTrailers)
})
