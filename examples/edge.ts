/**
 * The plainest edge: HTTP, HTTPS or both in front of one origin. For benches, and for trying how other programs get on with it.
 *
 *   npm run origins                                                                  # in a terminal of their own
 *   HTTP_PORT=6188 ORIGIN=127.0.0.1:3001 npx cirque run examples/edge.ts             # in another one
 *   curl http://127.0.0.1:6188/
 *
 *   TLS_PORT=6189 CERT_FILE=site.crt KEY_FILE=site.key npx cirque run examples/edge.ts
 *   TLS_PORT=6189 CERT_FILE=site.crt KEY_FILE=site.key ORIGIN=https://10.0.0.1:443 ORIGIN_CA_FILE=ca.crt npx cirque run examples/edge.ts
 *
 * Change all of it in the environment: HTTP_PORT and TLS_PORT are ports of HOST, which is 127.0.0.1, and speak HTTP/2 as well; ORIGIN is
 * `host:port` or `https://host:port`, in HTTP/2 `h2c://host:port` or `h2://host:port`. The certificate of an origin must be of an
 * authority in ORIGIN_CA_FILE, or of a public one without it. Requests are logged with LOG=1.
 */
import { readFileSync } from 'node:fs'
import { HttpPeer, Server, httpProxyService } from 'cirque'

/** A connection carries as many requests as its client likes. */
const UNLIMITED = { maxRequestsPerConnection: 0, http2: { maxStreamsPerConnection: 0 } }

const { HOST = '127.0.0.1', HTTP_PORT, TLS_PORT, CERT_FILE, KEY_FILE, LOG, ORIGIN = '127.0.0.1:3001', ORIGIN_CA_FILE } = process.env

const peer = peerOf(ORIGIN)
const service = httpProxyService({ upstreamPeer: () => peer }, LOG === '1' ? {} : { accessLog: null })
if (HTTP_PORT !== undefined) service.addTcp(`${HOST}:${HTTP_PORT}`, UNLIMITED)
if (TLS_PORT !== undefined) {
  if (CERT_FILE === undefined || KEY_FILE === undefined) throw new Error('TLS_PORT takes a certificate; set CERT_FILE and KEY_FILE as well')
  service.addTls(`${HOST}:${TLS_PORT}`, { certificates: [{ cert: CERT_FILE, key: KEY_FILE }] }, UNLIMITED)
}
if (HTTP_PORT === undefined && TLS_PORT === undefined) throw new Error('nothing to listen on; set HTTP_PORT, TLS_PORT or both')

const server = new Server()
server.addService(service)
await server.runForever()

/** One peer for all requests: its connections are kept and used again. */
function peerOf(origin: string): HttpPeer {
  const [, scheme = 'http', address = ''] = /^(?:(https?|h2c?):\/\/)?(.*)$/.exec(origin) ?? []
  const alpn = scheme.startsWith('h2') ? 'h2' : 'h1'
  if (scheme === 'http' || scheme === 'h2c') return new HttpPeer(address, { alpn })
  const ca = ORIGIN_CA_FILE === undefined ? {} : { ca: [readFileSync(ORIGIN_CA_FILE, 'utf8')] }
  return new HttpPeer(address, { tls: true, alpn, ...ca })
}
