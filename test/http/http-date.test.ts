import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseHttpDate } from '../../src/http/http-date.ts'

const NOW = Date.UTC(2026, 10, 29)

function read(text: string): string | null {
  const at = parseHttpDate(text, NOW)
  return Number.isNaN(at) ? null : new Date(at).toISOString()
}

test('http date: the three forms of RFC 9110 are one date, wherever the clock of this machine is', () => {
  for (const text of ['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) {
    assert.equal(read(text), '1994-11-06T08:49:37.000Z', text)
  }
  assert.equal(read('Wed Nov 16 08:49:37 1994'), '1994-11-16T08:49:37.000Z')
  assert.equal(read('Sat, 31 Dec 2016 23:59:60 GMT'), '2017-01-01T00:00:00.000Z')
  assert.equal(read('Thu, 29 Feb 2024 00:00:00 GMT'), '2024-02-29T00:00:00.000Z')
  // More than 50 years away it is in the past.
  assert.deepEqual([read('Sunday, 29-Nov-76 00:00:00 GMT'), read('Monday, 29-Nov-77 00:00:00 GMT')],
    ['2076-11-29T00:00:00.000Z', '1977-11-29T00:00:00.000Z'])
})

test('http date: every date that JavaScript writes is read as it is', () => {
  fc.assert(fc.property(fc.date({ min: new Date('0000-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }), date => {
    assert.equal(parseHttpDate(date.toUTCString(), NOW), Math.floor(date.getTime() / 1000) * 1000)
  }))
})

test('http date: what is none is none', () => {
  const texts = [
    '', '1', '2030', 'foo 1', '2026-08-01T10:00:00Z', 'Sun, 06 Nov 1994 08:49:37', 'Sun, 06 Nov 1994 08:49:37 UTC',
    'Sun, 6 Nov 1994 08:49:37 GMT',
    'Sun, 06 nov 1994 08:49:37 GMT', 'Sun, 31 Apr 1994 08:49:37 GMT', 'Sun, 00 Nov 1994 08:49:37 GMT', 'Sun, 06 Nov 1994 24:00:00 GMT',
    'Sun, 06 Nov 1994 08:60:00 GMT', 'Sun, 06 Nov 1994 08:49:61 GMT', 'Son, 06 Nov 1994 08:49:37 GMT', 'Sun, 06 Abc 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT', ' Sun, 06 Nov 1994 08:49:37 GMT', 'Wed, 29 Feb 2023 00:00:00 GMT',
  ]
  for (const text of texts) assert.equal(read(text), null, text)
})
