import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backend, BackendSet, parseBackend } from '../../src/load-balancing/backend.ts'
import { parseBackends } from '../../src/load-balancing/discovery.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'

function backend(text: string): Backend {
  const spec = parseBackend(text, 'test')
  return new Backend({ ...spec, origin: spec.name })
}

test('backend: reads every form of address, with and without a weight', () => {
  assert.deepEqual(parseBackend('127.0.0.1:80', 'b'), {
    name: '127.0.0.1:80', address: { kind: 'tcp', host: '127.0.0.1', port: 80 }, hostName: '', weight: 1, ext: null, enabled: true,
  })
  assert.equal(parseBackend('  Origin.Example:443   weight=7 ', 'b').weight, 7)
  assert.equal(parseBackend('Origin.Example:443', 'b').hostName, 'origin.example')
  assert.deepEqual(parseBackend('[::1]:8080 weight=65535', 'b').address, { kind: 'tcp', host: '::1', port: 8080 })
  assert.equal(parseBackend('[::1]:8080', 'b').name, '[::1]:8080')
  assert.deepEqual(parseBackend('unix:/run/app.sock', 'b').address, { kind: 'unix', path: '/run/app.sock' })
  const ext = { zone: 'a' }
  assert.equal(parseBackend({ address: 'a:1', weight: 2, ext, enabled: false }, 'b').ext, ext)
})

test('backend: refuses what could not be dialled or weighed, and says where and what would do', () => {
  const refused: [input: Parameters<typeof parseBackend>[0], says: RegExp][] = [
    ['origin', /^TypeError: api\.backends\[3\]: .*host:port/u],
    ['origin:0', /port/u],
    ['origin:65536', /port/u],
    ['::1:80', /brackets/u],
    ['1.2.3:80', /IP address/u],
    ['unix:relative', /absolute path/u],
    ['a:1 weight=0', /api\.backends\[3\]\.weight is 0; use a whole number from 1 to 65535/u],
    ['a:1 weight=65536', /weight is 65536/u],
    ['a:1 wieght=2', /"wieght=2"; only weight=N/u],
    [{ address: 'a:1', weight: 1.5 }, /weight is 1\.5/u],
    [{ address: 'a:1', enabled: 'no' as never }, /enabled is "no"; use true or false/u],
  ]
  for (const [input, says] of refused) assert.throws(() => parseBackend(input, 'api.backends[3]'), says, JSON.stringify(input))
})

test('backend: one address twice in a list is refused, however it is spelled', () => {
  assert.throws(() => parseBackends(['a:1', 'b:1', 'A:1 weight=2'], 'up.backends'), /up\.backends\[2\] is "a:1" once more/u)
  assert.throws(() => parseBackends('a:1' as never, 'up.backends'), /up\.backends is "a:1"; use a list/u)
})

test('backend: an HTTP peer takes its address and name from it and reports back to it', () => {
  const reports: boolean[] = []
  const one = backend('127.0.0.1:80')
  one.onTrial = true
  one.owner = { onSuccess: () => reports.push(true), onFailure: () => reports.push(false) }
  one.inFlight = 2
  const peer = new HttpPeer(one)
  assert.equal(peer.name, one.name)
  peer.report(true)
  peer.report(false)
  assert.deepEqual(reports, [true, false])
  assert.equal(one.inFlight, 0)
})

test('backend: more reports than selections do not count below zero', () => {
  const one = backend('127.0.0.1:80')
  one.report(true)
  one.release()
  assert.equal(one.inFlight, 0)
})

test('backend: a part of a set keeps order and weights', () => {
  const all = ['a:1', 'b:1', 'c:1'].map(backend)
  const set = new BackendSet(all, Uint16Array.of(3, 2, 1))
  assert.equal(set.only(() => true), set)
  const part = set.only(one => one.name !== 'b:1')
  assert.deepEqual(part.backends.map(one => one.name), ['a:1', 'c:1'])
  assert.deepEqual([...part.weights], [3, 1])
})
