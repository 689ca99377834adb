import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isAuthority, withoutZone } from '../../src/http/authority.ts'

test('authority: a zone goes from an IPv6 address, with brackets and port or without; nothing else changes', () => {
  for (const [given, wanted] of [
    ['fe80::1%eth0', 'fe80::1'], ['[fe80::1%25eth0]', '[fe80::1]'], ['[fe80::1%Eth0.7]:80', '[fe80::1]:80'], ['fe80::1', 'fe80::1'],
    ['[::1]:80', '[::1]:80'], ['127.0.0.1', '127.0.0.1'], ['a%41.example', 'a%41.example'], ['', ''],
  ] as const) {
    assert.equal(withoutZone(given), wanted)
    if (given.startsWith('[')) assert.ok(isAuthority(wanted))
  }
})

test('authority: what would be no host any more without its zone is none', () => {
  for (const authority of ['[%25eth0]:8080', '[%eth0]', '[]', '[]:80', '[::1', '[::1]x', '[[::1]]', '::1', 'a:b:80', ':80', '']) {
    assert.equal(isAuthority(authority), false, authority)
  }
})

test('authority: what was found right does not speak for another of its length', () => {
  const hosts = Array.from({ length: 500 }, (_, number) => `${number.toString(36).padStart(3, 'x')}.example:80`)
  for (let round = 0; round < 2; round++) {
    for (const host of hosts) {
      assert.ok(isAuthority(host), host)
      const wrongs = [host.replace('.', ' '), host.replace(':80', ':8x'), host.replace(':', '/')]
      for (const wrong of wrongs) assert.equal(isAuthority(wrong), false, wrong)
    }
  }
  const long = `${'a'.repeat(300)}.example`
  assert.deepEqual([isAuthority(long), isAuthority(long), isAuthority(`${long}@`)], [true, true, false])
})
