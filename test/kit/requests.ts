/** Requests as a parser hands them to hooks, for the parts of the kit. */
import fc from 'fast-check'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead } from '../../src/http/message-head.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { inject, type InjectOptions, type InjectRequest, type InjectResponse } from '../../src/server/inject.ts'

/** Nothing in it is checked, as an earlier hook may have set anything. */
export function requestOf(target: string, fields: Readonly<Record<string, string | readonly string[]>> = {}, method = 'GET'): RequestHead {
  return new RequestHead(method, target, '1.1', HeaderMap.from(fields))
}

/** Whatever may stand in a field: latin1 without controls. */
export function fieldText(): fc.Arbitrary<string> {
  return fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).filter(code => code !== 0x7f).map(code => String.fromCharCode(code)) })
}

/** A request that came by a trusted hop: `inject` has no addresses. What it is answered with is in `answers`. */
export function trustedSession(request: RequestHead): { session: Session; answers: (readonly [number, unknown])[] } {
  const answers: (readonly [number, unknown])[] = []
  const respond = (status: number, fields: unknown): 'responded' => {
    answers.push([status, fields])
    return 'responded'
  }
  return { session: { request, trusted: true, respond } as unknown as Session, answers }
}

/** One request through an application with this `requestFilter` (and more), before an origin that shows what it got. */
export function ask(
  filter: NonNullable<ProxyHttp['requestFilter']>, request: InjectRequest = {}, app: Partial<ProxyHttp> = {}, options: InjectOptions = {},
): Promise<InjectResponse> {
  const whole: ProxyHttp = { requestFilter: filter, upstreamPeer: () => new HttpPeer('127.0.0.1:1'), suppressErrorLog: () => true, ...app }
  return inject(whole, request, {
    origin: ({ head: { method, target, headers } }) => ({
      headers: { 'Content-Type': 'application/json' }, body: method === 'HEAD' ? '' : JSON.stringify([method, target, headers.toObject()]),
    }),
    ...options,
  })
}
