/**
 * What the edge does with a request. Each method is a hook that Cirque calls at its place in the life of a request; those
 * that are left out cost nothing. All of them: node_modules/cirque/docs/hooks.md
 */
import { HttpPeer, type ProxyHttp, type ResponseHead, type Session, type Verdict } from 'cirque'

export class Edge implements ProxyHttp {
  /** Where the origin is, and how to connect to it: made once, for all requests. */
  readonly #origin: HttpPeer

  /** @param origin `host:port` of the application behind the edge */
  constructor(origin: string) { this.#origin = new HttpPeer(origin) }

  /** The first look at a request: answer it here, or let it go on. */
  requestFilter(session: Session): Verdict {
    if (session.request.path === '/hello') return session.respond(200, { 'content-type': 'text/plain' }, 'hello from the edge\n')
    return 'continue'
  }

  /** Where it goes. */
  upstreamPeer(): HttpPeer { return this.#origin }

  /** What the origin answered, on its way to the client. */
  responseFilter(_session: Session, response: ResponseHead): void { response.headers.set('x-edge', 'PROJECT') }
}
