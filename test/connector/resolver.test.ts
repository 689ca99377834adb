import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  CaresSource, Resolver, type DnsAddress, type DnsSource, type PendingResolve, type ResolverOptions,
} from '../../src/connector/resolver.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { within } from '../support/wait-for.ts'
import { DnsStub, Rcode } from './dns-stub.ts'
import { nextTick } from './fakes.ts'

const folder = mkdtempSync(join(tmpdir(), 'resolver-'))
after(() => rmSync(folder, { recursive: true }))

interface Query {
  readonly name: string
  readonly family: 4 | 6
  answer(...addresses: string[]): void
  answerWith(addresses: readonly DnsAddress[]): void
  fail(code: string): void
}

/** DNS in a test's hand. */
class FakeDns implements DnsSource {
  readonly queries: Query[] = []
  ttl = 60
  query(name: string, family: 4 | 6): Promise<readonly DnsAddress[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly DnsAddress[]>()
    this.queries.push({
      name, family, answerWith: resolve,
      answer: (...addresses) => resolve(addresses.map(address => ({ address, ttl: this.ttl }))),
      fail: code => reject(Object.assign(new Error(code), { code })),
    })
    return promise
  }
  get asked(): string[] { return this.queries.map(({ name, family }) => `${name} ${family}`) }
  /** Takes the questions that are open; there must be exactly one of each family. */
  async pair(name: string): Promise<{ v4: Query; v6: Query }> {
    await nextTick()
    const open = this.queries.splice(0)
    assert.deepEqual(open.map(query => query.name), [name, name])
    return { v4: open.find(query => query.family === 4)!, v6: open.find(query => query.family === 6)! }
  }
}

class Waiter {
  addresses: readonly string[] | null = null
  error: ProxyError | null = null
  calls = 0
  onResolved(addresses: readonly string[]): void {
    this.calls++
    this.addresses = addresses
  }
  onResolveFailed(error: ProxyError): void {
    this.calls++
    this.error = error
  }
}

let fixtures = 0

class Fixture {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly dns = new FakeDns()
  readonly hostsPath = join(folder, `hosts-${++fixtures}`)
  readonly resolvConfPath = join(folder, `resolv-${fixtures}`)
  readonly resolver: Resolver
  sources = 0
  constructor(options: ResolverOptions = {}, files: { hosts?: string; resolvConf?: string } = {}) {
    writeFileSync(this.hostsPath, files.hosts ?? '')
    writeFileSync(this.resolvConfPath, files.resolvConf ?? 'search .\n')
    this.resolver = new Resolver({
      ticker: this.ticker,
      hostsPath: this.hostsPath,
      resolvConfPath: this.resolvConfPath,
      createSource: () => { this.sources++; return this.dns },
      ...options,
    })
  }
  ask(name: string, timeoutMs = 5000): Waiter & { pending: PendingResolve } {
    const waiter = new Waiter()
    return Object.assign(waiter, { pending: this.resolver.ask(name, timeoutMs, waiter) })
  }
  /** Asks and answers, so that the name is known. */
  async know(name: string, ...v4: string[]): Promise<void> {
    const waiter = this.ask(name)
    const pair = await this.dns.pair(name)
    pair.v4.answer(...v4)
    pair.v6.answer()
    await nextTick()
    assert.equal(waiter.calls, 1)
  }
}

test('resolver: both families are asked for, and taken in turns', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v6.answer('2001:db8::1', '2001:db8::2')
  v4.answer('10.0.0.1')
  await nextTick()
  assert.deepEqual(waiter.addresses, ['2001:db8::1', '10.0.0.1', '2001:db8::2'])
  assert.deepEqual(fixture.resolver.cached('a.test'), waiter.addresses)
  assert.equal(fixture.ticker.size, 0)
  assert.equal(fixture.clock.pending, 1, 'the tick stops at its next walk')
})

test('resolver: numbers are not asked for', async () => {
  const fixture = new Fixture()
  assert.deepEqual(fixture.resolver.cached('10.0.0.1'), ['10.0.0.1'])
  assert.deepEqual(fixture.resolver.cached('::1'), ['::1'])
  const waiter = fixture.ask('::1')
  assert.equal(waiter.calls, 0, 'not before ask has returned')
  await nextTick()
  assert.deepEqual(waiter.addresses, ['::1'])
  assert.equal(fixture.dns.queries.length, 0)
})

test('resolver: an answer is kept for its TTL, between floor and ceiling', async () => {
  const fixture = new Fixture()
  for (const [ttl, keptMs] of [[60, 60_000], [0, 1000], [86_400, 300_000]] as const) {
    const name = `ttl-${ttl}.test`
    fixture.dns.ttl = ttl
    await fixture.know(name, '10.0.0.1')
    fixture.clock.advance(keptMs - 1)
    assert.deepEqual(fixture.resolver.cached(name), ['10.0.0.1'])
    fixture.clock.advance(1)
    assert.equal(fixture.resolver.cached(name), null)
  }
})

test('resolver: the shortest TTL of an answer counts', async () => {
  const fixture = new Fixture()
  fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answerWith([{ address: '10.0.0.1', ttl: 100 }, { address: '10.0.0.2', ttl: 5 }])
  v6.answerWith([{ address: '2001:db8::1', ttl: 50 }])
  await nextTick()
  fixture.clock.advance(4999)
  assert.notEqual(fixture.resolver.cached('a.test'), null)
  fixture.clock.advance(1)
  assert.equal(fixture.resolver.cached('a.test'), null)
})

test('resolver: one question per name is under way, the others wait for it', async () => {
  const fixture = new Fixture()
  const waiters = [fixture.ask('a.test'), fixture.ask('a.test'), fixture.ask('a.test')]
  waiters[1]!.pending.cancel()
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answer('10.0.0.1')
  v6.fail('ENODATA')
  await nextTick()
  assert.deepEqual(waiters.map(waiter => waiter.calls), [1, 0, 1])
  assert.equal(fixture.resolver.counters.questions, 1)
})

test('resolver: no such name is a fault, kept briefly', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.fail('ENOTFOUND')
  v6.fail('ENODATA')
  await nextTick()
  assert.deepEqual([waiter.error!.kind, waiter.error!.source, waiter.error!.retry], ['RESOLVE_FAILED', 'upstream', 'always'])
  assert.match(waiter.error!.message, /there is no such name/)
  const again = fixture.ask('a.test')
  assert.equal(again.calls, 0)
  await nextTick()
  assert.equal(again.error!.kind, 'RESOLVE_FAILED')
  assert.equal(fixture.dns.queries.length, 0)
  fixture.clock.advance(2000)
  fixture.ask('a.test')
  await fixture.dns.pair('a.test')
})

test('resolver: one family is enough, whatever became of the other', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v6.fail('ESERVFAIL')
  v4.answer('10.0.0.1')
  await nextTick()
  assert.deepEqual(waiter.addresses, ['10.0.0.1'])
})

test('resolver: no address and one failure is a failure, not "no such name"', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.fail('ENODATA')
  v6.fail('ESERVFAIL')
  await nextTick()
  assert.match(waiter.error!.message, /the DNS servers failed \(ESERVFAIL\)/)
})

test('resolver: a slow family is waited for 50 ms, and joins when it comes', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answer('10.0.0.1')
  await nextTick()
  assert.equal(waiter.calls, 0)
  fixture.clock.advance(50)
  await nextTick()
  assert.deepEqual(waiter.addresses, ['10.0.0.1'])
  v6.answer('2001:db8::1')
  await nextTick()
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.1', '2001:db8::1'])
})

test('resolver: a question has its waiter\'s time limit', async () => {
  const fixture = new Fixture()
  const [short, long] = [fixture.ask('a.test', 1000), fixture.ask('a.test', 3000)]
  fixture.clock.advance(1100)
  assert.deepEqual([short.error!.kind, short.error!.limit, long.calls], ['RESOLVE_TIMEOUT', 'resolve-timeout', 0])
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answer('10.0.0.1')
  v6.answer()
  await nextTick()
  assert.deepEqual([short.calls, long.addresses], [1, ['10.0.0.1']])
})

test('resolver: a source that never answers is given up, and the name can be asked for again', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test', 1000)
  await fixture.dns.pair('a.test')
  fixture.clock.advance(61_000)
  assert.equal(waiter.error!.kind, 'RESOLVE_TIMEOUT')
  assert.equal(fixture.ticker.size, 0)
  fixture.ask('a.test')
  await fixture.dns.pair('a.test')
})

test('resolver: when the servers fail the last good answer stands in', async () => {
  const fixture = new Fixture()
  await fixture.know('a.test', '10.0.0.1')
  fixture.clock.advance(60_000)
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.fail('ETIMEOUT')
  v6.fail('ECONNREFUSED')
  await nextTick()
  assert.deepEqual(waiter.addresses, ['10.0.0.1'])
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.1'], 'for a second, so that failing servers are not asked each time')
  fixture.clock.advance(1000)
  assert.equal(fixture.resolver.cached('a.test'), null)
  fixture.clock.advance(86_400_000)
  const tooLate = fixture.ask('a.test')
  const again = await fixture.dns.pair('a.test')
  again.v4.fail('ETIMEOUT')
  again.v6.fail('ETIMEOUT')
  await nextTick()
  assert.match(tooLate.error!.message, /the DNS servers failed/)
})

test('resolver: when the servers are slow the last good answer stands in after half a second', async () => {
  const fixture = new Fixture()
  await fixture.know('a.test', '10.0.0.1')
  fixture.clock.advance(60_000)
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  fixture.clock.advance(400)
  assert.equal(waiter.calls, 0)
  fixture.clock.advance(200)
  assert.deepEqual(waiter.addresses, ['10.0.0.1'])
  v4.answer('10.0.0.2')
  v6.answer()
  await nextTick()
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.2'])
})

test('resolver: a name that the servers say is gone is gone', async () => {
  const fixture = new Fixture()
  await fixture.know('a.test', '10.0.0.1')
  fixture.clock.advance(60_000)
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.fail('ENOTFOUND')
  v6.fail('ENOTFOUND')
  await nextTick()
  assert.match(waiter.error!.message, /no such name/)
})

test('resolver: what is no address of the family is dropped, and there are at most 32', async () => {
  const fixture = new Fixture()
  const waiter = fixture.ask('a.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answer('nonsense', '::1', ...Array.from({ length: 40 }, (_, index) => `10.0.0.${index}`))
  v6.answer(...Array.from({ length: 40 }, (_, index) => `2001:db8::${(index + 1).toString(16)}`))
  await nextTick()
  assert.equal(waiter.addresses!.length, 32)
  assert.equal(waiter.addresses!.filter(address => address.includes(':')).length, 16)
  assert.ok(!waiter.addresses!.includes('nonsense') && !waiter.addresses!.includes('::1'))
})

test('resolver: names are forgotten past maxNames, and no more than maxQuestions are asked at a time', async () => {
  const fixture = new Fixture({ maxNames: 2, maxQuestions: 2 })
  for (const name of ['a.test', 'b.test', 'c.test']) await fixture.know(name, '10.0.0.1')
  assert.equal(fixture.resolver.cached('a.test'), null)
  assert.notEqual(fixture.resolver.cached('c.test'), null)
  const waiters = ['d.test', 'e.test', 'f.test'].map(name => fixture.ask(name))
  await nextTick()
  assert.deepEqual(waiters.map(waiter => waiter.calls), [0, 0, 1])
  assert.equal(waiters[2]!.error!.limit, 'questions')
})

test('resolver: options that would not do are refused', () => {
  assert.throws(() => new Fixture({ maxNames: 0 }), { message: 'resolver.maxNames is 0; use a positive whole number' })
  const message = 'resolver.negativeTtlMs is -1; use 0 (keeps it not at all) or a positive number of milliseconds'
  assert.throws(() => new Fixture({ negativeTtlMs: -1 }), { message })
})

test('resolver: a source that cannot be made is a failure, not a crash', async () => {
  const fixture = new Fixture({ createSource: () => { throw new Error('no') } })
  const waiter = fixture.ask('a.test')
  await nextTick()
  assert.equal(waiter.error!.kind, 'RESOLVE_FAILED')
  assert.equal(fixture.ticker.size, 0)
})

test('resolver: resolve is ask as a promise, and says how long the answer holds', async () => {
  const fixture = new Fixture()
  const resolving = fixture.resolver.resolve('A.test')
  const { v4, v6 } = await fixture.dns.pair('a.test')
  v4.answer('10.0.0.1')
  v6.answer()
  assert.deepEqual(await resolving, { addresses: ['10.0.0.1'], ttlMs: 60_000 })
  fixture.clock.advance(59_000)
  assert.deepEqual(await fixture.resolver.resolve('a.test'), { addresses: ['10.0.0.1'], ttlMs: 1000 })
  const failing = fixture.resolver.resolve('b.test')
  const gone = await fixture.dns.pair('b.test')
  gone.v4.fail('ENOTFOUND')
  gone.v6.fail('ENOTFOUND')
  await assert.rejects(failing, { kind: 'RESOLVE_FAILED' })
})

// ---- files

test('hosts: come before DNS, and are read again when they change, at most once a second', async () => {
  const fixture = new Fixture({}, { hosts: '10.0.0.1 a.test alias # not.this\n::2 A.test\n' })
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.1', '::2'])
  assert.deepEqual(fixture.resolver.cached('a.test.'), ['10.0.0.1', '::2'])
  assert.deepEqual(fixture.resolver.cached('alias'), ['10.0.0.1'])
  assert.equal(fixture.resolver.cached('not.this'), null)
  writeFileSync(fixture.hostsPath, '10.0.0.22 a.test\n')
  fixture.clock.advance(900)
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.1', '::2'])
  fixture.clock.advance(100)
  assert.deepEqual(fixture.resolver.cached('a.test'), ['10.0.0.22'])
  rmSync(fixture.hostsPath)
  fixture.clock.advance(1000)
  assert.equal(fixture.resolver.cached('a.test'), null)
  assert.equal(fixture.dns.queries.length, 0)
})

test('hosts: localhost is never asked for, unless the file says otherwise', () => {
  const fixture = new Fixture()
  assert.deepEqual(fixture.resolver.cached('localhost'), ['127.0.0.1', '::1'])
  assert.deepEqual(fixture.resolver.cached('app.localhost'), ['127.0.0.1', '::1'])
  assert.deepEqual(new Fixture({}, { hosts: '127.0.0.7 localhost' }).resolver.cached('localhost'), ['127.0.0.7'])
})

test('search list: goes on where there is no name, and stops where the servers fail', async () => {
  const fixture = new Fixture({}, { resolvConf: 'search one.test two.test\n' })
  const waiter = fixture.ask('a')
  const first = await fixture.dns.pair('a.one.test')
  first.v4.fail('ENOTFOUND')
  first.v6.fail('ENODATA')
  const second = await fixture.dns.pair('a.two.test')
  second.v4.answer('10.0.0.2')
  second.v6.answer()
  await nextTick()
  assert.deepEqual(waiter.addresses, ['10.0.0.2'])
  const failing = fixture.ask('b')
  const third = await fixture.dns.pair('b.one.test')
  third.v4.fail('ESERVFAIL')
  third.v6.fail('ESERVFAIL')
  await nextTick()
  assert.match(failing.error!.message, /ESERVFAIL/)
  assert.equal(fixture.dns.queries.length, 0)
})

test('resolv.conf: when it changes the servers are taken from it again', async () => {
  const fixture = new Fixture()
  await fixture.know('a.test', '10.0.0.1')
  await fixture.know('b.test', '10.0.0.1')
  assert.equal(fixture.sources, 1)
  writeFileSync(fixture.resolvConfPath, 'nameserver 10.0.0.54\nsearch other.test\n')
  fixture.clock.advance(1000)
  fixture.ask('c')
  await fixture.dns.pair('c.other.test')
  assert.equal(fixture.sources, 2)
})

// ---- real DNS

test('resolver: asks a DNS server over UDP for exactly the names of the search list', async () => {
  const stub = new DnsStub()
  const server = await stub.start()
  try {
    stub.table.set('a web.one.test', { addresses: ['10.1.0.1', '10.1.0.2'], ttl: 30 })
    stub.table.set('aaaa web.one.test', { addresses: ['2001:db8::5'], ttl: 20 })
    stub.table.set('a broken.test', Rcode.ServerFailure)
    stub.table.set('aaaa broken.test', Rcode.ServerFailure)
    stub.table.set('a only4.test', { addresses: ['10.1.0.3'], ttl: 30 })
    stub.table.set('aaaa only4.test', { addresses: [], ttl: 0 })
    const resolvConfPath = join(folder, 'resolv-real')
    writeFileSync(resolvConfPath, 'search zero.test one.test\noptions timeout:1 attempts:1\n')
    const resolver = new Resolver({
      hostsPath: join(folder, 'absent'),
      resolvConfPath,
      createSource: settings => new CaresSource(settings, [server]),
    })
    const found = await within('web', resolver.resolve('web'))
    assert.deepEqual(found.addresses.toSorted(), ['10.1.0.1', '10.1.0.2', '2001:db8::5'])
    assert.ok(found.ttlMs > 19_000 && found.ttlMs <= 20_000, String(found.ttlMs))
    assert.deepEqual(stub.asked.splice(0).toSorted(), ['a web.one.test', 'a web.zero.test', 'aaaa web.one.test', 'aaaa web.zero.test'])
    assert.deepEqual((await within('the cache', resolver.resolve('web'))).addresses, found.addresses)
    assert.deepEqual(stub.asked, [])
    assert.deepEqual((await within('only4', resolver.resolve('only4.test'))).addresses, ['10.1.0.3'])
    await assert.rejects(within('nothing', resolver.resolve('nothing.test')), { kind: 'RESOLVE_FAILED', message: /no such name/ })
    const broken = within('broken', resolver.resolve('broken.test'))
    await assert.rejects(broken, { kind: 'RESOLVE_FAILED', message: /servers failed \(ESERVFAIL\)/ })
  } finally { stub.stop() }
})
