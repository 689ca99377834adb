import assert from 'node:assert/strict'
import { isIPv6, SocketAddress } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { AddressMask, maskedAddress } from '../../../src/telemetry/exporters/masked-address.ts'

test('masked address: the network is left of an address, and nothing of what is none', () => {
  const table: readonly (readonly [string, string])[] = [
    ['203.0.113.7', '203.0.113.0'], ['127.0.0.1', '127.0.0.0'], ['::ffff:203.0.113.7', '::ffff:203.0.113.0'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1::'], ['2001:db8:1::7', '2001:db8:1::'], ['2001:db8::7', '2001:db8::'], ['::1', '::'], ['::', '::'],
    ['2001:0:1::5', '2001:0:1::'], ['1::2:3:4:5:6:7', '1:0:2::'], ['fe80::1%eth0', 'fe80::'], ['2001:DB8:A::1', '2001:db8:a::'],
    ['64:ff9b::192.0.2.33', '64:ff9b::'], ['', ''], ['unknown', ''], ['/run/a.sock', ''], ['203.0.113.7:80', ''],
  ]
  for (const [address, masked] of table) assert.equal(maskedAddress(address), masked, address)
})

test('masked address: of any two addresses of one /48 the same is left, and never more than 48 bits', () => {
  const group = fc.integer({ min: 0, max: 0xFFFF }).map(number => number.toString(16))
  const groups = fc.array(fc.oneof(group, fc.constant('0')), { minLength: 8, maxLength: 8 })
  const written = (parts: readonly string[]): string => new SocketAddress({ family: 'ipv6', address: parts.join(':') }).address
  fc.assert(fc.property(groups, groups, (one, other) => {
    // IPv4 in other clothes has a rule of its own.
    fc.pre(!written(one).includes('.') && !written([...one.slice(0, 3), ...other.slice(3)]).includes('.'))
    const masked = maskedAddress(written(one))
    assert.ok(isIPv6(masked), masked)
    assert.equal(written([...one.slice(0, 3), '0', '0', '0', '0', '0']), new SocketAddress({ family: 'ipv6', address: masked }).address)
    assert.equal(maskedAddress(written([...one.slice(0, 3), ...other.slice(3)])), masked)
  }))
})

test('masked address: a mask knows each address anew', () => {
  const mask = new AddressMask()
  assert.deepEqual(['', '203.0.113.7', '203.0.113.7', '::1', '203.0.113.9'].map(address => mask.of(address)), [
    '', '203.0.113.0', '203.0.113.0', '::', '203.0.113.0',
  ])
})
