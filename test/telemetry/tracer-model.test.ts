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
import { TracedWorld, type Outcome, type Script } from '../support/traced-world.ts'

const RUNS = Number(process.env['CIRQUE_MODEL_RUNS'] ?? 220)
const SEED = process.env['CIRQUE_MODEL_SEED']
/** Compared at least, unless fewer runs were asked for. */
const EXCHANGES = 1000

const rarely = fc.integer({ min: 0, max: 9 }).map(one => one === 9)

const outcome: fc.Arbitrary<Outcome> = fc.record({
  peer: fc.constantFrom('a', 'b', 'c'),
  kind: fc.constantFrom('answer', 'answer', 'answer', 'answer', 'refuse', 'reset', 'cut', 'silent', 'garbage'),
  status: fc.constantFrom(200, 200, 200, 204, 404, 503),
  chunked: fc.boolean(),
  pieces: fc.array(fc.constantFrom(1, 10, 1000, 5000, 20_000), { maxLength: 3 }),
  interim: rarely,
  close: rarely,
})

const script: fc.Arbitrary<Script> = fc.record({
  client: fc.nat({ max: 2 }),
  method: fc.constantFrom('GET', 'GET', 'PUT', 'POST'),
  bodyBytes: fc.constantFrom(0, 1, 500, 9000),
  split: rarely,
  outcomes: fc.array(outcome, { minLength: 1, maxLength: 3 }),
  special: fc.constantFrom('none', 'none', 'none', 'none', 'none', 'none', 'responds', 'throws', 'head', 'bad', 'upgrade'),
  abort: fc.constantFrom('never', 'never', 'never', 'never', 'never', 'never', 'dial', 'asked', 'filter', 'body'),
  idleFin: rarely,
  waits: fc.array(fc.constantFrom(0, 1, 7, 40, 130), { minLength: 1, maxLength: 4 }),
})

test('tracers: a service\'s and a peer\'s hear what really happened, each event once, over 1,000 random exchanges', async () => {
  const seen = { exchanges: 0, attempts: 0, retried: 0, reused: 0, failed: 0, upgraded: 0 }
  await fc.assert(fc.asyncProperty(fc.array(script, { minLength: 1, maxLength: 16, size: 'max' }), fc.nat(), async (scripts, seed) => {
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
