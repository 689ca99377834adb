/**
 * A peer for what speaks no HTTP: relays of bytes, health checks of ports. Naming a server (`sni`) asks for TLS.
 * It has the fields of an HttpPeer, so that connectors see one shape; nothing pools its connections.
 */
import { OptionError } from '../primitives/option-table.ts'
import { HttpPeer, type BackendLike, type HttpPeerOptions } from './http-peer.ts'
import type { PeerAddress } from './peer-address.ts'

/** `tls` follows from `sni`: a name asks for TLS, '' for plain bytes. */
export type BasicPeerOptions = Omit<HttpPeerOptions, 'tls'>

const NO_TLS_OPTION = { path: 'peer.tls', text: "is not an option of a BasicPeer; set sni, or '' for none" }

/** A peer for what speaks no HTTP: relays of bytes, health checks of ports. Naming a server (`sni`) asks for TLS. */
export class BasicPeer extends HttpPeer {
  /** @throws TypeError on an address that would not do, OptionError with every option that would not. */
  constructor(address: string | PeerAddress | BackendLike, options?: BasicPeerOptions) {
    if (options !== undefined && 'tls' in options) throw new OptionError([NO_TLS_OPTION])
    super(address, options === undefined || options.sni === undefined || options.sni === '' ? options : { ...options, tls: true })
  }

  /** @internal */
  override get speaksOther(): boolean { return true }
}
