/**
 * Forms of the request target and the Host field (RFC 9112 3.2): origin-form passes as it is, absolute-form is turned
 * into origin-form with its authority as Host, `*` belongs to OPTIONS, authority-form to CONNECT.
 */
import { FieldKind, asciiLower } from '../../http/header-map.ts'
import type { RequestHead } from '../../http/message-head.ts'
import type { Framing } from './framing.ts'

/** uri-host [ ":" port ] and nothing that could be read as more of a URI (RFC 3986 3.2.2): 1 for each byte allowed. */
const HOST_CHAR = (() => {
  const table = new Uint8Array(256)
  for (const char of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+;=:[]") table[char.charCodeAt(0)] = 1
  return table
})()

/** `authority` names a host, with an optional port of digits. */
export function isAuthority(authority: string): boolean {
  if (authority === '') return false
  for (let i = 0; i < authority.length; i++) if (HOST_CHAR[authority.charCodeAt(i)] !== 1) return false
  const colon = authority.lastIndexOf(':')
  let host = authority
  if (authority.charCodeAt(0) === 0x5b) {
    const close = authority.indexOf(']')
    if (close === -1 || (close !== authority.length - 1 && colon !== close + 1)) return false
    if (colon > close && !isPort(authority, colon + 1)) return false
    return close > 1 && authority.indexOf('[', 1) === -1 && authority.indexOf(']', close + 1) === -1
  }
  if (colon !== -1) {
    if (!isPort(authority, colon + 1)) return false
    host = authority.substring(0, colon)
  }
  return host !== '' && !host.includes(':') && !host.includes('[') && !host.includes(']')
}

function isPort(text: string, from: number): boolean {
  let port = 0
  for (let i = from; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) return false
    if ((port = port * 10 + digit) > 65_535) return false
  }
  return true
}

/** Puts the target into origin-form and checks Host. Returns what is wrong (status in `framing.faultStatus`), or null. */
export function readTarget(head: RequestHead, parser: { readonly underscored: boolean; readonly targetUnusual: boolean }, framing: Framing, allowConnect: boolean): string | null {
  const headers = head.headers
  framing.faultStatus = 400
  let hosts = 0
  if ((headers.mask & (1 << FieldKind.Host)) !== 0) {
    for (let index = 0; index < headers.size; index++) {
      if (headers.kindAt(index) !== FieldKind.Host) continue
      if (++hosts > 1) return 'Host is repeated'
      if (!isAuthority(headers.valueAt(index))) return 'Host is not a host'
    }
  }
  if (hosts === 0 && head.minorVersion === 1) return 'Host is missing'
  if (parser.underscored) {
    const pair = underscoredPair(head)
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
  head.headers.set('Host', authority)
  const rest = target.substring(end)
  head.target = rest === '' ? (head.method === 'OPTIONS' ? '*' : '/') : rest.charCodeAt(0) === 0x3f ? '/' + rest : rest
  return null
}

/** `a_b` beside `a-b`: applications behind CGI-like bridges cannot tell them apart. */
function underscoredPair(head: RequestHead): string | null {
  // By what such a bridge makes of a name; equal names may be repeated, as anywhere.
  const seen = new Map<string, string>()
  for (let index = 0; index < head.headers.size; index++) {
    const name = asciiLower(head.headers.nameAt(index)), bridged = name.replaceAll('_', '-'), twin = seen.get(bridged)
    // The proxy itself adds the twin of such a one.
    if (name !== bridged && (bridged.startsWith('x-forwarded-') || bridged === 'x-real-ip' || bridged === 'x-request-id')) return `${name}, which could pass for ${bridged}`
    if (twin === undefined) seen.set(bridged, name)
    else if (twin !== name) return `${name} beside its twin ${twin}`
  }
  return null
}
