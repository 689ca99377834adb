/**
 * Rewrites pages as they stream: in HTML every link to an internal address becomes one to the public address, also where a link is cut in
 * two on its way, and without waiting for the page's end. What is no HTML passes untouched, with its length; a page that is rewritten is
 * sent chunked, as its length is not known before its end.
 *
 *   npm run origins                              # in a terminal of their own
 *   npx cirque run examples/body-rewriting.ts    # in another one
 *   curl -i http://127.0.0.1:6188/page           # links to https://www.example.com/
 *   curl -i http://127.0.0.1:6188/headers        # JSON, as it came
 *
 * Change what is looked for, and the types in which. For something else than text in the place of text, parse the chunks in the filter.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'

const FROM = Buffer.from('http://app.internal/')
const TO = Buffer.from('https://www.example.com/')
/** Fields that speak of the very bytes that the client will not get (RFC 9530, RFC 1864). */
const OF_BYTES = ['content-digest', 'repr-digest', 'digest', 'content-md5', 'accept-ranges']

const origin = new HttpPeer(process.env['ORIGIN'] ?? '127.0.0.1:3001')

const app: ProxyHttp<{ rewrites: boolean; held: Buffer }> = {
  newCtx: () => ({ rewrites: false, held: Buffer.alloc(0) }),
  upstreamPeer: () => origin,

  upstreamRequestFilter(_session, { headers }) {
    // Nothing is found in what is compressed, and a part of a page may begin within a link.
    headers.set('accept-encoding', 'identity')
    for (const name of ['range', 'if-range']) headers.delete(name)
  },

  responseFilter(_session, { status, headers }, ctx) {
    const location = headers.get('location')
    if (location?.startsWith(String(FROM)) === true) headers.set('location', String(TO) + location.slice(FROM.length))
    ctx.rewrites = status !== 206 && /^text\/html[ \t]*(?:;|$)/i.test(headers.get('content-type') ?? '') && !headers.has('content-encoding')
    if (!ctx.rewrites) return
    for (const name of OF_BYTES) headers.delete(name)
    // The same page, though not byte for byte (RFC 9110 8.8.1).
    const tag = headers.get('etag')
    if (tag?.startsWith('"') === true) headers.set('etag', `W/${tag}`)
  },

  bodyUse: (_session, _filter, ctx) => ctx.rewrites ? 'change' : 'pass',

  responseBodyFilter(_session, chunk, last, ctx) {
    const text = Buffer.concat([ctx.held, chunk]), pieces: Buffer[] = []
    let from = 0
    for (let at = text.indexOf(FROM); at !== -1; at = text.indexOf(FROM, from)) {
      pieces.push(text.subarray(from, at), TO)
      from = at + FROM.length
    }
    const end = last ? text.length : text.length - begunIn(text.subarray(from))
    ctx.held = text.subarray(end)
    return Buffer.concat([...pieces, text.subarray(from, end)])
  },

  responseTrailerFilter(_session, trailers) { for (const name of OF_BYTES) trailers.delete(name) },
}

/** How many bytes at the end may be the beginning of a link. */
function begunIn(text: Buffer): number {
  let length = Math.min(text.length, FROM.length - 1)
  while (length > 0 && !text.subarray(-length).equals(FROM.subarray(0, length))) length--
  return length
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
