/** The book against a plain model of it: lists, counts and the order of eviction, whatever is told in whatever order. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DownstreamConnection } from '../../src/protocols/http-connection.ts'
import { ConnectionBook } from '../../src/server/connection-book.ts'

interface Made extends DownstreamConnection { readonly name: number; ended: number }

/** As much of a connection as the book touches. */
function connection(name: number): Made {
  const made = {
    name, ended: 0, acceptedBy: null, countedAs: '', bookNewer: null, bookOlder: null, listNewer: null, listOlder: null, inList: null,
    destroy() { made.ended++ },
  }
  return made as unknown as Made
}

type Step = { readonly what: 'add' | 'idle' | 'unfinished' | 'active' | 'closed' | 'replace' | 'evict'; readonly which: number }

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom('add', 'add', 'idle', 'unfinished', 'active', 'closed', 'replace', 'evict'), which: fc.nat(1000),
})

test('connection book: whatever happens, it holds what came and did not leave, and evicts what has waited for longest', () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    const left: string[] = []
    let came = 0
    const book = new ConnectionBook({ onCame() { came++ }, onLeft: ({ countedAs }) => { left.push(countedAs) } })
    let all: Made[] = [], idle: Made[] = [], unfinished: Made[] = [], waiting: Made[] = [], names = 0
    const without = (list: readonly Made[], one: Made): Made[] => list.filter(other => other !== one)
    const leaves = (one: Made): void => {
      all = without(all, one)
      idle = without(idle, one)
      unfinished = without(unfinished, one)
      waiting = without(waiting, one)
      assert.deepEqual([left.at(-1), one.acceptedBy], [one.countedAs, null])
    }
    for (const { what, which } of steps) {
      const one = all[which % Math.max(1, all.length)]
      if (what === 'add') {
        const made = connection(names++)
        book.add(made, `client ${made.name}`)
        all.push(made)
        idle.push(made)
        waiting.push(made)
      } else if (what === 'evict') {
        const oldest = waiting[0]
        assert.equal(book.evict(), oldest !== undefined)
        if (oldest === undefined) continue
        assert.equal(oldest.ended, 1)
        leaves(oldest)
      } else if (one === undefined) continue
      else if (what === 'idle') {
        book.onIdle(one)
        unfinished = without(unfinished, one)
        if (!idle.includes(one)) { idle.push(one); waiting = [...without(waiting, one), one] }
      } else if (what === 'unfinished') {
        book.onUnfinished(one)
        idle = without(idle, one)
        if (!unfinished.includes(one)) { unfinished.push(one); waiting = [...without(waiting, one), one] }
      } else if (what === 'active') {
        book.onActive(one)
        idle = without(idle, one)
        unfinished = without(unfinished, one)
        waiting = without(waiting, one)
      } else if (what === 'closed') {
        book.onClosed(one)
        leaves(one)
      } else {
        const next = connection(names++)
        book.replace(one, next)
        assert.equal(next.countedAs, one.countedAs)
        all[all.indexOf(one)] = next
        idle = [...without(idle, one), next]
        unfinished = without(unfinished, one)
        waiting = [...without(waiting, one), next]
      }
      assert.deepEqual(book.snapshot().map(made => (made as Made).name), all.map(made => made.name).reverse())
      assert.deepEqual([book.size, book.idle, came - left.length], [all.length, idle.length, all.length])
      assert.equal(book.evictable, idle.length + unfinished.length)
    }
    // Evicted one by one, as a listener at its limit does.
    for (const expected of [...waiting]) assert.deepEqual([book.evict(), expected.ended], [true, 1])
    assert.deepEqual([book.evict(), book.size], [false, all.length - idle.length - unfinished.length])
  }))
})

test('connection book: of those that wait the oldest goes that has sent nothing, and the oldest when all of the oldest have', () => {
  const sent = new Set<DownstreamConnection>()
  let asked = 0
  const hasUnread = (one: DownstreamConnection): boolean => {
    asked++
    return sent.has(one)
  }
  const book = new ConnectionBook({ onCame() {}, onLeft() {}, hasUnread })
  const all = Array.from({ length: 40 }, (_, at) => connection(at))
  for (const one of all) book.add(one, '')
  for (const at of [0, 1, 3]) sent.add(all[at]!)
  book.evict()
  book.evict()
  assert.deepEqual(all.flatMap(one => one.ended > 0 ? [one.name] : []), [2, 4])
  for (const one of all) sent.add(one)
  asked = 0
  book.evict()
  assert.deepEqual(all.flatMap(one => one.ended > 0 ? [one.name] : []), [0, 2, 4])
  assert.equal(asked, 16)
})

test('connection book: half heads that fill a listener do not push out those that come', () => {
  const book = new ConnectionBook({ onCame() {}, onLeft() {} })
  const halves = Array.from({ length: 3 }, (_, at) => connection(at))
  for (const half of halves) {
    book.add(half, '')
    book.onUnfinished(half)
  }
  const newcomers = [connection(3), connection(4)]
  for (const newcomer of newcomers) {
    assert.equal(book.evict(), true)
    book.add(newcomer, '')
  }
  assert.deepEqual([...halves, ...newcomers].map(made => made.ended), [1, 1, 0, 0, 0])
})
