import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { Backend, BackendOptions } from '../../src/load-balancing/backend.ts'
import { functionDiscovery } from '../../src/load-balancing/discovery.ts'
import {
  LOAD_BALANCER_DEFAULTS, LoadBalancer, type LoadBalancerOptions, type SelectionName,
} from '../../src/load-balancing/load-balancer.ts'
import type { Selection } from '../../src/load-balancing/selection.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { FakeClock } from '../support/fake-clock.ts'

const SELECTIONS: readonly SelectionName[] = ['round-robin', 'random', 'hash', 'ketama', 'least-in-flight']
const ABC = ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']

/** What begins anywhere begins with the first backend, so that orders can be told. */
function chanceOf({ selection }: LoadBalancerOptions): () => number { return selection === 'random' ? Math.random : () => 0 }

/** A fixed list on a clock of its own. */
function balance(backends: readonly (string | BackendOptions)[], options: LoadBalancerOptions = {}): {
  balancer: LoadBalancer
  clock: FakeClock
} {
  const clock = new FakeClock()
  return { balancer: LoadBalancer.from(backends, { clock, random: chanceOf(options), ...options }), clock }
}

/** A balancer whose set is whatever `list` holds at the next update. */
function discovered(list: (string | BackendOptions)[], options: LoadBalancerOptions = {}): LoadBalancer {
  return new LoadBalancer(functionDiscovery(() => [...list]), { clock: new FakeClock(), random: chanceOf(options), ...options })
}

/** Names of the next choices, all of which go well. */
function choose(balancer: LoadBalancer, count: number, key?: string): string[] {
  return Array.from({ length: count }, () => {
    const backend = balancer.select(key)
    backend.report(true)
    return backend.name
  })
}

function byAddress(a: { address: string }, b: { address: string }): number { return a.address < b.address ? -1 : 1 }

function named(balancer: LoadBalancer, name: string): Backend {
  const found = balancer.set.byName.get(name)
  assert.ok(found !== undefined, `${name} is in the set`)
  return found
}

/** Fails one attempt at exactly this backend. */
function failAt(balancer: LoadBalancer, name: string): void {
  balancer.selectWith('', backend => backend.name === name).report(false)
}

test('load balancer: round robin by default, weights written behind the address', () => {
  const { balancer } = balance(['10.0.0.1:80 weight=2', '10.0.0.2:80'])
  assert.deepEqual(choose(balancer, 6), ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.1:80', '10.0.0.1:80', '10.0.0.2:80', '10.0.0.1:80'])
})

test('load balancer: no backend that may be used is a fault of its own kind, or null', () => {
  const { balancer } = balance(ABC, { name: 'api' })
  for (const name of ABC) balancer.setEnabled(name, false)
  assert.equal(balancer.trySelect(), null)
  assert.throws(() => balancer.select(), (error: unknown) => {
    assert.ok(error instanceof ProxyError)
    assert.deepEqual([error.kind, error.source, error.retry], ['NO_HEALTHY_BACKEND', 'upstream', 'never'])
    assert.match(error.message, /none of 3 backends of api may be used/u)
    return true
  })
  assert.throws(() => discovered([]).select(), /upstream has no backends/u)
})

test('load balancer: a failed backend is out for failTimeoutMs, then one attempt tries it', () => {
  const events: string[] = []
  const { balancer, clock } = balance(ABC, {
    onHealthChange: (backend, ready, reason) => events.push(`${backend.name} ${ready} ${reason}`),
  })
  failAt(balancer, ABC[0]!)
  assert.deepEqual(events, ['10.0.0.1:80 false an attempt failed'])
  assert.equal(balancer.backends()[0]!.passive, 'out')
  clock.advance(9_999)
  assert.ok(!choose(balancer, 20).includes(ABC[0]!))

  clock.advance(1)
  const trial = balancer.select()
  assert.equal(trial.name, ABC[0])
  assert.equal(balancer.backends()[0]!.passive, 'trial')
  assert.ok(!choose(balancer, 20).includes(ABC[0]!), 'only one attempt at a time tries it')
  trial.report(false)
  clock.advance(9_999)
  assert.ok(!choose(balancer, 20).includes(ABC[0]!))

  clock.advance(1)
  balancer.select().report(true)
  assert.deepEqual(events.slice(1), ['10.0.0.1:80 true an attempt succeeded'])
  assert.deepEqual(new Set(choose(balancer, 3)), new Set(ABC))
})

test('load balancer: a trial that nobody reports is followed by another', () => {
  const { balancer, clock } = balance(ABC)
  failAt(balancer, ABC[1]!)
  for (let trial = 0; trial < 3; trial++) {
    clock.advance(10_000)
    const backend = balancer.select()
    assert.equal(backend.name, ABC[1])
    backend.release()
    assert.ok(!choose(balancer, 6).includes(ABC[1]!))
  }
})

test('load balancer: an old attempt that succeeds does not bring back a backend that is out', () => {
  const { balancer } = balance(ABC)
  const slow = balancer.select()
  failAt(balancer, slow.name)
  slow.report(true)
  assert.ok(!choose(balancer, 9).includes(slow.name))
})

test('load balancer: failures count when maxFails of them lie within failTimeoutMs, wherever the span begins', () => {
  const times = fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 3, maxLength: 12 })
  fc.assert(fc.property(times, fc.integer({ min: 2, max: 4 }), (gaps, maxFails) => {
    const { balancer, clock } = balance(ABC, { maxFails })
    const failures: number[] = []
    for (const gap of gaps) {
      clock.advance(gap)
      failures.push(clock.exact())
      failAt(balancer, ABC[0]!)
      const tooMany = failures.length >= maxFails && clock.exact() - failures.at(-maxFails)! <= 10_000
      assert.equal(named(balancer, ABC[0]!).ready, !tooMany)
      if (tooMany) break
    }
  }))
})

test('load balancer: maxFails 0 turns passive health off', () => {
  const { balancer } = balance(ABC, { maxFails: 0 })
  for (let i = 0; i < 30; i++) balancer.select().report(false)
  assert.equal(new Set(choose(balancer, 3)).size, 3)
  assert.equal(balancer.backends()[0]!.failures, 10)
})

test('load balancer: when failures took everybody out, everybody comes back at once, and watchers hear of real changes only', () => {
  for (const selection of SELECTIONS) {
    const events: string[] = []
    const { balancer } = balance(ABC, { selection, onHealthChange: (backend, ready) => events.push(`${backend.name} ${ready}`) })
    for (let i = 0; i < 50; i++) balancer.select(`key ${i}`).report(false)
    assert.deepEqual(events.toSorted(), ABC.map(name => `${name} false`), selection)
    // They are out by now, or some are; the next ones to succeed are announced, each once.
    for (let i = 0; i < 50; i++) balancer.select(`key ${i}`).report(true)
    assert.ok(events.slice(3).length >= 1 && events.slice(3).every(event => event.endsWith('true')), `${selection}: ${events.join()}`)
    assert.equal(new Set(events).size, events.length)
  }
})

test('load balancer: an ejection is a backend that was in traffic and is not, once, however often it fails after that', () => {
  const { balancer, clock } = balance(ABC)
  const ejected = (): number => balancer.health().ejections.attempts
  failAt(balancer, ABC[0]!)
  assert.equal(ejected(), 1)
  // Its trial fails.
  clock.advance(10_000)
  failAt(balancer, ABC[0]!)
  assert.equal(ejected(), 1)
  clock.advance(10_000)
  balancer.selectWith('', backend => backend.name === ABC[0]).report(true)
  failAt(balancer, ABC[0]!)
  assert.equal(ejected(), 2)
  balancer.setEnabled(ABC[1]!, false)
  assert.deepEqual(balancer.health().ejections, { attempts: 2, check: 0 })
  assert.deepEqual([...balancer.health().targets].map(({ ready }) => ready), [false, false, true])
})

test('load balancer: a single backend is used however often it failed', () => {
  const { balancer } = balance(['10.0.0.1:80'])
  for (let i = 0; i < 5; i++) balancer.select().report(false)
  assert.equal(balancer.select().name, '10.0.0.1:80')
})

test('load balancer: a request that tried everybody who is well gets one that is out, not an error', () => {
  const { balancer } = balance(ABC)
  failAt(balancer, ABC[0]!)
  const tried = [balancer.select(), balancer.select()]
  assert.equal(balancer.select('', { exclude: tried }).name, ABC[0])
  assert.equal(balancer.trySelect('', { exclude: [...tried, named(balancer, ABC[0]!)] }), null)
})

test('load balancer: an attempt passes over the peers that the request has tried, and begins again when it has tried all', () => {
  for (const selection of SELECTIONS) {
    // Failures take nobody out here: only what was tried tells one from the other.
    const { balancer } = balance(ABC, { selection, maxFails: 0, peer: backend => new HttpPeer(backend) })
    for (let i = 0; i < 20; i++) {
      const triedPeers: Peer[] = []
      for (let attempt = 0; attempt < ABC.length; attempt++) {
        const peer = attempt === 1 ? balancer.selectPeerFor({ triedPeers }, `key ${i}`)
          : new HttpPeer(balancer.selectFor({ triedPeers }, `key ${i}`))
        peer.report!(false)
        triedPeers.push(peer)
      }
      assert.deepEqual(triedPeers.map(peer => peer.name).toSorted(), ABC, selection)
      assert.ok(ABC.includes(balancer.selectFor({ triedPeers }, `key ${i}`).name))
    }
  }
})

test('load balancer: where there is a backup, one that is out is chosen for its trial alone', () => {
  for (const selection of SELECTIONS) {
    const { balancer, clock } = balance(ABC, { selection, failTimeoutMs: 1000, peer: backend => new HttpPeer(backend) })
    const fresh = { triedPeers: [] }
    const peer = balancer.trySelectPeerFor(fresh, 'k')
    assert.equal(peer, named(balancer, peer!.name).peer)
    for (const name of ABC) failAt(balancer, name)
    assert.equal(balancer.trySelectFor(fresh, 'k'), null, selection)
    clock.advance(1000)
    // Each is tried once, by a request of its own, and the others go to the backup meanwhile.
    const trials = ABC.map(() => balancer.trySelectFor(fresh, 'k')!)
    assert.deepEqual(trials.map(({ name }) => name).toSorted(), ABC, selection)
    assert.equal(balancer.trySelectFor(fresh, 'k'), null, selection)
    trials[0]!.report(true)
    assert.equal(balancer.trySelectFor(fresh, 'k'), trials[0], selection)
    assert.equal(balancer.trySelectPeerFor({ triedPeers: [trials[0]!] }, 'k'), null, selection)
    balancer.setEnabled(trials[0]!.name, false)
    assert.equal(balancer.trySelectFor(fresh, 'k'), null, selection)
    // Where there is no backup any of them is better than no answer.
    assert.notEqual(balancer.selectFor(fresh, 'k'), trials[0])
  }
})

test('load balancer: fresh balancers do not all begin with the same backend', () => {
  for (const selection of ['round-robin', 'least-in-flight', 'ketama'] as const) {
    const begins = (random: number): string => balance(ABC, { selection, random: () => random }).balancer.select().name
    if (selection !== 'least-in-flight') assert.deepEqual([0, 0.4, 0.9].map(begins), ABC, selection)
    const first = new Set(Array.from({ length: 60 }, () => LoadBalancer.from(ABC, { selection }).select().name))
    assert.equal(first.size, 3, selection)
  }
})

test('load balancer: peers already tried are not chosen, given as backends or as peers, as a list or as a set', () => {
  const inputs = [
    fc.constantFrom(...SELECTIONS), fc.integer({ min: 1, max: 12 }), fc.nat(), fc.boolean(), fc.boolean(), fc.string(),
  ] as const
  fc.assert(fc.property(...inputs, (selection, count, seed, asPeers, asSet, key) => {
    const { balancer } = balance(Array.from({ length: count }, (_, i) => `10.0.0.${i + 1}:80`), { selection })
    const tried: (Backend | HttpPeer)[] = []
    for (let i = 0; i < count; i++) {
      const backend = balancer.select(key, { exclude: asSet ? new Set(tried) : tried })
      assert.ok(!tried.some(one => one.name === backend.name))
      tried.push(asPeers ? new HttpPeer(backend) : backend)
      backend.report((seed >> i) % 2 === 0)
    }
    assert.equal(balancer.trySelect(key, { exclude: tried }), null)
  }))
})

test('load balancer: what is disabled or unhealthy is never chosen, whatever else happens', () => {
  type Step = { what: 'enable' | 'disable' | 'select' | 'fail' | 'wait'; which: number }
  const steps = fc.array(
    fc.record<Step>({ what: fc.constantFrom('enable', 'disable', 'select', 'fail', 'wait'), which: fc.nat(5) }),
    { maxLength: 60 },
  )
  fc.assert(fc.property(fc.constantFrom(...SELECTIONS), steps, (selection, script) => {
    const names = Array.from({ length: 6 }, (_, i) => `10.0.0.${i + 1}:80`)
    const { balancer, clock } = balance(names, { selection, failTimeoutMs: 1000 })
    const disabled = new Set<string>()
    for (const { what, which } of script) {
      const name = names[which]!
      if (what === 'wait') clock.advance(which * 300)
      else if (what === 'enable' || what === 'disable') {
        balancer.setEnabled(name, what === 'enable')
        if (what === 'enable') disabled.delete(name)
        else disabled.add(name)
      } else {
        const backend = balancer.trySelect(`key ${which}`)
        assert.equal(backend === null, disabled.size === names.length, 'somebody is chosen as long as anybody is enabled')
        if (backend === null) continue
        assert.ok(!disabled.has(backend.name))
        backend.report(what === 'select')
      }
    }
    assert.ok(balancer.backends().every(status => status.inFlight === 0))
  }))
})

test('load balancer: when one of four is out, its share goes to all others alike', () => {
  for (const selection of ['round-robin', 'random', 'least-in-flight'] as const) {
    const { balancer } = balance([...ABC, '10.0.0.4:80'], { selection })
    failAt(balancer, ABC[0]!)
    const counts = new Map<string, number>()
    for (const name of choose(balancer, 6000)) counts.set(name, (counts.get(name) ?? 0) + 1)
    for (const count of counts.values()) assert.ok(Math.abs(count - 2000) < 200, `${selection}: ${[...counts.values()].join(', ')}`)
  }
})

test('load balancer: by key, only the keys of a backend that is out move, and they come back with it', () => {
  for (const selection of ['hash', 'ketama'] as const) {
    const { balancer, clock } = balance(ABC, { selection })
    const keys = Array.from({ length: 200 }, (_, i) => `/asset/${i}`)
    const before = keys.map(key => choose(balancer, 1, key)[0]!)
    failAt(balancer, ABC[2]!)
    const during = keys.map(key => choose(balancer, 1, key)[0]!)
    for (const [index, owner] of before.entries()) {
      if (owner === ABC[2]) assert.notEqual(during[index], owner)
      else assert.equal(during[index], owner, selection)
    }
    clock.advance(10_000)
    assert.deepEqual(keys.map(key => choose(balancer, 1, key)[0]!), before, selection)
  }
})

test('load balancer: without a key, a selection by key is round robin', () => {
  const { balancer } = balance(ABC, { selection: 'ketama' })
  assert.deepEqual(choose(balancer, 4), [...ABC, ABC[0]])
})

test('load balancer: past maxSteps candidates of a key, round robin takes over; a limit given with the call is final', () => {
  const names = Array.from({ length: 40 }, (_, i) => `10.0.0.${i + 1}:80`)
  const { balancer } = balance(names, { selection: 'ketama', maxSteps: 3 })
  for (const name of names.slice(1)) balancer.setEnabled(name, false)
  for (let i = 0; i < 50; i++) assert.equal(balancer.select(`key ${i}`).name, names[0])
  const strict = Array.from({ length: 50 }, (_, i) => balancer.trySelect(`key ${i}`, { maxSteps: 1 }))
  assert.ok(strict.includes(null))
})

test('load balancer: selectWith asks for ready candidates only and may itself select', () => {
  const { balancer } = balance(ABC)
  balancer.setEnabled(ABC[0]!, false)
  const asked: string[] = []
  const backend = balancer.selectWith('', candidate => {
    asked.push(candidate.name)
    balancer.select().release()
    return candidate.name === ABC[2]
  })
  assert.equal(backend.name, ABC[2])
  assert.ok(!asked.includes(ABC[0]!))
  assert.throws(() => balancer.selectWith('', () => false), /NO_HEALTHY_BACKEND/u)
})

test('load balancer: what is in flight grows with a selection and shrinks with its report or release', () => {
  const { balancer } = balance(ABC, { selection: 'least-in-flight' })
  const busy = Array.from({ length: 9 }, () => balancer.select())
  assert.deepEqual(balancer.backends().map(status => status.inFlight), [3, 3, 3])
  for (const backend of busy) if (backend.name === ABC[1]) backend.release()
  assert.deepEqual([balancer.select(), balancer.select(), balancer.select()].map(backend => backend.name), [ABC[1], ABC[1], ABC[1]])
})

test('load balancer: a peer is built once a backend, and again when the backend changed', async () => {
  const list: BackendOptions[] = [{ address: 'localhost:80' }, { address: '10.0.0.2:80' }]
  const built: string[] = []
  const clock = new FakeClock()
  const balancer = new LoadBalancer(functionDiscovery(() => [...list]), { clock, random: () => 0, resolver: null, peer: backend => {
    built.push(backend.name)
    return new HttpPeer(backend)
  } })
  await balancer.update()
  const peers: HttpPeer[] = Array.from({ length: 6 }, () => balancer.selectPeer())
  assert.equal(new Set(peers).size, 2)
  assert.deepEqual(built, ['localhost:80', '10.0.0.2:80'])
  for (const peer of peers) peer.report(true)
  assert.ok(balancer.backends().every(status => status.inFlight === 0))
  list[1] = { address: '10.0.0.2:80', ext: 'other' }
  await balancer.update()
  const again: Peer[] = [balancer.selectPeer(), balancer.selectPeer()]
  assert.deepEqual(again.map(peer => peers.includes(peer as HttpPeer)).toSorted(), [false, true])
  assert.throws(() => LoadBalancer.from(ABC).selectPeer(), /upstream\.peer is not set/u)
})

test('load balancer: a peer that cannot be built leaves nothing in flight', () => {
  const balancer = LoadBalancer.from(ABC, { peer: (): Peer => { throw new Error('no') } })
  assert.throws(() => balancer.selectPeer(), /no/u)
  assert.deepEqual(balancer.backends().map(status => status.inFlight), [0, 0, 0])
})

test('load balancer: an update keeps health, failures and what is in flight, also when the weight changes', async () => {
  const pool = Array.from({ length: 8 }, (_, i) => `10.0.0.${i + 1}:80`)
  const sets = fc.array(
    fc.shuffledSubarray(pool, { minLength: 1 }).chain(names => fc.tuple(...names.map(address => fc.record({
      address: fc.constant(address), weight: fc.integer({ min: 1, max: 9 }),
    })))),
    { minLength: 2, maxLength: 6 },
  )
  await fc.assert(fc.asyncProperty(fc.constantFrom(...SELECTIONS), sets, fc.nat(), async (selection, versions, seed) => {
    const list: BackendOptions[] = []
    const balancer = discovered(list, { selection, maxFails: 2 })
    const known = new Map<string, Backend>()
    for (const version of versions) {
      const wanted = version.map(({ address, weight }) => ({ address, weight })).toSorted(byAddress)
      list.splice(0, list.length, ...version)
      await balancer.update()
      assert.deepEqual(balancer.backends().map(({ name, weight }) => ({ address: name, weight })).toSorted(byAddress), wanted)
      for (const backend of balancer.set.backends) {
        const before = known.get(backend.name)
        if (before !== undefined) assert.equal(backend, before, 'who stays keeps its object')
      }
      known.clear()
      for (const backend of balancer.set.backends) known.set(backend.name, backend)
      for (let i = 0; i < 10; i++) {
        const backend = balancer.select(`key ${i}`)
        assert.equal(known.get(backend.name), backend)
        if ((seed + i) % 3 === 0) backend.report(false)
      }
    }
  }), { numRuns: 50 })
})

test('load balancer: after an update that changes weights the new weights hold, and a backend that was out stays out', async () => {
  const list = ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']
  const balancer = discovered(list)
  await balancer.update()
  failAt(balancer, '10.0.0.1:80')
  list.splice(0, 3, '10.0.0.1:80 weight=5', '10.0.0.2:80 weight=3', '10.0.0.3:80')
  assert.equal(await balancer.update(), true)
  const counts = { two: 0, three: 0 }
  for (const name of choose(balancer, 8)) counts[name === '10.0.0.2:80' ? 'two' : 'three']++
  assert.deepEqual(counts, { two: 6, three: 2 })
})

test('load balancer: a report for a backend that has left counts nowhere', async () => {
  const list = ['10.0.0.1:80', '10.0.0.2:80']
  const balancer = discovered(list)
  await balancer.update()
  const gone = balancer.selectWith('', backend => backend.name === '10.0.0.1:80')
  list.shift()
  await balancer.update()
  gone.report(false)
  assert.deepEqual(choose(balancer, 2), ['10.0.0.2:80', '10.0.0.2:80'])
})

test('load balancer: an update with the same backends in another order changes nothing', async () => {
  const list = [...ABC]
  const balancer = discovered(list)
  assert.equal(await balancer.update(), true)
  const { set } = balancer
  list.reverse()
  assert.equal(await balancer.update(), false)
  assert.equal(balancer.set, set)
})

test('load balancer: what an operator switched off stays off through updates, and when it comes back', async () => {
  const list = [...ABC]
  const balancer = discovered(list)
  await balancer.update()
  assert.equal(balancer.setEnabled(ABC[0]!, false), true)
  assert.equal(balancer.setEnabled('10.9.9.9:80', false), false)
  list.shift()
  await balancer.update()
  list.unshift(`${ABC[0]} weight=4`)
  await balancer.update()
  assert.ok(!choose(balancer, 12).includes(ABC[0]!))
  balancer.setEnabled(ABC[0]!, true)
  assert.ok(choose(balancer, 12).includes(ABC[0]!))
})

test('load balancer: discovery may switch backends off and on without a new set', async () => {
  const list: BackendOptions[] = ABC.map(address => ({ address }))
  const balancer = discovered(list)
  await balancer.update()
  const { set } = balancer
  list[1] = { address: ABC[1]!, enabled: false }
  assert.equal(await balancer.update(), true)
  assert.equal(balancer.set, set)
  assert.ok(!choose(balancer, 9).includes(ABC[1]!))
})

test('load balancer: an update that cannot be used leaves everything as it was', async () => {
  const list: (string | BackendOptions)[] = [...ABC]
  const balancer = discovered(list, { selection: 'ketama', maxBackends: 5 })
  await balancer.update()
  const { set } = balancer
  const refused: [(string | BackendOptions)[], RegExp][] = [
    [[], /upstream\.backends is empty; give at least one, or set upstream\.allowEmpty/u],
    [['nonsense'], /upstream\.backends\[0\]/u],
    [['10.0.0.1:80 weight=60000'], /ketama\.maxPoints/u],
    [Array.from({ length: 6 }, (_, i) => `10.0.1.${i}:80`), /upstream\.maxBackends is 5 and there are 6/u],
  ]
  for (const [next, says] of refused) {
    list.splice(0, list.length, ...next)
    await assert.rejects(balancer.update(), says)
    assert.equal(balancer.set, set)
    assert.deepEqual(balancer.backends().map(status => status.weight), [1, 1, 1])
    assert.equal(balancer.select('key').owner, balancer)
  }
})

test('load balancer: a selection of one\'s own is asked for order only', () => {
  const first: Selection = {
    name: 'first',
    keyed: false,
    build: ({ backends }) => ({ pick: (_key, turn) => backends.find(backend => turn.accepts(backend)) ?? null }),
  }
  const { balancer } = balance(ABC, { selection: first })
  assert.deepEqual(choose(balancer, 2), [ABC[0], ABC[0]])
  failAt(balancer, ABC[0]!)
  assert.deepEqual(choose(balancer, 2), [ABC[1], ABC[1]])
})

test('load balancer: options that would not do are refused with what would', () => {
  const refused: [LoadBalancerOptions, RegExp][] = [
    [{ maxFails: -1 }, /upstream\.maxFails is -1; use 0 \(turns passive health off\) or a whole number from 1 to 1000/u],
    [{ name: 'api', failTimeoutMs: 0 }, /api\.failTimeoutMs is 0/u],
    [{ selection: 'fastest' as never }, /selection is "fastest"; use round-robin/u],
    [{ updateIntervalMs: 2 ** 31 }, /updateIntervalMs/u],
    [{ preferredFamily: 5 as never }, /preferredFamily is 5; use 4, 6/u],
    [{ maxFial: 2 } as never, /upstream\.maxFial is not an option; use maxFails/u],
  ]
  for (const [options, says] of refused) assert.throws(() => LoadBalancer.from(ABC, options), says)
  assert.equal(LoadBalancer.from(ABC).options.maxFails, LOAD_BALANCER_DEFAULTS.maxFails)
})

test('load balancer: a callback that throws is reported and reaches no request', () => {
  const errors: string[] = []
  const { balancer } = balance(ABC, {
    onHealthChange: () => { throw new Error('watcher') },
    onError: (error, context) => errors.push(`${context}: ${(error as Error).message}`),
  })
  failAt(balancer, ABC[0]!)
  assert.deepEqual(errors, ['upstream: onHealthChange: watcher'])
})

test('load balancer: a watcher that rejects is reported, and one that is told of that and rejects harms nobody', async () => {
  const errors: string[] = []
  const { balancer } = balance(ABC, {
    onHealthChange: async () => { throw new Error('watcher') },
    onError: async (error, context) => {
      errors.push(`${context}: ${(error as Error).message}`)
      throw new Error('again')
    },
  })
  failAt(balancer, ABC[0]!)
  await new Promise(setImmediate)
  assert.deepEqual(errors, ['upstream: onHealthChange: watcher'])
})

test('load balancer: what is asked at once must not answer later', () => {
  const { balancer } = balance(ABC, { peer: (async () => { throw new Error('planned') }) as never })
  assert.throws(() => balancer.selectPeer(), /upstream\.peer returned a promise/u)
  assert.throws(() => balancer.selectWith('', (async () => false) as never), /it returned a promise/u)
  assert.equal(balancer.set.backends.every(({ inFlight }) => inFlight === 0), true)
})

test('load balancer: a choice looks at no more backends when there are 10,000', () => {
  const many = Array.from({ length: 10_000 }, (_, i) => ({ address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:80`, weight: 1 + (i % 2) }))
  for (const selection of SELECTIONS) {
    const { balancer } = balance(many, { selection })
    let looks = 0
    for (const backend of balancer.set.backends) {
      let { turn } = backend
      Object.defineProperty(backend, 'turn', { get: () => turn, set: value => { turn = value; looks++ } })
    }
    for (let i = 0; i < 500; i++) balancer.select(`key ${i}`).report(true)
    assert.equal(looks, 500, selection)
  }
})
