import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TraceFormat } from '../../src/config/traces-options.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { TraceIds } from '../../src/telemetry/trace-ids.ts'
import { TracePropagation, type TraceRules, type TraceStart } from '../../src/telemetry/trace-propagation.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736', SPAN = '00f067aa0ba902b7', PARENT = '05e3ac9a4f6e3b90'
const SAMPLED = `00-${TRACE}-${SPAN}-01`, LEFT_OUT = `00-${TRACE}-${SPAN}-00`

type Fields = readonly (readonly [string, string])[]

interface Begun { readonly start: TraceStart | null; readonly left: Record<string, unknown> }

function begin(options: Partial<TraceRules>, fields: Fields, trusted = true): Begun {
  const rules: TraceRules = { propagate: ['w3c'], ratio: 0, trustParent: 'hops', heedsParent: true, ...options }
  const propagation = new TracePropagation(rules, new TraceIds())
  const headers = HeaderMap.from(fields)
  const start = propagation.begin(headers, trusted)
  return { start, left: { ...headers.toObject() } }
}

function written(propagate: readonly TraceFormat[], start: Partial<TraceStart>, fields: Fields = []): Record<string, unknown> {
  const propagation = new TracePropagation({ propagate, ratio: 1, trustParent: 'always', heedsParent: true }, new TraceIds())
  const headers = HeaderMap.from(fields)
  propagation.write(headers, { traceId: TRACE, parentId: '', linked: null, debug: false, random: false, state: '', ...start }, SPAN, PARENT)
  return { ...headers.toObject() }
}

test('propagation: who sent a request decides where it is believed, and its fields stay as they are', () => {
  const recorded = begin({ ratio: 0 }, [['traceparent', SAMPLED], ['tracestate', 'a=1'], ['Tracestate', 'b=2']])
  assert.deepEqual(recorded.start, { traceId: TRACE, parentId: SPAN, linked: null, debug: false, random: false, state: 'a=1,b=2' })
  assert.deepEqual(recorded.left, { traceparent: SAMPLED, tracestate: ['a=1', 'b=2'] })
  const leftOut = begin({ ratio: 1 }, [['traceparent', LEFT_OUT], ['tracestate', 'a=1']])
  assert.deepEqual(leftOut, { start: null, left: { traceparent: LEFT_OUT, tracestate: 'a=1' } })
})

test('propagation: a client that is not believed begins a new trace with a link, and its fields go on in no request', () => {
  const fields: Fields = [['traceparent', SAMPLED], ['tracestate', 'a=1'], ['b3', '1'], ['accept', '*/*']]
  for (const [trustParent, trusted] of [['hops', false], ['never', true], ['never', false]] as const) {
    const { start, left } = begin({ ratio: 1, trustParent }, fields, trusted)
    assert.notEqual(start?.traceId, TRACE)
    assert.deepEqual({ ...start, traceId: '' }, {
      traceId: '', parentId: '', linked: { traceId: TRACE, spanId: SPAN, sampled: true }, debug: false, random: false, state: '',
    })
    // Of a format that is not ours to read nobody is told.
    assert.deepEqual(left, { b3: '1', accept: '*/*' })
    assert.deepEqual(begin({ ratio: 0, trustParent }, fields, trusted), { start: null, left: { b3: '1', accept: '*/*' } })
  }
  for (const trusted of [true, false]) assert.equal(begin({ trustParent: 'always' }, fields, trusted).start?.traceId, TRACE)
})

test('propagation: without a trace the ratio decides, and a broken one counts as none', () => {
  const broken: Fields[] = [
    [], [['traceparent', 'x']], [['traceparent', SAMPLED], ['traceparent', SAMPLED]], [['traceparent', `ff${SAMPLED.slice(2)}`]],
    [['tracestate', 'a=1']],
  ]
  for (const fields of broken) {
    const { start } = begin({ ratio: 1 }, fields)
    assert.deepEqual([start?.parentId, start?.state, start?.linked, start?.traceId === TRACE], ['', '', null, false])
    assert.equal(begin({ ratio: 0 }, fields).start, null)
  }
})

test('propagation: a tracestate that breaks a rule is left out, the trace goes on', () => {
  const { start } = begin({}, [['traceparent', SAMPLED], ['tracestate', 'a=1,a=2']])
  assert.deepEqual([start?.traceId, start?.state], [TRACE, ''])
})

test('propagation: where B3 leaves the decision to us, the id makes it', () => {
  const propagate = ['b3']
  assert.equal(begin({ propagate, ratio: 1 }, [['b3', `${TRACE}-${SPAN}`]]).start?.traceId, TRACE)
  assert.equal(begin({ propagate, ratio: 0 }, [['b3', `${TRACE}-${SPAN}`]]).start, null)
  assert.equal(begin({ propagate, ratio: 1 }, [['b3', '0']]).start, null)
  for (const fields of [[['b3', '1']], [['X-B3-Sampled', '1']], [['x-b3-flags', '1']]] as Fields[]) {
    const { start } = begin({ propagate, ratio: 0 }, fields)
    assert.match(start!.traceId, /^[0-9a-f]{32}$/)
    assert.deepEqual([start!.parentId, start!.debug], ['', fields[0]![0] === 'x-b3-flags'])
  }
  // Nobody who is not believed decides anything.
  assert.equal(begin({ propagate, ratio: 0 }, [['b3', '1']], false).start, null)
})

test('propagation: where the decision of a parent does not count its trace goes on, and the id decides', () => {
  const heedsParent = false
  for (const given of [SAMPLED, LEFT_OUT]) {
    assert.deepEqual(begin({ ratio: 1, heedsParent }, [['traceparent', given]]).start?.parentId, SPAN)
    assert.deepEqual(begin({ ratio: 0, heedsParent }, [['traceparent', given]]), { start: null, left: { traceparent: given } })
  }
  assert.equal(begin({ propagate: ['b3'], ratio: 0, heedsParent }, [['b3', '1']]).start, null)
  assert.notEqual(begin({ propagate: ['b3'], ratio: 1, heedsParent }, [['b3', '0']]).start, null)
})

test('propagation: both forms of B3 are read, the one field first, and the first format that a request has counts', () => {
  const several: Fields = [['X-B3-TraceId', TRACE], ['X-B3-SpanId', SPAN], ['X-B3-Sampled', '1'], ['X-B3-ParentSpanId', PARENT]]
  const other = '0'.repeat(31) + '1'
  for (const propagate of [['b3'], ['b3multi']]) {
    assert.equal(begin({ propagate }, several).start?.traceId, TRACE)
    assert.equal(begin({ propagate }, [...several, ['b3', `${other}-${SPAN}-1`]]).start?.traceId, other)
    assert.equal(begin({ propagate }, [...several, ['b3', 'x']]).start?.traceId, TRACE)
  }
  const both: Fields = [['b3', `${other}-${SPAN}-1`], ['traceparent', SAMPLED]]
  assert.equal(begin({ propagate: ['w3c', 'b3'] }, both).start?.traceId, TRACE)
  assert.equal(begin({ propagate: ['b3', 'w3c'] }, both).start?.traceId, other)
  assert.deepEqual(begin({ propagate: ['w3c', 'b3multi'] }, [...several, ...both], false).left, {})
})

test('propagation: an origin is told in each format that was asked for, and of nothing else', () => {
  const old: Fields = [
    ['traceparent', LEFT_OUT], ['tracestate', 'old=1'], ['b3', '0'], ['X-B3-TraceId', PARENT], ['X-B3-Sampled', '0'], ['x-b3-flags', '0'],
    ['x-b3-spanid', PARENT],
  ]
  assert.deepEqual(written(['w3c'], { state: 'a=1,b=2' }, old.slice(0, 2)), { traceparent: SAMPLED, tracestate: 'a=1,b=2' })
  assert.deepEqual(written(['w3c'], { random: true }, old.slice(0, 2)), { traceparent: `${SAMPLED.slice(0, -2)}03` })
  assert.deepEqual(written(['b3'], {}, old.slice(2)), { b3: `${TRACE}-${SPAN}-1-${PARENT}` })
  assert.deepEqual(written(['b3'], { debug: true }), { b3: `${TRACE}-${SPAN}-d-${PARENT}` })
  const ids = { 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-parentspanid': PARENT }
  assert.deepEqual(written(['b3multi'], {}, old.slice(2)), { ...ids, 'x-b3-sampled': '1' })
  assert.deepEqual(written(['b3multi'], { debug: true }, old.slice(2)), { ...ids, 'x-b3-flags': '1' })
  assert.deepEqual(written(['w3c', 'b3'], {}, old), { traceparent: SAMPLED, b3: `${TRACE}-${SPAN}-1-${PARENT}` })
})
