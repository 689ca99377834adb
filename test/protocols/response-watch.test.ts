/** The rule by which an origin is late, on its own: as a stream of a connection with many streams would use it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ExchangeLimits } from '../../src/protocols/http-connection.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../../src/protocols/http1/http1-options.ts'
import { Owed, lateness } from '../../src/protocols/response-watch.ts'
import { SendProgress } from '../../src/protocols/send-progress.ts'

const LIMITS: ExchangeLimits = { ...HTTP1_CLIENT_DEFAULTS, firstByteTimeoutMs: 300, readTimeoutMs: 200, writeTimeoutMs: 100 }

/** Looks every 50 ms until the origin is found late. @returns kind, limit, source and time of the fault */
function lateAt(progress: SendProgress, owed: Owed, from: number, limits = LIMITS): readonly unknown[] {
  for (let now = from; now <= from + 2000; now += 50) {
    const fault = lateness(owed, limits, now, from, progress)
    if (fault !== null) return [fault.kind, fault.limit, fault.source, now - from]
  }
  return []
}

test('response watch: each thing that the origin owes has its own time', () => {
  const stream = { bytesQueued: 0, bytesTaken: 0 }
  const progress = new SendProgress(stream, 0)
  assert.deepEqual(lateAt(progress, Owed.Nothing, 0), [])
  assert.deepEqual(lateAt(progress, Owed.FirstByte, 0), ['FIRST_BYTE_TIMEOUT', 'first-byte-timeout', 'upstream', 350])
  assert.deepEqual(lateAt(progress, Owed.Rest, 1000), ['READ_TIMEOUT', 'read-timeout', 'upstream', 250])
  stream.bytesQueued = 10
  assert.deepEqual(lateAt(progress, Owed.Room, 0), ['WRITE_TIMEOUT', 'write-timeout', 'upstream', 150])
})

test('response watch: each byte that is taken starts the wait for room anew', () => {
  const stream = { bytesQueued: 10, bytesTaken: 0 }
  const progress = new SendProgress(stream, 0)
  for (let now = 0; now < 1000; now += 100) {
    stream.bytesTaken++
    assert.equal(lateness(Owed.Room, LIMITS, now, 0, progress), null)
  }
  progress.drained()
  assert.deepEqual(lateAt(progress, Owed.Room, 5000), ['WRITE_TIMEOUT', 'write-timeout', 'upstream', 150])
})

test('response watch: the limits are those of the exchange that asks', () => {
  const progress = new SendProgress({ bytesQueued: 0, bytesTaken: 0 }, 0)
  assert.deepEqual(lateAt(progress, Owed.Rest, 0, { ...LIMITS, readTimeoutMs: 1000 }), ['READ_TIMEOUT', 'read-timeout', 'upstream', 1050])
  assert.deepEqual(lateAt(progress, Owed.Rest, 0), ['READ_TIMEOUT', 'read-timeout', 'upstream', 250])
})
