/**
 * The peer that HTTP applications return from `upstreamPeer`: an address, perhaps TLS, perhaps a CONNECT proxy on the way.
 *
 * An application keeps one for each origin. One that makes them anew for every request must not pay much for it either: what an
 * address amounts to (its name, its part of the reuse key) is worked out once and kept beside it, and so are options that are the
 * defaults or one frozen object.
 *
 * The reuse key is a list of parts that each either have a fixed form or start with their length, so that no two
 * different peers can share one:
 *
 *   t9:127.0.0.1:8080;   address: t length:host:port   or   u length:path
 *   h | s                without or with TLS
 *   7:a.test             server name
 *   ...                  client certificate, group, CONNECT proxy; each `-` when there is none
 *   [65536,200,...]      options (peer-options.ts)
 */
import { isIP } from 'node:net'
import {
  code, count, defaultsOf, flag, needed, OptionError, options, orText, resolveOptions, showValue, text, type Option, type OptionTable,
} from '../primitives/option-table.ts'
import { checkAddress, checkHostName, formatAddress, parseAddress, type PeerAddress } from './peer-address.ts'
import { describeBadPair } from './peer-certificates.ts'
import {
  authorities, checkPeerOptions, DEFAULT_PEER_OPTIONS, digestOf, isPem, orTrue, PEER_OPTIONS, proxyFields,
  type CheckedPeerOptions, type ClientCert, type PeerOptions, type ResolvedPeerOptions,
} from './peer-options.ts'
import type { ConnectProxy, Peer } from './peer.ts'

/** What a load balancer selects: anything with an address and a name that may want to know how attempts ended. */
export interface BackendLike {
  /** Where to connect. */
  readonly peerAddress: PeerAddress
  /** `host:port`, `[v6]:port` or `unix:/path`. */
  readonly name: string
  /**
   * Called when an attempt ended with a verdict. Nothing waits for a promise, and what it throws or rejects with is logged.
   * Left out: attempts are not counted.
   */
  report?(healthy: boolean): unknown
  /** Called instead when an attempt ended without one, as `release` of a `Peer` is. */
  release?(): unknown
}

/** A proxy that is asked by CONNECT for a way to the peer. */
export interface ConnectProxyOptions {
  /** Address of the proxy: `host:port`, `[v6]:port` or `unix:/path`. */
  nextHop: string | PeerAddress
  /** TLS to the proxy itself. What the peer's options say of TLS is for the peer alone. @default false */
  tls?: boolean
  /** Name of the proxy for SNI and verification; '' takes the host of `nextHop`, and sends none for an IP address. @default '' */
  sni?: string
  /** Verify the proxy's certificate, chain and name. @default true */
  verifyCert?: boolean
  /** Trust anchors for the proxy, PEM; null trusts the runtime's list. @default null */
  ca?: readonly (string | Buffer)[] | null
  /** Certificate to show to the proxy; null shows none. @default null */
  clientCert?: ClientCert | null
  /** Host asked for; '' asks for the peer's own. @default '' */
  host?: string
  /** Port asked for. 0 asks for the peer's own. @default 0 */
  port?: number
  /** Sent with CONNECT, in this order (Proxy-Authorization). @default [] */
  headers?: readonly (readonly [name: string, value: string])[]
}

const MAX_PORT = 65_535

export const CONNECT_PROXY_OPTIONS = {
  nextHop: needed(orText(code<string | PeerAddress>('', 'the address of the proxy', isAddress))),
  tls: flag(false),
  sni: serverName(),
  verifyCert: flag(true),
  ca: authorities(),
  clientCert: clientCertificate(),
  host: text('', 'a name or an IP address without brackets', isHost),
  port: count(0, { max: MAX_PORT, zero: "asks for the peer's own" }),
  headers: proxyFields(),
} satisfies OptionTable<ConnectProxyOptions>

export const CONNECT_PROXY_DEFAULTS: Readonly<Required<ConnectProxyOptions>> = defaultsOf<ConnectProxyOptions>(CONNECT_PROXY_OPTIONS)

/** Options of an HttpPeer. */
export interface HttpPeerOptions extends PeerOptions {
  /** Speak TLS to the peer; without it every option of TLS is refused. @default false */
  tls?: boolean
  /**
   * Server name for SNI and verification; '' sends none, and the certificate is then checked against the host.
   * @default the address's host with TLS, if it is a name; else ''
   */
  sni?: string
  /** Go through this proxy by CONNECT; null goes straight. @default null */
  connectProxy?: ConnectProxyOptions | null
  /** Certificate to show to the origin; null shows none. @default null */
  clientCert?: ClientCert | null
  /** Peers of different groups never share connections. @default 0 */
  groupKey?: number | string
}

export const HTTP_PEER_OPTIONS = {
  ...PEER_OPTIONS,
  tls: flag(false),
  sni: serverName(),
  connectProxy: options<ConnectProxyOptions, null>(CONNECT_PROXY_OPTIONS, null),
  clientCert: clientCertificate(),
  groupKey: orText(code<number | string>(0, 'a finite number or a text', isGroupKey)),
} satisfies OptionTable<HttpPeerOptions>

export const HTTP_PEER_DEFAULTS: Readonly<Required<HttpPeerOptions>> = defaultsOf<HttpPeerOptions>(HTTP_PEER_OPTIONS)

/** The part of a reuse key behind the address, for a peer that sets nothing. */
const PLAIN_KEY = `h0:---${DEFAULT_PEER_OPTIONS.key}`

/** An address worked out. */
class KnownAddress {
  /** A copy of ours: the caller's object may change, and the key must not lie. */
  readonly address: PeerAddress
  readonly name: string
  readonly key: string
  /** Reuse key of a peer with this address that sets nothing. */
  readonly plainKey: string
  /** Reuse key of the last peer with this address that set TLS, server name or options and nothing else: mostly the next one is alike. */
  lastKey = ''
  lastTls = false
  lastSni = ''
  lastChecked: CheckedPeerOptions | null = null

  constructor(address: PeerAddress) {
    this.address = address
    this.name = formatAddress(address)
    this.key = addressKey(address)
    this.plainKey = this.key + PLAIN_KEY
  }
}

/** Texts kept with what they mean; all are forgotten when there are too many (an application that makes addresses up). */
const MAX_KNOWN_TEXTS = 4096
const knownTexts = new Map<string, KnownAddress>()
const knownObjects = new WeakMap<PeerAddress, KnownAddress>()

/**
 * Where and how to connect to an origin: `new HttpPeer('10.0.0.1:8080', { readTimeoutMs: 5000 })`, or from a `Backend` that a balancer
 * chose. Make one for each origin and keep it: peers with the same `reuseKey` share pooled connections, and a request then builds
 * nothing.
 */
export class HttpPeer implements Peer {
  /** Where to connect. */
  readonly address: PeerAddress
  /** Whether TLS is spoken. */
  readonly tls: boolean
  /** Server name for SNI and verification; '' sends none. */
  readonly sni: string
  /** The proxy that is asked by CONNECT; null goes straight. */
  readonly connectProxy: ConnectProxy | null
  /** The certificate that is shown; null shows none. */
  readonly clientCert: ClientCert | null
  /** Its options, complete and checked. */
  readonly options: ResolvedPeerOptions
  /** Peers with the same key share pooled connections. */
  readonly reuseKey: string
  /** `host:port`, `[v6]:port` or `unix:/path`: for logs and tracers. */
  readonly name: string
  /** What the address came from, when a load balancer chose it. */
  readonly backend: BackendLike | null

  /** @throws TypeError on an address that would not do, OptionError with every option that would not; the message says what would. */
  constructor(address: string | PeerAddress | BackendLike, options?: HttpPeerOptions) {
    let known: KnownAddress
    let backend: BackendLike | null = null
    if (typeof address === 'string') known = knowText(address)
    else if (address !== null && typeof address === 'object' && 'peerAddress' in address) {
      known = knowObject(address.peerAddress)
      backend = address
    } else known = knowObject(address)
    this.address = known.address
    if (options === undefined) {
      this.tls = false
      this.sni = ''
      this.options = DEFAULT_PEER_OPTIONS.options
      this.name = known.name
      this.backend = backend
      this.connectProxy = null
      this.clientCert = null
      this.reuseKey = known.plainKey
      return
    }
    const checked = checkPeerOptions(options, HTTP_PEER_OPTIONS)
    const tls = options.tls ?? false
    const sni = options.sni ?? (tls ? nameOf(known.address) : '')
    this.tls = tls
    this.sni = sni
    this.options = checked.options
    this.name = known.name
    this.backend = backend
    const alone = options.clientCert === undefined && options.groupKey === undefined && options.connectProxy === undefined
    if (alone && known.lastChecked === checked && known.lastTls === tls && known.lastSni === sni) {
      this.connectProxy = null
      this.clientCert = null
      this.reuseKey = known.lastKey
      return
    }
    const { verifyHostname, alternativeName } = checked.options
    if (!tls) refuseWithoutTls(options, checked)
    else if (sni === '' && known.address.kind === 'unix' && verifyHostname && alternativeName === '') {
      throw OptionError.of('peer.sni', sni, 'a Unix socket has no name to check the certificate against: use the name in the certificate')
    }
    const proxyAsked = options.connectProxy ?? null
    const connectProxy = proxyAsked === null ? null : resolveProxy(proxyAsked, known.address)
    const clientCert = options.clientCert ?? null
    this.connectProxy = connectProxy
    this.clientCert = clientCert
    const server = `${tls ? 's' : 'h'}${sni.length}:${sni}`
    const certPart = clientCert === null ? '-' : clientCertKey(clientCert)
    const proxyPart = connectProxy === null ? '-' : proxyKey(connectProxy)
    this.reuseKey = `${known.key}${server}${certPart}${groupPart(options.groupKey)}${proxyPart}${checked.key}`
    if (alone) {
      known.lastKey = this.reuseKey
      known.lastTls = tls
      known.lastSni = sni
      known.lastChecked = checked
    }
  }

  /** @internal */
  get speaksOther(): boolean { return false }
  /** Tells the backend, if a load balancer chose this peer, how an attempt ended. */
  report(healthy: boolean): unknown { return this.backend?.report?.(healthy) }
  /** Tells the backend that an attempt ended without a verdict. */
  release(): unknown { return this.backend?.release?.() }
}

/** Whoever sets how TLS is spoken, and not that it is, must not get plain text. @throws OptionError */
function refuseWithoutTls({ clientCert, sni }: HttpPeerOptions, { tlsOption }: CheckedPeerOptions): void {
  const name = (sni ?? '') !== '' ? 'sni' : (clientCert ?? null) !== null ? 'clientCert' : tlsOption
  if (name !== '') throw new OptionError([{ path: `peer.${name}`, text: NOTHING_WITHOUT_TLS }])
}

const NOTHING_WITHOUT_TLS = 'means nothing without TLS; use tls: true as well, or leave it out'

/** Name that the certificate of `peer` has to carry: its server name, or its host; '' only where `verifyHostname` is off. */
export function verifiedName(peer: Peer): string {
  return peer.sni !== '' ? peer.sni : peer.address.kind === 'tcp' ? peer.address.host : ''
}

function knowText(text: string): KnownAddress {
  let known = knownTexts.get(text)
  if (known === undefined) {
    known = new KnownAddress(parseAddress(text))
    if (knownTexts.size >= MAX_KNOWN_TEXTS) knownTexts.clear()
    knownTexts.set(text, known)
  }
  return known
}

function knowObject(address: PeerAddress): KnownAddress {
  let known = knownObjects.get(address)
  if (known === undefined || !isSame(known.address, address)) {
    known = new KnownAddress(checkAddress(address))
    knownObjects.set(address, known)
  }
  return known
}

function isSame(a: PeerAddress, b: PeerAddress): boolean {
  return a.kind === 'tcp' ? b.kind === 'tcp' && a.port === b.port && a.host === b.host : b.kind === 'unix' && a.path === b.path
}

function nameOf(address: PeerAddress): string {
  return address.kind === 'tcp' && isIP(address.host) === 0 ? withoutDot(address.host) : ''
}

/** The dot that ends an absolute name belongs to DNS; SNI has none (RFC 6066 3). */
function withoutDot(name: string): string { return name.endsWith('.') ? name.slice(0, -1) : name }

/** What would do in place of this server name; true when it will do. */
export function describeBadSni(sni: unknown): boolean | string {
  if (typeof sni !== 'string') return false
  if (sni === '') return true
  if (isIP(sni) !== 0) return "'', so that the address itself is checked: SNI carries no IP addresses (RFC 6066)"
  return sni.endsWith('.') ? 'the name, and leave out the dot at its end' : isHostName(sni)
}

function isHost(host: string): boolean { return host === '' || (isIP(host) !== 0 && !host.includes('%')) || isHostName(host) }

function isHostName(name: string): boolean {
  try {
    checkHostName(name)
    return true
  } catch {
    return false // What would do instead is said by the option.
  }
}

function isAddress(value: unknown): boolean { return typeof value === 'string' || (typeof value === 'object' && value !== null) }

function serverName(): Option<string> { return orText(code<string>('', "a host name, or ''", describeBadSni)) }

export function clientCertificate(): Option<ClientCert | null> {
  return code<ClientCert | null>(null, '{ cert, key }, both PEM, or null', value => {
    if (value === null) return true
    const { cert, key } = Object(value) as Partial<ClientCert>
    return isPem(cert) && isPem(key) && orTrue(describeBadPair(cert, key))
  })
}

function isGroupKey(value: unknown): boolean { return typeof value === 'string' || Number.isFinite(value) }

/** `given` was checked by itself; what it means together with the peer's address was not. */
function resolveProxy(given: ConnectProxyOptions, address: PeerAddress): ConnectProxy {
  const resolved = resolveOptions<ConnectProxyOptions>('peer.connectProxy', CONNECT_PROXY_OPTIONS, given, CONNECT_PROXY_DEFAULTS)
  const { ca, clientCert, headers, host, port, tls, verifyCert } = resolved
  const nextHop = (typeof given.nextHop === 'string' ? knowText(given.nextHop) : knowObject(given.nextHop)).address
  const sni = resolved.sni === '' && tls ? nameOf(nextHop) : resolved.sni
  checkProxyTls(resolved, nextHop)
  if (address.kind === 'unix' && (host === '' || port === 0)) {
    const text = 'has no host or no port; use both, as a Unix address gives a proxy nothing to connect to'
    throw new OptionError([{ path: 'peer.connectProxy', text }])
  }
  const authorityHost = host !== '' ? host.toLowerCase() : (address as { host: string }).host
  if (authorityHost.includes('%')) {
    const text = `cannot ask for ${showValue(authorityHost)}; use an address without a zone: a zone means something on this machine only`
    throw new OptionError([{ path: 'peer.connectProxy', text }])
  }
  const authorityPort = port === 0 ? (address as { port: number }).port : port
  const fields = headers.map(([name, value]) => [name, value] as const)
  return { nextHop, tls, sni, verifyCert, ca, clientCert, host: authorityHost, port: authorityPort, headers: fields }
}

/** @throws OptionError */
function checkProxyTls({ ca, clientCert, sni, tls, verifyCert }: Readonly<Required<ConnectProxyOptions>>, nextHop: PeerAddress): void {
  const path = 'peer.connectProxy'
  if (!tls) {
    const name = sni !== '' ? 'sni' : !verifyCert ? 'verifyCert' : ca !== null ? 'ca' : clientCert !== null ? 'clientCert' : ''
    if (name !== '') throw new OptionError([{ path: `${path}.${name}`, text: NOTHING_WITHOUT_TLS }])
  } else if (sni === '' && nextHop.kind === 'unix' && verifyCert) {
    throw OptionError.of(`${path}.sni`, sni, 'a Unix socket has no name to check the certificate against: use the name in the certificate')
  }
}

function addressKey(address: PeerAddress): string {
  return address.kind === 'tcp' ? `t${address.host.length}:${address.host}:${address.port};` : `u${address.path.length}:${address.path};`
}

function groupPart(group: number | string | undefined): string {
  if (group === undefined || group === 0) return '-'
  return typeof group === 'number' ? `n${group};` : `g${group.length}:${group}`
}

const certKeys = new WeakMap<ClientCert, string>()

export function clientCertKey(cert: ClientCert): string {
  // An object that can change may be another certificate next time, so only a frozen one is remembered.
  const before = certKeys.get(cert)
  if (before !== undefined) return before
  const key = `c${digestOf([cert.cert, cert.key])}`
  if (Object.isFrozen(cert)) certKeys.set(cert, key)
  return key
}

function proxyKey(proxy: ConnectProxy): string {
  const { ca, clientCert, headers, host, nextHop, port, sni, tls, verifyCert } = proxy
  const fields = headers.length === 0 ? '-' : `d${digestOf(headers.flat())}`
  const trust = ca === null ? '-' : `a${digestOf(ca)}`, shown = clientCert === null ? '-' : clientCertKey(clientCert)
  const security = tls ? `s${sni.length}:${sni}${verifyCert ? 'v' : '-'}${trust}${shown}` : 'h'
  return `p${addressKey(nextHop)}${security}${host.length}:${host}:${port};${fields}`
}
