/**
 * Answers every request over TLS with the process that did; certificate and key are the files $SECURE_CERT and $SECURE_KEY. `/gc` collects
 * garbage first, where Node.js was told that it may be asked to.
 */
import { httpProxyService } from '../../../src/server/http-proxy-service.ts'
import { Server } from '../../../src/server/server.ts'

const service = httpProxyService<null>({
  newCtx: () => null,
  upstreamPeer() { throw new Error('nothing is passed on') },
  requestFilter(session) {
    if (session.request.path === '/gc') globalThis.gc?.()
    return session.respond(200, {}, String(process.pid))
  },
}, { name: 'secure' })
service.addTls('127.0.0.1:0', { certificates: [{ cert: process.env['SECURE_CERT']!, key: process.env['SECURE_KEY']! }] })
const server = new Server()
server.addService(service)
await server.runForever()
