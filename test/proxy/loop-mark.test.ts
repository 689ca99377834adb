import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import { LoopMark } from '../../src/proxy/loop-mark.ts'

const lines = (mark: LoopMark): [string, string] => [mark.field!.name, mark.value]
const seen = (mark: LoopMark, ...values: string[]): boolean => mark.isOn(HeaderMap.from({ [mark.field!.name]: values }))

test('loop mark: processes of one instance make the same one for a service, everybody else another', () => {
  const made = (instance: string, service: string): string => {
    const mark = new LoopMark('', service)
    mark.identify(instance)
    return mark.value
  }
  assert.equal(made('one', 'web'), made('one', 'web'))
  const values = [made('one', 'web'), made('one', 'api'), made('two', 'web'), new LoopMark('', 'web').value, new LoopMark('', 'web').value]
  assert.equal(new Set(values).size, values.length)
  for (const value of values) assert.match(value, /^[\w-]{16}$/)
})

test('loop mark: it is seen anywhere among marks of others, and in no longer word', () => {
  for (const name of ['', 'edge.example:8080']) {
    const mark = new LoopMark(name, 'web'), other = new LoopMark(name, 'api')
    const own = mark.value, foreign = other.value
    assert.deepEqual([seen(mark, own), seen(mark, foreign), seen(mark)], [true, false, false])
    assert.equal(seen(mark, `${foreign}, ${own}`), true)
    assert.equal(seen(mark, `cdn; a="b,c", ${own};x=1`), true)
    assert.equal(seen(mark, foreign, own), true)
    assert.deepEqual([seen(mark, `x${own}`), seen(mark, `${own}x`)].includes(true), name !== '')
    assert.equal(seen(mark, `${own.slice(0, -1)}`), false)
  }
})

test('loop mark: a configured name goes out as CDN-Loop with the id of the instance; without marks no loop is seen', () => {
  const [field, value] = lines(new LoopMark('edge.example', 'web'))
  assert.equal(field, 'CDN-Loop')
  assert.match(value, /^edge\.example; id=[\w-]{16}$/)
  assert.equal(lines(new LoopMark('', 'web'))[0], 'Cirque-Loop')
  const none = new LoopMark(null, 'web')
  assert.equal(none.field, null)
  assert.equal(none.isOn(HeaderMap.from({ 'CDN-Loop': none.value, 'Cirque-Loop': none.value })), false)
})
