/** IP addresses and CIDR blocks as configuration and applications write them, and the list that finds an address in many of them. */
import { BlockList, isIP } from 'node:net'

export interface AddressBlock {
  readonly address: string
  readonly family: 'ipv4' | 'ipv6'
  readonly prefix: number
}

/** An address, or a block of them such as 10.0.0.0/8; null for anything else. */
export function parseAddressBlock(entry: string): AddressBlock | null {
  const slash = entry.indexOf('/')
  const address = slash === -1 ? entry : entry.slice(0, slash)
  const version = isIP(address)
  if (version === 0) return null
  const whole = version === 4 ? 32 : 128
  const digits = slash === -1 ? String(whole) : entry.slice(slash + 1)
  if (!/^\d{1,3}$/.test(digits) || Number(digits) > whole) return null
  return { address, family: version === 4 ? 'ipv4' : 'ipv6', prefix: Number(digits) }
}

/** @param entries each of which `parseAddressBlock` knows */
export function blockListOf(entries: readonly string[]): BlockList {
  const list = new BlockList()
  for (const entry of entries) {
    const { address, family, prefix } = parseAddressBlock(entry)!
    list.addSubnet(address, prefix, family)
  }
  return list
}

/**
 * What counts as one client: an address of IPv4, or the first 64 bits of one of IPv6, whose owner has as many addresses below them as it
 * wants. For limits by client: `asked.get(clientNetwork(session.clientIp))`. ::ffff:10.0.0.1 is 10.0.0.1; the '' of a Unix socket stays
 * ''.
 */
export function clientNetwork(address: string): string {
  if (!address.includes(':')) return address
  // All of IPv4 would be one network.
  if (address.startsWith('::ffff:') && isIP(address.slice(7)) === 4) return address.slice(7)
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':')
    while (groups.length + rest.length < 8) groups.push('0')
    groups.push(...rest)
  }
  return groups.slice(0, 4).join(':')
}
