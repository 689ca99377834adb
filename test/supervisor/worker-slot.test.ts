import assert from 'node:assert/strict'
import test from 'node:test'
import { Staffing, WorkerSlot } from '../../supervisor/worker-slot.ts'

interface Waits { readonly begun: number; readonly cancelled: number }

function waiting(slot: WorkerSlot): () => Waits {
  let [begun, cancelled] = [0, 0]
  const begin = (): void => slot.beginBackOff(100, () => {
    begun++
    return () => { cancelled++ }
  })
  begin()
  begin()
  return () => ({ begun, cancelled })
}

test('worker slot: one restart waits at a time, and only where a worker is wanted and no operation forks', () => {
  const slot = new WorkerSlot(0, false)
  assert.deepEqual(waiting(slot)(), { begun: 1, cancelled: 0 })
  for (const prepare of [(other: WorkerSlot) => other.hold(), (other: WorkerSlot) => other.vacate()]) {
    const other = new WorkerSlot(0, false)
    prepare(other)
    assert.deepEqual(waiting(other)(), { begun: 0, cancelled: 0 })
  }
})

test('worker slot: a restart that waits is called off by an operation, by a slot that is wanted no more, and by the end', () => {
  for (const end of ['hold', 'vacate', 'endBackOff'] as const) {
    const slot = new WorkerSlot(0, false)
    const waits = waiting(slot)
    slot[end]()
    assert.deepEqual(waits(), { begun: 1, cancelled: 1 }, end)
    assert.notEqual(slot.staffing, Staffing.BackOff)
  }
})

test('worker slot: that a worker is wanted changes nothing about a restart that waits', () => {
  const slot = new WorkerSlot(0, false)
  const waits = waiting(slot)
  slot.staff()
  slot.release()
  assert.deepEqual(waits(), { begun: 1, cancelled: 0 })
  assert.equal(slot.staffing, Staffing.BackOff)
})

test('worker slot: an operation that changed nothing leaves a slot as it was, wanted or surplus', () => {
  for (const surplus of [false, true]) {
    const slot = new WorkerSlot(0, surplus)
    slot.hold()
    assert.deepEqual([slot.held, slot.surplus], [true, surplus])
    assert.equal(slot.record(0).surplus, surplus, 'the journal keeps what was before the operation')
    slot.release()
    assert.deepEqual([slot.held, slot.surplus], [false, surplus])
  }
})

test('worker slot: a surplus slot that is staffed is watched like any other', () => {
  const slot = new WorkerSlot(0, true)
  slot.hold()
  slot.staff()
  assert.equal(slot.staffing, Staffing.Watched)
  assert.equal(slot.state, 'waiting')
})
