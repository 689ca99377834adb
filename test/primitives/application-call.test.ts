import assert from 'node:assert/strict'
import { test } from 'node:test'
import { catchLater, decisionOf, isPromise } from '../../src/primitives/application-call.ts'

test('application call: anything with a then is a promise, nothing else is', () => {
  assert.equal(isPromise(Promise.resolve()), true)
  assert.equal(isPromise({ then() {} }), true) // oxlint-disable-line unicorn/no-thenable -- this is what is tested
  for (const value of [null, undefined, 'continue', Buffer.alloc(1), { chunk: null, delayMs: 0 }]) assert.equal(isPromise(value), false)
})

test('application call: a rejection that nobody waits for is told, and only that', async () => {
  const told: unknown[] = []
  const fault = new Error('planned')
  catchLater(Promise.reject(fault), thrown => told.push(thrown))
  catchLater(Promise.resolve(1), thrown => told.push(thrown))
  for (const value of [undefined, null, 1, {}]) catchLater(value, thrown => told.push(thrown))
  await new Promise(setImmediate)
  assert.deepEqual(told, [fault])
})

test('application call: only true and false decide; a promise is refused, and what becomes of it harms nobody', async () => {
  assert.deepEqual([decisionOf(true), decisionOf(false)], [true, false])
  for (const value of [undefined, null, 1, 'yes', {}]) assert.throws(() => decisionOf(value), /it has to return true or false at once/)
  assert.throws(() => decisionOf(Promise.reject(new Error('planned'))), /returned a promise/)
  await new Promise(setImmediate)
})
