import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ms, whole } from '../../../src/telemetry/exporters/access-line.ts'
import { LineBytes, partOf } from '../../../src/telemetry/exporters/line-bytes.ts'

function written(make: (line: LineBytes) => void, line = new LineBytes()): string {
  line.clear()
  make(line)
  return line.bytes.latin1Slice(0, line.length)
}

const EDGES = [0, 1, 9, 10, 99, 100, 999, 1000, 2 ** 30 - 1, 2 ** 30, 2 ** 30 + 1, 2 ** 53, 1e21, -1, -0, 1.5, NaN, Infinity, -Infinity]

test('line bytes: numbers are those of the same line as text', () => {
  for (const value of [...EDGES, ...EDGES.map(edge => edge / 1000), 0.0004, 0.0005, 0.9996]) {
    assert.equal(written(line => line.whole(value)), whole(value), `whole ${value}`)
    assert.equal(written(line => line.ms(value)), ms(value), `ms ${value}`)
  }
  fc.assert(fc.property(fc.double(), fc.nat(), (double, integer) => {
    assert.equal(written(line => line.ms(double)), ms(double))
    assert.equal(written(line => line.whole(double)), whole(double))
    assert.equal(written(line => line.whole(integer)), String(integer))
    assert.equal(written(line => line.ms(integer / 1000)), ms(integer / 1000))
  }))
})

test('line bytes: parts and texts of every length follow one another, also beyond the room that there was', () => {
  const text = fc.string({ unit: 'grapheme-ascii', maxLength: 3000 })
  const kept = new LineBytes()
  fc.assert(fc.property(fc.array(fc.tuple(fc.boolean(), text), { maxLength: 12 }), parts => {
    const line = written(bytes => {
      for (const [isPart, one] of parts) {
        if (isPart) bytes.part(partOf(one))
        else bytes.text(one)
      }
    }, kept)
    assert.equal(line, parts.map(([, one]) => one).join(''))
  }))
})
