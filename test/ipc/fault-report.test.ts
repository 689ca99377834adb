import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FAULT_KINDS, framesOf, harmless, readFault, wordsOf, type FaultReport } from '../../src/ipc/fault-report.ts'

const MINIMAL = { kind: 'hook', name: 'E', message: '', stack: '', where: '', count: 1 } as const

test('fault report: class, message and frames of what was thrown, and of its causes', () => {
  class TenantError extends Error {}
  const { name, message, stack } = wordsOf(new TenantError('no tenant', { cause: new TypeError('no row', { cause: 'a text' }) }))
  assert.deepEqual([name, message], ['TenantError', 'no tenant'])
  const lines = stack.split('\n')
  assert.match(lines[0]!, /^ +at .*fault-report\.test\.ts:\d+:\d+/)
  assert.deepEqual(lines.filter(line => !/^ +at /.test(line)), ['because of TypeError: no row', 'because of a text'])
})

test('fault report: queries, credentials and the address of the client are no part of it', () => {
  const text = 'GET https://joe:pw@a.example/x?token=abc failed for 192.0.2.7, "/y?q=1"'
  assert.equal(harmless(text, '192.0.2.7'), 'GET https://(credentials)@a.example/x?(query) failed for (client), "/y?(query)"')
  assert.equal(harmless('a\nb\u001b[31mc\u009b'), 'a b [31mc ')
  assert.equal(harmless('what now?'), 'what now?')
  const error = new Error('first line 192.0.2.7 ?a=b\nsecond', { cause: new Error('/z?secret=1 for 192.0.2.7') })
  const { stack } = wordsOf(error, '192.0.2.7')
  assert.doesNotMatch(stack, /192\.0\.2\.7|secret|a=b|second/)
})

test('fault report: whatever is thrown it is small, and nothing is thrown by it', () => {
  const trouble = [
    undefined, null, 7, Symbol('s'), Object.create(null), 'x'.repeat(1e6), new Error('x'.repeat(1e6)),
    Object.defineProperty(new Error(''), 'name', { get() { throw new Error('by the name') } }),
    Object.defineProperty(new Error(''), 'constructor', { value: null }),
    Object.assign(new Error(''), { stack: `Error\n${'    at f (/a.ts:1:1)\n'.repeat(100_000)}` }),
    Object.assign(new Error(''), { name: 'n\n'.repeat(10_000) }),
  ]
  for (const thrown of trouble) {
    const words = wordsOf(thrown)
    assert.ok(words.name.length <= 200 && words.message.length <= 1_000 && words.stack.length <= 8_000)
    assert.doesNotMatch(words.name + words.message, /\p{Cc}/u)
  }
  assert.equal(wordsOf(trouble[9]).stack.split('\n')[0], '    at f (/a.ts:1:1)')
})

test('fault report: what a worker sends is checked, cut, and rid of what is no part of a report', () => {
  const good: FaultReport = {
    ...MINIMAL, message: 'm', stack: '    at f (/a.ts:1:1)', where: 'requestFilter', count: 3, listener: 'l', traceId: 'a'.repeat(32),
  }
  assert.deepEqual(readFault(good), good)
  assert.deepEqual(readFault({ ...good, again: true, cookie: 'c', peer: 7 }), { ...good, again: true })
  const bad = [
    {}, { ...good, kind: 'other' }, { ...good, name: 1 }, { ...good, stack: null }, { ...good, where: [] }, { ...good, count: 0 },
    { ...good, count: Number.NaN },
  ]
  for (const one of bad) assert.equal(readFault(one), null)
})

test('fault report: nothing that is sent makes a report that is large or throws', () => {
  const text = fc.oneof(fc.string(), fc.string({ minLength: 2_000, maxLength: 40_000 }), fc.anything())
  fc.assert(fc.property(fc.record({
    kind: fc.oneof(fc.constantFrom(...FAULT_KINDS), fc.anything()), name: text, message: text, stack: text, where: text,
    count: fc.oneof(fc.nat(), fc.anything()), again: fc.anything(), peer: text, requestId: text,
  }, { requiredKeys: [] }), given => {
    const fault = readFault(given)
    if (fault !== null) assert.ok(JSON.stringify(fault).length < 60_000)
  }), { numRuns: 300 })
})

test('fault report: a stack without frames is none, and one of causes alone keeps them', () => {
  assert.equal(framesOf('Error: only words\nand more'), '')
  assert.equal(framesOf(''), '')
  assert.equal(framesOf('because of no row'), 'because of no row')
})
