import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Resolver } from '../../src/connector/resolver.ts'
import type { BackendOptions } from '../../src/load-balancing/backend.ts'
import { functionDiscovery, staticDiscovery, type NameResolver } from '../../src/load-balancing/discovery.ts'
import { LoadBalancer, type LoadBalancerOptions } from '../../src/load-balancing/load-balancer.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import type { BackgroundService } from '../../src/server/service.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { within } from '../support/wait-for.ts'

/** Lets everything that waits for no clock and no socket run to its end. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
}

/** Answers from a table that a test changes; a missing name fails. */
class ScriptedResolver implements NameResolver {
  readonly answers = new Map<string, { addresses: string[]; ttlMs: number }>()
  readonly asked: string[] = []
  async resolve(host: string) {
    this.asked.push(host)
    const answer = this.answers.get(host)
    if (answer === undefined) throw new Error(`no answer for ${host}`)
    return answer
  }
}

interface Running {
  readonly clock: FakeClock
  readonly balancer: LoadBalancer
  readonly stopping: AbortController
  readonly errors: string[]
  names(): string[]
}

/** A balancer whose background service runs until the test ends it. */
async function start(make: (options: LoadBalancerOptions) => LoadBalancer): Promise<Running> {
  const clock = new FakeClock()
  const errors: string[] = []
  const stopping = new AbortController()
  const balancer = make({ clock, random: () => 0.5, onError: (error, context) => errors.push(`${context}: ${(error as Error).message}`) })
  const service: BackgroundService = balancer.asBackgroundService('backends')
  await within('the service to be ready', Promise.resolve(service.start(stopping.signal, SERVER_CONTEXT_DEFAULTS)))
  return { clock, balancer, stopping, errors, names: () => balancer.backends().map(status => `${status.name}*${status.weight}`) }
}

test('discovery: each address of a host name is a candidate of its own with the weight of the name', async () => {
  const resolver = new ScriptedResolver()
  resolver.answers.set('origin.example', { addresses: ['10.0.0.2', '10.0.0.1'], ttlMs: 60_000 })
  const { names, balancer, stopping } = await start(options => LoadBalancer.from(
    ['origin.example:443 weight=3', '10.0.0.9:80'],
    { ...options, resolver },
  ))
  assert.deepEqual(names(), ['10.0.0.1:443*3', '10.0.0.2:443*3', '10.0.0.9:80*1'])
  const [first] = balancer.set.backends
  assert.deepEqual([first!.origin, first!.hostName, first!.peerAddress], [
    'origin.example:443', 'origin.example', { kind: 'tcp', host: '10.0.0.1', port: 443 },
  ])
  stopping.abort()
})

test('discovery: before it is resolved a name stands for itself, so that the connector can resolve it', () => {
  const balancer = LoadBalancer.from(['origin.example:443'])
  assert.deepEqual(balancer.select().peerAddress, { kind: 'tcp', host: 'origin.example', port: 443 })
})

test('discovery: a name is resolved again when its answer expires, and addresses that stay keep their backend', async () => {
  const resolver = new ScriptedResolver()
  resolver.answers.set('origin.example', { addresses: ['10.0.0.1', '10.0.0.2'], ttlMs: 30_000 })
  const { clock, names, balancer, stopping } = await start(options => LoadBalancer.from(['origin.example:443'], { ...options, resolver }))
  const kept = balancer.set.byName.get('10.0.0.2:443')
  resolver.answers.set('origin.example', { addresses: ['10.0.0.3', '10.0.0.2'], ttlMs: 30_000 })
  clock.advance(29_999)
  await settle()
  assert.equal(resolver.asked.length, 1)
  clock.advance(2)
  await settle()
  assert.deepEqual(names(), ['10.0.0.2:443*1', '10.0.0.3:443*1'])
  assert.equal(balancer.set.byName.get('10.0.0.2:443'), kept)
  stopping.abort()
})

test('discovery: the last good answer of a name stays while it cannot be resolved, and it is asked for again', async () => {
  const resolver = new ScriptedResolver()
  resolver.answers.set('origin.example', { addresses: ['10.0.0.1'], ttlMs: 1000 })
  const { clock, names, errors, stopping } = await start(options => LoadBalancer.from(['origin.example:443'], { ...options, resolver }))
  resolver.answers.clear()
  clock.advance(1001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.1:443*1'])
  assert.deepEqual(errors, ['upstream: resolving origin.example: no answer for origin.example'])
  resolver.answers.set('origin.example', { addresses: ['not an address'], ttlMs: 1000 })
  clock.advance(5001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.1:443*1'])
  resolver.answers.set('origin.example', { addresses: ['10.0.0.7'], ttlMs: 1000 })
  clock.advance(5001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.7:443*1'])
  stopping.abort()
})

test('discovery: of a name with both families one is used, or both when asked for; one address from two names is one backend', async () => {
  const resolver = new ScriptedResolver()
  resolver.answers.set('a.example', { addresses: ['2001:db8::1', '10.0.0.1'], ttlMs: 60_000 })
  resolver.answers.set('b.example', { addresses: ['10.0.0.1'], ttlMs: 60_000 })
  const rows = [
    [4, ['10.0.0.1:80*3']], [6, ['[2001:db8::1]:80*2', '10.0.0.1:80*1']], [0, ['10.0.0.1:80*3', '[2001:db8::1]:80*2']],
  ] as const
  for (const [preferredFamily, expected] of rows) {
    const { names, stopping } = await start(options => LoadBalancer.from(['a.example:80 weight=2', 'b.example:80'], {
      ...options, resolver, preferredFamily,
    }))
    assert.deepEqual(names(), expected)
    stopping.abort()
  }
})

test('discovery: a TTL of 0 is no busy loop', async () => {
  const resolver = new ScriptedResolver()
  resolver.answers.set('origin.example', { addresses: ['10.0.0.1'], ttlMs: 0 })
  const { clock, stopping } = await start(options => LoadBalancer.from(['origin.example:443'], { ...options, resolver }))
  for (let i = 0; i < 50; i++) {
    clock.advance(100)
    await settle()
  }
  assert.ok(resolver.asked.length >= 5 && resolver.asked.length <= 6, `asked ${resolver.asked.length} times in 5 s`)
  stopping.abort()
})

test('discovery: the resolver of the connector fits', async () => {
  const resolver: NameResolver = new Resolver()
  const { names, stopping } = await start(options => LoadBalancer.from(['localhost:80'], { ...options, resolver }))
  assert.deepEqual(names(), ['127.0.0.1:80*1'])
  stopping.abort()
})

test('discovery: it is asked at every interval, give or take a tenth, and what it finds is used', async () => {
  let answer: readonly (string | BackendOptions)[] = ['10.0.0.1:80']
  let asked = 0
  const { clock, names, stopping } = await start(options => new LoadBalancer(functionDiscovery(async () => {
    asked++
    return answer
  }), { ...options, updateIntervalMs: 1000, random: () => 0 }))
  assert.deepEqual(names(), ['10.0.0.1:80*1'])
  answer = [{ address: '10.0.0.2:80', weight: 4 }]
  clock.advance(899)
  await settle()
  assert.equal(asked, 1)
  clock.advance(1)
  await settle()
  assert.deepEqual(names(), ['10.0.0.2:80*4'])
  stopping.abort()
})

test('discovery: errors keep the old set, are reported, and the next interval tries again', async () => {
  const answers: (() => readonly string[])[] = [
    () => ['10.0.0.1:80'],
    () => { throw new Error('registry is away') },
    () => ['10.0.0.2'],
    () => [],
    () => ['10.0.0.3:80'],
  ]
  const { clock, names, errors, stopping } = await start(options => new LoadBalancer(
    functionDiscovery(() => answers.shift()!()),
    { ...options, updateIntervalMs: 1000 },
  ))
  for (let i = 0; i < 3; i++) {
    clock.advance(1001)
    await settle()
    assert.deepEqual(names(), ['10.0.0.1:80*1'])
  }
  assert.equal(errors.length, 3)
  assert.match(errors.join('\n'), /registry is away\n.*host:port.*\n.*is empty/su)
  clock.advance(1001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.3:80*1'])
  stopping.abort()
})

test('discovery: a service whose first update fails starts all the same and tries again, also without an interval', async () => {
  let working = false
  const { clock, balancer, names, errors, stopping } = await start(options => new LoadBalancer(functionDiscovery(() => {
    if (!working) throw new Error('not yet')
    return ['10.0.0.1:80']
  }), options))
  assert.equal(balancer.trySelect(), null)
  assert.equal(errors.length, 1)
  working = true
  clock.advance(5001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.1:80*1'])
  stopping.abort()
})

test('discovery: one that never answers is given up after updateTimeoutMs, and its late answer is not used', async () => {
  const late = Promise.withResolvers<readonly string[]>()
  let asked = 0
  let ended = false
  const { clock, names, errors, stopping } = await start(options => new LoadBalancer(functionDiscovery(signal => {
    asked++
    if (asked === 1) return ['10.0.0.1:80']
    if (asked > 2) return ['10.0.0.3:80']
    signal.addEventListener('abort', () => { ended = true })
    return late.promise
  }), { ...options, updateIntervalMs: 1000, updateTimeoutMs: 300 }))
  clock.advance(1001)
  await settle()
  clock.advance(300)
  await settle()
  assert.deepEqual(errors, ['upstream: updating the backends: not done within 300 ms'])
  assert.equal(ended, true)
  late.resolve(['10.0.0.2:80'])
  await settle()
  assert.deepEqual(names(), ['10.0.0.1:80*1'])
  clock.advance(1001)
  await settle()
  assert.deepEqual(names(), ['10.0.0.3:80*1'])
  stopping.abort()
})

test('discovery: updates asked for at the same time are one', async () => {
  let asked = 0
  const balancer = new LoadBalancer({ discover: async () => {
    asked++
    await settle()
    return ['10.0.0.1:80']
  } })
  assert.deepEqual(await Promise.all([balancer.update(), balancer.update()]), [true, true])
  assert.equal(asked, 1)
})

test('discovery: the service ends at once when told, asleep or in the middle of an update, and leaves no timer', async () => {
  const asleep = await start(options => new LoadBalancer(staticDiscovery(['10.0.0.1:80']), { ...options, updateIntervalMs: 1000 }))
  assert.equal(asleep.clock.pending, 1)
  asleep.stopping.abort()
  assert.equal(asleep.clock.pending, 0)

  let asked = 0
  const busy = await start(options => new LoadBalancer(
    functionDiscovery(() => asked++ === 0 ? ['10.0.0.1:80'] : new Promise<never>(() => {})),
    { ...options, updateIntervalMs: 1000 },
  ))
  busy.clock.advance(1001)
  await settle()
  assert.equal(asked, 2)
  busy.stopping.abort()
  await settle()
  assert.equal(busy.clock.pending, 0)
  assert.deepEqual(busy.errors, [])
})

test('discovery: with nothing to do again the service leaves no timer at all', async () => {
  const { clock, stopping } = await start(options => LoadBalancer.from(['10.0.0.1:80'], { ...options, resolver: null }))
  await settle()
  assert.equal(clock.pending, 0)
  stopping.abort()
})
