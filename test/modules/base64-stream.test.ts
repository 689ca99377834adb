import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Base64Stream } from '../../src/modules/base64-stream.ts'

function decoded(...pieces: readonly string[]): Buffer | null {
  const stream = new Base64Stream(), parts: Buffer[] = []
  for (const piece of pieces) {
    const bytes = stream.decode(Buffer.from(piece, 'latin1'))
    if (bytes === null) return null
    parts.push(Buffer.from(bytes))
  }
  return stream.whole ? Buffer.concat(parts) : null
}

test('base64: padding may stand behind every group', () => {
  assert.equal(String(decoded('aA==aGU=aGVs')), 'hhehel')
  assert.equal(String(decoded('')), '')
  assert.equal(String(decoded('aA==')), 'h')
})

test('base64: what is none is refused, wherever it stands', () => {
  for (const wrong of [
    'a', 'aA', 'aA=', 'aA==a', '====', 'a===', '=aaa', 'aA=a', 'aAA\n', 'aA A', 'aAA-', 'aAA_', 'aAA\0', 'aAA\xff', 'aAAAaA=a', 'aaaa====',
  ]) assert.equal(decoded(wrong), null, wrong)
})

test('base64: any bytes in any groups come out the same, cut anywhere', () => {
  const cuts = fc.array(fc.nat(200), { maxLength: 8 })
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 }), cuts, (parts, places) => {
    const text = parts.map(part => Buffer.from(part).toString('base64')).join('')
    const ends = [...places.map(place => Math.min(place, text.length)).toSorted((a, b) => a - b), text.length]
    const pieces = ends.map((end, index) => text.slice(index === 0 ? 0 : ends[index - 1], end))
    assert.deepEqual(decoded(...pieces), Buffer.concat(parts))
  }))
})

test('base64: any text is decoded as Node.js does it, or refused', () => {
  const char = fc.constantFrom(...'AZaz09+/==\n-')
  fc.assert(fc.property(fc.string({ unit: char, maxLength: 24 }), text => {
    const bytes = decoded(text)
    if (bytes === null) return
    const groups = text.match(/.{4}/gs) ?? []
    assert.deepEqual(bytes, Buffer.concat(groups.map(group => Buffer.from(group, 'base64'))))
  }))
})
