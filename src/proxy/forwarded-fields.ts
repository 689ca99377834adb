/**
 * What the proxy tells the origin about the request's way: Via (RFC 9110 7.6.3), X-Forwarded-For, -Proto, -Host or
 * Forwarded (RFC 7239), X-Request-Id. Only a client inside `trustedHops` is believed when it sends such fields itself;
 * from anybody else they are removed before any hook sees them.
 * The part that is the same for every request of a connection is built once per connection.
 */
import { createHash, randomBytes } from 'node:crypto'
import net from 'node:net'
import os from 'node:os'
import { FieldKind, fieldKind, isToken, type HeaderMap } from '../http/header-map.ts'
import { FORWARDED_FIELDS } from '../http/hop-by-hop.ts'
import type { RequestHead } from '../http/message-head.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import { FORWARDED_DEFAULTS, FORWARDED_OPTIONS, parseAddressBlock, type ForwardedOptions } from './forwarded-options.ts'

/** What is known of a client's connection, once per connection. */
export interface ConnectionFacts {
  readonly clientIp: string
  readonly trusted: boolean
  readonly selfTest: boolean
  /** X-Forwarded-For and -Proto, or Forwarded, as lines. */
  readonly text: string
  /** From `persistConnectionContext`. */
  kept: unknown
}

/** Fields that cannot just be appended to: with one of them present the request is copied and they are merged. */
export const MERGED_FIELDS: number = FORWARDED_FIELDS | (1 << FieldKind.XRequestId)

/** Removes what an untrusted client says of itself. */
export function stripForwarded(headers: HeaderMap): void {
  for (const [name] of [...headers]) {
    const kind = fieldKind(name, 0, name.length)
    if (kind === FieldKind.Forwarded || kind === FieldKind.XForwarded || kind === FieldKind.XRealIp) headers.delete(name)
  }
}

export class ForwardedFields {
  /** `Via: 1.1 name` with its CRLF; '' when off. */
  readonly viaText: string
  readonly #viaName: string
  readonly #style: 'x-forwarded' | 'forwarded' | 'both' | 'off'
  readonly #sendsId: boolean
  readonly #trusted: net.BlockList | null
  /** Start of every request id of this process; the rest is a counter. */
  readonly #idPrefix = randomBytes(8).toString('hex')
  #idCounter = 0

  /** @throws OptionError with every option that would not do. */
  constructor(options: ForwardedOptions = {}) {
    const { forwarded, requestId, trustedHops, viaName } = resolveOptions<ForwardedOptions>('httpProxy', FORWARDED_OPTIONS, options, FORWARDED_DEFAULTS)
    const name = viaName ?? `cirque-${createHash('sha256').update(`${os.hostname()}\0${os.userInfo().uid}`).digest('hex').slice(0, 8)}`
    this.#viaName = name
    this.viaText = name === '' ? '' : `Via: 1.1 ${name}\r\n`
    this.#style = forwarded
    this.#sendsId = requestId
    this.#trusted = trustedHops.length === 0 ? null : blockList(trustedHops)
  }

  factsOf(clientIp: string, selfTest: boolean): ConnectionFacts {
    const trusted = this.#trusted !== null && clientIp !== '' && this.#trusted.check(clientIp, clientIp.includes(':') ? 'ipv6' : 'ipv4')
    let text = ''
    if (clientIp !== '') {
      if (this.#style === 'x-forwarded' || this.#style === 'both') text += `X-Forwarded-For: ${clientIp}\r\n`
      if (this.#style === 'forwarded' || this.#style === 'both') text += `Forwarded: for=${nodeName(clientIp)};proto=http\r\n`
    }
    if (this.#style === 'x-forwarded' || this.#style === 'both') text += 'X-Forwarded-Proto: http\r\n'
    return { clientIp, trusted, selfTest, text, kept: undefined }
  }

  /** The client's own id when it is trusted and the id is short and plain, else a new one. */
  requestIdFor(request: RequestHead, facts: ConnectionFacts): string {
    if (facts.trusted) {
      const given = request.headers.getKind(FieldKind.XRequestId)
      if (given !== undefined && given.length <= 128 && isToken(given)) return given
    }
    return this.#idPrefix + (++this.#idCounter).toString(16).padStart(8, '0')
  }

  /** This proxy's name is in Via. */
  seenBefore(request: RequestHead): boolean {
    if (this.#viaName === '') return false
    for (const value of request.headers.getAll('via')) {
      for (const part of value.split(',')) if (part.trim().split(/[ \t]+/)[1] === this.#viaName) return true
    }
    return false
  }

  /** Lines to send behind the fields of `request`, which is a copy that may be changed when it has one of MERGED_FIELDS. */
  textFor(request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead }): string {
    if ((request.headers.mask & MERGED_FIELDS) !== 0) return this.#merge(request, facts, exchange)
    let text = facts.text
    if (this.#style === 'x-forwarded' || this.#style === 'both') {
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (host !== undefined) text += 'X-Forwarded-Host: ' + host + '\r\n'
    }
    if (this.#sendsId) text += 'X-Request-Id: ' + exchange.requestId + '\r\n'
    return text + this.viaText
  }

  /** Fields that the request has already: from a trusted hop they are continued, from a filter they are kept. */
  #merge(request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead }): string {
    const headers = request.headers
    let text = this.viaText
    if (this.#sendsId) headers.set('X-Request-Id', exchange.requestId)
    if (this.#style === 'x-forwarded' || this.#style === 'both') {
      const chain = headers.getAll('x-forwarded-for').join(', ')
      if (facts.clientIp !== '') headers.set('X-Forwarded-For', chain === '' ? facts.clientIp : facts.trusted ? `${chain}, ${facts.clientIp}` : chain)
      if (!headers.has('x-forwarded-proto')) text += 'X-Forwarded-Proto: http\r\n'
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (!headers.has('x-forwarded-host') && host !== undefined) text += `X-Forwarded-Host: ${host}\r\n`
    }
    if ((this.#style === 'forwarded' || this.#style === 'both') && facts.clientIp !== '') {
      const own = `for=${nodeName(facts.clientIp)};proto=http`, chain = headers.getAll('forwarded').join(', ')
      headers.set('Forwarded', chain === '' ? own : facts.trusted ? `${chain}, ${own}` : chain)
    }
    return text
  }
}

/** An address as RFC 7239 6 wants it: IPv6 in brackets and quotes. */
function nodeName(ip: string): string { return ip.includes(':') ? `"[${ip}]"` : ip }

function blockList(entries: readonly string[]): net.BlockList {
  const list = new net.BlockList()
  for (const entry of entries) {
    const { address, family, prefix } = parseAddressBlock(entry)!
    list.addSubnet(address, prefix, family)
  }
  return list
}
