import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codeWordsIn, operatorWords } from '../../scripts/operator-words.ts'

const KEYS = [
  { key: 'restart.backoff', field: 'backoffMs' }, { key: 'restart.backoffMax', field: 'backoffMsMax' },
  { key: 'supervisor.heartbeat', field: 'heartbeatMs' }, { key: 'listeners.*.maxHead', field: 'maxHeadBytes' },
  { key: 'other.maxHead', field: 'maxHeadBytes' },
]
const words = (doc: string, key = 'restart.backoffMax'): string => operatorWords(doc, key, KEYS)

test('operator words: the clause with the unit and the sentence with the least value go', () => {
  assert.equal(words('Longest wait, in ms. At least backoffMs.'), 'Longest wait.')
  assert.equal(words('Longest wait, in ms; past it 408. At least 65_536. 0 turns it off.'), 'Longest wait; past it 408. 0 turns it off.')
  assert.equal(words('Slowest body, in bytes a second, looked at later.'), 'Slowest body, looked at later.')
  assert.equal(words('Lines that wait, in bytes'), 'Lines that wait')
})

test('operator words: other options are called by their keys, within a section without its name', () => {
  assert.equal(words('Never less than `backoffMs`, nor than heartbeatMs.'), 'Never less than `backoff`, nor than `supervisor.heartbeat`.')
  assert.equal(words('As maxHeadBytes.', 'listeners.*.maxUri'), 'As `maxHead`.')
  assert.equal(words('Of constructor and WebSocket nothing is known.'), 'Of constructor and WebSocket nothing is known.')
})

test('operator words: what is left of the code is found', () => {
  assert.deepEqual(codeWordsIn('Waits in ms of idleTimeoutMs, or maxHeadBytes, in bytes a worker.'), [
    'in ms', 'idleTimeoutMs', 'maxHeadBytes', 'in bytes',
  ])
  assert.deepEqual(codeWordsIn('| `listeners.*.minBodyPerSecond` | `500B` | in use for 20 ms |'), [])
})
