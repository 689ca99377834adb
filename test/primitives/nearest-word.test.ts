import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nearestWord } from '../../src/primitives/nearest-word.ts'

test('nearest word: a known word is offered only when it is near', () => {
  const known = ['hardDrain', 'idleDrain', 'softDrain']
  assert.equal(nearestWord('hardDrian', known), 'hardDrain')
  assert.equal(nearestWord('HARDDRAIN', known), 'hardDrain')
  assert.equal(nearestWord('idle', known), 'idleDrain')
  assert.equal(nearestWord('workers', known), null)
  assert.equal(nearestWord('idle', ['idleDrain', 'idle']), 'idle', 'a word that is known is nearest to itself')
  assert.equal(nearestWord('x'.repeat(200), known), null)
})
