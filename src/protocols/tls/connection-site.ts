/**
 * What a connection over TLS was opened for: the certificate entry that its name chose, and whose certificate the client showed. A
 * request on it may name another host (RFC 9110 7.4); whether this connection is the one to answer it is decided here.
 *
 *   rules differ     the host's entry asks other things of clients than the connection's did: never. Who was let in without a
 *                    certificate would otherwise reach what asks for one, and rules that were replaced would hold on
 *   entries differ   as the listener says (`sniMismatch`). Allowed unless it says otherwise: clients with a host of their own
 *                    choice (another proxy, a check by address) have asked for nothing that a connection of its own would not give
 *   not answered     the application could not say what the name is served with, and so not what it asks of clients: what the default
 *                    asks of them does not stand for that, or a fault would open what a certificate closes
 *
 * A client that is told 421 tries again on another connection (RFC 9110 15.5.20).
 */
import type { ClientRules } from '../../certificates/certificate-entry.ts'
import type { CertificateMap, ServedEntry } from './certificate-map.ts'
import { isMadeFor, isServerName, plainServerName } from '../../certificates/server-name.ts'

/** What the client asked for. */
export interface AskedName {
  /** '': nothing. */
  readonly serverName: string
  /** False: the application was asked what the name is served with, and could not say. */
  readonly answered: boolean
  /** What the listener asked of clients when the certificate was chosen. */
  readonly clients: ClientRules
}

/** What the listener says. */
export interface SiteRules {
  /** Any entry but the connection's own is one too many. */
  readonly strict: boolean
  /** An application is asked for certificates of further names, which may leave what is asked of clients to these; null: it is not. */
  readonly openUnder: { readonly clients: ClientRules } | null
}

export class ConnectionSite {
  /** What the client asked for; '': nothing. */
  readonly serverName: string
  readonly served: ServedEntry
  /** DER; null: the client showed none, or was not asked. */
  readonly clientCertificate: Buffer | null
  readonly #map: CertificateMap
  /** Any entry but the connection's own is one too many. */
  readonly #strict: boolean
  /** Entries are made for names that no one knows before; null: they are not. */
  readonly #openUnder: SiteRules['openUnder']
  /** What that was when the certificate was chosen, and at the last look. */
  readonly #clients: ClientRules
  #clientsSeen: ClientRules | null = null
  /** What is served is what its name is to be served with. */
  readonly #answered: boolean
  /** The authority that was looked at last, at which state of the map, and what came of it. */
  #authority: string | null = null
  #swaps = 0
  #verdict = false

  constructor(
    map: CertificateMap, served: ServedEntry, { serverName, answered, clients }: AskedName, clientCertificate: Buffer | null,
    { strict, openUnder }: SiteRules,
  ) {
    this.#map = map
    this.served = served
    this.serverName = serverName
    this.clientCertificate = clientCertificate
    this.#strict = strict
    this.#openUnder = openUnder
    this.#clients = clients
    this.#answered = answered
  }

  /** @param authority as in Host; '' where there is none */
  serves(authority: string): boolean {
    const clients = this.#openUnder === null ? null : this.#openUnder.clients
    if (authority === this.#authority && this.#swaps === this.#map.swaps && clients === this.#clientsSeen) return this.#verdict
    this.#clientsSeen = clients
    this.#verdict = this.#judge(plainServerName(withoutPort(authority)))
    this.#authority = authority
    this.#swaps = this.#map.swaps
    return this.#verdict
  }

  /** Whether it was opened for this very host; without a name it was for any. */
  isFor(authority: string): boolean { return this.serverName === '' || plainServerName(withoutPort(authority)) === this.serverName }

  #judge(host: string): boolean {
    const { served } = this, map = this.#map, exact = map.exact(host)
    // The application gave an entry for this name, or might for another one. Of an address, or nothing, it is never asked.
    if (exact === null && this.#openUnder !== null && isServerName(host)) {
      const isAsBefore = served.clientsKey === '' || this.#openUnder.clients === this.#clients
      return host === this.serverName && this.#answered && isAsBefore
    }
    const other = exact ?? map.find(host)
    if (other === served) return true
    if (other === null || other.clientsKey !== served.clientsKey) return false
    return !this.#strict || isSameSite(served, other) || served.entry.pairs.every(({ leaf }) => isMadeFor(leaf, host))
  }
}

/** One of them has taken the place of the other. */
function isSameSite({ entry: { names } }: ServedEntry, { entry }: ServedEntry): boolean {
  return entry.names.length === 0 ? names.length === 0 : entry.names.some(name => names.includes(name))
}

function withoutPort(authority: string): string {
  const colon = authority.lastIndexOf(':')
  return colon === -1 || authority.endsWith(']') ? authority : authority.slice(0, colon)
}
