/**
 * Who a request is from when trusted hops stand in front: the chain of addresses that they wrote is read from its end, where the
 * nearest hop added what it saw, and the first address that is no trusted hop is the client. What stands before it is hearsay:
 * anybody can send it.
 *
 *   X-Forwarded-For: 198.51.100.7, 203.0.113.9, 10.0.0.2      from 10.0.0.1; trusted: 10.0.0.0/8
 *                    (hearsay)     the client   a hop
 *
 * One field is read, as those that a hop does not know pass through it as a client sent them: Forwarded (RFC 7239) where that is
 * what is spoken, X-Forwarded-For otherwise.
 */
import net from 'node:net'
import { withoutZone } from '../http/authority.ts'
import type { HeaderMap } from '../http/header-map.ts'

/** Addresses of a chain that are looked at: longer ones are made up. The last of them counts. */
const MAX_HOPS = 32
/** IPv4 in IPv6 (RFC 4291 2.5.5.2). */
const MAPPED = '::ffff:'

/**
 * @param nearest address at the other end of the connection, which is a trusted hop
 * @returns an address; that of a hop when nobody before it is known
 */
export function clientBehind(nearest: string, headers: HeaderMap, field: 'x-forwarded-for' | 'forwarded', trusted: net.BlockList): string {
  let client = nearest, hops = 0
  const lines = headers.getAll(field)
  for (let at = lines.length - 1; at >= 0; at--) {
    const line = lines[at]!
    for (let end = line.length; end >= 0;) {
      const comma = end === 0 ? -1 : line.lastIndexOf(',', end - 1)
      const element = line.slice(comma + 1, end).trim()
      end = comma
      // Empty elements are none (RFC 9110 5.6.1).
      if (element === '') continue
      const address = addressOf(field === 'forwarded' ? nodeOf(element) : element)
      // A hop that does not say who it heard of is the last that is known.
      if (address === '') return client
      client = address
      if (++hops === MAX_HOPS || !trusted.check(address, net.isIPv6(address) ? 'ipv6' : 'ipv4')) return client
    }
  }
  return client
}

/** The value of `for` in one element of Forwarded; '' when there is none. */
function nodeOf(element: string): string { return /(?:^|;)[ \t]*for[ \t]*=[ \t]*("[^"]*"|[^;\s]*)/i.exec(element)?.[1] ?? '' }

/** Without quotes, brackets and port; '' when it is no address, such as `unknown` or `_hidden`. */
function addressOf(node: string): string {
  const bare = node.startsWith('"') && node.endsWith('"') ? node.slice(1, -1) : node
  if (net.isIPv4(bare)) return bare
  if (net.isIPv6(bare)) return oneForm(bare)
  if (bare.startsWith('[')) {
    const address = bare.slice(1, Math.max(bare.indexOf(']'), 1))
    return net.isIPv6(address) ? oneForm(address) : ''
  }
  const address = bare.slice(0, Math.max(bare.indexOf(':'), 0))
  return net.isIPv4(address) ? address : ''
}

/**
 * As a socket tells an address of IPv6 (RFC 5952): one client has one address, in whichever way a hop writes it, so that lists
 * of addresses hold. One of IPv4 in the clothes of IPv6 is that of IPv4, and a zone means nothing here.
 */
function oneForm(address: string): string {
  const { address: formed } = new net.SocketAddress({ address: withoutZone(address), family: 'ipv6' })
  return formed.startsWith(MAPPED) && formed.includes('.') ? formed.slice(MAPPED.length) : formed
}
