import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import { mayPassOn } from '../../src/http/max-forwards.ts'

const counted = (...values: string[]): [boolean, string | undefined] => {
  const headers = HeaderMap.from({ 'max-forwards': values })
  return [mayPassOn(headers), headers.get('max-forwards')]
}

test('max forwards: it is counted down, and stops at 0', () => {
  assert.deepEqual(counted(), [true, undefined])
  assert.deepEqual(counted('5'), [true, '4'])
  assert.deepEqual(counted('1'), [true, '0'])
  assert.deepEqual(counted('007'), [true, '6'])
  assert.deepEqual(counted('0')[0], false)
  assert.deepEqual(counted('000')[0], false)
  assert.deepEqual(counted('9'.repeat(400)), [true, String(Number.MAX_SAFE_INTEGER - 1)])
})

test('max forwards: what is no number, or is there twice, is refused', () => {
  for (const bad of [['-1'], ['+1'], ['1.5'], ['x'], [''], ['1, 2'], ['0x1'], ['1', '1']]) assert.throws(() => counted(...bad), RangeError)
})
