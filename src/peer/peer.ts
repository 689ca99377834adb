/**
 * A peer says where and how to connect. Two peers are interchangeable, and may share pooled connections,
 * exactly when their `reuseKey` is equal; the key therefore holds everything that could make a difference.
 */
import type { PeerAddress } from './peer-address.ts'
import type { ClientCert, ResolvedPeerOptions } from './peer-options.ts'

/** Next hop of a CONNECT tunnel (RFC 9110 9.3.6). */
export interface ConnectProxy {
  /** Address of the proxy itself. */
  readonly nextHop: PeerAddress
  /** TLS to the proxy itself. */
  readonly tls: boolean
  /** Name of the proxy for SNI and verification; '' sends none, and the certificate is then checked against `nextHop`. */
  readonly sni: string
  /** Whether its certificate is verified, chain and name. */
  readonly verifyCert: boolean
  /** Trust anchors for it, PEM; null: those of the runtime. */
  readonly ca: readonly (string | Buffer)[] | null
  /** Certificate that it is shown; null: none. */
  readonly clientCert: ClientCert | null
  /** Host that CONNECT asks for, mostly the peer's own; an IPv6 address has no brackets here. */
  readonly host: string
  /** Port that CONNECT asks for, 1 to 65535. */
  readonly port: number
  /** Sent with CONNECT, in this order. */
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/** Where and how to connect, as connectors and the engine see it. HttpPeer is one; whatever has these members is another. */
export interface Peer {
  /** Where to connect: host and port, or a Unix path. */
  readonly address: PeerAddress
  /** Whether TLS is spoken to it. */
  readonly tls: boolean
  /** Server name for SNI and verification; '' sends none (verification still happens against the host). */
  readonly sni: string
  /** Certificate that it is shown; null, or left out: none. */
  readonly clientCert?: ClientCert | null
  /** It speaks something else than HTTP: no protocol is offered to it by ALPN. Left out: it speaks HTTP. */
  readonly speaksOther?: boolean
  /** The proxy that is asked by CONNECT for a way there; null goes straight. */
  readonly connectProxy: ConnectProxy | null
  /** Complete and checked; `PEER_DEFAULTS` where nothing is set. */
  readonly options: ResolvedPeerOptions
  /** Everything that makes two connections not interchangeable, as one string. Computed once a peer. */
  readonly reuseKey: string
  /** `host:port`, `[v6]:port` or `unix:/path`: for logs and tracers. */
  readonly name: string
  /**
   * Called when an attempt to this peer ended with a verdict, so that a load balancer can count failures. Absent for peers
   * that are not counted.
   */
  report?(healthy: boolean): unknown
  /**
   * Called instead when an attempt ended without one: the client left, or a pooled connection turned out to be stale. Every
   * attempt ends with exactly one of the two.
   */
  release?(): unknown
}
