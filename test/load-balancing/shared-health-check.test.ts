import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backend } from '../../src/load-balancing/backend.ts'
import { resolveHealthCheckOptions, type HealthCheck } from '../../src/load-balancing/health-check.ts'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import { SharedHealthCheck } from '../../src/load-balancing/shared-health-check.ts'
import { FakeClock } from '../support/fake-clock.ts'

const settle = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** Fails the backends in `bad`; those in `silent` have no outcome before their signal is aborted. */
class Probes implements HealthCheck {
  readonly options = resolveHealthCheckOptions({ intervalMs: 1000 })
  readonly asked: string[] = []
  readonly ended: string[] = []
  readonly bad = new Set<string>()
  readonly silent = new Set<string>()
  async probe({ name }: Backend, signal: AbortSignal): Promise<void> {
    this.asked.push(name)
    signal.addEventListener('abort', () => this.ended.push(name))
    if (this.silent.has(name)) {
      await new Promise<never>((_resolve, reject) => { signal.addEventListener('abort', () => reject(signal.reason as Error)) })
    }
    await settle()
    if (this.bad.has(name)) throw new Error('bad')
  }
}

async function start(lists: readonly (readonly string[])[]): Promise<{
  probes: Probes
  balancers: LoadBalancer[]
  stopping: AbortController[]
  rounds(count: number): Promise<void>
}> {
  const clock = new FakeClock(), probes = new Probes(), check = new SharedHealthCheck(probes, clock)
  const balancers = lists.map(list => LoadBalancer.from(list, { clock, random: () => 0.5, resolver: null, healthCheck: check }))
  const stopping = balancers.map(() => new AbortController())
  for (const [index, balancer] of balancers.entries()) await balancer.asBackgroundService().start(stopping[index]!.signal)
  const rounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < 6; j++) await settle()
      clock.advance(1000)
    }
    for (let j = 0; j < 6; j++) await settle()
  }
  return { probes, balancers, stopping, rounds }
}

test('shared health check: a backend of several balancers is probed once a round, and all of them learn of the outcome', async () => {
  const { probes, balancers, stopping, rounds } = await start([['10.0.0.1:80', '10.0.0.2:80'], ['10.0.0.2:80', '10.0.0.3:80']])
  await rounds(0)
  assert.deepEqual(probes.asked.toSorted(), ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80'])
  probes.bad.add('10.0.0.2:80')
  await rounds(3)
  assert.equal(probes.asked.filter(name => name === '10.0.0.2:80').length, 4)
  const ready = (): boolean[][] => balancers.map(balancer => balancer.backends().map(status => status.ready))
  assert.deepEqual(ready(), [[true, false], [false, true]])
  probes.bad.clear()
  await rounds(1)
  assert.deepEqual(ready(), [[true, true], [true, true]])
  for (const one of stopping) one.abort()
})

test('shared health check: a probe goes on when one balancer ends, and ends with the last', async () => {
  const { probes, stopping, rounds } = await start([['10.0.0.1:80'], ['10.0.0.1:80']])
  await rounds(0)
  probes.silent.add('10.0.0.1:80')
  await rounds(1)
  stopping[0]!.abort()
  await rounds(0)
  assert.deepEqual(probes.ended, [])
  stopping[1]!.abort()
  await rounds(0)
  assert.deepEqual(probes.ended, ['10.0.0.1:80'])
})

test('shared health check: a probe that has no outcome in time counts as bad for all, and the next one is a new one', async () => {
  const { probes, balancers, stopping, rounds } = await start([['10.0.0.1:80'], ['10.0.0.1:80']])
  await rounds(0)
  probes.silent.add('10.0.0.1:80')
  await rounds(2)
  assert.deepEqual(balancers.map(balancer => balancer.backends()[0]!.healthy), [false, false])
  probes.silent.clear()
  await rounds(2)
  assert.deepEqual(balancers.map(balancer => balancer.backends()[0]!.healthy), [true, true])
  for (const one of stopping) one.abort()
})
