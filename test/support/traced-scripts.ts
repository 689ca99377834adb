/** What may happen in a traced world (traced-world.ts), by chance. */
import fc from 'fast-check'
import type { Outcome, Script } from './traced-world.ts'

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

/** About ten exchanges of a few clients. */
export const anyScripts: fc.Arbitrary<Script[]> = fc.array(script, { minLength: 1, maxLength: 16, size: 'max' })
