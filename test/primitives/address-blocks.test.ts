import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { clientNetwork } from '../../src/primitives/address-blocks.ts'

const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xFFFF }))

test('address blocks: a client of IPv6 is its first 64 bits, wherever zeros were left out', () => {
  fc.assert(fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), groups => {
    // IPv4 in the clothes of IPv6 is IPv4, below.
    fc.pre(groups.slice(0, 5).some(value => value !== 0))
    const long = groups.map(value => value.toString(16))
    const { address } = new net.SocketAddress({ address: long.join(':'), family: 'ipv6' })
    assert.equal(clientNetwork(address), long.slice(0, 4).join(':'))
  }), { numRuns: 2000 })
})

test('address blocks: an address of IPv4 is one client, and no address is none', () => {
  for (const address of ['192.0.2.1', '0.0.0.0', '']) assert.equal(clientNetwork(address), address)
  assert.equal(clientNetwork('::ffff:192.0.2.1'), '192.0.2.1')
})
