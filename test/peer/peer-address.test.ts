import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { checkAddress, formatAddress, parseAddress } from '../../src/peer/peer-address.ts'

test('address: the three forms are read', () => {
  assert.deepEqual(parseAddress('127.0.0.1:80'), { kind: 'tcp', host: '127.0.0.1', port: 80 })
  assert.deepEqual(parseAddress('Origin.Example:8080'), { kind: 'tcp', host: 'origin.example', port: 8080 })
  assert.deepEqual(parseAddress('[2001:DB8::1]:443'), { kind: 'tcp', host: '2001:db8::1', port: 443 })
  assert.deepEqual(parseAddress('[fe80::1%eth0]:443'), { kind: 'tcp', host: 'fe80::1%eth0', port: 443 })
  assert.deepEqual(parseAddress('[FE80::AB%Wlan0]:443'), { kind: 'tcp', host: 'fe80::ab%Wlan0', port: 443 })
  assert.deepEqual(checkAddress({ kind: 'tcp', host: 'FE80::1%VLAN.7', port: 1 }), { kind: 'tcp', host: 'fe80::1%VLAN.7', port: 1 })
  assert.deepEqual(parseAddress('unix:/run/app.sock'), { kind: 'unix', path: '/run/app.sock' })
  assert.deepEqual(parseAddress('a_b.svc:1'), { kind: 'tcp', host: 'a_b.svc', port: 1 })
  assert.deepEqual(parseAddress('origin.example.:80'), { kind: 'tcp', host: 'origin.example.', port: 80 })
})

const REFUSED: readonly (readonly [text: string, says: RegExp])[] = [
  ['127.0.0.1', /has no port; use host:port, \[v6\]:port or unix:\/path/],
  ['', /has no port/],
  [':80', /not a name of 1 to 253/],
  ['a:0', /port from 1 to 65535/], ['a:65536', /port from 1 to 65535/], ['a:', /port/], ['a:+1', /port/],
  ['a:1e3', /port/], ['a:080000', /port/], ['a: 80', /port/],
  ['::1:80', /has a colon in its host; write an IPv6 address in brackets/],
  ['[::1]80', /has no \] before its port|port/], ['[::g]:80', /no IPv6 address in its brackets/], ['[127.0.0.1]:80', /no IPv6 address/],
  ['unix:', /absolute path/], ['unix:relative', /absolute path/], ['unix:/a\0b', /absolute path/],
  [`unix:/${'x'.repeat(107)}`, /longer than 107 bytes/],
  ['127.1:80', /ends in a number/], ['0x7f000001:80', /ends in a number/], ['2130706433:80', /ends in a number/],
  ['1.2.3.4.5:80', /ends in a number/], ['a.0x:80', /ends in a number/], ['256.0.0.1:80', /ends in a number/],
  ['a..b:80', /empty label/], ['.a:80', /empty label/], [`${'a'.repeat(64)}:80`, /label longer than 63/],
  [`${'a.'.repeat(127)}b:80`, /1 to 253/],
  ['bücher.example:80', /xn-- form/], ['a b:80', /character " "/], ['a/b:80', /character "\/"/],
  ['user@a:80', /character "@"/], ['a\r\nb:80', /character "\\r"/],
]
for (const [text, says] of REFUSED) {
  test(`address: ${JSON.stringify(text.slice(0, 40))} is refused`, () => {
    assert.throws(() => parseAddress(text), error => error instanceof TypeError && says.test(error.message))
  })
}

test('address: objects are checked like texts', () => {
  assert.deepEqual(checkAddress({ kind: 'tcp', host: 'A.test', port: 1 }), { kind: 'tcp', host: 'a.test', port: 1 })
  assert.throws(() => checkAddress({ kind: 'tcp', host: '[::1]', port: 80 }), /colon|character/)
  assert.throws(() => checkAddress({ kind: 'tcp', host: 'a', port: 1.5 }), /has the port 1.5/)
  assert.throws(() => checkAddress({ kind: 'unix', path: 'x' }), /absolute path/)
})

test('address: what is read is written the same, and read again the same', () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6().filter(ip => !ip.includes('.')), fc.domain())
  fc.assert(fc.property(host, fc.integer({ min: 1, max: 65_535 }), (name, port) => {
    const text = name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`
    const address = parseAddress(text)
    assert.equal(formatAddress(address), text.toLowerCase())
    assert.deepEqual(parseAddress(formatAddress(address)), address)
  }))
})

test('address: no text does more than throw a TypeError', () => {
  fc.assert(fc.property(fc.string({ maxLength: 40 }), text => {
    try { formatAddress(parseAddress(text)) } catch (error) { assert.ok(error instanceof TypeError, String(error)) }
  }), { numRuns: 2000 })
})
