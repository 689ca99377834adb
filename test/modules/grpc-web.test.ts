/** gRPC-Web of browsers to an origin of gRPC, byte for byte, at every place where bodies can be cut. */
import assert from 'node:assert/strict'
import http2, { type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { describe, it, type TestContext } from 'node:test'
import { cors, grpcWeb } from '../../src/kit/index.ts'
import {
  HttpPeer, inject, SILENT_LOG, type InjectRequest, type InjectResponse, type OriginAnswer, type ProxyHttp, type Session,
} from '../../src/index.ts'
import { framed, wireClient, wireOrigin, WireCall } from '../support/grpc-wire.ts'
import { head, startProxy, type ProxyUnderTest } from '../support/proxy.ts'

/** For a filter that looks at none. */
const NO_SESSION = {} as Session
const app: ProxyHttp = { modules: [grpcWeb()], upstreamPeer: () => new HttpPeer('127.0.0.1:1') }
const MESSAGE = framed('hello, ü'), OTHER = framed(Buffer.from([0, 1, 2, 253, 254, 255, 61]))
const TRAILERS = { 'Grpc-Status': '0', 'grpc-message': 'all%20well', 'X-Bin': 'AAE=' }
const TRAILER_TEXT = 'grpc-status: 0\r\ngrpc-message: all%20well\r\nx-bin: AAE=\r\n'
const TRAILER_FRAME = Buffer.concat([Buffer.from([0x80, 0, 0, 0, TRAILER_TEXT.length]), Buffer.from(TRAILER_TEXT)])

interface Seen { contentType: string | undefined; te: string | undefined; body: Buffer; length: string | undefined }

/** One call by way of `inject`; what the origin got is `seen`. */
async function ask(
  type: string, request: Omit<InjectRequest, 'headers'>, answer: OriginAnswer, fields: Record<string, string> = {},
): Promise<InjectResponse & { seen: Seen | null }> {
  let seen: Seen | null = null
  const headers = { 'Content-Type': type, 'X-Grpc-Web': '1', ...fields }
  const sent: InjectRequest = { method: 'POST', target: '/a.B/C', headers, ...request }
  const response = await inject(app, sent, {
    log: SILENT_LOG,
    origin({ head: { headers: got }, body }) {
      seen = { contentType: got.get('content-type'), te: got.get('te'), length: got.get('content-length'), body }
      return answer
    },
  })
  return { ...response, seen }
}

const ANSWER: OriginAnswer = {
  headers: { 'Content-Type': 'application/grpc+proto' }, body: Buffer.concat([MESSAGE, OTHER]), trailers: TRAILERS,
}
const WHOLE = Buffer.concat([MESSAGE, OTHER, TRAILER_FRAME])

/** Padding may stand behind every group of four. */
function fromText(text: Buffer): Buffer {
  assert.equal(text.length % 4, 0)
  return Buffer.concat((String(text).match(/.{4}/gs) ?? []).map(group => Buffer.from(group, 'base64')))
}

describe('grpc-web: in binary', () => {
  it('media types are rewritten, trailers asked for, messages left alone, and trailers come as the last frame', async () => {
    const { status, headers, body, trailers, seen } = await ask('application/grpc-web+proto', { body: MESSAGE }, ANSWER)
    assert.deepEqual(seen, { contentType: 'application/grpc+proto', te: 'trailers', length: String(MESSAGE.length), body: MESSAGE })
    assert.deepEqual([status, headers.get('content-type'), trailers], [200, 'application/grpc-web+proto', null])
    assert.deepEqual(body, WHOLE)
  })

  it('a request is passed on the same, wherever it is cut', async () => {
    for (let cut = 0; cut <= MESSAGE.length; cut++) {
      const chunks = [MESSAGE.subarray(0, cut), MESSAGE.subarray(cut)]
      const { seen, body } = await ask('application/grpc-web', { chunks }, ANSWER)
      assert.deepEqual([seen?.contentType, seen?.body, body], ['application/grpc', MESSAGE, WHOLE])
    }
  })

  it('a stream without a message has its trailers alone', async () => {
    const { body } = await ask('application/grpc-web', { body: MESSAGE }, { ...ANSWER, body: '' })
    assert.deepEqual(body, TRAILER_FRAME)
  })
})

describe('grpc-web: in base64', () => {
  it('is decoded on its way to the origin, wherever it is cut, padded in one piece or message by message', async () => {
    const whole = Buffer.concat([MESSAGE, OTHER])
    for (const text of [whole.toString('base64'), MESSAGE.toString('base64') + OTHER.toString('base64')]) {
      for (let cut = 0; cut <= text.length; cut++) {
        const { seen } = await ask('application/grpc-web-text+proto', { chunks: [text.slice(0, cut), text.slice(cut)] }, ANSWER)
        assert.deepEqual([seen?.contentType, seen?.length, seen?.body], ['application/grpc+proto', undefined, whole], `cut at ${cut}`)
      }
      const { seen } = await ask('application/grpc-web-text', { chunks: [...text] }, ANSWER)
      assert.deepEqual(seen?.body, whole)
    }
  })

  it('is announced by its length, which is not that of what the origin gets', async () => {
    const { seen } = await ask('application/grpc-web-text', { body: MESSAGE.toString('base64') }, ANSWER)
    assert.deepEqual([seen?.length, seen?.body], [undefined, MESSAGE])
  })

  it('is what the client gets back, trailers included', async () => {
    const { headers, body } = await ask('application/grpc-web-text', { body: MESSAGE.toString('base64') }, ANSWER)
    assert.equal(headers.get('content-type'), 'application/grpc-web-text+proto')
    assert.deepEqual(fromText(body), WHOLE)
  })

  it('reads the same for the client, wherever the origin cuts its body', () => {
    const filter = grpcWeb().responseBodyFilter!
    for (let cut = 0; cut <= WHOLE.length; cut++) {
      const pieces = [WHOLE.subarray(0, cut), WHOLE.subarray(cut)].map(piece => filter(NO_SESSION, piece, false, null) as Buffer)
      assert.deepEqual(fromText(Buffer.concat(pieces)), WHOLE, `cut at ${cut}`)
    }
  })

  it('is for the way that Accept names', async () => {
    const text = { body: MESSAGE.toString('base64') }, binary = { body: MESSAGE }
    for (const [type, request, accept, got] of [
      ['application/grpc-web-text', text, 'application/grpc-web', 'application/grpc-web+proto'],
      ['application/grpc-web', binary, 'Application/gRPC-Web-Text', 'application/grpc-web-text+proto'],
      ['application/grpc-web-text', text, '*/*', 'application/grpc-web-text+proto'],
      ['application/grpc-web', binary, '*/*', 'application/grpc-web+proto'],
    ] as const) {
      const { headers, body, seen } = await ask(type, request, ANSWER, { Accept: accept })
      assert.equal(headers.get('content-type'), got)
      assert.deepEqual([got.includes('text') ? fromText(body) : body, seen?.body], [WHOLE, MESSAGE])
    }
  })

  it('that is none is INTERNAL, and nothing is taken for its end', async () => {
    const text = MESSAGE.toString('base64')
    for (const wrong of [`${text.slice(0, 7)} ${text.slice(7)}`, text.slice(0, -1), `${text}=`, '\xff\xff\xff\xff', 'a===']) {
      for (const request of [{ body: Buffer.from(wrong, 'latin1') }, { chunks: [...wrong].map(char => Buffer.from(char, 'latin1')) }]) {
        const { status, headers, body, error } = await ask('application/grpc-web-text', request, ANSWER)
        assert.deepEqual([status, headers.get('content-type'), headers.get('grpc-status'), body.length],
          [200, 'application/grpc-web-text', '13', 0])
        assert.deepEqual([error?.kind, error?.source], ['BAD_FRAMING', 'downstream'])
      }
    }
  })
})

describe('grpc-web: what is not translated', () => {
  it('an answer of trailers alone keeps them in its head', async () => {
    const headers = { 'Content-Type': 'application/grpc', 'Grpc-Status': '5', 'Grpc-Message': 'not%20here', 'Content-Length': '0' }
    const got = await ask('application/grpc-web-text', { body: MESSAGE.toString('base64') }, { headers })
    assert.deepEqual([got.headers.get('content-type'), got.headers.get('grpc-status'), got.headers.get('grpc-message'), got.body.length],
      ['application/grpc-web-text', '5', 'not%20here', 0])
  })

  it('what is no answer of gRPC passes as it is', async () => {
    const answer: OriginAnswer = { status: 502, headers: { 'Content-Type': 'text/html' }, body: '<h1>inner</h1>' }
    const got = await ask('application/grpc-web-text', { body: MESSAGE.toString('base64') }, answer)
    assert.deepEqual([got.status, got.headers.get('content-type'), got.headers.get('content-length'), String(got.body)],
      [502, 'text/html', '14', '<h1>inner</h1>'])
  })

  it('requests that are none of gRPC-Web pass as they are, and so do their answers', async () => {
    for (const [method, type] of [['POST', 'application/grpc'], ['PUT', 'application/grpc-web'], ['POST', 'text/plain']] as const) {
      const { seen, headers, body } = await ask(type, { method, body: MESSAGE }, ANSWER)
      assert.deepEqual([seen?.contentType, seen?.body, headers.get('content-type'), body],
        [type, MESSAGE, 'application/grpc+proto', Buffer.concat([MESSAGE, OTHER])])
    }
  })

  it('an answer of our own has the media type of the client, and a page may read it where CORS says so', async () => {
    const modules = [grpcWeb(), cors({ origins: ['https://app.example'], exposedHeaders: ['grpc-status', 'grpc-message'] })]
    const fields = { 'Content-Type': 'application/grpc-web-text', 'Origin': 'https://app.example' }
    const { status, headers } = await inject({ ...app, modules }, { method: 'POST', headers: fields, body: 'AAAA' }, { log: SILENT_LOG })
    assert.deepEqual([status, headers.get('content-type'), headers.get('grpc-status')], [200, 'application/grpc-web-text', '14'])
    assert.equal(headers.get('access-control-allow-origin'), 'https://app.example')
    assert.equal(headers.get('access-control-expose-headers'), 'grpc-status, grpc-message')
  })
})

describe('grpc-web: to an origin in HTTP/2', () => {
  interface Setting { readonly proxy: ProxyUnderTest; readonly asked: IncomingHttpHeaders[] }

  async function set(t: TestContext, serve: (stream: ServerHttp2Stream) => void): Promise<Setting> {
    const asked: IncomingHttpHeaders[] = []
    const origin = await wireOrigin(t, (stream, headers) => {
      asked.push(headers)
      serve(stream)
    })
    const peer = new HttpPeer(`127.0.0.1:${origin.port}`, { alpn: 'h2' })
    return { asked, proxy: await startProxy(t, { hooks: { modules: [grpcWeb()], upstreamPeer: () => peer } }) }
  }

  function echo(stream: ServerHttp2Stream): void {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.pipe(stream)
  }

  const END = Buffer.concat([Buffer.from([0x80, 0, 0, 0, 16]), Buffer.from('grpc-status: 0\r\n')])

  it('from HTTP/1.1', async t => {
    const { proxy, asked } = await set(t, echo), text = MESSAGE.toString('base64')
    const fields = ['Content-Type: application/grpc-web-text', `Content-Length: ${text.length}`]
    const answer = await proxy.exchange(head('POST /a.B/C HTTP/1.1', ...fields) + text)
    assert.deepEqual(fromText(answer.body), Buffer.concat([MESSAGE, END]))
    assert.deepEqual([answer.field('content-type'), answer.complete, answer.trailers.length], ['application/grpc-web-text', true, 0])
    const { te, 'content-type': type, 'content-length': length } = asked[0]!
    assert.deepEqual([te, type, length], ['trailers', 'application/grpc', undefined])
  })

  it('from HTTP/2, message by message', async t => {
    const { proxy } = await set(t, echo)
    const session = wireClient(t, proxy.port), asked = new WireCall(session, '/a.B/C', { 'content-type': 'application/grpc-web' })
    const { stream } = asked
    const next = (): Promise<Buffer> => new Promise(resolve => { stream.once('data', resolve) })
    for (const message of [MESSAGE, OTHER]) {
      const got = next()
      stream.write(message)
      // The message comes back before the next one is sent.
      assert.deepEqual(await got, message)
    }
    stream.end()
    const { trailers, body, headers, code } = await asked.result
    assert.deepEqual([trailers, headers['content-type'], code], [null, 'application/grpc-web', http2.constants.NGHTTP2_NO_ERROR])
    assert.deepEqual(body, Buffer.concat([MESSAGE, OTHER, END]))
  })

  it('cut by the origin, it is cut for the client: no frame says that it was whole', async t => {
    const { proxy } = await set(t, stream => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
      stream.write(MESSAGE, () => stream.destroy(new Error('cut')))
    })
    const asked = new WireCall(wireClient(t, proxy.port), '/a.B/C', { 'content-type': 'application/grpc-web' })
    asked.stream.end(MESSAGE)
    const { body, code } = await asked.result
    assert.deepEqual([body, code], [MESSAGE, http2.constants.NGHTTP2_INTERNAL_ERROR])
  })
})
