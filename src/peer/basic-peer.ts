/**
 * A peer for what speaks no HTTP: relays of bytes, health checks of ports. Naming a server (`sni`) asks for TLS.
 * It has the fields of an HttpPeer, so that connectors see one shape; nothing pools its connections.
 */
import { HttpPeer, type BackendLike, type HttpPeerOptions } from './http-peer.ts'
import type { PeerAddress } from './peer-address.ts'

/** `tls` follows from `sni`: a name asks for TLS, '' for plain bytes. */
export type BasicPeerOptions = Omit<HttpPeerOptions, 'tls'>

export class BasicPeer extends HttpPeer {
  /** @throws TypeError on an address or option that would not do. */
  constructor(address: string | PeerAddress | BackendLike, options?: BasicPeerOptions) {
    if (options !== undefined && 'tls' in options) throw new TypeError("peer.tls is not an option of a BasicPeer; set sni, or '' for none")
    super(address, options === undefined || options.sni === undefined || options.sni === '' ? options : { ...options, tls: true })
  }
}
