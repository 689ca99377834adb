/**
 * What the proxy tells the origin about the request's way: X-Forwarded-For, -Proto, -Host or Forwarded (RFC 7239),
 * X-Request-Id, the mark by which a loop is seen, and where they are asked for Via (RFC 9110 7.6.3) and Client-Cert (RFC 9440).
 * Only a client inside `trustedHops` is believed when it sends such fields itself; from anybody else they are removed before any
 * hook sees them. Client-Cert is removed whoever sends it. The part that is the same for every request of a connection is built once
 * per connection.
 */
import { randomBytes } from 'node:crypto'
import type net from 'node:net'
import { withoutZone } from '../http/authority.ts'
import { FieldLines, FieldName } from '../http/field-lines.ts'
import { FieldKind, isToken, type HeaderMap, type Token } from '../http/header-map.ts'
import { FORWARDED_FIELDS } from '../http/hop-by-hop.ts'
import type { HttpVersion, RequestHead, ResponseHead } from '../http/message-head.ts'
import { blockListOf } from '../primitives/address-blocks.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import type { ConnectionSite } from '../protocols/tls/connection-site.ts'
import { clientBehind } from './client-address.ts'
import { LoopMark } from './loop-mark.ts'
import { FORWARDED_DEFAULTS, FORWARDED_OPTIONS, type ForwardedOptions } from './forwarded-options.ts'

/** What is known of a client's connection, once per connection. */
export interface ConnectionFacts {
  /** At the other end of the connection: a hop's when one is in front. */
  readonly clientIp: string
  /** Of the connection, for X-Forwarded-Proto and Forwarded. */
  readonly scheme: 'http' | 'https'
  readonly trusted: boolean
  readonly selfTest: boolean
  /** What is the same for each request, and for which version: X-Forwarded-For and -Proto, or Forwarded; mark and Via. */
  lines: FieldLines
  version: HttpVersion
  /** What a connection over TLS was opened for; null: it is plain. */
  readonly site: ConnectionSite | null
  /** Value of Client-Cert; '' where it is not sent. */
  readonly certificate: string
  /** From `persistConnectionContext`. */
  kept: unknown
}

/** The last digits of a request's id. */
const LAST_DIGITS: readonly string[] = Array.from({ length: 256 }, (_, number) => number.toString(16).padStart(2, '0'))

const X_FORWARDED_FOR = new FieldName('X-Forwarded-For')
const X_FORWARDED_PROTO = new FieldName('X-Forwarded-Proto')
const X_FORWARDED_HOST = new FieldName('X-Forwarded-Host')
const FORWARDED = new FieldName('Forwarded')
const X_REQUEST_ID = new FieldName('X-Request-Id')
const VIA = new FieldName('Via')
const CLIENT_CERT = new FieldName('Client-Cert')
/** A bridge behind an origin may take the one for the other. */
const CLIENT_CERT_NAMES: ReadonlySet<string> = new Set([
  'client-cert', 'client_cert', 'client-cert-chain', 'client_cert_chain', 'client_cert-chain', 'client-cert_chain',
])

/** Fields that cannot just be appended to: with one of them present the request is copied and they are merged. */
export const MERGED_FIELDS: number = FORWARDED_FIELDS | (1 << FieldKind.XRequestId)

/** Removes what an untrusted client says of itself. */
export function stripForwarded(headers: HeaderMap): void { headers.deleteKinds(FORWARDED_FIELDS) }

export class ForwardedFields {
  /** Requests of this service. */
  readonly loops: LoopMark
  readonly #viaName: string
  readonly #via: 'off' | 'responses' | 'both'
  /** Via of responses, and what a merged request ends with, for the version seen last: nearly all messages have the same. */
  #lastVersion: HttpVersion = '1.1'
  #responseLines: FieldLines = FieldLines.NONE
  #mergedLines: FieldLines = FieldLines.NONE
  readonly #style: 'x-forwarded' | 'forwarded' | 'both' | 'off'
  readonly #sendsId: boolean
  readonly #sendsCertificate: boolean
  readonly #trusted: net.BlockList | null
  /** Start of every request id of this process; the rest is a counter. */
  readonly #idPrefix = randomBytes(8).toString('hex')
  /** The prefix and all but the last two digits of the counter. */
  #idBlock = ''
  #idCounter = 0
  /** Lines that were made last, and for whom. No client has the scheme ''. */
  #last: { readonly clientIp: string; readonly scheme: string; readonly version: HttpVersion; readonly lines: FieldLines } =
    { clientIp: '', scheme: '', version: '1.1', lines: FieldLines.NONE }
  /** Filled for each request, and read before the next one. */
  readonly #requestLines = new FieldLines()

  /** @param service its name. @throws OptionError with every option that would not do. */
  constructor(options: ForwardedOptions = {}, service = '') {
    const resolved = resolveOptions<ForwardedOptions>('httpProxy', FORWARDED_OPTIONS, options, FORWARDED_DEFAULTS)
    this.loops = new LoopMark(resolved.loopName, service)
    this.#viaName = resolved.viaName
    this.#via = resolved.viaName === '' ? 'off' : resolved.via
    this.#setVersion('1.1')
    this.#style = resolved.forwarded
    this.#sendsId = resolved.requestId
    this.#sendsCertificate = resolved.clientCertificate === 'client-cert'
    this.#trusted = resolved.trustedHops.length === 0 ? null : blockListOf(resolved.trustedHops)
  }

  /** Which instance this process belongs to; said before it serves, or never. */
  identify(instanceId: string): void {
    this.loops.identify(instanceId)
    this.#setVersion('1.1')
  }

  /** Whether a client is one of `trustedHops`. @param clientIp '' for a Unix socket, whose clients are none */
  trusts(clientIp: string): boolean {
    if (this.#trusted === null || clientIp === '') return false
    return this.#trusted.check(withoutZone(clientIp), clientIp.includes(':') ? 'ipv6' : 'ipv4')
  }

  /** Takes out what nobody but this proxy says, whoever sent it. */
  stripOwn(headers: HeaderMap): void { if (this.#sendsCertificate) headers.deleteAll(CLIENT_CERT_NAMES) }

  factsOf(digest: Pick<StreamDigest, 'remoteIp' | 'tls'>, selfTest: boolean, site: ConnectionSite | null = null): ConnectionFacts {
    const clientIp = withoutZone(digest.remoteIp), scheme = digest.tls === null ? 'http' : 'https'
    const trusted = this.trusts(clientIp)
    const shown = this.#sendsCertificate && site !== null ? site.clientCertificate : null
    // A byte sequence of structured fields (RFC 8941 3.3.5).
    const certificate = shown === null ? '' : `:${shown.toString('base64')}:`
    const facts: ConnectionFacts = {
      clientIp, scheme, trusted, selfTest, lines: FieldLines.NONE, version: '1.1', site, certificate, kept: undefined,
    }
    this.#setLines(facts, '1.1')
    return facts
  }

  /** Whose request it is: of the client of the connection, or of the one that it speaks for when it is a trusted hop. */
  clientOf({ headers }: RequestHead, { clientIp, trusted }: ConnectionFacts): string {
    if (!trusted || (headers.mask & FORWARDED_FIELDS) === 0) return clientIp
    return clientBehind(clientIp, headers, this.#style === 'forwarded' ? 'forwarded' : 'x-forwarded-for', this.#trusted!)
  }

  #setLines(facts: ConnectionFacts, version: HttpVersion): void {
    const { clientIp, scheme, certificate } = facts, last = this.#last
    facts.version = version
    if (certificate !== '') {
      facts.lines = this.#makeLines(facts, version)
      return
    }
    // Connections of one client come together, and lines are never changed: they share them.
    if (last.clientIp !== clientIp || last.scheme !== scheme || last.version !== version) {
      this.#last = { clientIp, scheme, version, lines: this.#makeLines(facts, version) }
    }
    facts.lines = this.#last.lines
  }

  #makeLines({ clientIp, scheme, certificate }: ConnectionFacts, version: HttpVersion): FieldLines {
    const names: FieldName[] = [], values: string[] = []
    if (clientIp !== '' && this.#sendsXForwarded) {
      names.push(X_FORWARDED_FOR)
      values.push(clientIp)
    }
    if (clientIp !== '' && this.#sendsForwarded) {
      names.push(FORWARDED)
      values.push(`for=${nodeName(clientIp)};proto=${scheme}`)
    }
    if (this.#sendsXForwarded) {
      names.push(X_FORWARDED_PROTO)
      values.push(scheme)
    }
    if (certificate !== '') {
      names.push(CLIENT_CERT)
      values.push(certificate)
    }
    this.#addWay(names, values, version)
    // Copies have no room to grow: a connection keeps them for as long as it is open.
    return new FieldLines(names.slice(), values.slice())
  }

  get #sendsXForwarded(): boolean { return this.#style === 'x-forwarded' || this.#style === 'both' }
  get #sendsForwarded(): boolean { return this.#style === 'forwarded' || this.#style === 'both' }

  /** The client's own id when it is trusted and the id is short and plain, else a new one. */
  requestIdFor(request: RequestHead, facts: ConnectionFacts): Token {
    if (facts.trusted) {
      const given = request.headers.getKind(FieldKind.XRequestId)
      if (given !== undefined && given.length <= 128 && isToken(given)) return given
    }
    const count = ++this.#idCounter, last = count % LAST_DIGITS.length
    if (last === 0 || this.#idBlock === '') {
      this.#idBlock = this.#idPrefix + ((count - last) / LAST_DIGITS.length).toString(16).padStart(6, '0')
    }
    return this.#idBlock + LAST_DIGITS[last]! as Token
  }

  /**
   * Lines to send behind the fields of `request`, which is a copy that may be changed when it has one of MERGED_FIELDS.
   * They are good until the next call.
   */
  linesFor(
    request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead },
  ): FieldLines {
    if ((request.headers.mask & MERGED_FIELDS) !== 0) return this.#merge(request, facts, exchange)
    const { version } = exchange.request
    if (version !== facts.version && this.#via === 'both') this.#setLines(facts, version)
    const lines = this.#requestLines.startFrom(facts.lines)
    if (this.#sendsXForwarded) {
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (host !== undefined) lines.add(X_FORWARDED_HOST, host)
    }
    if (this.#sendsId) lines.add(X_REQUEST_ID, exchange.requestId)
    return lines
  }

  /** Lines to send behind the fields of a response that came from an origin. */
  linesForResponse(response: ResponseHead): FieldLines {
    if (response.version !== this.#lastVersion) this.#setVersion(response.version)
    return this.#responseLines
  }

  #setVersion(version: HttpVersion): void {
    const names: FieldName[] = [], values: string[] = []
    this.#addWay(names, values, version)
    this.#lastVersion = version
    this.#mergedLines = new FieldLines(names, values)
    this.#responseLines = this.#via === 'off' ? FieldLines.NONE : new FieldLines([VIA], [this.#viaOf(version)])
  }

  /** What every request carries. */
  #addWay(names: FieldName[], values: string[], version: HttpVersion): void {
    const { field, value } = this.loops
    if (field !== null) {
      names.push(field)
      values.push(value)
    }
    if (this.#via !== 'both') return
    names.push(VIA)
    values.push(this.#viaOf(version))
  }

  /** `received-protocol` is the version in which the message came (RFC 9110 7.6.3). */
  #viaOf(version: HttpVersion): string { return `${version} ${this.#viaName}` }

  #merge(
    request: RequestHead, facts: ConnectionFacts, exchange: { readonly requestId: string; readonly request: RequestHead },
  ): FieldLines {
    const { headers } = request, { clientIp, scheme, trusted, certificate } = facts
    const { version } = exchange.request
    if (version !== this.#lastVersion) this.#setVersion(version)
    const lines = this.#requestLines.startFrom(this.#mergedLines)
    if (certificate !== '') lines.add(CLIENT_CERT, certificate)
    if (this.#sendsId) headers.set(X_REQUEST_ID.name, exchange.requestId)
    if (this.#sendsXForwarded) {
      const chain = headers.getAll('x-forwarded-for').join(', ')
      if (clientIp !== '') headers.set(X_FORWARDED_FOR.name, joined(chain, clientIp, trusted))
      if (!headers.has('x-forwarded-proto')) lines.add(X_FORWARDED_PROTO, scheme)
      const host = exchange.request.headers.getKind(FieldKind.Host)
      if (!headers.has('x-forwarded-host') && host !== undefined) lines.add(X_FORWARDED_HOST, host)
    }
    if (this.#sendsForwarded && clientIp !== '') {
      const chain = headers.getAll('forwarded').join(', ')
      headers.set(FORWARDED.name, joined(chain, `for=${nodeName(clientIp)};proto=${scheme}`, trusted))
    }
    return lines
  }
}

/** What a trusted hop said goes on with us; what a filter set on behalf of another client stays alone. */
function joined(chain: string, own: string, trusted: boolean): string {
  if (chain === '') return own
  return trusted ? `${chain}, ${own}` : chain
}

/** An address as RFC 7239 6 wants it: IPv6 in brackets and quotes. */
function nodeName(ip: string): string { return ip.includes(':') ? `"[${ip}]"` : ip }
