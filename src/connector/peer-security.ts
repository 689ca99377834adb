/**
 * What a TLS handshake with a peer, or with its CONNECT proxy, is made with and insists on.
 *
 * Contexts of OpenSSL are kept by what is in them: one takes a quarter of a millisecond and 30 KiB to make, with a long list of
 * authorities 12 ms and hundreds of KiB. What a session is kept by holds every setting of TLS besides, and where it leads: a session
 * that is taken up again is not verified again.
 */
import { constants } from 'node:crypto'
import type tls from 'node:tls'
import { clientCertKey, verifiedName } from '../peer/http-peer.ts'
import { formatAddress, type PeerAddress } from '../peer/peer-address.ts'
import { digestOf, PEER_DEFAULTS, type Alpn, type ClientCert, type ResolvedPeerOptions } from '../peer/peer-options.ts'
import type { Peer } from '../peer/peer.ts'
import { Lru } from '../primitives/lru.ts'
import type { ClientSecurity } from '../protocols/tls/client-handshake.ts'

/** Contexts kept; an application that makes certificates up has the oldest ones made anew. */
const MAX_CONTEXTS = 256
const contexts = new Lru<string, tls.SecureContext>(MAX_CONTEXTS)

/** What an ALPN-less peer is offered. */
const NOTHING: readonly string[] = []
const HTTP1: readonly string[] = ['http/1.1']
/** What one is offered, the preferred first. */
const PROTOCOLS: Readonly<Record<Alpn, readonly string[]>> = { h1: HTTP1, h2: ['h2'], h2h1: ['h2', 'http/1.1'] }

/** A peer is asked about for each connection, and stays the same. */
const ofPeers = new WeakMap<Peer, ClientSecurity>()

/** @throws what OpenSSL says of settings that it does not take, which a HttpPeer would have refused */
export function securityOfPeer(peer: Peer): ClientSecurity {
  let security = ofPeers.get(peer)
  if (security === undefined) {
    const { options, sni, speaksOther } = peer
    const names = options.verifyHostname ? [verifiedName(peer), options.alternativeName] : []
    const offered = speaksOther === true ? NOTHING : PROTOCOLS[options.alpn]
    security = securityOf(peer.name, peer.address, sni, names, offered, options, peer.clientCert ?? null)
    ofPeers.set(peer, security)
  }
  return security
}

/** Of the proxy, which has one. @throws as `securityOfPeer` */
export function securityOfProxy(peer: Peer): ClientSecurity {
  const { ca, clientCert, nextHop, sni, verifyCert } = peer.connectProxy!
  const name = sni !== '' ? sni : nextHop.kind === 'tcp' ? nextHop.host : ''
  const where = `${peer.name}: its proxy ${formatAddress(nextHop)}`
  return securityOf(where, nextHop, sni, verifyCert ? [name] : [], HTTP1, { ...PEER_DEFAULTS, ca, verifyCert }, clientCert)
}

function securityOf(
  peer: string, address: PeerAddress, serverName: string, names: readonly string[], protocols: readonly string[],
  options: ResolvedPeerOptions, clientCert: ClientCert | null,
): ClientSecurity {
  const { ca, crl, curves, tlsMaxVersion, tlsMinVersion, verifyCert } = options
  const given = names.filter(name => name !== '').map(withoutZone)
  const content = JSON.stringify([
    ca === null ? 0 : digestOf(ca), crl === null ? 0 : digestOf(crl), tlsMinVersion, tlsMaxVersion, curves,
    clientCert === null ? 0 : clientCertKey(clientCert),
  ])
  return {
    peer, serverName, names: given, verifyChain: verifyCert, protocols, hasCertificate: clientCert !== null,
    context: contextOf(content, options, clientCert),
    sessionKey: JSON.stringify([formatAddress(address), serverName, given, verifyCert, protocols, content]),
  }
}

function contextOf(content: string, options: ResolvedPeerOptions, clientCert: ClientCert | null): tls.SecureContext {
  let context = contexts.get(content)
  if (context === undefined) {
    const { ca, crl, curves, tlsMaxVersion, tlsMinVersion } = options
    context = process.getBuiltinModule('node:tls').createSecureContext({
      minVersion: tlsMinVersion, maxVersion: tlsMaxVersion,
      // What is shown in a second handshake would be verified by nobody.
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      ...ca === null ? null : { ca: [...ca] },
      ...crl === null ? null : { crl: [...crl] },
      ...curves === '' ? null : { ecdhCurve: curves },
      ...clientCert === null ? null : { cert: clientCert.cert, key: clientCert.key },
    })
    contexts.set(content, context)
  }
  return context
}

/** A certificate knows nothing of this machine's interfaces. */
function withoutZone(name: string): string {
  const zone = name.indexOf('%')
  return zone === -1 ? name : name.slice(0, zone)
}
