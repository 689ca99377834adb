import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  isSampled, isTracestate, readB3, readB3Fields, readTraceparent, samplingThreshold, writeB3, writeTraceparent,
} from '../../src/telemetry/trace-context.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736', SPAN = '00f067aa0ba902b7', PARENT = '05e3ac9a4f6e3b90'
const SHORT = 'a3ce929d0e0e4736'
const NO_TRACE = '0'.repeat(32), NO_SPAN = '0'.repeat(16)

const DIGITS = [...'0123456789abcdef']
const hex = (length: number): fc.Arbitrary<string> => {
  const digits = fc.array(fc.constantFrom(...DIGITS), { minLength: length, maxLength: length }).map(all => all.join(''))
  return digits.filter(text => /[^0]/.test(text))
}
const TRACE_ID = hex(32), SPAN_ID = hex(16)
/** Whatever may stand in a field. */
const VALUE = fc.string({ unit: fc.integer({ min: 0x20, max: 0xFF }).map(code => String.fromCharCode(code)), maxLength: 80 })

test('traceparent: what is written is read back, whichever ids it has', () => {
  fc.assert(fc.property(TRACE_ID, SPAN_ID, fc.boolean(), (traceId, spanId, random) => {
    const text = writeTraceparent(traceId, spanId, random)
    assert.equal(text.length, 55)
    assert.deepEqual(readTraceparent(text), { traceId, spanId, sampled: true, debug: false, random })
  }))
})

test('traceparent: two bits of the flags are known, and others of any version are read over', () => {
  for (let flags = 0; flags < 256; flags++) {
    const read = readTraceparent(`00-${TRACE}-${SPAN}-${flags.toString(16).padStart(2, '0')}`)
    assert.deepEqual([read?.sampled, read?.random], [(flags & 1) === 1, (flags & 2) === 2])
  }
})

test('traceparent: version 00 has nothing behind it, later ones may, apart by a dash, and ff is none', () => {
  const rest = `${TRACE}-${SPAN}-01`
  for (let version = 0; version < 256; version++) {
    const digits = version.toString(16).padStart(2, '0'), known = version !== 0xff
    assert.equal(readTraceparent(`${digits}-${rest}`) !== null, known, digits)
    assert.equal(readTraceparent(`${digits}-${rest}-what-the-future-holds`) !== null, known && version !== 0, digits)
    assert.equal(readTraceparent(`${digits}-${rest}.what-the-future-holds`), null, digits)
    assert.equal(readTraceparent(`${digits}-${rest}1`), null, digits)
  }
})

test('traceparent: what breaks a rule is none', () => {
  const wrong = [
    '', '00', '00-', `00-${TRACE}-${SPAN}`, `00-${TRACE}-${SPAN}-`, `00-${TRACE}-${SPAN}-1`, `00-${TRACE}-${SPAN}-011`,
    `00-${NO_TRACE}-${SPAN}-01`, `00-${TRACE}-${NO_SPAN}-01`, `00-${TRACE.toUpperCase()}-${SPAN}-01`, `00-${TRACE}-${SPAN}-0A`,
    `0A-${TRACE}-${SPAN}-01`, `.0-${TRACE}-${SPAN}-01`, `0.-${TRACE}-${SPAN}-01`, `00_${TRACE}-${SPAN}-01`, `00-${TRACE}_${SPAN}-01`,
    `00-${TRACE}-${SPAN}_01`, `00-${TRACE.slice(1)}.-${SPAN}-01`, `00-${TRACE}-.${SPAN.slice(1)}-01`, ` 00-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01 `, `00-${TRACE}-${SPAN}-.1`, `00-${TRACE}-${SPAN}-0.`, `00-${TRACE}${SPAN}---01`,
  ]
  for (const text of wrong) assert.equal(readTraceparent(text), null, text)
})

test('traceparent: any one character in the place of another leaves it as it is, or makes none of it', () => {
  const text = `00-${TRACE}-${SPAN}-01`
  fc.assert(fc.property(fc.nat(text.length - 1), fc.integer({ min: 0, max: 0xFFFF }), (at, code) => {
    const char = String.fromCharCode(code), changed = text.slice(0, at) + char + text.slice(at + 1)
    const isDash = text[at] === '-', read = readTraceparent(changed)
    if (isDash ? char !== '-' : !DIGITS.includes(char)) assert.equal(read, null, changed)
    else if (at > 2) assert.equal(`${read?.traceId}-${read?.spanId}`, changed.slice(3, 52))
  }), { numRuns: 2000 })
  for (let length = 0; length < text.length; length++) assert.equal(readTraceparent(text.slice(0, length)), null)
})

test('trace context: nothing that a field may hold throws, and what is read of it has the form of ids', () => {
  fc.assert(fc.property(VALUE, VALUE, (text, other) => {
    isTracestate(text)
    const read = [readTraceparent(text), readB3(text), readB3Fields({ traceId: text, spanId: other, sampled: other, flags: text })]
    for (const parent of read) {
      if (parent === null || parent.traceId === '') continue
      assert.match(parent.traceId, /^[0-9a-f]{32}$/)
      assert.match(parent.spanId, /^[0-9a-f]{16}$/)
    }
  }), { numRuns: 2000 })
})

test('tracestate: members as both levels of the standard have them', () => {
  const right = [
    'a=1', 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE', 'a=1,b=2', 'a=1 , b=2', 'a=1\t,\tb=2', 'a=1,', ',a=1', 'a=1,,b=2', '0a=1',
    'tenant@system=1', 'a-b_c*d/e=1', 'a= 1', 'a=~!#"', `${'k'.repeat(256)}=1`, `a=${'v'.repeat(256)}`,
    Array.from({ length: 32 }, (_, at) => `k${at}=1`).join(','),
  ]
  for (const text of right) assert.equal(isTracestate(text), true, text)
  const wrong = [
    '', ' ', ',', 'a', 'a=', '=1', 'A=1', 'a=1=2', 'a=1,a=2', 'a b=1', '_a=1', '@a=1', 'a=é', 'a=\u007F', `${'k'.repeat(257)}=1`,
    `a=${'v'.repeat(257)}`, 'a=1;b=2,c', Array.from({ length: 33 }, (_, at) => `k${at}=1`).join(','),
  ]
  for (const text of wrong) assert.equal(isTracestate(text), false, text)
})

test('tracestate: it is what the grammar of the standard says, for lists of any members', () => {
  const part = fc.string({ unit: fc.constantFrom('a', '0', '@', '*', '_', '=', ',', ' ', '\t', 'A', '~'), maxLength: 6 })
  const member = fc.oneof(part, fc.tuple(part, part).map(pair => pair.join('=')))
  fc.assert(fc.property(fc.array(member, { maxLength: 4 }), members => {
    const text = members.join(',')
    const there = text.split(',').map(one => one.replaceAll(/^[ \t]+|[ \t]+$/g, '')).filter(one => one !== '')
    const keys = there.map(one => one.split('=')[0])
    const grammar = there.every(one => /^[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2B\x2D-\x3C\x3E-\x7E]{1,256}$/.test(one))
    assert.equal(isTracestate(text), grammar && there.length > 0 && there.length <= 32 && new Set(keys).size === keys.length, text)
  }), { numRuns: 5000 })
})

test('b3: what is written is read back, and short ids are filled up', () => {
  fc.assert(fc.property(TRACE_ID, SPAN_ID, SPAN_ID, fc.boolean(), (traceId, spanId, parentId, debug) => {
    assert.deepEqual(readB3(writeB3(traceId, spanId, parentId, debug)), { traceId, spanId, sampled: true, debug, random: false })
  }))
  assert.equal(readB3(`${SHORT}-${SPAN}-1`)?.traceId, NO_SPAN + SHORT)
})

test('b3: every form of one field', () => {
  const ids = { traceId: TRACE, spanId: SPAN, random: false }, none = { traceId: '', spanId: '', random: false }
  const right: readonly [string, object][] = [
    [`${TRACE}-${SPAN}`, { ...ids, sampled: null, debug: false }],
    [`${TRACE}-${SPAN}-1`, { ...ids, sampled: true, debug: false }],
    [`${TRACE}-${SPAN}-0`, { ...ids, sampled: false, debug: false }],
    [`${TRACE}-${SPAN}-d`, { ...ids, sampled: true, debug: true }],
    [`${TRACE}-${SPAN}-0-${PARENT}`, { ...ids, sampled: false, debug: false }],
    ['0', { ...none, sampled: false, debug: false }], ['1', { ...none, sampled: true, debug: false }],
    ['d', { ...none, sampled: true, debug: true }],
  ]
  for (const [text, parent] of right) assert.deepEqual(readB3(text), parent, text)
  const wrong = [
    '', '2', 'D', 'true', TRACE, `${TRACE}-`, `${TRACE}-${SPAN}-`, `${TRACE}-${SPAN}-2`, `${TRACE}-${SPAN}-11`, `${TRACE}-${SPAN}-1-`,
    `${TRACE}-${SPAN}-1-${PARENT}0`, `${TRACE}-${SPAN}-1-${PARENT.slice(1)}`, `${TRACE}-${SPAN}-1-${PARENT.slice(1)}.`,
    `${TRACE}-${SPAN}_1`, `${TRACE}_${SPAN}-1`, `${TRACE.toUpperCase()}-${SPAN}-1`, `${NO_TRACE}-${SPAN}-1`, `${NO_SPAN}-${SPAN}-1`,
    `${TRACE}-${NO_SPAN}-1`, `${TRACE.slice(1)}-${SPAN}-1`, `${SHORT.slice(1)}-${SPAN}-1`, `${TRACE}-${SPAN}-1-${PARENT}-`,
  ]
  for (const text of wrong) assert.equal(readB3(text), null, text)
})

test('b3: several fields, of which some or all are missing or wrong', () => {
  const read = (traceId?: string, spanId?: string, sampled?: string, flags?: string): unknown => {
    const parent = readB3Fields({ traceId, spanId, sampled, flags })
    return parent === null ? null : [parent.traceId, parent.spanId, parent.sampled, parent.debug]
  }
  assert.deepEqual(read(TRACE, SPAN, '1'), [TRACE, SPAN, true, false])
  assert.deepEqual(read(TRACE, SPAN, 'true'), [TRACE, SPAN, true, false])
  assert.deepEqual(read(TRACE, SPAN, '0'), [TRACE, SPAN, false, false])
  assert.deepEqual(read(TRACE, SPAN, 'false'), [TRACE, SPAN, false, false])
  assert.deepEqual(read(TRACE, SPAN), [TRACE, SPAN, null, false])
  assert.deepEqual(read(TRACE, SPAN, 'yes'), [TRACE, SPAN, null, false])
  assert.deepEqual(read(TRACE, SPAN, '0', '1'), [TRACE, SPAN, true, true])
  assert.deepEqual(read(SHORT, SPAN, '1'), [NO_SPAN + SHORT, SPAN, true, false])
  assert.deepEqual(read(undefined, undefined, '0'), ['', '', false, false])
  assert.deepEqual(read(undefined, undefined, undefined, '1'), ['', '', true, true])
  // A decision counts, whatever the ids beside it are.
  for (const [traceId, spanId] of [[TRACE, undefined], [undefined, SPAN], [NO_TRACE, SPAN], [TRACE, NO_SPAN], [TRACE, SHORT.slice(1)]]) {
    assert.deepEqual(read(traceId, spanId, '1'), ['', '', true, false])
    assert.equal(read(traceId, spanId), null)
  }
  assert.equal(read(), null)
  assert.equal(read(undefined, undefined, 'd', '0'), null)
})

test('sampling: an id is in or out by its last digits alone, and stays in as the ratio grows', () => {
  const ratio = fc.double({ min: 0, max: 1, noNaN: true })
  fc.assert(fc.property(TRACE_ID, hex(18), ratio, ratio, (traceId, other, one, two) => {
    const [less, more] = [Math.min(one, two), Math.max(one, two)]
    const inLess = isSampled(traceId, samplingThreshold(less)), inMore = isSampled(traceId, samplingThreshold(more))
    assert.ok(!inLess || inMore)
    assert.equal(isSampled(other + traceId.slice(18), samplingThreshold(one)), isSampled(traceId, samplingThreshold(one)))
  }))
  for (const digits of [NO_TRACE, 'f'.repeat(32)]) {
    assert.equal(isSampled(digits, samplingThreshold(1)), true)
    assert.equal(isSampled(digits, samplingThreshold(0)), false)
  }
  assert.equal(isSampled(`${'0'.repeat(18)}80000000000000`, samplingThreshold(0.5)), true)
  assert.equal(isSampled(`${'0'.repeat(18)}7fffffffffffff`, samplingThreshold(0.5)), false)
})
