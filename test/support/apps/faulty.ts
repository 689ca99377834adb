/**
 * The real proxy service with everything that an error report is made of: `/throw` in a hook, `/crash`, `/reject`, `/memory`
 * (all of it), and an origin at $FAULTY_ORIGIN for the rest.
 */
import { HttpPeer, httpProxyService, Server, type Session, type Verdict } from '../../../src/index.ts'

const peer = new HttpPeer(process.env['FAULTY_ORIGIN'] ?? '127.0.0.1:1')
const kept: unknown[] = []
const server = new Server()

/** Until the heap is full. */
function useUpMemory(): void { for (;;) kept.push(Array.from({ length: 100_000 }, (_, index) => ({ index }))) }

function requestFilter(session: Session): Verdict {
  const { path } = session.request
  if (path === '/ok') return session.respond(200, {}, String(process.pid))
  if (path === '/throw') throw new TypeError(`no tenant for ${session.request.target}`)
  if (path === '/crash') setImmediate(() => { throw new RangeError('crashed on request') })
  if (path === '/reject') void Promise.reject(new Error('forgotten on request'))
  if (path === '/memory') setImmediate(useUpMemory)
  return path.startsWith('/origin') ? 'continue' : session.respond(200)
}

server.addService(httpProxyService<undefined>({ newCtx: () => undefined, upstreamPeer: () => peer, requestFilter }).addTcp('127.0.0.1:0'))
await server.runForever()
