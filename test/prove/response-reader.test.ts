import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReaderState, ResponseReader } from '../../src/prove/response-reader.ts'

interface Read { state: ReaderState; status: number; body: string; closes: boolean; fault: string }

function read(pieces: readonly string[], method = 'GET'): Read & { reader: ResponseReader } {
  const reader = new ResponseReader()
  let body = ''
  reader.expect(method, bytes => { body += bytes.toString('latin1') })
  for (const piece of pieces) reader.feed(Buffer.from(piece, 'latin1'))
  return { reader, state: reader.state, status: reader.status, body, closes: reader.closes, fault: reader.fault }
}

const WHOLE: readonly {
  readonly text: string
  readonly status: number
  readonly body: string
  readonly closes?: boolean
  readonly method?: string
}[] = [
  { text: 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', status: 200, body: 'hello' },
  { text: 'HTTP/1.1 200 \r\ncontent-length:0\r\nConnection: keep-alive, close\r\n\r\n', status: 200, body: '', closes: true },
  {
    text: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;name="value"\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n',
    status: 200, body: 'hello!',
  },
  {
    text: 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n'
      + 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno',
    status: 404, body: 'no',
  },
  { text: 'HTTP/1.1 204 No Content\r\n\r\n', status: 204, body: '' },
  { text: 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n', status: 200, body: '', method: 'HEAD' },
]

test('response reader: reads whole responses whatever the pieces', () => {
  for (const { text, status, body, closes = false, method = 'GET' } of WHOLE) {
    for (let at = 0; at <= text.length; at++) {
      const seen = read([text.slice(0, at), text.slice(at)], method)
      assert.deepEqual(
        [seen.state, seen.status, seen.body, seen.closes, seen.fault],
        [ReaderState.Done, status, body, closes, ''],
        `${JSON.stringify(text)} cut at ${at}`,
      )
    }
    assert.equal(read([...text], method).state, ReaderState.Done, text)
  }
})

test('response reader: a response that is cut anywhere is not whole', () => {
  for (const { text, method = 'GET' } of WHOLE) {
    for (let at = 0; at < text.length; at++) {
      const { reader } = read([text.slice(0, at)], method)
      assert.equal(reader.end(), false, `${JSON.stringify(text)} cut at ${at}`)
      assert.notEqual(reader.state, ReaderState.Fault)
    }
  }
})

test('response reader: a body without length is whole when the connection ends', () => {
  const { reader, state } = read(['HTTP/1.1 200 OK\r\n\r\nall of', ' it'])
  assert.equal(state, ReaderState.UntilClose)
  assert.equal(reader.closes, true)
  assert.equal(reader.end(), true)
  assert.equal(reader.bodyBytes, 9)
})

test('response reader: what follows a 101 is handed on', () => {
  const { reader, state } = read(['HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfra', 'mes'])
  assert.equal(state, ReaderState.Done)
  assert.equal(reader.field('upgrade'), 'websocket')
  assert.equal(reader.rest.toString(), 'frames')
})

test('response reader: says what is wrong', () => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['HTTP/1.0 200 OK\r\n\r\n', /a status line that is none/],
    ['HTTP/1.1 20 OK\r\n\r\n', /a status line that is none/],
    ['HTTP/1.1 200 OK\nContent-Length: 0\n\n', /does not end with CRLF/],
    ['HTTP/1.1 200 OK\r\nA: 1\n\r\n\r\n', /a field that is none/],
    ['HTTP/1.1 200 OK\r\n A: 1\r\n\r\n', /a field that is none/],
    ['HTTP/1.1 200 OK\r\nA : 1\r\n\r\n', /a field that is none/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n', /Content-Length: "1, 1"/],
    ['HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', /Content-Length/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', /both/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n', /Transfer-Encoding: "gzip/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab', /bytes after the response/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n', /a chunk size that is none/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab', /does not end with CRLF/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n', /a chunk longer than its size/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n', /a trailer that is none/],
    [`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(70_000)}`, /a head longer than/],
  ]
  for (const [text, expected] of wrong) {
    const { state, fault } = read([text])
    assert.equal(state, ReaderState.Fault, text.slice(0, 200))
    assert.match(fault, expected)
  }
  const quiet = new ResponseReader()
  assert.equal(quiet.feed(Buffer.from('H')), ReaderState.Fault)
  assert.match(quiet.fault, /nobody asked for/)
})
