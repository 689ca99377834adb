import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { asciiJson } from '../../src/primitives/ascii-json.ts'

test('ascii JSON: it is printable ASCII, and the value comes back', () => {
  fc.assert(fc.property(fc.jsonValue(), fc.string({ unit: 'binary' }), (value, text) => {
    const written = asciiJson({ value, text })
    assert.match(written, /^[\x20-\x7E]*$/)
    assert.deepEqual(JSON.parse(written), JSON.parse(JSON.stringify({ value, text })))
  }))
  assert.equal(asciiJson('\u009B2J\u001B[31m\u007F€'), '"\\u009b2J\\u001b[31m\\u007f\\u20ac"')
})
