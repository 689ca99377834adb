import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hottestFunctions } from '../../scripts/bench/cpu-profile.ts'

const frame = (functionName: string, url = '', lineNumber = -1) => ({ functionName, url, lineNumber })

test('bench cpu profile: self time by function, the same function in two call paths added up, idle left out', () => {
  const hottest = hottestFunctions({
    nodes: [
      { id: 1, callFrame: frame('(idle)') },
      { id: 2, callFrame: frame('parse', 'file:///home/me/cirque/src/protocols/http1/parser.ts', 99) },
      { id: 3, callFrame: frame('parse', 'file:///home/me/cirque/src/protocols/http1/parser.ts', 99) },
      { id: 4, callFrame: frame('(program)') },
      { id: 5, callFrame: frame('', 'node:net', 9) },
    ],
    samples: [2, 1, 3, 4, 5, 5],
    timeDeltas: [0, 100, 5000, 200, 500, 100],
  }, 3)
  assert.deepEqual(hottest.map(({ name, where, selfMicros }) => [name, where, selfMicros]), [
    ['(program)', '', 500],
    ['parse', 'src/protocols/http1/parser.ts:100', 300],
    ['(anonymous)', 'node:net:10', 100],
  ])
  assert.equal(hottest[0]?.share, 500 / 900)
})

test('bench cpu profile: a profile without samples has no functions', () => {
  assert.deepEqual(hottestFunctions({ nodes: [] }, 10), [])
})
