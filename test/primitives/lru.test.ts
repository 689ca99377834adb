import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Lru } from '../../src/primitives/lru.ts'

test('lru: the least recently used goes first', () => {
  const lru = new Lru<string, number>(2)
  lru.set('a', 1)
  lru.set('b', 2)
  assert.equal(lru.get('a'), 1)
  lru.set('c', 3)
  assert.deepEqual([...lru.entries()], [['a', 1], ['c', 3]])
  assert.equal(lru.get('b'), undefined)
})

test('lru: peek does not count as use', () => {
  const lru = new Lru<string, number>(2)
  lru.set('a', 1)
  lru.set('b', 2)
  assert.equal(lru.peek('a'), 1)
  lru.set('c', 3)
  assert.equal(lru.peek('a'), undefined)
})

test('lru: a value heavier than everything is not kept and takes its older one along', () => {
  const lru = new Lru<string, string>(10)
  lru.set('a', 'old', 4)
  assert.equal(lru.set('a', 'new', 11), false)
  assert.equal(lru.size, 0)
  assert.equal(lru.weight, 0)
})

test('lru: behaves like a list of entries ordered by use', () => {
  const operations = fc.array(fc.oneof(
    fc.record({ kind: fc.constant('set' as const), key: fc.integer({ min: 0, max: 6 }), weight: fc.integer({ min: 1, max: 6 }) }),
    fc.record({
      kind: fc.constantFrom('get' as const, 'delete' as const, 'peek' as const), key: fc.integer({ min: 0, max: 6 }),
      weight: fc.constant(0),
    }),
  ), { maxLength: 60, size: 'max' })
  fc.assert(fc.property(fc.integer({ min: 1, max: 12 }), operations, (capacity, list) => {
    const lru = new Lru<number, number>(capacity)
    let model: { key: number; value: number; weight: number }[] = []
    let next = 0
    for (const { kind, key, weight } of list) {
      const known = model.find(entry => entry.key === key)
      if (kind === 'set') {
        const value = next++
        model = model.filter(entry => entry.key !== key)
        assert.equal(lru.set(key, value, weight), weight <= capacity)
        if (weight <= capacity) {
          model.push({ key, value, weight })
          while (model.reduce((sum, entry) => sum + entry.weight, 0) > capacity) model.shift()
        }
      } else if (kind === 'get') {
        assert.equal(lru.get(key), known?.value)
        if (known !== undefined) model = [...model.filter(entry => entry !== known), known]
      } else if (kind === 'peek') assert.equal(lru.peek(key), known?.value)
      else {
        assert.equal(lru.delete(key), known !== undefined)
        model = model.filter(entry => entry !== known)
      }
      assert.deepEqual([...lru.entries()], model.map(entry => [entry.key, entry.value]))
      assert.equal(lru.weight, model.reduce((sum, entry) => sum + entry.weight, 0))
    }
  }), { numRuns: 300 })
})
