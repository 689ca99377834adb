import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RetryBudget } from '../../src/proxy/retry-budget.ts'

function takeAll(budget: RetryBudget, percent: number): number {
  let taken = 0
  while (taken < 100_000 && budget.take(percent)) taken++
  return taken
}

test('retry budget: a quiet service has a few retries', () => {
  assert.equal(takeAll(new RetryBudget(), 20), 10)
  assert.equal(takeAll(new RetryBudget(), 1), 10)
})

test('retry budget: a share of nothing allows none', () => {
  const budget = new RetryBudget()
  for (let i = 0; i < 1000; i++) budget.earn()
  assert.equal(takeAll(budget, 0), 0)
  assert.equal(takeAll(budget, 20), 210)
})

test('retry budget: retries are a share of the requests, beside the free ones', () => {
  const budget = new RetryBudget()
  for (let i = 0; i < 1000; i++) budget.earn()
  assert.equal(takeAll(budget, 20), 210)
  assert.equal(budget.take(20), false)
  for (let i = 0; i < 5; i++) budget.earn()
  assert.equal(budget.take(20), true)
  assert.equal(budget.take(20), false)
})

test('retry budget: the past fades, what was spent with it', () => {
  const budget = new RetryBudget()
  for (let i = 0; i < 9000; i++) budget.earn()
  assert.equal(takeAll(budget, 20), 1810)
  for (let i = 0; i < 200_000; i++) budget.earn()
  const later = takeAll(budget, 20)
  assert.ok(later > 900 && later < 2010, `${later} retries for at most 10000 remembered requests`)
})
