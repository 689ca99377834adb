/** The real proxy service in front of the origin at $PROXY_ORIGIN, on one free port. The origin is told which worker asks. */
import { HttpPeer, httpProxyService, Server, type RequestHead, type Session } from '../../../src/index.ts'

const peer = new HttpPeer(process.env['PROXY_ORIGIN'] ?? '')
const server = new Server()
server.addService(httpProxyService<undefined>({
  newCtx: () => undefined,
  upstreamPeer: () => peer,
  upstreamRequestFilter(_session: Session, request: RequestHead): void { request.headers.set('x-worker', String(process.pid)) },
}, { maxActiveRequests: 100, upgrades: ['echo'] }).addTcp('127.0.0.1:0', { maxUriBytes: 4096 }))
await server.runForever()
