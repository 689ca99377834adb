import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeadFault, HeadParser, Parsed, ParserSlot, type HeadRole } from '../../../src/protocols/http1/parser.ts'

const LIMITS = { maxHeadBytes: 400, maxHeaderCount: 4, maxHeaderLineBytes: 60, maxMethodBytes: 8, maxUriBytes: 40 }

/** Parses `text` cut at `cuts`: the result, what came out, and how many bytes were taken. */
function parse(role: HeadRole, text: string, cuts: readonly number[]): string {
  const parser = new HeadParser(role, LIMITS), bytes = Buffer.from(text, 'latin1')
  const ends = [...new Set([...cuts.filter(cut => cut > 0 && cut < bytes.length), bytes.length])].sort((a, b) => a - b)
  let at = 0
  for (const end of ends) {
    // At another place in another buffer each time, which is overwritten afterwards.
    const buffer = Buffer.alloc(end - at + 3, '!')
    bytes.copy(buffer, 3, at, end)
    const result = parser.parse(buffer, 3, buffer.length)
    const consumed = at + parser.consumedTo - 3
    at = end
    if (result === Parsed.More) {
      buffer.fill('\r\n')
      continue
    }
    if (result !== Parsed.Done) return `fault ${result}`
    if (role === 'trailers') return `${JSON.stringify([...parser.takeTrailers()])} ${consumed}`
    if (role === 'response') {
      const { status, reason, version, headers } = parser.takeResponse()
      buffer.fill('?')
      return `${status} ${reason} ${version} ${JSON.stringify([...headers])} ${headers.serialize(0, null)} ${consumed}`
    }
    const { method, target, version, headers } = parser.takeRequest()
    buffer.fill('?')
    const { targetUnusual, underscored } = parser
    const fields = `${JSON.stringify([...headers])} ${headers.serialize(0, null)}`
    return `${method} ${target} ${version} ${targetUnusual} ${underscored} ${fields} ${consumed}`
  }
  return 'more'
}

const SAMPLES: readonly (readonly [role: HeadRole, text: string, fault: number])[] = [
  ['request', 'GET / HTTP/1.1\r\nHost: a\r\n\r\nrest', 0],
  ['request', '\r\nPOST /a//b%2e HTTP/1.0\r\nA_b:\t x y \t\r\nEmpty:\r\n\r\n', 0],
  ['request', 'M-S! * HTTP/1.1\r\n\r\n\r\n', 0],
  ['request', 'GET /\x7f HTTP/1.1\r\n\r\n', HeadFault.BadStartLine],
  ['request', 'GET  / HTTP/1.1\r\n\r\n', HeadFault.BadStartLine],
  ['request', 'GET / HTTP/1.1 \r\n\r\n', HeadFault.BadStartLine],
  ['request', 'GET / http/1.1\r\n\r\n', HeadFault.BadStartLine],
  ['request', 'GET / HTTP/2.0\r\n\r\n', HeadFault.BadVersion],
  ['request', 'GET / HTTP/1.2\r\n\r\n', HeadFault.BadVersion],
  ['request', 'GET / HTTP/1.1\nHost: a\n\n', HeadFault.BareLineBreak],
  ['request', '\r\n\r\nGET / HTTP/1.1\r\n\r\n', HeadFault.BadStartLine],
  ['request', 'TOOLONGER / HTTP/1.1\r\n\r\n', HeadFault.MethodTooLong],
  ['request', `GET /${'a'.repeat(40)} HTTP/1.1\r\n\r\n`, HeadFault.UriTooLong],
  ['request', 'GET / HTTP/1.1\r\nA : b\r\n\r\n', HeadFault.BadField],
  ['request', 'GET / HTTP/1.1\r\n: b\r\n\r\n', HeadFault.BadField],
  ['request', 'GET / HTTP/1.1\r\n A: b\r\n\r\n', HeadFault.BadField],
  ['request', 'GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n', HeadFault.ObsFold],
  ['request', 'GET / HTTP/1.1\r\nA: b\0\r\n\r\n', HeadFault.BadField],
  ['request', 'GET / HTTP/1.1\r\nA: b\rc\r\n\r\n', HeadFault.BareLineBreak],
  ['request', 'GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n', HeadFault.BareLineBreak],
  ['request', 'GET / HTTP/1.1\r\nA\r\n\r\n', HeadFault.BareLineBreak],
  ['request', `GET / HTTP/1.1\r\nA: ${'b'.repeat(60)}\r\n\r\n`, HeadFault.LineTooLong],
  ['request', `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(5)}\r\n`, HeadFault.TooManyFields],
  ['response', 'HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody', 0], ['response', 'HTTP/1.0 404\r\n\r\n', 0],
  ['response', 'HTTP/1.1 200 \r\n\r\n', 0], ['response', 'HTTP/1.1 099 No\r\n\r\n', HeadFault.BadStartLine],
  ['response', 'HTTP/1.1 2000 No\r\n\r\n', HeadFault.BadStartLine],
  ['response', 'HTTP/1.1 200 O\0K\r\n\r\n', HeadFault.BadStartLine],
  ['response', 'HTTP/3.1 200 OK\r\n\r\n', HeadFault.BadVersion],
  ['response', '\r\nHTTP/1.1 200 OK\r\n\r\n', HeadFault.BadStartLine],
  ['trailers', '\r\nrest', 0], ['trailers', 'A: b\r\nC: \xff\r\n\r\n', 0], ['trailers', 'A: b\r\n c\r\n\r\n', HeadFault.ObsFold],
]

for (const [role, text, fault] of SAMPLES) {
  test(`parser: ${role} ${JSON.stringify(text.slice(0, 50))} is ${fault === 0 ? 'read' : `fault ${fault}`} wherever it is cut`, () => {
    const whole = parse(role, text, [])
    if (fault === 0) assert.ok(!whole.startsWith('fault') && whole !== 'more', whole)
    else assert.equal(whole, `fault ${fault}`)
    for (let cut = 1; cut < text.length; cut++) assert.equal(parse(role, text, [cut]), whole, `cut at ${cut}`)
    assert.equal(parse(role, text, Array.from({ length: text.length }, (_, i) => i)), whole)
  })
}

test('parser: any bytes mean the same wherever they are cut', () => {
  const piece = fc.constantFrom(
    'GET',
    ' ',
    '/',
    'HTTP/1.1',
    '\r\n',
    '\r',
    '\n',
    ':',
    'Host',
    'a',
    '\t',
    '\0',
    '%',
    '\xff',
    '_',
    'GET / HTTP/1.1\r\n',
    'A: b\r\n',
    'x'.repeat(50),
  )
  const inputs = [
    fc.constantFrom('request', 'response', 'trailers'), fc.array(piece, { maxLength: 14 }),
    fc.array(fc.nat({ max: 100 }), { maxLength: 5 }),
  ] as const
  fc.assert(fc.property(...inputs, (role, pieces, cuts) => {
    const text = pieces.join(''), whole = parse(role, text, []), cut = parse(role, text, cuts)
    // With several faults in it, the one that is met first is told.
    if (whole.startsWith('fault')) assert.match(cut, /^fault/)
    else assert.equal(cut, whole)
  }), { numRuns: 3000 })
})

test('parser: a head is refused by its size before more of it is kept', () => {
  const parser = new HeadParser('request', LIMITS)
  let result: number = Parsed.More, sent = 0
  for (const line of ['GET / HTTP/1.1\r\n', ...Array.from({ length: 100 }, () => 'x')]) {
    const bytes = Buffer.from(line === 'x' ? 'A'.repeat(10) : line)
    result = parser.parse(bytes, 0, bytes.length)
    sent += bytes.length
    if (result !== Parsed.More) break
  }
  assert.equal(result, HeadFault.LineTooLong)
  assert.ok(sent <= 16 + LIMITS.maxHeaderLineBytes + 10)
})

test('parser: one serves many heads, and whoever waits for the rest of one takes it along', () => {
  const slot = new ParserSlot('request', LIMITS), first = slot.parser, bytes = Buffer.from('GET /1 HTTP/1.1\r\n\r\n')
  assert.equal(slot.parser.parse(bytes, 0, bytes.length), Parsed.Done)
  assert.equal(slot.parser.takeRequest().target, '/1')
  slot.parser.reset()
  assert.ok(slot.parser.untouched)
  assert.equal(slot.parser.parse(bytes, 0, 5), Parsed.More)
  const taken = slot.surrender()
  assert.equal(taken, first)
  const other = Buffer.from('PUT /2 HTTP/1.1\r\n\r\n')
  assert.equal(slot.parser.parse(other, 0, other.length), Parsed.Done)
  assert.equal(taken.parse(bytes, 5, bytes.length), Parsed.Done)
  assert.deepEqual([slot.parser.takeRequest().target, taken.takeRequest().target], ['/2', '/1'])
})
