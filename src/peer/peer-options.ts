/**
 * What may be set for a peer: described once, defaulted once, checked once, when the peer is made.
 *
 * An option that cannot be honoured is refused by name and with the reason, never ignored (REFUSED below).
 * Whatever makes two connections not interchangeable goes into the text that `keyOf` makes, which is part of a peer's
 * `reuseKey`; a field is either in KEYED or in UNKEYED, and a test compares both lists with the defaults, so that a new
 * option cannot be forgotten.
 *
 * Checking costs about a microsecond. Peers without options share one checked set, and so do peers whose options are
 * one frozen object: `Object.freeze` it once and give it to every `new HttpPeer`.
 */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import { VALUE_CHAR, isToken } from '../http/header-map.ts'
import type { ResponseHead } from '../http/message-head.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import { HTTP1_CLIENT_DEFAULTS, type Http1ClientOptions } from '../protocols/http1/http1-options.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import type { PeerAddress } from './peer-address.ts'

/** Opens the transport in place of a TCP or Unix connect. The stream it returns is connected; nobody reads from it yet. */
export interface CustomL4 {
  /** `address` is the peer's, or that of its CONNECT proxy; names are not resolved. A stream that comes after the time limit is destroyed. */
  connect(address: PeerAddress): ByteStream | Promise<ByteStream>
}

/** A certificate that this proxy shows to the origin; PEM. Takes effect with TLS. */
export interface ClientCert {
  /** Leaf first, then intermediates. */
  readonly cert: string | Buffer
  readonly key: string | Buffer
}

export type Alpn = 'h1' | 'h2' | 'h2h1'
export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

export interface PeerOptions extends Http1ClientOptions {
  /** Waiting for the addresses of a name, in ms. @default 5000 */
  resolveTimeoutMs?: number
  /** Each step of connecting: one address, the answer to CONNECT, a TLS handshake; in ms. @default 3000 */
  connectTimeoutMs?: number
  /** All of connecting, names and every address included, in ms. @default 10000 */
  totalConnectTimeoutMs?: number
  /** Longest time a connection may sit idle in the pool, in ms; an origin's shorter `Keep-Alive: timeout` wins. 0 turns reuse off. @default 60000 */
  idleTimeoutMs?: number

  /** Request body kept for a repetition, in bytes; a longer one rules it out. 0 keeps none. @default 65536 */
  maxReplayBytes?: number
  /** Attempts for one request, the first included. @default 3 */
  maxAttempts?: number
  /** Repetitions allowed, in percent of recent requests. 0 allows none. @default 20 */
  retryBudgetPercent?: number

  /** Connections with one reuse key at a time: dialling, busy and idle. 0 sets no limit. @default 0 */
  maxConnectionsPerPeer?: number
  /** Requests that may wait for one of them; past it 503. 0 lets none wait. @default 128 */
  maxQueuedPerPeer?: number
  /** Longest wait for one of them, in ms; past it 503. @default 5000 */
  queueTimeoutMs?: number

  /** IP address to connect from; '' lets the kernel, or the connector's own list, choose. @default '' */
  localAddress?: string
  /** Port to connect from. 0 lets the kernel choose. @default 0 */
  localPort?: number
  /** Idle time before the first TCP keepalive probe, in ms (the kernel counts whole seconds). 0 sends none. @default 0 */
  tcpKeepAliveIdleMs?: number
  /** Time between probes, in ms (whole seconds). 0 leaves it to the system. @default 0 */
  tcpKeepAliveIntervalMs?: number
  /** Unanswered probes after which the connection is dead. 0 leaves it to the system. @default 0 */
  tcpKeepAliveCount?: number
  /** Opens the transport in place of a TCP or Unix connect; null connects as usual. @default null */
  customL4?: CustomL4 | null

  /** Fields sent with CONNECT, behind those of the proxy itself. @default [] */
  extraProxyHeaders?: readonly (readonly [name: string, value: string])[]
  /** Sees the 2xx answer to CONNECT; only watches. @default null */
  onConnectResponse?: ((head: ResponseHead) => void) | null

  /** Check the certificate chain. Nothing else turns it off, an empty SNI neither. Takes effect with TLS. @default true */
  verifyCert?: boolean
  /** Check the certificate's name against SNI, or the host without one. Takes effect with TLS. @default true */
  verifyHostname?: boolean
  /** A second name that the certificate may carry; '' for none. Takes effect with TLS. @default '' */
  alternativeName?: string
  /** Trust anchors, PEM; null trusts the runtime's list. Takes effect with TLS. @default null */
  ca?: readonly (string | Buffer)[] | null
  /** Oldest TLS version. Takes effect with TLS. @default 'TLSv1.2' */
  tlsMinVersion?: TlsVersion
  /** Newest TLS version. Takes effect with TLS. @default 'TLSv1.3' */
  tlsMaxVersion?: TlsVersion
  /** TLS groups in order of preference, as in `X25519MLKEM768:X25519`; '' leaves it to OpenSSL. Takes effect with TLS. @default '' */
  curves?: string

  /** Protocols: HTTP/1.1 only, HTTP/2 only (without TLS: by prior knowledge), or HTTP/2 with a way back. HTTP/2 takes effect with its upstream side. @default 'h1' */
  alpn?: Alpn
  /** Streams at a time on one HTTP/2 connection. Takes effect with HTTP/2. @default 100 */
  maxH2Streams?: number
  /** Window of each HTTP/2 stream, in bytes. Takes effect with HTTP/2. @default 262144 */
  h2StreamWindowBytes?: number
  /** Window of an HTTP/2 connection, in bytes. Takes effect with HTTP/2. @default 4194304 */
  h2ConnectionWindowBytes?: number
  /** Time between PINGs, in ms. 0 sends none. Takes effect with HTTP/2. @default 0 */
  h2PingIntervalMs?: number
  /** Longest wait for the answer to a PING, in ms. Takes effect with HTTP/2. @default 5000 */
  h2PingTimeoutMs?: number

  /** Watches connections to this peer; null for nobody. @default null */
  tracer?: Tracer | null
}

export type ResolvedPeerOptions = Readonly<Required<PeerOptions>>

export const PEER_DEFAULTS: ResolvedPeerOptions = Object.freeze({
  ...HTTP1_CLIENT_DEFAULTS,
  resolveTimeoutMs: 5000,
  connectTimeoutMs: 3000,
  totalConnectTimeoutMs: 10_000,
  idleTimeoutMs: 60_000,
  maxReplayBytes: 65_536,
  maxAttempts: 3,
  retryBudgetPercent: 20,
  maxConnectionsPerPeer: 0,
  maxQueuedPerPeer: 128,
  queueTimeoutMs: 5000,
  localAddress: '',
  localPort: 0,
  tcpKeepAliveIdleMs: 0,
  tcpKeepAliveIntervalMs: 0,
  tcpKeepAliveCount: 0,
  customL4: null,
  extraProxyHeaders: Object.freeze([]),
  onConnectResponse: null,
  verifyCert: true,
  verifyHostname: true,
  alternativeName: '',
  ca: null,
  tlsMinVersion: 'TLSv1.2',
  tlsMaxVersion: 'TLSv1.3',
  curves: '',
  alpn: 'h1',
  maxH2Streams: 100,
  h2StreamWindowBytes: 262_144,
  h2ConnectionWindowBytes: 4_194_304,
  h2PingIntervalMs: 0,
  h2PingTimeoutMs: 5000,
  tracer: null,
})

/**
 * Options that make connections not interchangeable. The HTTP/1 limits and times are among them because a session keeps
 * the ones that it was made with: a peer with a shorter `readTimeoutMs` must not get a connection that waits longer.
 */
export const KEYED = [
  'maxResponseHeadBytes', 'maxResponseHeaderCount', 'maxInterimResponses', 'continueTimeoutMs', 'firstByteTimeoutMs', 'readTimeoutMs', 'writeTimeoutMs',
  'localAddress', 'localPort', 'tcpKeepAliveIdleMs', 'tcpKeepAliveIntervalMs', 'tcpKeepAliveCount', 'customL4', 'extraProxyHeaders',
  'verifyCert', 'verifyHostname', 'alternativeName', 'ca', 'tlsMinVersion', 'tlsMaxVersion', 'curves',
  'alpn', 'maxH2Streams', 'h2StreamWindowBytes', 'h2ConnectionWindowBytes', 'h2PingIntervalMs', 'h2PingTimeoutMs',
] as const satisfies readonly (keyof ResolvedPeerOptions)[]

/** Options that only say how a connection is come by, kept or watched; it is the same connection afterwards. */
export const UNKEYED = [
  'resolveTimeoutMs', 'connectTimeoutMs', 'totalConnectTimeoutMs', 'idleTimeoutMs', 'maxReplayBytes', 'maxAttempts', 'retryBudgetPercent',
  'maxConnectionsPerPeer', 'maxQueuedPerPeer', 'queueTimeoutMs', 'onConnectResponse', 'tracer',
] as const satisfies readonly (keyof ResolvedPeerOptions)[]

/** Options that others have and this proxy cannot honour, with what to do instead. */
export const REFUSED: Readonly<Record<string, string>> = {
  dscp: 'Node.js cannot set it; mark packets by cgroup or uid with nftables',
  tcpRecvBuf: 'Node.js cannot set it before connecting; set net.ipv4.tcp_rmem',
  tcpSendBuf: 'Node.js cannot set it before connecting; set net.ipv4.tcp_wmem',
  tcpFastOpen: 'Node.js cannot set it; connections are pooled instead',
  tcpUserTimeoutMs: 'Node.js cannot set it; use writeTimeoutMs and tcpKeepAliveIdleMs',
  bindPortRange: 'Node.js cannot set it; use localPort, or net.ipv4.ip_local_port_range',
  bindFallback: 'there is no port range to fall back from; use localAddress',
  upstreamTcpSockTweakHook: 'there is no socket before connecting; use customL4',
  secondKeyshare: 'OpenSSL chooses its key shares; use curves',
  psk: 'it belongs to a TLS library that Node.js does not have; use clientCert',
  s2nSecurityPolicy: 'it belongs to a TLS library that Node.js does not have; use tlsMinVersion and curves',
  maxBlindingDelay: 'it belongs to a TLS library that Node.js does not have; leave it out',
  useSystemCerts: 'it belongs to a TLS library that Node.js does not have; use ca',
  allowH1ResponseInvalidContentLength: 'an answer of unclear length is how two answers get mixed up; mend the origin',
}

/** Checked options with their part of the reuse key. */
export interface CheckedPeerOptions {
  readonly options: ResolvedPeerOptions
  readonly key: string
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
/** What would do, to be said behind `use `; '' when the value is fine. */
type Check = (value: unknown) => string

const MS: Check = value => isTime(value) && value > 0 ? '' : 'a positive number of milliseconds'
const MS_OR_0: Check = value => isTime(value) ? '' : '0 or a positive number of milliseconds'
const SECONDS_OR_0: Check = value => isTime(value) && (value === 0 || value >= 1000) ? '' : '0 or at least 1000 milliseconds'
const BYTES: Check = value => isCount(value) && value > 0 ? '' : 'a positive whole number of bytes'
const BYTES_OR_0: Check = value => isCount(value) ? '' : '0 or a positive whole number of bytes'
const COUNT: Check = value => isCount(value) && value > 0 ? '' : 'a positive whole number'
const COUNT_OR_0: Check = value => isCount(value) ? '' : '0 or a positive whole number'
const PERCENT: Check = value => typeof value === 'number' && value >= 0 && value <= 100 ? '' : 'a number from 0 to 100'
const PORT_OR_0: Check = value => isCount(value) && value <= 65_535 ? '' : '0 or a port up to 65535'
const BOOLEAN: Check = value => typeof value === 'boolean' ? '' : 'true or false'
const WINDOW: Check = value => isCount(value) && value >= 65_535 && value <= 2_147_483_647 ? '' : 'a whole number of bytes from 65535 to 2147483647'
const IP_OR_EMPTY: Check = value => value === '' || (typeof value === 'string' && isIP(value) !== 0) ? '' : "'' or an IP address"
const NAME_OR_EMPTY: Check = value => typeof value === 'string' && value.length <= 253 && isPlain(value) ? '' : "'' or a host name"
const CURVES: Check = value => typeof value === 'string' && isPlain(value) ? '' : "'' or group names joined by ':'"
const TLS_VERSION: Check = value => value === 'TLSv1.2' || value === 'TLSv1.3' ? '' : "'TLSv1.2' or 'TLSv1.3'"
const FUNCTION_OR_NULL: Check = value => value === null || typeof value === 'function' ? '' : 'a function or null'
const TRACER: Check = value => value === null || typeof value === 'object' ? '' : 'a tracer or null'
const CUSTOM_L4: Check = value => value === null || typeof (value as CustomL4).connect === 'function' ? '' : 'an object with connect(address), or null'
const ALPN: Check = value => value === 'h1' || value === 'h2' || value === 'h2h1' ? '' : "'h1', 'h2' or 'h2h1'"
const CA: Check = value => value === null || (Array.isArray(value) && value.length > 0 && value.every(isPem)) ? '' : 'null or a list of PEM certificates that is not empty'
const HEADERS: Check = value => Array.isArray(value) ? describeBadHeader(value) : 'a list of [name, value]'

const CHECKS: Readonly<Record<keyof ResolvedPeerOptions, Check>> = {
  maxResponseHeadBytes: BYTES, maxResponseHeaderCount: COUNT, maxInterimResponses: COUNT, continueTimeoutMs: MS,
  firstByteTimeoutMs: MS, readTimeoutMs: MS, writeTimeoutMs: MS,
  resolveTimeoutMs: MS, connectTimeoutMs: MS, totalConnectTimeoutMs: MS, idleTimeoutMs: MS_OR_0,
  maxReplayBytes: BYTES_OR_0, maxAttempts: COUNT, retryBudgetPercent: PERCENT,
  maxConnectionsPerPeer: COUNT_OR_0, maxQueuedPerPeer: COUNT_OR_0, queueTimeoutMs: MS,
  localAddress: IP_OR_EMPTY, localPort: PORT_OR_0,
  tcpKeepAliveIdleMs: SECONDS_OR_0, tcpKeepAliveIntervalMs: SECONDS_OR_0, tcpKeepAliveCount: COUNT_OR_0,
  customL4: CUSTOM_L4, extraProxyHeaders: HEADERS, onConnectResponse: FUNCTION_OR_NULL,
  verifyCert: BOOLEAN, verifyHostname: BOOLEAN, alternativeName: NAME_OR_EMPTY, ca: CA,
  tlsMinVersion: TLS_VERSION, tlsMaxVersion: TLS_VERSION, curves: CURVES,
  alpn: ALPN, maxH2Streams: COUNT, h2StreamWindowBytes: WINDOW, h2ConnectionWindowBytes: WINDOW, h2PingIntervalMs: MS_OR_0, h2PingTimeoutMs: MS,
  tracer: TRACER,
}

export const DEFAULT_PEER_OPTIONS: CheckedPeerOptions = { options: PEER_DEFAULTS, key: keyOf(PEER_DEFAULTS) }

/** Sets checked before, by the frozen object that they came from. */
const checkedBefore = new WeakMap<object, CheckedPeerOptions>()

/**
 * Checks and completes `given`. Keys in `besides` belong to the kind of peer and are skipped.
 * @throws TypeError on an unknown option or a value that would not do.
 */
export function checkPeerOptions(given: PeerOptions, besides: ReadonlySet<string>): CheckedPeerOptions {
  let resolved: Mutable<ResolvedPeerOptions> | null = null
  for (const name in given) {
    if (besides.has(name)) continue
    if (resolved === null) {
      if (Object.isFrozen(given)) {
        const before = checkedBefore.get(given)
        if (before !== undefined) return before
      }
      resolved = { ...PEER_DEFAULTS }
    }
    setChecked(resolved, name, (given as Readonly<Record<string, unknown>>)[name])
  }
  if (resolved === null) return DEFAULT_PEER_OPTIONS
  if (resolved.tlsMinVersion === 'TLSv1.3' && resolved.tlsMaxVersion === 'TLSv1.2') throw new TypeError("peer.tlsMinVersion is 'TLSv1.3' but peer.tlsMaxVersion is 'TLSv1.2'; use a range that holds a version")
  if (resolved.customL4 !== null && (resolved.localAddress !== '' || resolved.localPort !== 0 || resolved.tcpKeepAliveIdleMs !== 0)) {
    throw new TypeError('peer.customL4 opens the transport itself; set localAddress, localPort and tcpKeepAlive there')
  }
  if (resolved.localPort !== 0 && resolved.localAddress === '') throw new TypeError(`peer.localPort is ${resolved.localPort} but peer.localAddress is ''; use both`)
  const checked = { options: Object.freeze(resolved), key: keyOf(resolved) }
  if (Object.isFrozen(given)) checkedBefore.set(given, checked)
  return checked
}

function setChecked(resolved: Mutable<ResolvedPeerOptions>, name: string, value: unknown): void {
  const check = Object.hasOwn(CHECKS, name) ? CHECKS[name as keyof ResolvedPeerOptions] : null
  if (check === null) {
    if (Object.hasOwn(REFUSED, name)) throw new TypeError(`peer.${name} is not supported: ${REFUSED[name]}`)
    throw new TypeError(`peer.${name} is not an option of peers; leave it out`)
  }
  // Callers in plain JavaScript write undefined for what they leave out.
  if (value === undefined) return
  const remedy = check(value)
  if (remedy !== '') throw new TypeError(`peer.${name} is ${show(value)}; use ${remedy}`)
  ;(resolved as Record<string, unknown>)[name] = value
}

/** A value for an error message: never secret, never long. */
export function show(value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `a string of ${value.length} characters` : JSON.stringify(value)
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint' || value === null || value === undefined) return String(value)
  return Array.isArray(value) ? 'a list that would not do' : `a value of type ${typeof value}`
}

/** One text that differs whenever two sets make connections that are not interchangeable: JSON of a list in fixed order. */
function keyOf(options: ResolvedPeerOptions): string {
  const parts: unknown[] = []
  for (const name of KEYED) {
    switch (name) {
      case 'customL4': parts.push(options.customL4 === null ? 0 : identityOf(options.customL4)); break
      case 'ca': parts.push(options.ca === null ? 0 : digestOf(options.ca)); break
      case 'extraProxyHeaders': parts.push(options.extraProxyHeaders.length === 0 ? 0 : digestOf(options.extraProxyHeaders.flat())); break
      default: parts.push(options[name])
    }
  }
  return JSON.stringify(parts)
}

const identities = new WeakMap<object, number>()
let identitiesGiven = 0

/** A number of its own for each object, for as long as this process lives. */
export function identityOf(object: object): number {
  let identity = identities.get(object)
  if (identity === undefined) {
    identity = ++identitiesGiven
    identities.set(object, identity)
  }
  return identity
}

/** SHA-256 over the parts and their lengths, so that no two lists share one. Reuse keys hold it in place of what is long or secret. */
export function digestOf(parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) {
    hash.update(`${typeof part === 'string' ? Buffer.byteLength(part) : part.length}:`)
    hash.update(part)
  }
  return hash.digest('base64url')
}

/** What would do instead of these fields of a CONNECT request; '' when they are fine (RFC 9110 5.1, 5.5; framing is ours to say). */
export function describeBadHeader(headers: readonly unknown[]): string {
  for (const header of headers) {
    if (!Array.isArray(header) || header.length !== 2 || typeof header[0] !== 'string' || typeof header[1] !== 'string') return 'a list of [name, value] pairs of strings'
    const [name, value] = header as [string, string]
    if (!isToken(name)) return `field names that are tokens, not ${show(name)}`
    if (!isFieldValue(value)) return `values without controls, outer blanks or characters outside latin1 for ${name}`
    switch (name.toLowerCase()) {
      case 'host': case 'content-length': case 'transfer-encoding': case 'connection': case 'upgrade': case 'te': case 'trailer': case 'expect':
        return `no ${name} field: the connector says how CONNECT is framed`
      default:
    }
  }
  return ''
}

function isFieldValue(value: string): boolean {
  if (value !== value.trim()) return false
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code > 0xff || VALUE_CHAR[code] === 0) return false
  }
  return true
}

/** Printable ASCII without blanks. */
export function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f) return false
  }
  return true
}

function isTime(value: unknown): value is number { return typeof value === 'number' && value >= 0 && value < Infinity }
function isCount(value: unknown): value is number { return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 }
export function isPem(value: unknown): value is string | Buffer { return (typeof value === 'string' || Buffer.isBuffer(value)) && value.length > 0 }
