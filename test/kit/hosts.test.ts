/** Hosts and networks: what a request is for, and who asks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OptionError } from '../../src/primitives/option-table.ts'
import { hostOf, Hosts } from '../../src/kit/hosts.ts'
import { Networks } from '../../src/kit/networks.ts'
import { requestOf } from './requests.ts'

test('hosts: the name of a host has one form, whatever the client wrote', () => {
  const forms = { 'A.Example': 'a.example', 'a.example:8080': 'a.example', 'a.example.': 'a.example', 'a.example.:80': 'a.example',
    '[2001:DB8::1]:443': '[2001:db8::1]', '[::1]': '[::1]', '192.0.2.1:80': '192.0.2.1' }
  for (const [host, name] of Object.entries(forms)) assert.equal(hostOf(requestOf('/', { host })), name)
  assert.equal(hostOf(requestOf('/')), '')
})

test('hosts: an exact name wins, then the longest one below an asterisk, and others have none', () => {
  const hosts = new Hosts({
    'Example.com': 'shop', '*.example.com': 'below', '*.a.example.com': 'deeper', 'b.a.example.com': 'exact', '[::1]': 'six',
  })
  const of = (host: string): string | undefined => hosts.of(requestOf('/', { host }))
  const asked = ['example.com:80', 'x.example.com', 'x.y.example.com', 'a.example.com', 'x.a.example.com', 'b.a.example.com.', '[::1]:80']
  assert.deepEqual(asked.map(of), ['shop', 'below', 'below', 'below', 'deeper', 'exact', 'six'])
  for (const other of ['example.org', 'badexample.com', 'com', '.example.com', 'example.com.evil.example', '__proto__', 'constructor']) {
    assert.equal(of(other), undefined, other)
  }
  assert.equal(hosts.of(requestOf('/')), undefined)
})

test('hosts: what is too long for a name is below none, as each of its labels would cost a look-up', () => {
  const hosts = new Hosts({ '*.example.com': 'below' })
  const of = (host: string): string | undefined => hosts.of(requestOf('/', { host }))
  assert.equal(of(`${'a.'.repeat(121)}example.com`), 'below')
  assert.equal(of(`${'a.'.repeat(122)}example.com`), undefined)
})

test('hosts: what is no host name is refused, and so is one that is there twice', () => {
  for (const name of ['', '*', 'a.example:80', 'a b', 'a..b', '*.*.a', 'a.*', 'http://a', 'a/']) {
    assert.throws(() => new Hosts({ [name]: 1 }), /is no host name; use one without port/, name)
  }
  assert.throws(() => new Hosts({ 'a.example': 1, 'A.example': 2 }), /is there twice/)
})

test('networks: addresses of both families, in blocks and one by one, however they are written', () => {
  const office = new Networks(['192.0.2.0/24', '2001:db8::/32', '198.51.100.7'])
  const inside = ['192.0.2.1', '192.0.2.255', '198.51.100.7', '2001:db8::1', '2001:0DB8:0::1', '::ffff:192.0.2.1', '2001:db8::1%eth0']
  for (const address of inside) assert.equal(office.has(address), true, address)
  for (const address of ['192.0.3.1', '198.51.100.8', '2001:db9::1', '', 'unix', '192.0.2', '192.0.2.1:80', '0300.0.2.1']) {
    assert.equal(office.has(address), false, address)
  }
  assert.equal(new Networks([]).has('192.0.2.1'), false)
})

test('networks: every entry that is none is said', () => {
  assert.throws(() => new Networks(['192.0.2.0/33', '192.0.2.1', 'office', '10.0.0.0/8/8']), error => {
    return error instanceof OptionError && error.mistakes.map(({ path }) => path).join() === 'networks[0],networks[2],networks[3]'
  })
})
