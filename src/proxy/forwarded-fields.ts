/**
 * What the proxy tells the origin about the request's way: Via (RFC 9110 7.6.3), X-Forwarded-For, -Proto, -Host or
 * Forwarded (RFC 7239), X-Request-Id. Only a client inside `trustedHops` is believed when it sends such fields itself;
 * from anybody else they are removed before any hook sees them.
 * The part that is the same for every request of a connection is built once per connection.
 */
import { createHash, randomBytes } from 'node:crypto'
import net from 'node:net'
import os from 'node:os'
import { FieldLines } from '../http/field-lines.ts'
import { FieldKind, fieldKind, isToken, type HeaderMap } from '../http/header-map.ts'
import { FORWARDED_FIELDS } from '../http/hop-by-hop.ts'
import type { HttpVersion, RequestHead, ResponseHead } from '../http/message-head.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import { FORWARDED_DEFAULTS, FORWARDED_OPTIONS, parseAddressBlock, type ForwardedOptions } from './forwarded-options.ts'

/** What is known of a client's connection, once per connection. */
export interface ConnectionFacts {
  readonly clientIp: string
  /** Of the connection, for X-Forwarded-Proto and Forwarded. */
  readonly scheme: 'http' | 'https'
  readonly trusted: boolean
  readonly selfTest: boolean
  /** X-Forwarded-For and -Proto, or Forwarded: the same for each request. */
  readonly lines: FieldLines
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
  readonly #viaName: string
  /** Via of the version seen last: nearly all messages have the same. */
  #viaVersion: HttpVersion = '1.1'
  #viaValue: string
  readonly #style: 'x-forwarded' | 'forwarded' | 'both' | 'off'
  readonly #sendsId: boolean
  readonly #trusted: net.BlockList | null
  /** Start of every request id of this process; the rest is a counter. */
  readonly #idPrefix = randomBytes(8).toString('hex')
  #idCounter = 0
  /** Filled for each message, and read before the next one. */
  readonly #requestLines = new FieldLines()
  readonly #responseLines = new FieldLines()

  /** @throws OptionError with every option that would not do. */
  constructor(options: ForwardedOptions = {}) {
    const resolved = resolveOptions<ForwardedOptions>('httpProxy', FORWARDED_OPTIONS, options, FORWARDED_DEFAULTS)
    this.#viaName = resolved.viaName ?? defaultViaName()
    this.#viaValue = `${this.#viaVersion} ${this.#viaName}`
    this.#style = resolved.forwarded
    this.#sendsId = resolved.requestId
    this.#trusted = resolved.trustedHops.length === 0 ? null : blockList(resolved.trustedHops)
  }

  factsOf(digest: Pick<StreamDigest, 'remoteIp' | 'tls'>, selfTest: boolean): ConnectionFacts {
    const clientIp = digest.remoteIp, scheme = digest.tls === null ? 'http' : 'https'
    const family = clientIp.includes(':') ? 'ipv6' : 'ipv4'
    const trusted = this.#trusted !== null && clientIp !== '' && this.#trusted.check(clientIp, family)
    const fields: string[] = []
    if (clientIp !== '') {
      if (this.#sendsXForwarded) fields.push('X-Forwarded-For', clientIp)
      if (this.#sendsForwarded) fields.push('Forwarded', `for=${nodeName(clientIp)};proto=${scheme}`)
    }
    if (this.#sendsXForwarded) fields.push('X-Forwarded-Proto', scheme)
    // The copy has no room to grow: a connection keeps it for as long as it is open.
    return { clientIp, scheme, trusted, selfTest, lines: new FieldLines(fields.slice()), kept: undefined }
  }

  get #sendsXForwarded(): boolean { return this.#style === 'x-forwarded' || this.#style === 'both' }
  get #sendsForwarded(): boolean { return this.#style === 'forwarded' || this.#style === 'both' }

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

  /**
   * Lines to send behind the fields of `request`, which is a copy that may be changed when it has one of MERGED_FIELDS.
   * They are good until the next call.
   */
  linesFor(
    request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead },
  ): FieldLines {
    if ((request.headers.mask & MERGED_FIELDS) !== 0) return this.#merge(request, facts, exchange)
    const lines = this.#requestLines.startFrom(facts.lines)
    if (this.#sendsXForwarded) {
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (host !== undefined) lines.add('X-Forwarded-Host', host)
    }
    if (this.#sendsId) lines.add('X-Request-Id', exchange.requestId)
    return this.#addVia(lines, exchange.request.version)
  }

  /** Lines to send behind the fields of a response that came from an origin. They are good until the next call. */
  linesForResponse(response: ResponseHead): FieldLines {
    return this.#addVia(this.#responseLines.startFrom(FieldLines.NONE), response.version)
  }

  /** `received-protocol` is the version in which the message came (RFC 9110 7.6.3). */
  #addVia(lines: FieldLines, version: HttpVersion): FieldLines {
    if (this.#viaName === '') return lines
    if (version !== this.#viaVersion) {
      this.#viaVersion = version
      this.#viaValue = `${version} ${this.#viaName}`
    }
    return lines.add('Via', this.#viaValue)
  }

  #merge(
    request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead },
  ): FieldLines {
    const headers = request.headers, lines = this.#requestLines.startFrom(FieldLines.NONE), { clientIp, scheme, trusted } = facts
    if (this.#sendsId) headers.set('X-Request-Id', exchange.requestId)
    if (this.#sendsXForwarded) {
      const chain = headers.getAll('x-forwarded-for').join(', ')
      if (clientIp !== '') headers.set('X-Forwarded-For', joined(chain, clientIp, trusted))
      if (!headers.has('x-forwarded-proto')) lines.add('X-Forwarded-Proto', scheme)
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (!headers.has('x-forwarded-host') && host !== undefined) lines.add('X-Forwarded-Host', host)
    }
    if (this.#sendsForwarded && clientIp !== '') {
      const chain = headers.getAll('forwarded').join(', ')
      headers.set('Forwarded', joined(chain, `for=${nodeName(clientIp)};proto=${scheme}`, trusted))
    }
    return this.#addVia(lines, exchange.request.version)
  }
}

/** What a trusted hop said goes on with us; what a filter set on behalf of another client stays alone. */
function joined(chain: string, own: string, trusted: boolean): string {
  if (chain === '') return own
  return trusted ? `${chain}, ${own}` : chain
}

function defaultViaName(): string {
  const identity = `${os.hostname()}\0${os.userInfo().uid}`
  return `cirque-${createHash('sha256').update(identity).digest('hex').slice(0, 8)}`
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
