import assert from 'node:assert/strict'
import { test } from 'node:test'
import { USUAL_BOUNDS, type Bounds } from '../../scripts/abuse/attack.ts'
import { ATTACKS } from '../../scripts/abuse/attacks/list.ts'
import { abuseTable, judge, timesOf, type Observation, type Visit } from '../../scripts/abuse/verdict.ts'
import { troublesIn } from '../../scripts/field/instance.ts'
import { acceptedOn, dialledTo, parseTcpTable } from '../../scripts/field/open-sockets.ts'

function visits(count: number, ms: number, unserved = 0): Visit[] {
  return Array.from({ length: count }, (_, at) => ({ ms, served: at >= unserved }))
}

const FINE: Observation = {
  attacked: timesOf(visits(100, 30)), undisturbed: timesOf(visits(100, 20)), faults: [],
  workersEnded: 0, descriptorsLeft: 0, connectionsLeft: 0, workerMB: 100, allMB: 300, growthMB: 0, connections: 20, errorLinesPerSecond: 0,
}

function wrong(change: Partial<Observation>, bounds: Partial<Bounds> = {}): string[] {
  return judge({ ...FINE, ...change }, { ...USUAL_BOUNDS, ...bounds })
}

test('abuse verdict: an instance that suffers no more than its bounds passes', () => {
  assert.deepEqual(wrong({}), [])
})

test('abuse verdict: every bound can fail', () => {
  const passed: [Partial<Observation>, RegExp, Partial<Bounds>?][] = [
    [{ attacked: timesOf(visits(100, 41)), undisturbed: timesOf([...visits(90, 20), ...visits(10, 30)]) }, /^p50 41 ms, at most 40 ms$/],
    [{ attacked: timesOf([...visits(90, 20), ...visits(10, 45)]) }, /^p99 45 ms/],
    [{ attacked: timesOf([...visits(999, 20), ...visits(1, 5001)]) }, /^longest wait 5001 ms, at most 5000 ms$/],
    [{ attacked: timesOf(visits(2000, 20, 1)) }, /^victims unserved 1, at most 0$/],
    [{ workersEnded: 1 }, /^workers ended 1/],
    [{ descriptorsLeft: 17 }, /^descriptors left 17, at most 16$/],
    [{ connectionsLeft: 1 }, /^connections left 1/],
    [{ workerMB: 512.5 }, /^memory of a worker 512\.5 MB, at most 512 MB$/],
    [{ allMB: 1201 }, /^memory of all/],
    [{ growthMB: 65 }, /^a worker grew by 65 MB, at most 64 MB$/, { growthMB: 64 }],
    [{ connections: 11 }, /^connections at once 11, at most 10$/, { connections: 10 }],
    [{ errorLinesPerSecond: 10.1 }, /^error lines a second 10\.1/],
    [{ faults: ['a smuggled request reached the origin'] }, /^a smuggled request/],
  ]
  for (const [change, message, bounds] of passed) {
    const found = wrong(change, bounds)
    assert.equal(found.length, 1, `${message}: ${found.join('; ')}`)
    assert.match(found[0] ?? '', message)
  }
})

test('abuse verdict: victims that were not answered have waited for ever', () => {
  const times = timesOf(visits(100, 5, 60))
  assert.deepEqual([times.p50Ms, times.p99Ms, times.unserved, times.longestMs], [Infinity, Infinity, 60, 5])
  assert.match(wrong({ attacked: times }).join('; '), /p50 Infinity ms/)
})

test('abuse verdict: a run in which the undisturbed instance failed, or nobody asked, passes nothing', () => {
  assert.match(wrong({ undisturbed: timesOf(visits(100, 20, 1)) }).join('; '), /this run says nothing/)
  assert.match(wrong({ attacked: timesOf([]), undisturbed: timesOf([]) }).join('; '), /only 0 victims asked/)
})

test('abuse verdict: a machine that had no time for the undisturbed instance is told from a proxy that suffers', () => {
  const verdictFor = (undisturbed: readonly Visit[]): string => {
    const seen = { ...FINE, attacked: timesOf(visits(100, 500)), undisturbed: timesOf(undisturbed) }
    return / (PASS|FAIL|BUSY)$/m.exec(abuseTable([{ name: 'a', done: '', seen, bounds: USUAL_BOUNDS }]))?.[1] ?? ''
  }
  assert.equal(verdictFor(visits(100, 100)), 'FAIL')
  assert.equal(verdictFor([...visits(90, 20), ...visits(10, 101)]), 'BUSY')
  assert.equal(verdictFor(visits(100, 20, 1)), 'BUSY')
})

test('abuse verdict: times of an idle machine are no measure for each other', () => {
  assert.deepEqual(wrong({ undisturbed: timesOf(visits(100, 1)), attacked: timesOf(visits(100, 9)) }), [])
  assert.equal(wrong({ undisturbed: timesOf(visits(100, 1)), attacked: timesOf(visits(100, 41)) }).length, 2)
})

test('abuse verdict: the table has a line an attack, and one a bound that was passed', () => {
  const bounds = USUAL_BOUNDS
  const table = abuseTable([
    { name: 'calm', done: '', seen: FINE, bounds },
    { name: 'wild', done: '', seen: { ...FINE, workersEnded: 3, attacked: timesOf(visits(10, 9, 10)) }, bounds },
  ])
  assert.match(table, /^calm .* 0\/100 .* 100 MB +512 MB +PASS$/m)
  assert.match(table, /^wild +never .* 10\/10 +3 .* FAIL$/m)
  assert.match(table, /^FAIL wild: workers ended 3, at most 0$/m)
  assert.doesNotMatch(table, /FAIL calm/)
})

test('abuse: attacks have names of their own and say what they do', () => {
  assert.equal(new Set(ATTACKS.map(({ name }) => name)).size, ATTACKS.length)
  for (const { name, title } of ATTACKS) assert.ok(/^[a-z0-9-]+$/.test(name) && title !== '')
})

test('field: warnings of a process log are told by kind, with a count', () => {
  assert.deepEqual(troublesIn([
    '{"level":"info","time":"t","msg":"running"}',
    '{"level":"warn","time":"t","msg":"worker 1.0.0 has been silent for 800 ms"}',
    '{"level":"warn","time":"t","msg":"worker 1.1.3 has been silent for 1600 ms"}',
    '{"level":"error","time":"t","stack":"Error: x\\n at y","msg":"worker 1.0.0 died: \\"SIGABRT\\"","code":null}',
    'no line of a log',
  ].join('\n')), ['2 x warn worker 1.0.0 has been silent for 800 ms', '1 x error worker 1.0.0 died: "SIGABRT"'])
})

test('open sockets: connections are told by port, state, and whether somebody holds them', () => {
  const table = parseTcpTable(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000000000000000
   3: 0100007F:C352 0100007F:0050 08 00000000:00000000 00:00000000 00000000     0        0 1003 1 0000000000000000 20 4 30 10 -1
`)
  assert.deepEqual(table.map(({ state }) => state), ['listen', 'established', 'time wait', 'close wait'])
  assert.equal(acceptedOn(8080, table), 1)
  assert.equal(dialledTo(80, 'close wait', table), 1)
  assert.equal(dialledTo(80, 'established', table), 0)
})
