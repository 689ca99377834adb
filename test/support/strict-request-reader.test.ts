/** The second opinion is worth something only if it is right: the table of samples, read by it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ACCEPTED_REQUESTS, REFUSED_REQUESTS } from '../protocols/http1/framing-cases.ts'
import { StrictRequestReader } from './strict-request-reader.ts'

function read(bytes: string, rules: 'proxy' | 'client'): StrictRequestReader {
  const reader = new StrictRequestReader(rules)
  for (const byte of Buffer.from(bytes, 'latin1')) reader.push(Buffer.from([byte]))
  return reader
}

describe('strict request reader', () => {
  for (const row of ACCEPTED_REQUESTS) {
    it(`reads what passes as one request: ${row.title}`, () => {
      const reader = read(row.bytes, 'client')
      assert.equal(reader.fault, '')
      assert.equal(reader.betweenRequests, true)
      const seen = reader.requests.map(({ method, bodyText, trailers, complete }) => [method, bodyText, trailers, complete])
      assert.deepEqual(seen, [[row.origin.method, row.origin.body, row.origin.trailers, true]])
    })
  }

  const inDoubt = /^(Transfer-Encoding|Content-Length|field line|chunked body|both|start line|version)/
  const ofPolicy = /beyond|more trailers|no implemented/
  for (const row of REFUSED_REQUESTS.filter(({ title }) => inDoubt.test(title) && !ofPolicy.test(title))) {
    it(`reads no whole request where the framing is in doubt: ${row.title}`, () => {
      assert.deepEqual(read(row.bytes, 'client').requests.filter(request => request.complete), [])
    })
  }

  it('of a proxy it accepts only HTTP/1.1, one Host, and framing in its plain form', () => {
    const fault = (text: string): string => read(text, 'proxy').fault
    assert.equal(fault('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), '')
    assert.equal(fault('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n'), '')
    assert.match(fault('GET / HTTP/1.0\r\nHost: a\r\n\r\n'), /version/)
    assert.match(fault('GET / HTTP/1.1\r\n\r\n'), /0 Host/)
    assert.match(fault('\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'), /request line/)
    assert.match(fault('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n'), /Transfer-Encoding/)
    assert.match(fault('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello'), /chunk size line/)
    assert.match(fault('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellooo'), /no CRLF/)
  })
})
