/** Orders to look at traffic come over a socket, from this build or another one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readLookOrder, type LookOrder } from '../../src/ipc/looking.ts'

const ORDER: LookOrder = {
  id: 'a1', kind: 'trace', count: 3,
  match: {
    listener: 'edge/*', method: 'GET', host: '*', path: '/x', headers: [['a', '*']], statuses: [[500, 599]], flags: ['UC'], slowMs: 0.5,
  },
}

test('look order: a whole one is read as it is', () => {
  assert.deepEqual(readLookOrder(JSON.parse(JSON.stringify(ORDER))), ORDER)
  assert.deepEqual(readLookOrder({ ...ORDER, match: {} }), { ...ORDER, match: {} })
})

test('look order: what this build does not know is refused with its name, since to ignore it would show too much', () => {
  const { match } = ORDER
  const refused: readonly [object, RegExp][] = [
    [{ ...ORDER, kind: 'film' }, /cannot look at 'film'/],
    [{ ...ORDER, match: { ...match, colour: 'red' } }, /does not know the condition 'colour'/],
    [{ ...ORDER, match: { ...match, toString: 'x' } }, /does not know the condition 'toString'/],
    [{ ...ORDER, match: { ...match, statuses: [[500]] } }, /'statuses' is not what it should be/],
    [{ ...ORDER, match: { ...match, headers: Array.from({ length: 33 }, () => ['a', 'b']) } }, /'headers'/],
    [{ ...ORDER, match: { ...match, path: 'x'.repeat(2000) } }, /'path'/],
    [{ ...ORDER, count: 1.5 }, /count/],
    [{ ...ORDER, count: -1 }, /count/],
    [{ ...ORDER, id: '' }, /id/],
    [{ ...ORDER, match: null }, /conditions/],
  ]
  for (const [given, why] of refused) {
    const read = readLookOrder(given)
    assert.ok('problem' in read, JSON.stringify(given))
    assert.match(read.problem, why)
  }
})

test('look order: whatever comes is read or refused, and what is read is what came', () => {
  const anything = fc.oneof(fc.anything(), fc.record({ id: fc.string(), kind: fc.constant('tail'), count: fc.nat(), match: fc.object() }))
  fc.assert(fc.property(anything, given => {
    const read = readLookOrder(given)
    if (!('problem' in read)) assert.deepEqual(read, { id: read.id, kind: 'tail', count: read.count, match: read.match })
  }))
})
