import assert from 'node:assert/strict'
import test from 'node:test'
import { StandIn, StandInState } from '../../supervisor/stand-in.ts'
import { Intent, WorkerProcess } from '../../supervisor/worker-process.ts'

const sibling = (slot: number): WorkerProcess => {
  return new WorkerProcess({ generation: 1, slot, n: 0, token: '', startedAtMs: 0, intent: Intent.Serve })
}

test('stand-in: it serves once it has obeyed, until it is dismissed', () => {
  const standIn = new StandIn()
  const worker = sibling(1)
  standIn.ask(worker)
  assert.deepEqual([standIn.pending, standIn.worker], [true, worker])
  assert.equal(standIn.obeyed(), true)
  assert.deepEqual([standIn.pending, standIn.worker, standIn.state], [false, worker, StandInState.Serving])
  standIn.dismiss()
  assert.deepEqual([standIn.worker, standIn.state], [null, StandInState.None])
})

test('stand-in: one that is dismissed before it answers keeps its place until then, and does not serve after it', () => {
  for (const answer of ['obeyed', 'refused'] as const) {
    const standIn = new StandIn()
    standIn.ask(sibling(1))
    standIn.dismiss()
    standIn.dismiss()
    assert.deepEqual([standIn.pending, standIn.worker], [true, null])
    assert.notEqual(standIn[answer](), true)
    assert.deepEqual([standIn.pending, standIn.worker, standIn.state], [false, null, StandInState.None])
  }
})

test('stand-in: another sibling may be asked while one serves that cannot be reached', () => {
  const standIn = new StandIn()
  const [first, second] = [sibling(1), sibling(2)]
  standIn.ask(first)
  standIn.obeyed()
  standIn.ask(second)
  assert.deepEqual([standIn.pending, standIn.worker], [true, second])
  standIn.refused()
  assert.deepEqual([standIn.worker, standIn.state], [null, StandInState.None])
})
