/** Sets of addresses: who may come in, who is from the office. `session.clientIp` is who asks, whatever stands in front. */
import { isIP, type BlockList } from 'node:net'
import { withoutZone } from '../http/authority.ts'
import { blockListOf, parseAddressBlock } from '../primitives/address-blocks.ts'
import { OptionError, showValue, type OptionMistake } from '../primitives/option-table.ts'

/**
 * IP addresses and CIDR blocks, of both families:
 *
 *   const office = new Networks(['192.0.2.0/24', '2001:db8::/32'])
 *   requestFilter: session => office.has(session.clientIp) ? 'continue' : session.respond(403)
 *
 * A look-up costs about the same whether there are ten blocks or ten thousand.
 */
export class Networks {
  readonly #list: BlockList

  /** @throws OptionError with every entry that is neither an address nor a block such as 10.0.0.0/8 */
  constructor(entries: readonly string[]) {
    const mistakes: OptionMistake[] = []
    for (const [index, entry] of entries.entries()) {
      if (typeof entry === 'string' && parseAddressBlock(entry) !== null) continue
      mistakes.push({ path: `networks[${index}]`, text: `is ${showValue(entry)}; use an IP address or a CIDR block such as 10.0.0.0/8` })
    }
    if (mistakes.length > 0) throw new OptionError(mistakes)
    this.#list = blockListOf(entries)
  }

  /** Whether `address` is one of them. False for what is no address, such as the '' of a Unix socket; ::ffff:10.0.0.1 is 10.0.0.1. */
  has(address: string): boolean {
    const bare = withoutZone(address), version = isIP(bare)
    return version !== 0 && this.#list.check(bare, version === 4 ? 'ipv4' : 'ipv6')
  }
}
