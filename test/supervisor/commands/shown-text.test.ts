import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { shownEnd, shownText } from '../../../supervisor/commands/shown-text.ts'
import { textOfLine } from '../../../supervisor/commands/tail-command.ts'

test('shown text: printable ASCII stays, everything else is written out', () => {
  assert.equal(shownText('a\\b "c"'), 'a\\b "c"')
  assert.equal(shownText('\u001B[2J\r\n\t\u0000\u009B€\u{1F600}'), '\\x1b[2J\\x0d\\x0a\\x09\\x00\\x9b\\u{20ac}\\u{1f600}')
})

test('shown text: whatever it is, it is as long as it may be at most, cut at its end or at its beginning', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.integer({ min: 0, max: 50 }), (text, longest) => {
    const shown = shownText(text, longest), end = shownEnd(text, longest + 4)
    assert.match(shown, /^[\x20-\x7E]*$/)
    assert.match(end, /^[\x20-\x7E]*$/)
    assert.ok(shown.length <= longest && end.length <= longest + 4)
    if (shownText(text).length <= longest) assert.equal(shown, shownText(text))
  }))
  assert.deepEqual([shownText('abcdefgh', 6), shownEnd('abcdefgh', 6)], ['abc...', '...fgh'])
})

test('tail: a line is shown as text, also one of a build that writes other lines, and nothing of it acts on a terminal', () => {
  const line = JSON.stringify({
    ts: '2026-11-21T10:00:00.000Z', method: 'GET', path: '/\u001B[2J', query: 'token=x', status: 502, flag: 'UC', dur_ms: 3.25,
    upstream: '10.0.0.1:80', err: 'CONNECT_REFUSED:ECONNREFUSED', app: { tenant: 'a\r\nb', 'odd': { x: 1 } }, colour: 'red',
  })
  const shown = textOfLine(line, false)
  assert.match(shown, /^[\d:]{8} {2}502 {2}GET {3}\/\\u001b\[2J\?token=\*\*\* +3\.3 ms {2}-> 10\.0\.0\.1:80 {2}UC CONNECT_REFUSED:/)
  assert.match(shown, / {2}tenant=a\\u000d\\u000ab\n$/)
  const lines = fc.object().map(value => JSON.stringify({ ...value, ts: '2026-01-01' }))
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json(), lines), text => {
    assert.match(textOfLine(text, false), /^[\x20-\x7E]*\n$/)
  }))
})
