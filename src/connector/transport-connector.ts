/**
 * Opens transports: TCP or Unix, straight or through a CONNECT proxy, with TLS to the proxy, to the peer, or to both, one in the other.
 *
 *   Resolving -> Connecting -> [[Securing the way to the proxy] -> Tunnelling] -> [Securing] -> Done
 *       \____________\_________________________________\____________________________\___________^  by failure, time limit or `cancel`
 *
 * A name with several addresses is dialled as RFC 8305 says: families take turns, the next address is tried when one
 * fails or STAGGER_MS after it began, the first to connect wins, the others are cut. Which family comes first is
 * remembered from the last race, so that a broken IPv6 costs its delay once and not each time; within a family every
 * dial starts at another address.
 *
 * Deadlines are numbers compared by the tick; a timer is made only for the stagger of a name with several addresses.
 * A waiter is called exactly once, never before `dial` has returned, and not at all after `cancel`.
 * One idea in more than 500 lines: a dial is one state machine from a name to a connected stream.
 */
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { codeOf, isExhausted } from '../errors/local-faults.ts'
import { ProxyError, asProxyError, type ErrorKind, type ErrorSource } from '../errors/proxy-error.ts'
import type { OpenCounts } from '../ipc/open-counts.ts'
import { formatAddress } from '../peer/peer-address.ts'
import type { PeerAddress } from '../peer/peer-address.ts'
import type { Peer } from '../peer/peer.ts'
import { Ticker, type Timed } from '../primitives/clock.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'
import { TcpStream, dialTcp } from '../protocols/tcp/tcp-stream.ts'
import { ClientHandshake, type ClientHandshakeWaiter, type ClientSecurity } from '../protocols/tls/client-handshake.ts'
import { ClientSessions } from '../protocols/tls/client-sessions.ts'
import { tlsSelfTest } from '../protocols/tls/tls-self-test.ts'
import type { TlsStream } from '../protocols/tls/tls-stream.ts'
import { MAX_ADDRESSES } from './machine-names.ts'
import { ConnectTunnel, type TunnelWaiter } from './connect-proxy.ts'
import type { NameSource } from './name-watch.ts'
import { securityOfPeer, securityOfProxy } from './peer-security.ts'
import { Resolver, type PendingResolve, type ResolveWaiter } from './resolver.ts'
import { marksFault, setMarks, wantsMarks, whenMarksAreKnown } from './socket-marks.ts'
import { TracedStream, UNCLAIMED } from './traced-stream.ts'
import { TRANSPORT_CONNECTOR_DEFAULTS, TRANSPORT_CONNECTOR_OPTIONS } from './transport-options.ts'
import type { Dial, TransportConnectorOptions } from './transport-options.ts'

/** How long an address has before the next one is tried beside it (RFC 8305 5: Connection Attempt Delay). */
export const STAGGER_MS = 250

/** How long the family that won a race goes first. */
const FAMILY_MEMORY_MS = 600_000

/** What was agreed on while connecting. */
export interface ConnectionFacts {
  /** The protocol that TLS settled on, as ALPN names it ('h2', 'http/1.1'); '' when nothing was negotiated. */
  readonly alpn: string
}

/** Facts of a transport on which nothing was negotiated. */
export const NOTHING_NEGOTIATED: ConnectionFacts = Object.freeze({ alpn: '' })

/** What waits for a dial. One of the two is called, once, unless the dial is cancelled first. */
export interface DialWaiter {
  /**
   * Set `stream.owner` in this call.
   * @param early bytes that came behind a proxy's answer to CONNECT, before all others; null for none
   * @param facts left out: nothing was negotiated
   */
  onDialed(stream: ByteStream, early: Buffer | null, facts?: ConnectionFacts): void
  /** There is no stream; `error` says why, and whether another attempt may help. */
  onDialFailed(error: ProxyError): void
}

/** A dial under way. */
export interface PendingDial {
  /** Nobody wants it any more; no callback follows. Harmless when it is over already. */
  cancel(): void
  /** Addresses dialled so far, for tracers. Left out: one. */
  readonly addressesTried?: number
}

/** Totals since the start, for metrics. Every dial ends as one of the last three. */
export interface DialCounters {
  dials: number
  connected: number
  failed: number
  cancelled: number
}

/** Dials peers over TCP, Unix sockets and TLS, through CONNECT proxies, by name or address (happy eyeballs, RFC 8305). */
export class TransportConnector {
  /** @internal */
  readonly ticker: Ticker
  /** @internal */
  readonly resolver: NameSource
  /** @internal */
  readonly counters: DialCounters = { dials: 0, connected: 0, failed: 0, cancelled: 0 }
  /** @internal */
  readonly dialAddress: Dial
  /** @internal To take up again. */
  readonly sessions: ClientSessions
  readonly #bindToV4: readonly string[]
  readonly #bindToV6: readonly string[]
  readonly #random: () => number
  /** Family that won the last race; 0: none lately. */
  #familyFirst: 0 | 4 | 6 = 0
  #familyUntil = 0
  /** Which address of a name comes first; begins anywhere, so that fresh workers do not all begin with the same. */
  #rotation: number

  /** @throws OptionError with every option that would not do. */
  constructor(options: TransportConnectorOptions = {}) {
    const { ticker, resolver, dial, bindToV4, bindToV6, random } = resolveOptions<TransportConnectorOptions>(
      'connector', TRANSPORT_CONNECTOR_OPTIONS, options, TRANSPORT_CONNECTOR_DEFAULTS,
    )
    this.ticker = ticker ?? new Ticker()
    this.resolver = resolver ?? new Resolver({ ticker: this.ticker })
    this.dialAddress = dial ?? dialTcp
    this.sessions = new ClientSessions(this.ticker.clock)
    this.#bindToV4 = bindToV4
    this.#bindToV6 = bindToV6
    this.#random = random
    this.#rotation = Math.trunc(random() * MAX_ADDRESSES)
  }

  /** @internal For status and metrics. */
  counts(): Partial<OpenCounts> {
    const { cancelled, dials, failed } = this.counters
    return { dials, dialsFailed: failed, dialsCancelled: cancelled }
  }

  /** As `Transport` has it: the waiter is told, never within this call. */
  dial(peer: Peer, waiter: DialWaiter): PendingDial {
    this.counters.dials++
    const attempt = new PeerDial(this, peer, waiter)
    attempt.start()
    return attempt
  }

  /**
   * A connected stream as a promise, for what is not in a hurry. It is paused: set its `owner`, then `resume()`; it may
   * have been lost in between (`destroyed`). Rejects with a ProxyError, or with the reason of `signal`.
   */
  connect(peer: Peer, signal?: AbortSignal): Promise<ByteStream> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
    const onAbort = (): void => {
      pending.cancel()
      reject(signal!.reason as Error)
    }
    const pending = this.dial(peer, {
      onDialed(stream, early) {
        signal?.removeEventListener('abort', onAbort)
        stream.pause()
        if (early === null) stream.owner = UNCLAIMED
        resolve(early === null ? stream : new TracedStream(stream, UNCLAIMED, null, early))
      },
      onDialFailed(error) {
        signal?.removeEventListener('abort', onAbort)
        reject(error)
      },
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    return promise
  }

  /** @internal Address to connect from to one of that family; '' for the kernel's choice. */
  localAddressFor(peer: Peer, family: number): string {
    const { localAddress } = peer.options
    if (localAddress !== '') return localAddress
    const own = family === 4 ? this.#bindToV4 : this.#bindToV6
    return own.length === 0 ? '' : own[Math.floor(this.#random() * own.length)]!
  }

  /** @internal The addresses in the order in which to try them: families take turns, each from a start of its own. */
  order(addresses: readonly string[]): readonly string[] {
    if (addresses.length < 2) return addresses
    const v4 = addresses.filter(address => !address.includes(':')), v6 = addresses.filter(address => address.includes(':'))
    const rotation = this.#rotation++
    const v4First = this.#familyFirst === 4 && this.ticker.clock.now() < this.#familyUntil
    const [first, second] = v4First ? [v4, v6] : [v6, v4]
    const ordered: string[] = []
    for (let i = 0; i < first.length || i < second.length; i++) {
      if (i < first.length) ordered.push(first[(i + rotation) % first.length]!)
      if (i < second.length) ordered.push(second[(i + rotation) % second.length]!)
    }
    return ordered
  }

  /** @internal An address won over one of the other family that was tried before it. */
  rememberWinner(address: string): void {
    this.#familyFirst = address.includes(':') ? 6 : 4
    this.#familyUntil = this.ticker.clock.now() + FAMILY_MEMORY_MS
  }
}

/** What a stream is asked for at once and in every exchange. */
const STREAM_METHODS: readonly (keyof ByteStream)[] = ['writeText', 'writeBytes', 'flush', 'end', 'destroy', 'pause', 'resume']

function isByteStream(stream: unknown): stream is ByteStream {
  return typeof stream === 'object' && stream !== null && 'digest' in stream &&
    STREAM_METHODS.every(name => typeof (stream as Record<string, unknown>)[name] === 'function')
}

/** Closes what nobody wants; also what is no stream, but can be closed. Whatever it does then is of no interest. */
function discard(stream: unknown): void {
  try {
    if (isByteStream(stream)) {
      stream.owner = UNCLAIMED
      stream.destroy(true)
      return
    }
    const closable = stream as { on?(event: 'error', listener: () => void): void; destroy?(): void } | null | undefined
    closable?.on?.('error', () => {})
    closable?.destroy?.()
  } catch { /* As said. */ }
}

const DialState = { Resolving: 0, Connecting: 1, SecuringProxy: 2, Tunnelling: 3, Securing: 4, Done: 5 } as const
type DialState = (typeof DialState)[keyof typeof DialState]

const NEVER = Number.POSITIVE_INFINITY

/** The way to one connection. */
class PeerDial implements PendingDial, Timed, ResolveWaiter, TunnelWaiter, ClientHandshakeWaiter {
  tickIndex = -1
  readonly #connector: TransportConnector
  readonly #peer: Peer
  readonly #waiter: DialWaiter
  #state: DialState = DialState.Resolving
  #totalDeadline = NEVER
  /** Of the step that is no attempt: a custom transport, the answer to CONNECT, a handshake. */
  #stepDeadline = NEVER
  #resolving: PendingResolve | null = null
  /** Port that goes with #addresses. */
  #port = 0
  #addresses: readonly string[] = []
  addressesTried = 0
  /** Next of #addresses. */
  #next = 0
  /** Attempts under way. */
  #attempts: Attempt[] = []
  #stopStagger: (() => void) | null = null
  #tunnel: ConnectTunnel | null = null
  #handshake: ClientHandshake | null = null
  #failures: ProxyError[] = []

  constructor(connector: TransportConnector, peer: Peer, waiter: DialWaiter) {
    this.#connector = connector
    this.#peer = peer
    this.#waiter = waiter
  }

  start(): void {
    const peer = this.#peer
    const { ticker } = this.#connector
    this.#totalDeadline = ticker.clock.exact() + peer.options.totalConnectTimeoutMs
    ticker.add(this)
    if (peer.tls || peer.connectProxy?.tls === true) this.#whenTlsIsTested()
    else this.#whenMarked()
  }

  /** What is not public of Node.js is proven once a process, and the first dials wait for that. */
  #whenTlsIsTested(): void {
    if (tlsTested) this.#whenMarked()
    else void tlsSelfTest().then(() => {
      tlsTested = true
      if (this.#state !== DialState.Done) this.#whenMarked()
    })
  }

  #whenMarked(): void {
    if (wantsMarks(this.#peer)) this.#whenMarkable()
    else this.#begin()
  }

  /** Marks take system calls, which the first peer that asks for them has to wait for. */
  #whenMarkable(): void {
    const fault = marksFault(this.#peer)
    if (fault === null) void whenMarksAreKnown().then(() => { if (this.#state !== DialState.Done) this.#whenMarkable() })
    else if (fault === '') this.#begin()
    else this.#failLater(fault)
  }

  #begin(): void {
    const peer = this.#peer
    const address = peer.connectProxy === null ? peer.address : peer.connectProxy.nextHop
    if (peer.options.customL4 !== null) this.#connectCustom(address)
    else if (address.kind === 'unix') {
      this.#state = DialState.Connecting
      this.#attempt(address, 0)
    } else {
      this.#port = address.port
      if (isIP(address.host) !== 0) this.#connectTo([address.host])
      else {
        const known = this.#connector.resolver.cached(address.host)
        if (known !== null) this.#connectTo(known)
        else this.#resolving = this.#connector.resolver.ask(address.host, peer.options.resolveTimeoutMs, this)
      }
    }
  }

  cancel(): void {
    if (this.#state === DialState.Done) return
    this.#connector.counters.cancelled++
    this.#finish()
  }

  onTick(now: number): void {
    const { connectTimeoutMs, totalConnectTimeoutMs } = this.#peer.options
    if (now >= this.#totalDeadline) {
      const text = `${this.#peer.name}: no connection within ${totalConnectTimeoutMs} ms${STEP_NAMES[this.#state]}`
      this.#fail(timeout(text, 'total-connect-timeout'))
      return
    }
    if (now >= this.#stepDeadline) {
      const text = `${this.#peer.name}: ${LATE_STEPS[this.#state]} within ${connectTimeoutMs} ms`
      const isTls = this.#state === DialState.SecuringProxy || this.#state === DialState.Securing
      this.#fail(timeout(text, 'connect-timeout', isTls ? 'TLS_TIMEOUT' : 'CONNECT_TIMEOUT'))
      return
    }
    // From the last to the first: an attempt that is over leaves the list.
    for (let i = this.#attempts.length - 1; i >= 0; i--) {
      const attempt = this.#attempts[i]
      if (attempt !== undefined && now >= attempt.deadline) {
        attempt.cut()
        const text = `${this.#where(attempt.address)}: no connection within ${connectTimeoutMs} ms`
        this.#onAttemptOver(attempt, timeout(text, 'connect-timeout'))
      }
    }
  }

  // ---- names

  onResolved(addresses: readonly string[]): void {
    this.#resolving = null
    this.#connectTo(addresses)
  }

  onResolveFailed(error: ProxyError): void {
    this.#resolving = null
    this.#fail(error)
  }

  // ---- connecting

  #connectTo(addresses: readonly string[]): void {
    this.#state = DialState.Connecting
    const { localAddress } = this.#peer.options
    // What connects from an IPv4 address reaches IPv4 addresses only.
    const usable = localAddress === '' ? addresses : addresses.filter(address => address.includes(':') === localAddress.includes(':'))
    if (usable.length === 0) {
      const text = `${this.#peer.name}: none of its ${addresses.length} addresses is of the family of localAddress ${localAddress}`
      this.#failLater(new ProxyError('BIND_FAILED', 'internal', text, { retry: 'always' }))
      return
    }
    this.#addresses = this.#connector.order(usable)
    this.#attemptNext()
  }

  /** Dials the next address, if there is one; the one behind it follows STAGGER_MS later. */
  #attemptNext(): void {
    this.#endStagger()
    if (this.#next >= this.#addresses.length) return
    const host = this.#addresses[this.#next++]!
    if (this.#next < this.#addresses.length) this.#stopStagger = this.#connector.ticker.clock.after(STAGGER_MS, () => this.#attemptNext())
    this.#attempt({ kind: 'tcp', host, port: this.#port }, host.includes(':') ? 6 : 4)
  }

  #attempt(address: PeerAddress, family: 0 | 4 | 6): void {
    const connector = this.#connector
    const { connectTimeoutMs, localPort, tcpKeepAliveIdleMs } = this.#peer.options
    const localAddress = family === 0 ? '' : connector.localAddressFor(this.#peer, family)
    const attempt = new Attempt(this, address, connector.ticker.clock.exact() + connectTimeoutMs)
    this.#attempts.push(attempt)
    this.addressesTried++
    try {
      attempt.stream = connector.dialAddress({
        address,
        ...(localAddress === '' ? null : { localAddress }),
        ...(localPort === 0 || family === 0 ? null : { localPort }),
        ...(tcpKeepAliveIdleMs === 0 || family === 0 ? null : { keepAlive: { initialDelayMs: tcpKeepAliveIdleMs } }),
      }, attempt)
    } catch (thrown) {
      // A socket that could not even be made; told later, as if it had failed by itself.
      process.nextTick(endAttempt, attempt, thrown)
    }
  }

  onAttemptConnected(attempt: Attempt): void {
    const { address } = attempt
    if (address.kind === 'tcp' && address.host.includes(':') !== this.#addresses[0]!.includes(':')) {
      this.#connector.rememberWinner(address.host)
    }
    const stream = attempt.stream!
    const { tcpKeepAliveIdleMs, tcpKeepAliveIntervalMs, tcpKeepAliveCount } = this.#peer.options
    if (tcpKeepAliveIdleMs !== 0 && (tcpKeepAliveIntervalMs !== 0 || tcpKeepAliveCount !== 0) && stream instanceof TcpStream) {
      const intervalMs = tcpKeepAliveIntervalMs === 0 ? undefined : tcpKeepAliveIntervalMs
      stream.socket.setKeepAlive(true, tcpKeepAliveIdleMs, intervalMs, tcpKeepAliveCount === 0 ? undefined : tcpKeepAliveCount)
    }
    if (stream instanceof TcpStream && wantsMarks(this.#peer)) {
      try {
        setMarks(stream, this.#peer)
      } catch (thrown) {
        attempt.cut()
        const text = `${this.#where(address)}: its socket could not be marked: ${(thrown as Error).message}`
        this.#onAttemptOver(attempt, new ProxyError('CONNECT_FAILED', 'internal', text, { retry: 'always', cause: thrown }))
        return
      }
    }
    attempt.dial = null
    this.#endAttempts()
    this.#onTransport(stream)
  }

  onAttemptFailed(attempt: Attempt, error: unknown): void {
    this.#onAttemptOver(attempt, connectError(this.#where(attempt.address), error, attempt.address))
  }

  #onAttemptOver(attempt: Attempt, error: ProxyError): void {
    const index = this.#attempts.indexOf(attempt)
    if (index === -1) return
    this.#attempts.splice(index, 1)
    this.#failures.push(error)
    if (this.#next < this.#addresses.length) this.#attemptNext()
    else if (this.#attempts.length === 0) this.#fail(joinFailures(this.#peer.name, this.#failures))
  }

  #where(address: PeerAddress): string {
    const text = formatAddress(address)
    return text === this.#peer.name ? text : `${this.#peer.name} at ${text}`
  }

  #connectCustom(address: PeerAddress): void {
    this.#state = DialState.Connecting
    const { customL4, connectTimeoutMs } = this.#peer.options
    this.#stepDeadline = this.#connector.ticker.clock.exact() + connectTimeoutMs
    this.addressesTried++
    // A promise, also for a stream that is there at once: the waiter must not be called before `dial` has returned.
    const opening = (async () => customL4!.connect(address))()
    opening.then(stream => this.#onCustom(stream), (thrown: unknown) => {
      const cause = thrown instanceof ProxyError ? thrown : connectError(`${this.#peer.name} by customL4`, thrown)
      this.#fail(cause)
    })
  }

  #onCustom(stream: unknown): void {
    if (this.#state === DialState.Done) {
      // Too late, or no longer wanted.
      discard(stream)
    } else if (!isByteStream(stream)) {
      discard(stream)
      const text = `${this.#peer.name}: customL4 gave no ByteStream (a socket has to be wrapped in one)`
      this.#fail(new ProxyError('CONNECT_FAILED', 'internal', text, { retry: 'always' }))
    } else if (stream.destroyed) {
      const text = `${this.#peer.name}: customL4 gave a stream that is closed`
      this.#fail(new ProxyError('CONNECT_FAILED', 'upstream', text, { retry: 'always' }))
    } else this.#onTransport(stream)
  }

  // ---- on top of the transport

  /** Connected: to the peer, or to its proxy. */
  #onTransport(stream: ByteStream): void {
    const { connectProxy } = this.#peer
    if (connectProxy === null) this.#toPeer(stream, null)
    else if (connectProxy.tls) this.#secure(DialState.SecuringProxy, stream, null)
    else this.#askForTunnel(stream)
  }

  #askForTunnel(stream: ByteStream): void {
    this.#beginStep(DialState.Tunnelling)
    try {
      this.#tunnel = new ConnectTunnel(stream, this.#peer, this)
    } catch (thrown) {
      this.#fail(asProxyError(thrown, this.#peer.name, ''))
      stream.destroy(true)
    }
  }

  onTunnelOpen(stream: ByteStream, early: Buffer | null): void {
    this.#tunnel = null
    this.#toPeer(stream, early)
  }

  onTunnelFailed(error: ProxyError): void {
    this.#tunnel = null
    this.#fail(error)
  }

  /** The other end of the stream is the peer. */
  #toPeer(stream: ByteStream, early: Buffer | null): void {
    if (this.#peer.tls) this.#secure(DialState.Securing, stream, early)
    else this.#succeed(stream, early, NOTHING_NEGOTIATED)
  }

  #secure(state: typeof DialState.SecuringProxy | typeof DialState.Securing, stream: ByteStream, early: Buffer | null): void {
    let security: ClientSecurity
    try { security = state === DialState.Securing ? securityOfPeer(this.#peer) : securityOfProxy(this.#peer) } catch (thrown) {
      stream.owner = UNCLAIMED
      stream.destroy(true)
      const text = `${this.#peer.name}: OpenSSL does not take its settings: ${(thrown as Error).message}`
      this.#fail(new ProxyError('TLS_HANDSHAKE', 'internal', text, { cause: thrown }))
      return
    }
    this.#beginStep(state)
    this.#handshake = new ClientHandshake(stream, early, security, this.#connector.sessions, this)
  }

  onSecured(stream: TlsStream): void {
    this.#handshake = null
    if (this.#state === DialState.SecuringProxy) this.#askForTunnel(stream)
    else this.#succeed(stream, null, { alpn: stream.digest.tls!.alpn })
  }

  onNotSecured(error: ProxyError): void {
    this.#handshake = null
    this.#fail(error)
  }

  #beginStep(state: DialState): void {
    this.#state = state
    this.#stepDeadline = this.#connector.ticker.clock.exact() + this.#peer.options.connectTimeoutMs
  }

  // ---- the end

  #succeed(stream: ByteStream, early: Buffer | null, facts: ConnectionFacts): void {
    this.#finish()
    this.#connector.counters.connected++
    this.#waiter.onDialed(stream, early, facts)
  }

  #fail(error: ProxyError): void {
    if (this.#state === DialState.Done) return
    this.#finish()
    this.#connector.counters.failed++
    this.#waiter.onDialFailed(error)
  }

  /** Fails after `dial` has returned. */
  #failLater(error: ProxyError): void { process.nextTick(failDial, this, error) }

  failNow(error: ProxyError): void { this.#fail(error) }

  /** Lets go of everything that is under way. */
  #finish(): void {
    this.#state = DialState.Done
    this.#connector.ticker.remove(this)
    this.#stepDeadline = NEVER
    this.#resolving?.cancel()
    this.#resolving = null
    this.#endAttempts()
    this.#tunnel?.cancel()
    this.#tunnel = null
    this.#handshake?.cancel()
    this.#handshake = null
  }

  #endAttempts(): void {
    this.#endStagger()
    this.#next = this.#addresses.length
    for (const attempt of this.#attempts) attempt.cut()
    this.#attempts = []
  }

  #endStagger(): void {
    this.#stopStagger?.()
    this.#stopStagger = null
  }
}

const STEP_NAMES: Readonly<Record<DialState, string>> = {
  [DialState.Resolving]: ' (resolving its name)',
  [DialState.Connecting]: '',
  [DialState.SecuringProxy]: ' (in the TLS handshake with its CONNECT proxy)',
  [DialState.Tunnelling]: ' (waiting for its CONNECT proxy)',
  [DialState.Securing]: ' (in the TLS handshake)',
  [DialState.Done]: '',
}

/** What a step that has its own limit did not do. */
const LATE_STEPS: Readonly<Record<DialState, string>> = {
  [DialState.Resolving]: '',
  [DialState.Connecting]: 'the custom transport was not there',
  [DialState.SecuringProxy]: 'the TLS handshake with its proxy was not done',
  [DialState.Tunnelling]: 'the proxy did not answer CONNECT',
  [DialState.Securing]: 'the TLS handshake was not done',
  [DialState.Done]: '',
}

/** The proof was made, whatever it said. */
let tlsTested = false

function timeout(text: string, limit: string, kind: ErrorKind = 'CONNECT_TIMEOUT'): ProxyError {
  return new ProxyError(kind, 'upstream', text, { retry: 'always', limit })
}

/** One address being dialled: owner of its stream until it is connected. */
class Attempt implements StreamOwner {
  /** Null when the outcome no longer matters. */
  dial: PeerDial | null
  readonly address: PeerAddress
  readonly deadline: number
  stream: ByteStream | null = null

  constructor(dial: PeerDial, address: PeerAddress, deadline: number) {
    this.dial = dial
    this.address = address
    this.deadline = deadline
  }

  onConnected(): void { this.dial?.onAttemptConnected(this) }
  onClosed(error: Error | null): void { this.end(error) }
  onBytes(): void {}
  onEnd(): void {}
  onDrained(): void {}

  end(error: unknown): void {
    const dial = this.dial
    this.dial = null
    dial?.onAttemptFailed(this, error)
  }

  /** Lost the race, or is late: closed, and its end is nobody's business. */
  cut(): void {
    if (this.dial === null) return
    this.dial = null
    this.stream?.destroy()
  }
}

function endAttempt(attempt: Attempt, thrown: unknown): void { attempt.end(thrown) }
function failDial(dial: PeerDial, error: ProxyError): void { dial.failNow(error) }

/** What the system said when connecting, as one of ours. Nothing was sent, so every attempt may be repeated. */
function connectError(where: string, error: unknown, address: PeerAddress | null = null): ProxyError {
  const code = codeOf(error)
  let kind: ErrorKind = 'CONNECT_FAILED'
  let source: ErrorSource = 'upstream'
  switch (code) {
    case 'ECONNREFUSED': kind = 'CONNECT_REFUSED'; break
    case 'ETIMEDOUT': kind = 'CONNECT_TIMEOUT'; break
    case 'ENETUNREACH': case 'EHOSTUNREACH': case 'ENETDOWN': case 'EHOSTDOWN': case 'EAFNOSUPPORT': kind = 'CONNECT_NO_ROUTE'; break
    default:
      if (!isExhausted(error)) break
      // What a machine without IPv6 says of every such address.
      if (code === 'EADDRNOTAVAIL' && address !== null && address.kind === 'tcp' && address.host.includes(':') && !hasIPv6()) {
        kind = 'CONNECT_NO_ROUTE'
        break
      }
      source = 'internal'
      kind = (error as NodeJS.ErrnoException).syscall === 'bind' ? 'BIND_FAILED' : 'LOCAL_EXHAUSTED'
  }
  const said = code !== '' ? code : error === null ? 'closed before it was connected' : asProxyError(error, 'connecting').message
  return new ProxyError(kind, source, `${where}: ${said}`, { retry: 'always', cause: error ?? undefined })
}

function hasIPv6(): boolean {
  return Object.values(networkInterfaces()).some(addresses => addresses!.some(({ family }) => family === 'IPv6'))
}

/**
 * The last failure stands for all, the others are its cause; but where one of them is this machine's, nothing is known of the
 * peer, and that one stands for all.
 */
function joinFailures(peer: string, failures: readonly ProxyError[]): ProxyError {
  const told = failures.findLast(failure => failure.source === 'internal') ?? failures[failures.length - 1]!
  if (failures.length === 1) return told
  const text = `${peer}: none of ${failures.length} addresses answered; of one of them: ${told.message}`
  return new ProxyError(told.kind, told.source, text, { retry: 'always', limit: told.limit, cause: new AggregateError(failures) })
}
