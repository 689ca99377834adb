/** The book against a plain model of it: lists, counts and the order of what is idle, whatever is told in whatever order. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DownstreamConnection } from '../../src/protocols/http-connection.ts'
import { ConnectionBook } from '../../src/server/connection-book.ts'

interface Made extends DownstreamConnection { readonly name: number; evicted: number }

/** As much of a connection as the book touches. */
function connection(name: number): Made {
  const made = {
    name, evicted: 0, acceptedBy: null, countedAs: '', bookNewer: null, bookOlder: null, idleNewer: null, idleOlder: null,
    closeIdle() { made.evicted++ },
  }
  return made as unknown as Made
}

type Step = { readonly what: 'add' | 'idle' | 'active' | 'closed' | 'replace' | 'evict'; readonly which: number }

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom('add', 'add', 'idle', 'active', 'closed', 'replace', 'evict'), which: fc.nat(1000),
})

test('connection book: whatever happens, it holds what came and did not leave, and evicts what is idle for longest', () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    const left: string[] = []
    const book = new ConnectionBook({ onLeft: ({ countedAs }) => { left.push(countedAs) } })
    let all: Made[] = [], idle: Made[] = [], names = 0, gone = 0
    for (const { what, which } of steps) {
      const one = all[which % Math.max(1, all.length)]
      if (what === 'add') {
        const made = connection(names++)
        book.add(made, `client ${made.name}`)
        all.push(made)
        idle.push(made)
      } else if (what === 'evict') {
        const oldest = idle[0]
        const before = oldest?.evicted ?? 0
        assert.equal(book.closeOldestIdle(), oldest !== undefined)
        if (oldest !== undefined) assert.equal(oldest.evicted, before + 1)
      } else if (one === undefined) continue
      else if (what === 'idle') {
        book.onIdle(one)
        if (!idle.includes(one)) idle.push(one)
      } else if (what === 'active') {
        book.onActive(one)
        idle = idle.filter(other => other !== one)
      } else if (what === 'closed') {
        book.onClosed(one)
        gone++
        all = all.filter(other => other !== one)
        idle = idle.filter(other => other !== one)
        assert.deepEqual([left.at(-1), one.acceptedBy], [one.countedAs, null])
      } else {
        const next = connection(names++)
        book.replace(one, next)
        assert.equal(next.countedAs, one.countedAs)
        all[all.indexOf(one)] = next
        idle = [...idle.filter(other => other !== one), next]
      }
      assert.deepEqual(book.snapshot().map(made => (made as Made).name), all.map(made => made.name).reverse())
      assert.deepEqual([book.size, book.idle, left.length], [all.length, idle.length, gone])
    }
    // Evicted one by one, as a listener at its limit does.
    for (const expected of idle) {
      assert.equal(book.closeOldestIdle(), true)
      assert.equal(expected.evicted > 0, true)
      book.onClosed(expected)
    }
    assert.equal(book.idle, 0)
  }))
})
