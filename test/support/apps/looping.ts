/** Answers itself with the worker's pid. A hook of it never returns for /loop, and for /pause?ms=N not before N ms. */
import { HttpPeer, httpProxyService, Server, type Session, type Verdict } from '../../../src/index.ts'

const nowhere = new HttpPeer('127.0.0.1:9')
const server = new Server()
server.addService(httpProxyService<undefined>({
  newCtx: () => undefined,
  upstreamPeer: () => nowhere,
  requestFilter(session: Session): Verdict {
    const { target } = session.request
    if (target === '/loop') loopForEver()
    if (target.startsWith('/pause')) block(Number(target.split('=')[1]))
    session.respond(200, {}, String(process.pid))
    return 'responded'
  },
}).addTcp('127.0.0.1:0'))
await server.runForever()

function loopForEver(): never { for (;;); }
function block(ms: number): void { for (const untilMs = performance.now() + ms; performance.now() < untilMs;); }
