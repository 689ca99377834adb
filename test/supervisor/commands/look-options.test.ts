/** Options of `tail` and `trace`, and what people make of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readLookOrder } from '../../../src/ipc/looking.ts'
import { OptionError } from '../../../src/primitives/option-table.ts'
import { countOf, durationOf, fieldOf, matchOf, type LookFlags } from '../../../supervisor/commands/look-options.ts'

test('look options: what is written is what workers are asked for, and they take it', () => {
  const match = matchOf({
    status: '5xx, 404,500-503,0', flag: 'uc,-', slow: '1.5s', method: 'POST', path: '/api/*', host: '*.example', listener: 'edge/*',
    header: ['x-tenant: acme*', 'Cookie:'],
  })
  assert.deepEqual(match, {
    statuses: [[500, 599], [404, 404], [500, 503], [0, 0]], flags: ['UC', '-'], slowMs: 1500, method: 'POST', path: '/api/*',
    host: '*.example', listener: 'edge/*', headers: [['x-tenant', 'acme*'], ['Cookie', '']],
  })
  assert.deepEqual(readLookOrder({ id: 'a', kind: 'tail', count: 0, match }), { id: 'a', kind: 'tail', count: 0, match })
  assert.deepEqual(matchOf({}), {})
})

test('look options: all that would not do is told at once, each with what would', () => {
  const wrong: LookFlags = {
    status: '5xxx', flag: 'XX', slow: 'fast', method: 'G T', path: 'api', host: '', listener: '', header: ['no field'],
  }
  assert.throws(() => matchOf(wrong), (error: unknown) => {
    assert.ok(error instanceof OptionError)
    assert.deepEqual(error.mistakes.map(({ path }) => path), [
      '--status', '--flag', '--slow', '--method', '--path', '--host', '--listener', '--header',
    ])
    assert.match(error.message, /^--status is "5xxx"; use statuses such as 404, 5xx or 500-503, with commas between them\n/)
    return true
  })
  for (const status of ['', '600xx', '0xx', '99', '503-500', '404,', 'x'.repeat(2000), Array(40).fill('404').join(',')]) {
    assert.throws(() => matchOf({ status }), OptionError, status)
  }
  assert.throws(() => matchOf({ header: Array.from({ length: 33 }, () => 'a: b') }), /--header is 33; use at most 32/)
})

test('look options: how long, and how many', () => {
  assert.deepEqual([durationOf(undefined), durationOf('30s')], [Infinity, 30_000])
  assert.deepEqual([countOf('--next', undefined), countOf('--next', '5')], [0, 5])
  for (const given of ['soon', '0', '-1s', '5']) assert.throws(() => durationOf(given), /--for is .*; use a duration such as 30s$/)
  for (const given of ['0', '-1', '1.5', 'all', '1000000']) {
    assert.throws(() => countOf('--next', given), /--next is .*; use a whole number/)
  }
})

test('look options: a field is a name and a value, blanks around it aside', () => {
  assert.deepEqual([fieldOf('a:b'), fieldOf('A: b: c '), fieldOf('a:')], [['a', 'b'], ['A', 'b: c'], ['a', '']])
  assert.deepEqual([fieldOf(''), fieldOf(':b'), fieldOf('a b: c'), fieldOf('a')], [null, null, null, null])
})
