import assert from 'node:assert/strict'
import { test } from 'node:test'
import { IdleMemory, type Heap } from '../../src/primitives/idle-memory.ts'

const MB = 1024 * 1024

class FakeHeap implements Heap {
  size = 20 * MB
  collections = 0
  bytes(): number { return this.size }
  collect(): void {
    this.collections++
    this.size = 12 * MB
  }
}

test('idle memory: a process that rests for two looks gives its memory back, once', () => {
  const heap = new FakeHeap(), memory = new IdleMemory(heap)
  memory.look(0.001, false, 1000)
  assert.equal(heap.collections, 0)
  memory.look(0.001, false, 2000)
  assert.equal(heap.collections, 1)
  for (let now = 3000; now < 200_000; now += 1000) memory.look(0, false, now)
  assert.equal(heap.collections, 1, 'nothing has grown since')
})

test('idle memory: a process that works, or owes an answer, is left alone', () => {
  const heap = new FakeHeap(), memory = new IdleMemory(heap)
  for (let now = 0; now < 100_000; now += 2000) {
    memory.look(0, false, now)
    memory.look(0.3, false, now + 1000)
  }
  for (let now = 100_000; now < 200_000; now += 1000) memory.look(0, true, now)
  assert.equal(heap.collections, 0)
})

test('idle memory: what has grown again is given back a minute later at the earliest', () => {
  const heap = new FakeHeap(), memory = new IdleMemory(heap)
  memory.look(0, false, 0)
  memory.look(0, false, 1000)
  heap.size = 20 * MB
  for (let now = 2000; now < 61_000; now += 1000) memory.look(0, false, now)
  assert.equal(heap.collections, 1)
  memory.look(0, false, 61_000)
  assert.equal(heap.collections, 2)
})

test('idle memory: the heap of this process becomes smaller, and no function for that is left behind', () => {
  const held: unknown[][] = [[]]
  for (let i = 0; i < 300_000; i++) held[0]!.push({ i })
  const before = process.memoryUsage().heapTotal
  held.length = 0
  const memory = new IdleMemory()
  memory.look(0, false, 0)
  memory.look(0, false, 1000)
  assert.ok(process.memoryUsage().heapTotal < before, `${process.memoryUsage().heapTotal} of ${before}`)
  assert.equal('gc' in globalThis, false)
  assert.equal(process.getBuiltinModule('node:vm').runInNewContext('typeof gc'), 'undefined')
})
