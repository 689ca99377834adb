/** In front of the origins at $FIRST_ORIGIN and $OTHER_ORIGIN: a second attempt, after a 503, goes to the other one. */
import { HttpPeer, httpProxyService, Server } from '../../../src/index.ts'

const options = { retryBudgetPercent: 100 }
const first = new HttpPeer(process.env['FIRST_ORIGIN'] ?? '', options), other = new HttpPeer(process.env['OTHER_ORIGIN'] ?? '', options)
const server = new Server()
server.addService(httpProxyService({
  upstreamPeer: ({ attempts }) => attempts === 1 ? first : other,
  upstreamResponseFilter: (_session, { status }) => status === 503 ? 'retry' : undefined,
}).addTcp('127.0.0.1:0'))
await server.runForever()
