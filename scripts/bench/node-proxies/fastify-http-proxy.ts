/** @fastify/http-proxy (Fastify, @fastify/reply-from, undici), logging off. */
import httpProxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import { KEEP_ALIVE_MS, MAX_IDLE_UPSTREAM, listenPort, originPort } from './ports.ts'

const app = Fastify({ logger: false, keepAliveTimeout: KEEP_ALIVE_MS })
await app.register(httpProxy, {
  upstream: `http://127.0.0.1:${originPort}`,
  undici: { connections: MAX_IDLE_UPSTREAM, pipelining: 1, keepAliveTimeout: KEEP_ALIVE_MS, keepAliveMaxTimeout: KEEP_ALIVE_MS },
  replyOptions: {
    // Otherwise the origin's own `Connection: keep-alive` reaches clients whose connection is about to be closed.
    rewriteHeaders({ connection: _connection, 'keep-alive': _keepAlive, ...rest }) { return rest },
  },
})
await app.listen({ port: listenPort, host: '127.0.0.1', backlog: 4096 })
process.on('SIGTERM', () => process.exit(0))
