import assert from 'node:assert/strict'
import test from 'node:test'
import type { LogFields } from '../../src/ipc/process-log.ts'
import { placeOf, Rejections } from '../../workers/rejections.ts'

const stack = (...lines: readonly string[]): string => ['Error: x', ...lines.map(line => `    at ${line}`)].join('\n')

test('rejections: the place is the first line of the application, else the first that is in a file', () => {
  const ours = '/srv/cirque/'
  const deep = stack(
    'node:internal/process/task_queues:103:5', 'Exchange.run (file:///srv/cirque/src/proxy/exchange.ts:1:2)',
    'get (/app/node_modules/db/index.js:3:4)', 'async Shop.requestFilter (file:///app/shop.ts:5:6)',
  )
  assert.deepEqual(placeOf(deep, ours), { at: '/app/shop.ts:5:6', in: 'Shop.requestFilter' })
  assert.deepEqual(placeOf(stack('file:///app/shop.ts:7:8'), ours), { at: '/app/shop.ts:7:8', in: '' })
  assert.deepEqual(placeOf(stack('Exchange.run (file:///srv/cirque/src/a.ts:1:2)'), ours)?.in, 'Exchange.run')
  assert.equal(placeOf('', ours), null)
  assert.equal(placeOf(stack('new Promise (<anonymous>)'), ours), null)
})

test('rejections: each is counted and told with its place and reason', () => {
  const lines: LogFields[] = []
  const rejections = new Rejections({ error: (_message, subject, details) => { lines.push({ ...subject, ...details?.() }) } })
  const error = new Error('forgotten')
  error.stack = stack('Shop.logging (/app/shop.ts:9:1)')
  rejections.note(error)
  rejections.note('only a text')
  assert.equal(rejections.count, 2)
  assert.deepEqual(lines[0], { at: '/app/shop.ts:9:1', in: 'Shop.logging', reason: 'forgotten', stack: error.stack })
  assert.equal(lines[1]!['reason'], 'only a text')
})
