/**
 * A tracer of the service and one of a peer, compared event by event with what scripted clients and origins really saw: each
 * event exactly once, each number right (support/traced-world.ts).
 *
 *   CIRQUE_MODEL_RUNS=1000     how many lives of about ten exchanges
 *   CIRQUE_MODEL_SEED=1        the same lives again
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { chance } from '../support/exchange-sides.ts'
import { anyScripts } from '../support/traced-scripts.ts'
import { TracedWorld } from '../support/traced-world.ts'

const RUNS = Number(process.env['CIRQUE_MODEL_RUNS'] ?? 220)
const SEED = process.env['CIRQUE_MODEL_SEED']
/** Compared at least, unless fewer runs were asked for. */
const EXCHANGES = 1000

test('tracers: a service\'s and a peer\'s hear what really happened, each event once, over 1,000 random exchanges', async () => {
  const seen = { exchanges: 0, attempts: 0, retried: 0, reused: 0, failed: 0, upgraded: 0 }
  await fc.assert(fc.asyncProperty(anyScripts, fc.nat(), async (scripts, seed) => {
    const world = new TracedWorld()
    await world.run(scripts, chance(seed))
    world.check()
    for (const { attempts, error, upgraded } of world.exchanges) {
      seen.exchanges++
      seen.attempts += attempts.length
      seen.retried += Math.max(0, attempts.length - 1)
      seen.reused += attempts.filter(({ reused }) => reused).length
      if (error !== null) seen.failed++
      if (upgraded) seen.upgraded++
    }
  }), { numRuns: RUNS, ...(SEED === undefined ? null : { seed: Number(SEED) }) })
  if (RUNS < 220) return
  assert.ok(seen.exchanges >= EXCHANGES, JSON.stringify(seen))
  // A model in which nothing is retried, reused or fails proves little.
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 20, `${what}: ${count}`)
})
