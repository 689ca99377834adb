/** The Huffman code of HPACK, both ways. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { huffmanDecode, huffmanDecodedMax, huffmanEncode, huffmanLength } from '../../../src/protocols/http2/huffman.ts'

function encode(text: string): Buffer {
  const out = Buffer.alloc(huffmanLength(text))
  assert.equal(huffmanEncode(text, out, 0), out.length)
  return out
}

function decode(bytes: Buffer): string | null {
  const out = Buffer.alloc(huffmanDecodedMax(bytes.length)), end = huffmanDecode(bytes, 0, bytes.length, out, 0)
  return end === -1 ? null : out.latin1Slice(0, end)
}

test('huffman: the examples of RFC 7541 appendix C', () => {
  const examples = [
    ['www.example.com', 'f1e3c2e5f23a6ba0ab90f4ff'], ['no-cache', 'a8eb10649cbf'], ['custom-key', '25a849e95ba97d7f'], ['302', '6402'],
    ['Mon, 21 Oct 2013 20:13:21 GMT', 'd07abe941054d444a8200595040b8166e082a62d1bff'], ['gzip', '9bd9ab'], ['', ''],
  ] as const
  for (const [text, hex] of examples) {
    assert.equal(encode(text).toString('hex'), hex)
    assert.equal(decode(Buffer.from(hex, 'hex')), text)
  }
})

test('huffman: every byte, and every two of them, comes back', () => {
  for (let a = 0; a < 256; a++) {
    for (let b = 0; b < 256; b += 5) {
      const text = String.fromCharCode(a, b)
      assert.equal(decode(encode(text)), text)
    }
  }
})

test('huffman: any text comes back', () => {
  const latin1 = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes).toString('latin1'))
  fc.assert(fc.property(latin1, text => decode(encode(text)) === text), { numRuns: 2000 })
})

test('huffman: padding of eight bits or of zeros, and the end symbol, are no code (RFC 7541 5.2)', () => {
  for (const hex of ['ff', '1fff', '1fffff', '1fffffff', 'ff9fffffff', '52bc30ffffffff', 'fffffffc', 'fffffffffc', '00', '1e']) {
    assert.equal(decode(Buffer.from(hex, 'hex')), null, hex)
  }
})

test('huffman: whatever the bytes, what is decoded encodes to them again', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
    const text = decode(Buffer.from(bytes))
    return text === null || encode(text).equals(bytes)
  }), { numRuns: 5000 })
})
