/** The watch over an origin's times, on its own: as a stream of a connection with many streams would use it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Owed, ResponseWatch } from '../../src/protocols/response-watch.ts'
import type { ExchangeLimits } from '../../src/protocols/http-connection.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../../src/protocols/http1/http1-options.ts'

const LIMITS: ExchangeLimits = { ...HTTP1_CLIENT_DEFAULTS, firstByteTimeoutMs: 300, readTimeoutMs: 200, writeTimeoutMs: 100 }

/** Looks once every 50 ms until the origin is found late. @returns kind, limit and time of the fault */
function lateAt(watch: ResponseWatch, owed: Owed, from: number, limits = LIMITS): readonly unknown[] {
  for (let now = from; now <= from + 2000; now += 50) {
    const fault = watch.lateness(now, limits, owed)
    if (fault !== null) return [fault.kind, fault.limit, fault.source, now - from]
  }
  return []
}

test('response watch: each thing that the origin owes has its own time', () => {
  const stream = { bytesQueued: 0, bytesTaken: 0 }
  const watch = new ResponseWatch(stream, 0)
  assert.deepEqual(lateAt(watch, Owed.Nothing, 0), [])
  assert.deepEqual(lateAt(watch, Owed.FirstByte, 0), ['FIRST_BYTE_TIMEOUT', 'first-byte-timeout', 'upstream', 350])
  assert.deepEqual(lateAt(watch, Owed.Rest, 0), ['READ_TIMEOUT', 'read-timeout', 'upstream', 250])
  stream.bytesQueued = 10
  assert.deepEqual(lateAt(watch, Owed.Room, 0), ['WRITE_TIMEOUT', 'write-timeout', 'upstream', 150])
})

test('response watch: a byte in starts the silence anew, a byte taken the wait for room', () => {
  const stream = { bytesQueued: 10, bytesTaken: 0 }
  const watch = new ResponseWatch(stream, 0)
  watch.restart(1000)
  assert.deepEqual(lateAt(watch, Owed.Rest, 1000), ['READ_TIMEOUT', 'read-timeout', 'upstream', 250])
  for (let now = 0; now < 1000; now += 100) {
    stream.bytesTaken++
    assert.equal(watch.lateness(now, LIMITS, Owed.Room), null)
  }
  watch.drained()
  assert.deepEqual(lateAt(watch, Owed.Room, 5000), ['WRITE_TIMEOUT', 'write-timeout', 'upstream', 150])
})

test('response watch: the limits are those of the exchange that asks', () => {
  const watch = new ResponseWatch({ bytesQueued: 0, bytesTaken: 0 }, 0)
  assert.deepEqual(lateAt(watch, Owed.Rest, 0, { ...LIMITS, readTimeoutMs: 1000 }), ['READ_TIMEOUT', 'read-timeout', 'upstream', 1050])
  assert.deepEqual(lateAt(watch, Owed.Rest, 0), ['READ_TIMEOUT', 'read-timeout', 'upstream', 250])
})
