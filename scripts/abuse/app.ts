/**
 * The application that is attacked: a plain proxy whose hooks misbehave where a path asks for it, as hooks do that an
 * application's author did not think through.
 *
 *   /hook/reject       a floating promise that rejects, in a filter
 *   /hook/hang         a filter that never resolves
 *   /hook/loop         a filter that never returns
 *   /hook/decode/...   decodes the rest of the path, after the peer was chosen, and sends that on (`?in=HOOK`)
 *   /hook/report       a peer whose report() and release() throw
 *   /hook/no-stream    a custom transport that resolves to no stream
 */
import { HttpPeer, Server, httpProxyService, type Peer, type ProxyHttp, type Session } from '../../src/index.ts'
import type { ByteStream } from '../../src/index.ts'

const { ABUSE_PORT = '', ABUSE_ORIGIN_PORT = '', ABUSE_VICTIM_ORIGIN_PORT = '', ABUSE_FILTERED_PORT = '' } = process.env
const { ABUSE_HEAD_MS = '10000', ABUSE_MAX_CONNECTIONS = '', ABUSE_HOOK_MS = '60000' } = process.env
const origin = `127.0.0.1:${ABUSE_ORIGIN_PORT}`

class ThrowingPeer extends HttpPeer {
  override report(): void { throw new Error('report failed') }
  override release(): void { throw new Error('release failed') }
}

const plain = new HttpPeer(origin, { responseHeadTimeoutMs: Number(ABUSE_HEAD_MS) })
/** What the attack does to its origin is not what its victims ask for. */
const victims = new HttpPeer(`127.0.0.1:${ABUSE_VICTIM_ORIGIN_PORT}`)
const throwing = new ThrowingPeer(origin)
const noStream = new HttpPeer(origin, { customL4: { connect: () => Promise.resolve(undefined as unknown as ByteStream) } })

/** The rest of the path, decoded as no target may be, when this hook is the one that is asked to. */
function decode(session: Session, hook: string): void {
  const match = /^\/hook\/decode\/([^?]*)\?in=(\w+)/.exec(session.request.target)
  if (match?.[2] === hook) session.request.target = `/${decodeURIComponent(match[1] ?? '')}`
}

const app: ProxyHttp = {
  requestFilter(session) {
    const { target } = session.request
    if (target.startsWith('/hook/reject')) void Promise.reject(new Error('nobody waits for this'))
    if (target.startsWith('/hook/hang')) return new Promise(() => {})
    if (target.startsWith('/hook/loop')) for (;;);
    return 'continue'
  },
  proxyUpstreamFilter(session) {
    decode(session, 'proxyUpstreamFilter')
    return 'continue'
  },
  upstreamPeer(session): Peer {
    decode(session, 'upstreamPeer')
    const { target } = session.request
    if (target.startsWith('/victim')) return victims
    if (target.startsWith('/hook/report')) return throwing
    return target.startsWith('/hook/no-stream') ? noStream : plain
  },
  connectedToUpstream(session) { decode(session, 'connectedToUpstream') },
}

const limits = ABUSE_MAX_CONNECTIONS === '' ? {} : { maxConnections: Number(ABUSE_MAX_CONNECTIONS) }
const service = httpProxyService(app, { hookTimeoutMs: Number(ABUSE_HOOK_MS) }).addTcp(`127.0.0.1:${ABUSE_PORT}`, limits)
if (ABUSE_FILTERED_PORT !== '') {
  // Typed away: an application in JavaScript has no types that would object.
  const connectionFilter = (() => Promise.resolve(false)) as unknown as () => boolean
  service.addTcp(`127.0.0.1:${ABUSE_FILTERED_PORT}`, { connectionFilter })
}
const server = new Server()
server.addService(service)
await server.runForever()
