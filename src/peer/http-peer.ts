/**
 * The peer that HTTP applications return from `upstreamPeer`: an address, perhaps TLS, perhaps a CONNECT proxy on the way.
 *
 * Made anew for every request, so it must cost little: what an address amounts to (its name, its part of the reuse key)
 * is worked out once and kept beside it, and so are options that are the defaults or one frozen object.
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
import { checkAddress, checkHostName, formatAddress, parseAddress, type PeerAddress } from './peer-address.ts'
import { DEFAULT_PEER_OPTIONS, PEER_DEFAULTS, checkPeerOptions, describeBadHeader, digestOf, isPem, show, type CheckedPeerOptions, type ClientCert, type PeerOptions, type ResolvedPeerOptions } from './peer-options.ts'
import type { ConnectProxy, Peer } from './peer.ts'

/** What a load balancer selects: anything with an address and a name that may want to know how attempts ended. */
export interface BackendLike {
  readonly peerAddress: PeerAddress
  /** `host:port`, `[v6]:port` or `unix:/path`. */
  readonly name: string
  /** Called when an attempt ended. */
  report?(healthy: boolean): void
  release?(): void
}

export interface ConnectProxyOptions {
  /** Address of the proxy: `host:port`, `[v6]:port` or `unix:/path`. */
  nextHop: string | PeerAddress
  /** TLS to the proxy itself. Takes effect with TLS. @default false */
  tls?: boolean
  /** Host asked for; '' asks for the peer's own. @default '' */
  host?: string
  /** Port asked for. 0 asks for the peer's own. @default 0 */
  port?: number
  /** Sent with CONNECT, in this order (Proxy-Authorization). @default [] */
  headers?: readonly (readonly [name: string, value: string])[]
}

export const CONNECT_PROXY_DEFAULTS: Readonly<Required<Omit<ConnectProxyOptions, 'nextHop'>>> = { tls: false, host: '', port: 0, headers: [] }

export interface HttpPeerOptions extends PeerOptions {
  /** Speak TLS to the peer. Takes effect with TLS. @default false */
  tls?: boolean
  /** Server name for SNI and verification; '' sends none, and the certificate is then checked against the host. @default the address's host with TLS, if it is a name; else '' */
  sni?: string
  /** Go through this proxy by CONNECT; null goes straight. @default null */
  connectProxy?: ConnectProxyOptions | null
  /** Certificate to show to the origin; null shows none. Takes effect with TLS. @default null */
  clientCert?: ClientCert | null
  /** Peers of different groups never share connections. @default 0 */
  groupKey?: number | string
}

/** Fields of HttpPeerOptions that are checked here. */
const OWN_DEFAULTS = { tls: false, sni: '', connectProxy: null, clientCert: null, groupKey: 0 }
const OWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(OWN_DEFAULTS))
export const HTTP_PEER_DEFAULTS: Readonly<Required<HttpPeerOptions>> = Object.freeze({ ...PEER_DEFAULTS, ...OWN_DEFAULTS })

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

export class HttpPeer implements Peer {
  readonly address: PeerAddress
  readonly tls: boolean
  readonly sni: string
  readonly connectProxy: ConnectProxy | null
  readonly clientCert: ClientCert | null
  readonly options: ResolvedPeerOptions
  readonly reuseKey: string
  readonly name: string
  /** What the address came from, when a load balancer chose it. */
  readonly backend: BackendLike | null

  /** @throws TypeError on an address or option that would not do; the message says what would. */
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
    const checked = checkPeerOptions(options, OWN_FIELDS)
    const tls = options.tls ?? false
    if (typeof tls !== 'boolean') throw new TypeError(`peer.tls is ${show(tls)}; use true or false`)
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
    if (sni !== '') checkSni(sni)
    else if (tls && known.address.kind === 'unix' && checked.options.verifyCert && checked.options.verifyHostname && checked.options.alternativeName === '') {
      throw new TypeError("peer.sni is '' and a Unix socket has no name to check the certificate against; use the name in the certificate")
    }
    const connectProxy = options.connectProxy === undefined || options.connectProxy === null ? null : resolveProxy(options.connectProxy, known.address)
    const clientCert = options.clientCert ?? null
    if (clientCert !== null && !(isPem(clientCert.cert) && isPem(clientCert.key))) throw new TypeError('peer.clientCert has no cert or no key; use { cert, key }, both PEM')
    this.connectProxy = connectProxy
    this.clientCert = clientCert
    this.reuseKey = `${known.key}${tls ? 's' : 'h'}${sni.length}:${sni}${clientCert === null ? '-' : clientCertKey(clientCert)}${groupPart(options.groupKey)}${connectProxy === null ? '-' : proxyKey(connectProxy)}${checked.key}`
    if (alone) {
      known.lastKey = this.reuseKey
      known.lastTls = tls
      known.lastSni = sni
      known.lastChecked = checked
    }
  }

  /** Tells the backend, if a load balancer chose this peer, how an attempt ended. */
  report(healthy: boolean): void { if (this.backend !== null) this.backend.report?.(healthy) }
  release(): void { if (this.backend !== null) this.backend.release?.() }
}

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

function checkSni(sni: string): void {
  if (typeof sni !== 'string') throw new TypeError(`peer.sni is ${show(sni)}; use a host name, or ''`)
  if (isIP(sni) !== 0) throw new TypeError(`peer.sni is ${show(sni)}; SNI carries no IP addresses (RFC 6066): use '', and the address itself is checked`)
  if (sni.endsWith('.')) throw new TypeError(`peer.sni is ${show(sni)}; leave out the dot at its end`)
  try { checkHostName(sni) } catch (cause) { throw new TypeError(`peer.sni is ${show(sni)}; use a host name, or ''`, { cause }) }
}

function resolveProxy(given: ConnectProxyOptions, address: PeerAddress): ConnectProxy {
  for (const name in given) {
    if (name !== 'nextHop' && name !== 'tls' && name !== 'host' && name !== 'port' && name !== 'headers') throw new TypeError(`peer.connectProxy.${name} is not an option; leave it out`)
  }
  const nextHop = typeof given.nextHop === 'string' ? knowText(given.nextHop).address : given.nextHop === undefined ? null : knowObject(given.nextHop).address
  if (nextHop === null) throw new TypeError('peer.connectProxy.nextHop is missing; use the address of the proxy')
  const { tls = CONNECT_PROXY_DEFAULTS.tls, host = CONNECT_PROXY_DEFAULTS.host, port = CONNECT_PROXY_DEFAULTS.port, headers = CONNECT_PROXY_DEFAULTS.headers } = given
  if (typeof tls !== 'boolean') throw new TypeError(`peer.connectProxy.tls is ${show(tls)}; use true or false`)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new TypeError(`peer.connectProxy.port is ${show(port)}; use 0 or a port up to 65535`)
  if (typeof host !== 'string') throw new TypeError(`peer.connectProxy.host is ${show(host)}; use a name or an IP address without brackets`)
  if (host !== '' && (isIP(host) === 0 || host.includes('%'))) {
    try { checkHostName(host) } catch (cause) { throw new TypeError(`peer.connectProxy.host is ${show(host)}; use a name or an IP address without brackets`, { cause }) }
  }
  if (address.kind === 'unix' && (host === '' || port === 0)) throw new TypeError('peer.connectProxy.host and port are needed: a Unix address gives a proxy nothing to connect to')
  const remedy = Array.isArray(headers) ? describeBadHeader(headers) : 'a list of [name, value]'
  if (remedy !== '') throw new TypeError(`peer.connectProxy.headers would not do; use ${remedy}`)
  const authorityHost = host !== '' ? host.toLowerCase() : (address as { host: string }).host
  if (authorityHost.includes('%')) throw new TypeError(`peer.connectProxy cannot ask for ${show(authorityHost)}; an address with a zone means something on this machine only`)
  return { nextHop, tls, host: authorityHost, port: port === 0 ? (address as { port: number }).port : port, headers: headers.map(([name, value]) => [name, value] as const) }
}

function addressKey(address: PeerAddress): string {
  return address.kind === 'tcp' ? `t${address.host.length}:${address.host}:${address.port};` : `u${address.path.length}:${address.path};`
}

function groupPart(group: number | string | undefined): string {
  if (group === undefined || group === 0) return '-'
  if (typeof group === 'number') {
    if (!Number.isFinite(group)) throw new TypeError(`peer.groupKey is ${group}; use a finite number or a text`)
    return `n${group};`
  }
  if (typeof group !== 'string') throw new TypeError(`peer.groupKey is ${show(group)}; use a number or a text`)
  return `g${group.length}:${group}`
}

const certKeys = new WeakMap<ClientCert, string>()

function clientCertKey(cert: ClientCert): string {
  // An object that can change may be another certificate next time, so only a frozen one is remembered.
  const before = certKeys.get(cert)
  if (before !== undefined) return before
  const key = `c${digestOf([cert.cert, cert.key])}`
  if (Object.isFrozen(cert)) certKeys.set(cert, key)
  return key
}

function proxyKey(proxy: ConnectProxy): string {
  return `p${addressKey(proxy.nextHop)}${proxy.tls ? 's' : 'h'}${proxy.host.length}:${proxy.host}:${proxy.port};${proxy.headers.length === 0 ? '-' : `d${digestOf(proxy.headers.flat())}`}`
}
