import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FieldLines, FieldName } from '../../src/http/field-lines.ts'

type FiveNames = [FieldName, FieldName, FieldName, FieldName, FieldName]
const [A, B, C, D, E] = ['A', 'B', 'C', 'D', 'E'].map(name => new FieldName(name)) as FiveNames

function valuesOf(lines: FieldLines): string[] {
  return Array.from({ length: lines.size }, (_, index) => `${lines.nameAt(index)}=${lines.valueAt(index)}`)
}

test('field lines: text and values say the same, the lines of the base first', () => {
  const base = new FieldLines([A, B], ['1', '2']), lines = new FieldLines().startFrom(base).add(C, '3')
  assert.equal(lines.text, 'A: 1\r\nB: 2\r\nC: 3\r\n')
  assert.deepEqual([lines.size, valuesOf(lines)], [3, ['A=1', 'B=2', 'C=3']])
  assert.equal(base.text, 'A: 1\r\nB: 2\r\n')
})

test('field lines: a message gets nothing of the one before it', () => {
  const lines = new FieldLines().startFrom(new FieldLines([A], ['1'])).add(B, '2').add(C, '3')
  assert.equal(lines.text, 'A: 1\r\nB: 2\r\nC: 3\r\n')
  lines.startFrom(FieldLines.NONE).add(D, '4')
  assert.deepEqual([lines.text, valuesOf(lines)], ['D: 4\r\n', ['D=4']])
  lines.add(E, '5')
  assert.equal(lines.text, 'D: 4\r\nE: 5\r\n')
})

test('field lines: none is nothing', () => {
  assert.deepEqual([FieldLines.NONE.text, FieldLines.NONE.size], ['', 0])
})
