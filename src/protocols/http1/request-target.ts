/**
 * Forms of the request target and the Host field (RFC 9112 3.2): origin-form passes as it is, absolute-form is turned
 * into origin-form with its authority as Host, `*` belongs to OPTIONS, authority-form to CONNECT.
 */
import { isAuthority, withoutZone } from '../../http/authority.ts'
import { underscoredPair } from '../../http/field-rules.ts'
import { FieldKind } from '../../http/header-map.ts'
import type { RequestHead } from '../../http/message-head.ts'
import type { Framing } from './framing.ts'

/** Puts the target into origin-form and checks Host. Returns what is wrong (status in `framing.faultStatus`), or null. */
export function readTarget(
  head: RequestHead, parser: { readonly underscored: boolean; readonly targetUnusual: boolean }, framing: Framing, allowConnect: boolean,
): string | null {
  const headers = head.headers
  framing.faultStatus = 400
  let hosts = 0, zoned = ''
  if ((headers.mask & (1 << FieldKind.Host)) !== 0) {
    for (let index = 0; index < headers.size; index++) {
      if (headers.kindAt(index) !== FieldKind.Host) continue
      if (++hosts > 1) return 'Host is repeated'
      const host = headers.valueAt(index)
      if (!isAuthority(host)) return 'Host is not a host'
      if (host.charCodeAt(0) === 0x5b && host.includes('%')) zoned = host
    }
    // Behind the loop: setting the field takes its repetitions away, which are to be refused.
    if (zoned !== '') headers.set('Host', withoutZone(zoned))
  }
  if (hosts === 0 && head.version !== '1.0') return 'Host is missing'
  if (parser.underscored) {
    const pair = underscoredPair(headers)
    if (pair !== null) return pair
  }
  const target = head.target
  if (parser.targetUnusual && target.includes('#')) return 'the target has a fragment'
  if (head.method === 'CONNECT') {
    if (!allowConnect) {
      framing.faultStatus = 405
      return 'CONNECT is not allowed here'
    }
    return isAuthority(target) && /:\d/.test(target.slice(target.lastIndexOf(':'))) ? null : 'the target of CONNECT is not host:port'
  }
  if (target.charCodeAt(0) === 0x2f) return null
  if (target === '*') return head.method === 'OPTIONS' ? null : 'only OPTIONS may ask for *'
  return absoluteForm(head, target)
}

function absoluteForm(head: RequestHead, target: string): string | null {
  const scheme = /^https?:\/\//i.exec(target.slice(0, 8))
  if (scheme === null) return 'the target is neither a path nor an http URI'
  const start = scheme[0].length
  let end = start
  while (end < target.length && target[end] !== '/' && target[end] !== '?') end++
  const authority = target.substring(start, end)
  if (!isAuthority(authority)) return 'the authority of the target is not a host'
  // RFC 9112 3.2.2: the field of an absolute-form request is ignored and replaced.
  head.headers.set('Host', withoutZone(authority))
  const rest = target.substring(end)
  head.target = rest === '' ? (head.method === 'OPTIONS' ? '*' : '/') : rest.charCodeAt(0) === 0x3f ? '/' + rest : rest
  return null
}
