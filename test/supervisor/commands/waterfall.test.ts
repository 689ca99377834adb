/** How a traced request is drawn. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { TracedAttempt, TracedError, TracedHook, TraceRecord } from '../../../src/ipc/looking.ts'
import { waterfall } from '../../../supervisor/commands/waterfall.ts'

const HOOK: TracedHook = { hook: 'requestFilter', startedMs: 0.5, ms: 2, calls: 1, waited: false, unsettled: false, threw: false }
const ATTEMPT: TracedAttempt = {
  number: 1, peer: '10.0.0.1:8080', startedMs: 3, connectedMs: 5, reused: false, protocol: 'h1', sentMs: 5.1, firstByteMs: 30, endedMs: 36,
  status: 200, bytesSent: 0, bytesReceived: 1234, error: null, retriedAfterMs: null,
}
const RECORD: TraceRecord = {
  requestId: 'b4f3d0a1c2e5f60700000001', traceId: '', worker: '1.0.0', listener: 'edge/0.0.0.0:6188', client: '10.0.0.9', method: 'GET',
  host: 'example.com', target: '/api/users?page=2', version: '1.1', startedAt: 0, status: 200, flag: '-', durationMs: 36.4,
  bytesReceived: 0, bytesSent: 1234, upgraded: false, ownAnswer: false, hooks: [], hooksLeftOut: 0, attempts: [], error: null,
}
const REFUSED: TracedError = {
  kind: 'CONNECT_REFUSED', source: 'upstream', message: 'CONNECT_REFUSED (upstream): 10.0.0.1:8080 refused the connection', hook: '',
  at: '',
}

test('waterfall: hooks and an attempt, one below the other as they began', () => {
  const hooks = [
    { ...HOOK, hook: 'requestFilter of module auth', startedMs: 0.1, ms: 0.2 }, { ...HOOK, waited: true },
    { ...HOOK, hook: 'upstreamPeer', startedMs: 2.9, ms: 0.05 }, { ...HOOK, hook: 'responseBodyFilter', startedMs: 31, ms: 0.6, calls: 12 },
  ]
  assert.equal(waterfall({ ...RECORD, hooks, attempts: [ATTEMPT] }), `\
GET /api/users?page=2  200  36.4 ms
  example.com, from 10.0.0.9, by edge/0.0.0.0:6188, worker 1.0.0
  request b4f3d0a1c2e5f60700000001, HTTP/1.1, 0 B in, 1.2 kB out
                                 0                            36.4 ms
  requestFilter of module auth  |#                                   |    0.20
  requestFilter                 |~~                                  |    2.00
  upstreamPeer                  |  #                                 |    0.05
  #1 10.0.0.1:8080 connect      |  ==                                |    2.00
  #1 request sent               |     '                              |    5.10
  #1 first byte, 200            |     .........................      |    24.9
  #1 answer, 1.2 kB             |                             ====== |    6.00
  responseBodyFilter x12        |                              #     |    0.60`)
})

test('waterfall: an attempt that failed, what was done about it, and how the request ended', () => {
  const failed: TracedAttempt = {
    ...ATTEMPT, connectedMs: null, sentMs: null, firstByteMs: null, endedMs: 4, status: 0, bytesReceived: 0, error: REFUSED,
    retriedAfterMs: 0,
  }
  const silent: TracedAttempt = { ...ATTEMPT, number: 2, reused: true, connectedMs: 3, firstByteMs: null, status: 0, bytesReceived: 0 }
  const error: TracedError = {
    kind: 'HOOK_FAILED', source: 'internal', message: `HOOK_FAILED (internal): requestFilter: ${'no such tenant '.repeat(6)}`.trim(),
    hook: 'requestFilter', at: '/srv/app/proxy.ts:41:9',
  }
  const text = waterfall({
    ...RECORD, status: 0, flag: 'UC', attempts: [failed, silent], error, hooks: [{ ...HOOK, threw: true, unsettled: true }],
    hooksLeftOut: 3, client: '', host: '', ownAnswer: true, traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  })
  assert.equal(text, `\
GET /api/users?page=2  no answer UC  36.4 ms
  no host, by edge/0.0.0.0:6188, worker 1.0.0
  request b4f3d0a1c2e5f60700000001, HTTP/1.1, 0 B in, 1.2 kB out, answered here
  trace 4bf92f3577b34da6a3ce929d0e0e4736
                                 0                            36.4 ms
  requestFilter threw           |~~                                  |    2.00
  #1 10.0.0.1:8080 no way       |  =                                 |    1.00
  #2 10.0.0.1:8080 reused       |  =                                 |    0.00
  #2 request sent               |     '                              |    5.10
  #2 no answer                  |     ...............................|    30.9
  and 3 calls of hooks for which there is no room
  #1 failed: CONNECT_REFUSED (upstream): 10.0.0.1:8080 refused the connection
  #1 is tried again after 0.00 ms
  failed: HOOK_FAILED (internal): requestFilter: no such tenant no such tenant
    no such tenant no such tenant no such tenant no such tenant
  at /srv/app/proxy.ts:41:9`)
})

test('waterfall: whatever is in a record, no line is wider than a terminal, and nothing in it acts on one', () => {
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.constant(`\u001B[2J\r\n\u009B31m${'x'.repeat(200)}`))
  const ms = fc.oneof(fc.double({ min: -10, max: 1e7, noNaN: true }), fc.constant(0))
  const maybe = fc.option(ms), bytes = fc.nat(1e12), flag = fc.boolean()
  const error = fc.option(fc.record({ kind: text, source: text, message: text, hook: text, at: text }))
  const record: fc.Arbitrary<TraceRecord> = fc.record({
    requestId: text, traceId: text, worker: text, listener: text, client: text, method: text, host: text, target: text, version: text,
    startedAt: ms,
    status: fc.nat(999), flag: text, durationMs: ms, bytesReceived: bytes, bytesSent: bytes, upgraded: flag, ownAnswer: flag,
    hooksLeftOut: fc.nat(9), error,
    hooks: fc.array(fc.record({
      hook: text, startedMs: ms, ms, calls: fc.nat(99), waited: flag, unsettled: flag, threw: flag,
    }), { maxLength: 5 }),
    attempts: fc.array(fc.record({
      number: fc.nat(16), peer: text, startedMs: ms, connectedMs: maybe, reused: flag, protocol: text, sentMs: maybe, firstByteMs: maybe,
      endedMs: ms, status: fc.nat(999), bytesSent: bytes, bytesReceived: bytes, error, retriedAfterMs: maybe,
    }), { maxLength: 3 }),
  })
  fc.assert(fc.property(record, one => {
    for (const line of waterfall(one).split('\n')) assert.match(line, /^[\x20-\x7E]{0,80}$/)
  }), { numRuns: 500 })
})
