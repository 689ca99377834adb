/**
 * The application of a release (test/support/release-folder.ts copies it there): the real proxy service in front of an
 * origin, which is told who asks. release.json beside it says its name, where the origin is, and what is wrong with it.
 */
import fs from 'node:fs'
import path from 'node:path'
import { HttpPeer, httpProxyService, Server, type RequestHead, type Session } from 'cirque'
import type { ReleaseFacts } from '../release-folder.ts'

const { name, fault, origin, listen } = JSON.parse(fs.readFileSync(new URL('release.json', import.meta.url), 'utf8')) as ReleaseFacts
if (fault === 'throws at import') throw new Error(`${name} has no licence file`)
if (fault === 'hangs at import') spin()

const peer = new HttpPeer(origin), overHttp2 = new HttpPeer(origin, { alpn: 'h2' })
const service = httpProxyService<undefined>({
  newCtx: () => undefined,
  // WebSockets of either version meet an origin of the first one.
  upstreamPeer: ({ request }) => request.version === '2' && request.path !== '/ws' ? overHttp2 : peer,
  requestFilter(session: Session) {
    if (session.isSelfTest) return answerSelfTest(session)
    return fault === 'answers 5xx' ? session.respond(500, {}, who()) : 'continue'
  },
  upstreamRequestFilter(_session: Session, request: RequestHead): void { request.headers.set('x-who', who()) },
})
// Beside the addresses, so that it changes for all releases.
const certificate = { cert: path.join(path.dirname(listen), 'site.crt'), key: path.join(path.dirname(listen), 'site.key') }
for (const address of fs.readFileSync(listen, 'utf8').trim().split('\n')) {
  if (address.startsWith('unix:')) service.addUnix(address)
  else if (address.startsWith('tls:')) service.addTls(address.slice('tls:'.length), { certificates: [certificate] })
  else service.addTcp(address)
}
const server = new Server()
server.addService({ kind: 'background', name: 'fault', start: misbehave })
server.addService(service)
await server.runForever()

/** What every answer of `/` says, so that a test sees who gave it. */
function who(): string { return `${name} ${process.pid}` }

function misbehave(): Promise<void> | void {
  if (fault === 'throws at start') throw new Error(`${name} finds no database`)
  if (fault === 'is never ready') return new Promise(() => {})
}

/** Comes after `ready` and before the first connection. */
function answerSelfTest(session: Session): 'responded' {
  if (fault === 'hangs after ready') spin()
  // The answer is on its way by then.
  if (fault === 'exits after ready') setTimeout(() => process.exit(7), 10)
  return session.respond(fault === 'fails the self-test' ? 500 : 200)
}

function spin(): never { for (;;); }
