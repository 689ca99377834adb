/**
 * The smallest Cirque application: every request goes to one constant peer. Run by `cirque run` (the worker listens for
 * the supervisor) or, with BENCH_IN_PROCESS, on its own. The access log is off, as it is for every contender that is told
 * the same things; BENCH_ACCESS_LOG leaves it to the configuration.
 */
import { readFileSync } from 'node:fs'
import { HttpConnector, HttpPeer, Server, httpProxyService } from '../../src/index.ts'
import { listenPort, originPort } from './node-proxies/ports.ts'
import { profileOnSignal } from './worker-profile.ts'

const profileFolder = process.env['BENCH_PROFILE_FOLDER']
if (profileFolder !== undefined) profileOnSignal(profileFolder)

const { BENCH_CERT_FILE: cert, BENCH_KEY_FILE: key, BENCH_ORIGIN_CA_FILE: originCa, BENCH_ORIGIN_NAME: sni = '' } = process.env
const alpn = process.env['BENCH_ORIGIN_ALPN'] === 'h2' ? 'h2' : 'h1'
const security = originCa === undefined ? {} : { tls: true, sni, ca: [readFileSync(originCa, 'utf8')] }
const peer = new HttpPeer(`127.0.0.1:${originPort}`, { alpn, ...security })
// As many idle upstream connections as nginx is told to keep.
const connector = new HttpConnector()
// `null`: below the supervisor the access log would otherwise be on.
const log = process.env['BENCH_ACCESS_LOG'] === undefined ? { accessLog: null } : {}
const service = httpProxyService({ upstreamPeer: () => peer }, { connector, ...log })
const server = new Server()
// No limit on requests per connection, as for the other contenders.
const address = `127.0.0.1:${listenPort}`, unlimited = { maxRequestsPerConnection: 0, http2: { maxStreamsPerConnection: 0 } }
if (cert === undefined || key === undefined) service.addTcp(address, unlimited)
else service.addTls(address, { certificates: [{ cert, key }] }, unlimited)
server.addService(service)

if (process.env['BENCH_IN_PROCESS'] === undefined) await server.runForever()
else {
  process.on('SIGTERM', () => process.exit(0))
  await server.start()
}
