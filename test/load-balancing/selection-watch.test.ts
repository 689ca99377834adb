/** Who asks what balancers choose from changes nothing of what they choose for others. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import { selectionWatch, type Choice } from '../../src/load-balancing/selection-watch.ts'
import { FakeClock } from '../support/fake-clock.ts'

/** @param isOver what the watch says of each choice */
function watch(t: TestContext, leadsNowhere: () => boolean): Choice[] {
  const choices: Choice[] = []
  t.after(() => { selectionWatch.current = null })
  selectionWatch.current = {
    onChoice(choice) {
      choices.push(choice)
      return leadsNowhere()
    },
  }
  return choices
}

test('selection watch: a choice is told with the balancer, the key, the backends, and also when there is none', t => {
  const balancer = LoadBalancer.from(['10.0.0.1:80', '10.0.0.2:80'], { name: 'api', selection: 'hash', resolver: null })
  const choices = watch(t, () => false)
  const chosen = balancer.select('user-7')
  balancer.trySelect('user-7', { exclude: balancer.set.backends })
  assert.deepEqual(choices.map(({ balancer: name, selection, key, backends }) => [name, selection, key, backends.length]), [
    ['api', 'hash', 'user-7', 2], ['api', 'hash', 'user-7', 2],
  ])
  assert.deepEqual(choices.map(choice => choice.chosen), [chosen, null])
  assert.deepEqual([chosen.selected, chosen.inFlight], [1, 1], 'of a request that is sent')
})

test('selection watch: a choice that leads to no attempt is none that counts, and leaves the trial of a backend to a real one', t => {
  const clock = new FakeClock()
  const balancer = LoadBalancer.from(['10.0.0.1:80', '10.0.0.2:80'], { clock, resolver: null, random: () => 0, failTimeoutMs: 1000 })
  const first = balancer.selectWith('', ({ name }) => name === '10.0.0.1:80')
  first.report(false)
  clock.advance(1000)
  let explains = true
  watch(t, () => explains)
  for (let times = 0; times < 3; times++) {
    const explained = balancer.select()
    assert.equal(explained, first, 'its trial is due')
    assert.deepEqual([explained.selected, explained.inFlight, explained.onTrial], [1, 1, false])
    explained.release()
  }
  explains = false
  const real = balancer.select()
  assert.deepEqual([real, real.onTrial, real.selected], [first, true, 2])
  assert.notEqual(balancer.select(), first, 'one attempt tries it')
})
