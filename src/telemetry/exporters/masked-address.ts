/**
 * Addresses of clients as a log may keep them where whole ones are too much: the network, /24 of IPv4 and /48 of IPv6, which tells
 * a provider or a site, and no household.
 */
import { isIP } from 'node:net'

/** Groups of four hexadecimal digits that are kept: 48 bits. */
const KEPT_GROUPS = 3
const GROUPS = 8
/** IPv4 in IPv6 (RFC 4291 2.5.5.2), as sockets write it. */
const MAPPED = '::ffff:'

/** @returns '' for what is no address: what it would tell is not known. */
export function maskedAddress(address: string): string {
  const zone = address.indexOf('%'), bare = zone === -1 ? address : address.slice(0, zone)
  const family = isIP(bare)
  if (family === 4) return maskedV4(bare)
  if (family !== 6) return ''
  const lower = bare.toLowerCase()
  if (lower.startsWith(MAPPED) && lower.includes('.')) return `${MAPPED}${maskedV4(lower.slice(MAPPED.length))}`
  return maskedV6(lower)
}

function maskedV4(address: string): string { return `${address.slice(0, address.lastIndexOf('.'))}.0` }

function maskedV6(address: string): string {
  const [before = '', behind] = address.split('::')
  const head = before === '' ? [] : before.split(':'), tail = behind === undefined || behind === '' ? [] : behind.split(':')
  // Four bytes may be written as IPv4: two groups, which are behind those that are kept.
  const written = head.length + tail.length + (address.includes('.') ? 1 : 0)
  const groups = [...head, ...Array.from({ length: Math.max(0, GROUPS - written) }, () => '0'), ...tail].slice(0, KEPT_GROUPS)
  while (groups.length > 0 && Number.parseInt(groups.at(-1)!, 16) === 0) groups.pop()
  return `${groups.join(':')}::`
}

/** Whom a request is from, as those may know it who look at it. */
export interface ShownAddress { of(address: string): string }

const WHOLE: ShownAddress = { of: address => address }
const NOTHING: ShownAddress = { of: () => '' }

/** @param how what option `client` of an access log says */
export function shownAddresses(how: 'full' | 'masked' | 'off'): ShownAddress {
  return how === 'full' ? WHOLE : how === 'masked' ? new AddressMask() : NOTHING
}

/** Masks addresses, and keeps the last: a client comes back with its next request. */
export class AddressMask implements ShownAddress {
  #address = ''
  #masked = ''

  of(address: string): string {
    if (address !== this.#address) {
      this.#address = address
      this.#masked = maskedAddress(address)
    }
    return this.#masked
  }
}
