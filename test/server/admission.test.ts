import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMIT_DEFAULTS } from '../../src/config/limit-options.ts'
import type { ProcessLog } from '../../src/ipc/process-log.ts'
import { Admission, type Evictable } from '../../src/server/admission.ts'

for (const [descriptors, options, room] of [
  [Infinity, {}, 20_000], [0, {}, 20_000], [1_000_000, {}, 20_000], [40_064, {}, 20_000], [40_062, {}, 19_999],
  [1024, {}, 480], [128, {}, 32], [128, { fdReserve: 0 }, 64], [128, { maxConnections: 10 }, 10],
  [1024, { maxConnections: 0 }, 480], [Infinity, { maxConnections: 0 }, Infinity], [30, {}, 1],
] as const) {
  const given = Object.entries(options).map(([name, value]) => ` with ${name} ${value}`).join('')
  const allowed = descriptors === 0 ? 'an unknown number of' : descriptors
  test(`admission: ${allowed} descriptors${given} leave room for ${room} connections`, () => {
    assert.equal(new Admission({ ...LIMIT_DEFAULTS, ...options }, descriptors).maxConnections, room)
  })
}

test('admission: that descriptors allow less than the options is said once, and nothing when they do not', () => {
  const said: string[] = []
  const log: ProcessLog = { warn() {}, error() {}, info: (message, fields) => { said.push(`${message} ${JSON.stringify(fields)}`) } }
  for (const descriptors of [Infinity, 100_000, 0, 1024]) new Admission(LIMIT_DEFAULTS, descriptors).report(log)
  const fields = { maxConnections: 480, wanted: 20_000, nofile: 1024, fdReserve: 64 }
  assert.deepEqual(said, [
    `room for 480 connections only: this process may have 1024 descriptors ${JSON.stringify(fields)}`,
  ])
})

/** A listener with so many connections that may be cut. */
function listener(cuttable: number): Evictable & { left: number } {
  const made = { left: cuttable, evict: () => made.left > 0 && made.left-- > 0 }
  return made
}

test('admission: the listener with the new connection gives one up first, then the others, and with none there is no room', () => {
  const admission = new Admission({ ...LIMIT_DEFAULTS, maxConnections: 5 }, Infinity)
  const [first, own] = [listener(2), listener(1)]
  admission.join(first)
  admission.join(own)
  const seen: unknown[] = []
  admission.connections = 4
  seen.push([admission.makeRoom(own), first.left, own.left])
  admission.connections = 5
  for (let count = 0; count < 4; count++) seen.push([admission.makeRoom(own), first.left, own.left])
  assert.deepEqual(seen, [[true, 2, 1], [true, 2, 0], [true, 1, 0], [true, 0, 0], [false, 0, 0]])
})
