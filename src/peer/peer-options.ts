/**
 * What may be set for a peer: described once, in PEER_OPTIONS, and checked once, when the peer is made.
 *
 * An option that cannot be honoured is refused by name and with the reason, never ignored: what Node.js cannot do is in
 * REFUSED below.
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
import type { TlsVersion } from '../certificates/tls-policy-name.ts'
import type { ResponseHead } from '../http/message-head.ts'
import {
  callback, checkOptions, choice, code, count, defaultsOf, duration, faultOf, flag, number, object, OptionError,
  showValue, size, text,
  unknownOption, type AnyOptionTable, type Option, type OptionMistake, type OptionTable,
} from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import { HTTP1_CLIENT_OPTIONS, type Http1ClientOptions } from '../protocols/http1/http1-options.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import type { PeerAddress } from './peer-address.ts'
import { describeBadAuthorities, describeBadGroups, describeBadRevocationLists } from './peer-certificates.ts'

/** Opens the transport in place of a TCP or Unix connect. The stream that it returns is connected, and nothing was read from it. */
export interface CustomL4 {
  /**
   * `address` is the peer's, or that of its CONNECT proxy; names are not resolved. A stream that comes after the time
   * limit is destroyed.
   */
  connect(address: PeerAddress): ByteStream | Promise<ByteStream>
}

/** A certificate that this proxy shows to the origin; PEM. */
export interface ClientCert {
  /** Leaf first, then intermediates. */
  readonly cert: string | Buffer
  /** Private key of the leaf. */
  readonly key: string | Buffer
}

export type Alpn = 'h1' | 'h2' | 'h2h1'

/** How to connect to a peer, how long to wait for it, how often to try. 0 is refused unless a field says what it means. */
export interface PeerOptions extends Http1ClientOptions {
  /** Waiting for the addresses of a name, in ms. @default 5000 */
  resolveTimeoutMs?: number
  /** Each step of connecting: one address, the answer to CONNECT, a TLS handshake; in ms. @default 3000 */
  connectTimeoutMs?: number
  /** All of connecting, names and every address included, in ms. @default 10000 */
  totalConnectTimeoutMs?: number
  /**
   * Longest time a connection may sit idle in the pool, in ms; an origin's shorter `Keep-Alive: timeout` wins. 0 turns
   * reuse off. @default 60000
   */
  idleTimeoutMs?: number
  /**
   * Greatest age of a connection, in ms, give or take a tenth; past it no further exchange begins on it. A connection is left as
   * well when its name stands for other addresses for half a minute. 0 sets no limit. @default 3600000
   */
  maxConnectionAgeMs?: number

  /** Request body kept for a repetition, in bytes; a longer one rules it out. 0 keeps none. @default 65536 */
  maxReplayBytes?: number
  /** Attempts for one request, the first included. @default 3 */
  maxAttempts?: number
  /**
   * Repetitions allowed, in percent of recent requests. 0 allows none. One that only replaces a pooled connection that was lost
   * does not count. @default 20
   */
  retryBudgetPercent?: number

  /**
   * Connections to the peer's address at a time, of one process: dialling, busy and idle, whatever else the peers there differ in.
   * 0 sets no limit. @default 0
   */
  maxConnectionsPerPeer?: number
  /** Requests that may wait for one of them; past it 503. 0 lets none wait. @default 128 */
  maxQueuedPerPeer?: number
  /** Longest wait for one of them, in ms; past it 503. @default 5000 */
  queueTimeoutMs?: number

  /** IP address to connect from; '' lets the kernel, or the connector's own list, choose. @default '' */
  localAddress?: string
  /** Port to connect from. 0 lets the kernel choose. @default 0 */
  localPort?: number
  /** Idle time before the first TCP keepalive probe, in ms (the kernel counts whole seconds). At least 1000. 0 sends none. @default 0 */
  tcpKeepAliveIdleMs?: number
  /** Time between probes, in ms (whole seconds). At least 1000. 0 leaves it to the system. @default 0 */
  tcpKeepAliveIntervalMs?: number
  /** Unanswered probes after which the connection is dead. 0 leaves it to the system. @default 0 */
  tcpKeepAliveCount?: number
  /**
   * DSCP of the packets sent to the peer (RFC 2474), 1 to 63; those of the handshake are not marked. Takes system calls: without
   * them the peer cannot be connected to. 0 marks none. @default 0
   */
  dscp?: number
  /**
   * After so long without an acknowledgement of what was sent the kernel gives the connection up (RFC 5482), in ms. Takes system
   * calls of Linux: without them the peer cannot be connected to. 0 leaves it to the system. @default 0
   */
  tcpUserTimeoutMs?: number
  /** Opens the transport in place of a TCP or Unix connect; null connects as usual. @default null */
  customL4?: CustomL4 | null

  /**
   * Whether requests to switch protocols are passed on, where the service passes them on; otherwise they are ordinary ones.
   * @default true
   */
  upgrades?: boolean

  /** Fields sent with CONNECT, behind those of the proxy itself. @default [] */
  extraProxyHeaders?: readonly (readonly [name: string, value: string])[]
  /** Sees the 2xx answer to CONNECT; only watches. @default null */
  onConnectResponse?: ((head: ResponseHead) => void) | null

  /** Check the certificate chain. Nothing else turns it off, an empty SNI neither. @default true */
  verifyCert?: boolean
  /** Check the certificate's name against SNI, or the host without one. @default true */
  verifyHostname?: boolean
  /** A second name or address that the certificate may carry instead; '' for none. @default '' */
  alternativeName?: string
  /** Trust anchors, PEM; null trusts the runtime's list. @default null */
  ca?: readonly (string | Buffer)[] | null
  /** Revocation lists, PEM, one of every authority that may stand in the chain; null looks at none. @default null */
  crl?: readonly (string | Buffer)[] | null
  /** Oldest TLS version. @default 'TLSv1.2' */
  tlsMinVersion?: TlsVersion
  /** Newest TLS version. @default 'TLSv1.3' */
  tlsMaxVersion?: TlsVersion
  /**
   * TLS groups in order of preference, as in `X25519MLKEM768:X25519:P-256`; '' leaves it to OpenSSL, which begins with
   * X25519MLKEM768. In TLS 1.2 the group of the origin's certificate must be among them. @default ''
   */
  curves?: string

  /**
   * Protocols: HTTP/1.1 only, HTTP/2 only (without TLS: by prior knowledge), or HTTP/2 with a way back, which is chosen in the
   * handshake of TLS and is HTTP/1.1 without it. @default 'h1'
   */
  alpn?: Alpn
  /** Streams at a time on one HTTP/2 connection. @default 100 */
  maxH2Streams?: number
  /** Window of each HTTP/2 stream, in bytes: what an answer may hold here until it is read. At least 65_535. @default 262144 */
  h2StreamWindowBytes?: number
  /** Window of an HTTP/2 connection, in bytes: what may be on its way, whether clients read it or not. At least 65_535. @default 4194304 */
  h2ConnectionWindowBytes?: number
  /** Time between PINGs, in ms. 0 sends none. @default 0 */
  h2PingIntervalMs?: number
  /** Longest wait for the answer to a PING, in ms. @default 5000 */
  h2PingTimeoutMs?: number

  /**
   * Watches connections and attempts to this peer, and the exchanges that tried it (telemetry/tracer.ts); null: none. Give one
   * object to all peers that it watches: for each new one the service makes a new list. @default null
   */
  tracer?: Tracer | null
}

/** The options of a peer, complete and checked. */
export type ResolvedPeerOptions = Readonly<Required<PeerOptions>>

/** The kernel counts TCP keepalive in whole seconds. */
const KEEP_ALIVE_MIN_MS = 1000
const TLS_VERSIONS: readonly TlsVersion[] = ['TLSv1.2', 'TLSv1.3']
const MAX_PORT = 65_535
const MAX_DSCP = 63
const MAX_NAME_LENGTH = 253
/** Window sizes of HTTP/2 (RFC 9113 6.9.1, 6.9.2): below the first nothing can be announced, above the second is an error. */
const WINDOW_BYTES = { min: 65_535, max: 2_147_483_647 }

export const PEER_OPTIONS = {
  ...HTTP1_CLIENT_OPTIONS,
  resolveTimeoutMs: duration(5000),
  connectTimeoutMs: duration(3000),
  totalConnectTimeoutMs: duration(10_000),
  idleTimeoutMs: duration(60_000, { zero: 'turns reuse off' }),
  maxConnectionAgeMs: duration(3_600_000, { zero: 'sets no limit' }),
  maxReplayBytes: size(65_536, { zero: 'keeps none' }),
  maxAttempts: count(3),
  retryBudgetPercent: number(20, 0, 100, 'allows none'),
  maxConnectionsPerPeer: count(0, { zero: 'sets no limit' }),
  maxQueuedPerPeer: count(128, { zero: 'lets none wait' }),
  queueTimeoutMs: duration(5000),
  localAddress: text('', "'' or an IP address", address => address === '' || isIP(address) !== 0),
  localPort: count(0, { max: MAX_PORT, zero: 'lets the kernel choose' }),
  tcpKeepAliveIdleMs: duration(0, { min: KEEP_ALIVE_MIN_MS, zero: 'sends none' }),
  tcpKeepAliveIntervalMs: duration(0, { min: KEEP_ALIVE_MIN_MS, zero: 'leaves it to the system' }),
  tcpKeepAliveCount: count(0, { zero: 'leaves it to the system' }),
  dscp: count(0, { max: MAX_DSCP, zero: 'marks none' }),
  tcpUserTimeoutMs: duration(0, { zero: 'leaves it to the system' }),
  customL4: code<CustomL4 | null>(null, 'an object with connect(address), or null', isCustomL4),
  upgrades: flag(true),
  extraProxyHeaders: proxyFields(),
  onConnectResponse: callback<((head: ResponseHead) => void) | null>(null),
  verifyCert: flag(true),
  verifyHostname: flag(true),
  alternativeName: text('', "'' or a host name", name => name.length <= MAX_NAME_LENGTH && isPlain(name)),
  ca: authorities(),
  crl: code<readonly (string | Buffer)[] | null>(null, 'null or a list of PEM revocation lists that is not empty', describeBadCrl),
  tlsMinVersion: choice('TLSv1.2', TLS_VERSIONS),
  tlsMaxVersion: choice('TLSv1.3', TLS_VERSIONS),
  curves: text('', "'' or group names joined by ':'", groups => groups === '' || (isPlain(groups) && orTrue(describeBadGroups(groups)))),
  alpn: choice<Alpn>('h1', ['h1', 'h2', 'h2h1']),
  maxH2Streams: count(100),
  h2StreamWindowBytes: size(262_144, WINDOW_BYTES),
  h2ConnectionWindowBytes: size(4_194_304, WINDOW_BYTES),
  h2PingIntervalMs: duration(0, { zero: 'sends none' }),
  h2PingTimeoutMs: duration(5000),
  tracer: object<Tracer>('a tracer'),
} satisfies OptionTable<PeerOptions>

/** What holds where the options of a peer say nothing. */
export const PEER_DEFAULTS: ResolvedPeerOptions = defaultsOf<PeerOptions>(PEER_OPTIONS)

/** Options that make connections not interchangeable. */
export const KEYED = [
  'localAddress', 'localPort', 'tcpKeepAliveIdleMs', 'tcpKeepAliveIntervalMs', 'tcpKeepAliveCount', 'dscp', 'tcpUserTimeoutMs',
  'customL4', 'extraProxyHeaders',
  'verifyCert', 'verifyHostname', 'alternativeName', 'ca', 'crl', 'tlsMinVersion', 'tlsMaxVersion', 'curves',
  'alpn', 'maxH2Streams', 'h2StreamWindowBytes', 'h2ConnectionWindowBytes', 'h2PingIntervalMs', 'h2PingTimeoutMs',
] as const satisfies readonly (keyof ResolvedPeerOptions)[]

/** Those that mean nothing without TLS. */
const OF_TLS = [
  'verifyCert', 'verifyHostname', 'alternativeName', 'ca', 'crl', 'tlsMinVersion', 'tlsMaxVersion', 'curves',
] as const satisfies readonly (typeof KEYED[number])[]

/**
 * Options that only say how a connection is come by, kept or watched; it is the same connection afterwards. The limits of
 * one exchange are among them: they travel with it (`ExchangeLimits` of protocols/http-connection.ts), so that two peers
 * with different `readTimeoutMs` share connections, and each request still has its own time.
 */
export const UNKEYED = [
  'maxResponseHeadBytes', 'maxResponseHeaderCount', 'maxInterimResponses', 'maxInterimBytes', 'responseHeadTimeoutMs',
  'continueTimeoutMs', 'firstByteTimeoutMs', 'readTimeoutMs', 'writeTimeoutMs',
  'resolveTimeoutMs', 'connectTimeoutMs', 'totalConnectTimeoutMs', 'idleTimeoutMs', 'maxConnectionAgeMs', 'maxReplayBytes', 'maxAttempts',
  'retryBudgetPercent', 'maxConnectionsPerPeer', 'maxQueuedPerPeer', 'queueTimeoutMs', 'upgrades', 'onConnectResponse', 'tracer',
] as const satisfies readonly (keyof ResolvedPeerOptions)[]

/** Options that others have and this proxy cannot honour, with what to do instead. */
export const REFUSED: Readonly<Record<string, string>> = {
  tcpRecvBuf: 'Node.js cannot set it before connecting; set net.ipv4.tcp_rmem',
  tcpSendBuf: 'Node.js cannot set it before connecting; set net.ipv4.tcp_wmem',
  tcpFastOpen: 'Node.js cannot set it; connections are pooled instead',
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
  /** One that means nothing without TLS and is not the default; '' when there is none. */
  readonly tlsOption: string
}

export const DEFAULT_PEER_OPTIONS: CheckedPeerOptions = { options: PEER_DEFAULTS, key: keyOf(PEER_DEFAULTS), tlsOption: '' }

/**
 * Sets checked before, by the frozen object that they came from. Kinds of peers share it: a set was checked whole,
 * whatever the kind added.
 */
const checkedBefore = new WeakMap<object, CheckedPeerOptions>()

/**
 * Checks and completes `given`.
 * @param table PEER_OPTIONS, and what the kind of peer adds to them: that is checked here as well, and kept by the peer itself
 * @throws OptionError with every mistake there is.
 */
export function checkPeerOptions(given: PeerOptions, table: AnyOptionTable = PEER_OPTIONS): CheckedPeerOptions {
  let resolved: Record<string, unknown> | null = null
  let mistakes: OptionMistake[] | null = null
  for (const name in given) {
    const option = Object.hasOwn(table, name) ? table[name]! : null
    const value = (given as Readonly<Record<string, unknown>>)[name]
    const isShared = Object.hasOwn(PEER_OPTIONS, name)
    if (isShared && resolved === null) {
      const before = checkedBefore.get(given)
      if (before !== undefined) return before
      resolved = { ...PEER_DEFAULTS }
    }
    // Callers in plain JavaScript write undefined for what they leave out.
    if (option !== null && value === undefined) continue
    const fault = option === null ? refusalOf(name, table) : faultOf(option, value)
    if (fault !== '') (mistakes ??= []).push({ path: `peer.${name}`, text: fault })
    else if (isShared) resolved![name] = value
    else if (option!.table !== null && value !== null) mistakes = mistakesWithin(`peer.${name}`, option!.table, value, mistakes)
  }
  if (mistakes !== null) throw new OptionError(mistakes)
  if (resolved === null) return DEFAULT_PEER_OPTIONS
  const options = Object.freeze(resolved) as unknown as ResolvedPeerOptions
  const contradictions = contradictionsIn(options)
  if (contradictions.length > 0) throw new OptionError(contradictions)
  const tlsOption = OF_TLS.find(name => options[name] !== PEER_DEFAULTS[name]) ?? ''
  const checked = { options, key: keyOf(options), tlsOption }
  if (Object.isFrozen(given)) checkedBefore.set(given, checked)
  return checked
}

/** `mistakes` with those of a table within the peer's. */
function mistakesWithin(at: string, table: AnyOptionTable, given: unknown, mistakes: OptionMistake[] | null): OptionMistake[] | null {
  const found = mistakes ?? []
  checkOptions(at, table, given, found)
  return found.length === 0 ? null : found
}

function refusalOf(name: string, table: AnyOptionTable): string {
  return Object.hasOwn(REFUSED, name) ? `is not supported: ${REFUSED[name]}` : unknownOption(name, table)
}

/** Options that are fine one by one and not together. */
function contradictionsIn(options: ResolvedPeerOptions): OptionMistake[] {
  const found: OptionMistake[] = []
  if (options.tlsMinVersion === 'TLSv1.3' && options.tlsMaxVersion === 'TLSv1.2') {
    found.push({ path: 'peer.tlsMinVersion', text: "is 'TLSv1.3' but peer.tlsMaxVersion is 'TLSv1.2'; use a range that holds a version" })
  }
  const setsSocket = options.localAddress !== '' || options.localPort !== 0 || options.tcpKeepAliveIdleMs !== 0
  if (options.customL4 !== null && setsSocket) {
    found.push({ path: 'peer.customL4', text: 'opens the transport itself; set localAddress, localPort and tcpKeepAlive there' })
  }
  if (options.localPort !== 0 && options.localAddress === '') {
    found.push({ path: 'peer.localPort', text: `is ${options.localPort} but peer.localAddress is ''; use both` })
  }
  return found
}

/** One text that differs whenever two sets make connections that are not interchangeable: JSON of a list in fixed order. */
function keyOf(options: ResolvedPeerOptions): string {
  const parts: unknown[] = []
  for (const name of KEYED) {
    switch (name) {
      case 'customL4': parts.push(options.customL4 === null ? 0 : identityOf(options.customL4)); break
      case 'ca': case 'crl': parts.push(options[name] === null ? 0 : digestOf(options[name])); break
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

/** Fields of a CONNECT request. */
export function proxyFields(): Option<readonly (readonly [name: string, value: string])[]> {
  return code<readonly (readonly [name: string, value: string])[]>(Object.freeze([]), 'a list of [name, value]', value => {
    const remedy = Array.isArray(value) ? describeBadHeader(value) : 'a list of [name, value]'
    return remedy === '' || remedy
  })
}

/** What would do instead of these fields of a CONNECT request; '' when they are fine (RFC 9110 5.1, 5.5; framing is ours to say). */
function describeBadHeader(headers: readonly unknown[]): string {
  for (const header of headers) {
    const isPair = Array.isArray(header) && header.length === 2 && typeof header[0] === 'string' && typeof header[1] === 'string'
    if (!isPair) return 'a list of [name, value] pairs of strings'
    const [name, value] = header as [string, string]
    if (!isToken(name)) return `field names that are tokens, not ${showValue(name)}`
    if (!isFieldValue(value)) return `values without controls, outer blanks or characters outside latin1 for ${name}`
    switch (name.toLowerCase()) {
      case 'host': case 'content-length': case 'transfer-encoding': case 'connection':
      case 'upgrade': case 'te': case 'trailer': case 'expect':
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

function isCustomL4(value: unknown): boolean { return value === null || typeof Object(value).connect === 'function' }

/** Certificates of authorities, or null. */
export function authorities(): Option<readonly (string | Buffer)[] | null> {
  return code<readonly (string | Buffer)[] | null>(null, 'null or a list of PEM certificates that is not empty', value => {
    return value === null || (isPemList(value) && orTrue(describeBadAuthorities(value)))
  })
}

function describeBadCrl(value: unknown): boolean | string {
  return value === null || (isPemList(value) && orTrue(describeBadRevocationLists(value)))
}

/** As checks of options have it: what would do, or true where all is well. */
export function orTrue(remedy: string): true | string { return remedy === '' || remedy }

function isPemList(value: unknown): value is readonly (string | Buffer)[] {
  return Array.isArray(value) && value.length > 0 && value.every(isPem)
}

export function isPem(value: unknown): value is string | Buffer {
  return (typeof value === 'string' || Buffer.isBuffer(value)) && value.length > 0
}
