/**
 * Cirque as it comes: nothing is said but where to listen and whom to ask, so the access log is on and pool and limits
 * are the defaults. The bench copies this file into a folder of its own and names the checkout to load in the
 * environment: the same application runs on any of them, before and after a change.
 */
import type * as Cirque from '../../src/index.ts'

const root = process.env['BENCH_CIRQUE_ROOT'] ?? ''
const { HttpPeer, Server, httpProxyService } = await import(`${root}/src/index.ts`) as typeof Cirque

const peer = new HttpPeer(`127.0.0.1:${process.env['BENCH_ORIGIN_PORT']}`)
const server = new Server()
const service = httpProxyService({ upstreamPeer: () => peer })
server.addService(service.addTcp(`127.0.0.1:${process.env['BENCH_LISTEN_PORT']}`))
await server.runForever()
