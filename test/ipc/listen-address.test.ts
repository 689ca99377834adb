import assert from 'node:assert/strict'
import test from 'node:test'
import { parseListenAddress } from '../../src/ipc/listen-address.ts'
import { canonicalAddress } from '../../src/ipc/server-description.ts'

test('listen address: the four forms', () => {
  assert.deepEqual(parseListenAddress('127.0.0.1:80'), [{ kind: 'tcp', host: '127.0.0.1', port: 80, ipv6Only: false }])
  assert.deepEqual(parseListenAddress('[::1]:0'), [{ kind: 'tcp', host: '::1', port: 0, ipv6Only: false }])
  assert.deepEqual(parseListenAddress(':8080'), [
    { kind: 'tcp', host: '0.0.0.0', port: 8080, ipv6Only: false },
    { kind: 'tcp', host: '::', port: 8080, ipv6Only: true },
  ])
  assert.deepEqual(parseListenAddress('unix:/run/a.sock'), [{ kind: 'unix', path: '/run/a.sock', mode: 0o660 }])
  assert.deepEqual(parseListenAddress('unix:/run/a.sock?mode=0600'), [{ kind: 'unix', path: '/run/a.sock', mode: 0o600 }])
  assert.deepEqual(parseListenAddress('localhost:1')[0], { kind: 'tcp', host: 'localhost', port: 1, ipv6Only: false })
})

const REFUSED = [
  '', '80', 'host', 'host:', 'host:99999', '::1:80', '[::g]:80', 'a b:1', 'unix:relative', 'unix:/a?mode=rw', 'unix:/a?mode=9',
  'http://a:1',
]
for (const text of REFUSED) {
  test(`listen address: '${text}' is refused with what would do`, () => {
    assert.throws(() => parseListenAddress(text, 'listen'), (error: Error) =>
      error.name === 'OptionError' && error.message.startsWith('listen is ') && /; (use|put|write) /.test(error.message))
  })
}

test('listen address: equal addresses are spelled alike', () => {
  assert.equal(canonicalAddress(parseListenAddress('LocalHost:80')[0]!), 'localhost:80')
  assert.equal(canonicalAddress(parseListenAddress('[::1]:80')[0]!), '[::1]:80')
  assert.equal(canonicalAddress(parseListenAddress('unix:/a?mode=600')[0]!), 'unix:/a')
})
