import assert from 'node:assert/strict'
import fs, { rmSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { candidatesOf, MachineNames, parseHosts, parseResolvConf } from '../../src/connector/machine-names.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

test('hosts: lines that say nothing are passed over', () => {
  const text = '\n# all\n  \nnonsense a\n10.0.0.1\n\t10.0.0.2\tb\t\tc\r\n10.0.0.2 b\n__proto__ x\n'
  assert.deepEqual([...parseHosts(text)], [['b', ['10.0.0.2']], ['c', ['10.0.0.2']]])
})

test('hosts and resolv.conf: no text does harm', () => {
  fc.assert(fc.property(fc.string({ maxLength: 200 }), text => {
    parseHosts(text)
    const settings = parseResolvConf(`options ${text}\nsearch ${text}`, text)
    assert.ok(settings.ndots >= 0 && settings.ndots <= 15 && settings.attempts >= 1 && settings.timeoutMs >= 1000)
  }))
})

test('resolv.conf: search list, ndots and tries are read', () => {
  const ofCluster = `nameserver 10.0.0.53
search Ns.svc.Cluster.local. svc.cluster.local
options ndots:5 timeout:2 attempts:4 rotate
`
  assert.deepEqual(parseResolvConf(ofCluster, 'host'), {
    search: ['ns.svc.cluster.local', 'svc.cluster.local'], ndots: 5, timeoutMs: 2000, attempts: 4,
  })
  assert.deepEqual(parseResolvConf('domain example.com ; old\n', 'host.other.test').search, ['example.com'])
  assert.deepEqual(parseResolvConf('', 'host.Example.com').search, ['example.com'])
  assert.deepEqual(parseResolvConf('search .\n', 'host.example.com').search, [])
  assert.equal(parseResolvConf('options ndots:99\n', '').ndots, 15)
})

test('search list: names with enough dots go first as they stand, others last, a dot at the end goes alone', () => {
  const settings = { search: ['ns.local', 'local'], ndots: 2 }
  assert.deepEqual(candidatesOf('a.b.c', settings), ['a.b.c', 'a.b.c.ns.local', 'a.b.c.local'])
  assert.deepEqual(candidatesOf('a.b', settings), ['a.b.ns.local', 'a.b.local', 'a.b'])
  assert.deepEqual(candidatesOf('a.', settings), ['a'])
})

test('resolv.conf: the same object until the file changes, and a file that is gone is an empty one', (t) => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'resolv.conf': 'search a.test\n' })
  const machine = new MachineNames(path.join(folder, 'hosts'), path.join(folder, 'resolv.conf'))
  const first = machine.resolvConf(1000)
  assert.deepEqual(first.search, ['a.test'])
  assert.equal(machine.resolvConf(2000), first)
  writeFileSync(path.join(folder, 'resolv.conf'), 'options ndots:4\nsearch longer.test\n')
  assert.equal(machine.resolvConf(2999), first, 'looked at once a second')
  assert.deepEqual([machine.resolvConf(3000).search, machine.resolvConf(3000).ndots], [['longer.test'], 4])
  rmSync(path.join(folder, 'resolv.conf'))
  assert.equal(machine.resolvConf(4000).ndots, 1)
})

test('hosts: what was read holds while there is no descriptor to read with, and is read again as soon as there is', t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { hosts: '10.0.0.1 a.test\n' })
  const machine = new MachineNames(path.join(folder, 'hosts'), path.join(folder, 'resolv.conf'))
  assert.deepEqual(machine.addresses('a.test', 1000), ['10.0.0.1'])
  writeFileSync(path.join(folder, 'hosts'), '10.0.0.22 a.test\n')
  const read = t.mock.method(fs, 'readFileSync', () => { throw Object.assign(new Error('no'), { code: 'EMFILE' }) })
  syncBuiltinESMExports()
  try {
    assert.deepEqual(machine.addresses('a.test', 2000), ['10.0.0.1'])
  } finally {
    read.mock.restore()
    syncBuiltinESMExports()
  }
  assert.deepEqual(machine.addresses('a.test', 3000), ['10.0.0.22'])
})
