import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { IdTable, MemberList } from '../../src/primitives/churning.ts'

interface Step { readonly adds: boolean; readonly id: number }

const steps = fc.array(fc.record({ adds: fc.boolean(), id: fc.oneof(fc.nat(40), fc.nat(2_147_483_647)) }), { maxLength: 400 })

test('id table: it holds what a Map holds, whatever comes and goes', () => {
  fc.assert(fc.property(steps, (all: Step[]) => {
    const table = new IdTable<{ readonly id: number }>(), expected = new Map<number, { readonly id: number }>()
    for (const { adds, id } of all) {
      if (!adds) assert.equal(table.delete(id), expected.delete(id))
      else if (!expected.has(id)) {
        if (id % 3 === 0) table.trim()
        const member = { id }
        table.add(member)
        expected.set(id, member)
      }
      assert.equal(table.get(id), expected.get(id))
      assert.equal(table.has(id), expected.has(id))
      assert.equal(table.size, expected.size)
    }
    assert.deepEqual(table.all().map(({ id }) => id).sort((a, b) => a - b), [...expected.keys()].sort((a, b) => a - b))
    for (const [id, member] of expected) assert.equal(table.get(id), member)
  }), { numRuns: 300 })
})

test('id table: numbers that lead to one place, and go in any order', () => {
  fc.assert(fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 10 }), order => {
    const table = new IdTable<{ readonly id: number }>()
    for (let at = 0; at < 10; at++) table.add({ id: at * 4096 + 1 })
    for (const [index, at] of order.entries()) {
      assert.ok(table.delete(at * 4096 + 1))
      for (const left of order.slice(index + 1)) assert.equal(table.get(left * 4096 + 1)?.id, left * 4096 + 1)
    }
    assert.equal(table.size, 0)
  }))
})

test('id table: members may leave while all are gone through', () => {
  const table = new IdTable<{ readonly id: number }>()
  for (let id = 1; id < 200; id += 2) table.add({ id })
  let seen = 0
  for (const { id } of table.all()) {
    assert.ok(table.delete(id))
    seen++
  }
  assert.deepEqual([seen, table.size, table.all()], [100, 0, []])
})

test('member list: it holds what a Set holds, whatever comes and goes', () => {
  fc.assert(fc.property(fc.array(fc.record({ adds: fc.boolean(), id: fc.nat(20) }), { maxLength: 200 }), (all: Step[]) => {
    const members = Array.from({ length: 21 }, () => ({ listPlace: -1 })), list = new MemberList<{ listPlace: number }>()
    const expected = new Set<{ listPlace: number }>()
    for (const { adds, id } of all) {
      const member = members[id]!
      if (!adds) assert.equal(list.delete(member), expected.delete(member))
      else if (!expected.has(member)) {
        list.add(member)
        expected.add(member)
      }
      assert.equal(list.size, expected.size)
      assert.equal(member.listPlace === -1, !expected.has(member))
    }
    assert.deepEqual(new Set(list.all()), expected)
  }))
})
