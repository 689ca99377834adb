/** What `cirque top` draws, at the sizes that terminals have. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { drawTable, cell, writtenLine, wrapped } from '../../../supervisor/commands/text-table.ts'
import { TABLES, topFrame, type TopChoice, type TopSize, type TopView } from '../../../supervisor/commands/top-screen.ts'
import { figuresOf } from '../../../supervisor/figures.ts'
import type { Sample } from '../../../supervisor/sample.ts'
import { LISTENER, SAMPLE, slotOf, twoSamples, UPSTREAM, workerOf } from '../../support/samples.ts'

const KEYS = 'q quit   tab next table'
const SIZES: readonly TopSize[] = [{ columns: 80, rows: 24 }, { columns: 120, rows: 40 }]
const WORKERS: TopChoice = { chosen: 'workers', offset: 0 }

function viewOf(before: Sample, after: Sample): TopView {
  return { sample: after, figures: figuresOf(before, after), lost: '', lostForMs: 0 }
}

function drawn(view: TopView, choice: TopChoice = WORKERS, size: TopSize = SIZES[0]!): string[] {
  return topFrame(view, choice, size, KEYS).lines.map(line => writtenLine(line, false))
}

const BUSY: Sample = {
  ...SAMPLE, takenAtMs: 70_000,
  open: { ...SAMPLE.open, connections: 1234, idleConnections: 1200, activeExchanges: 34, poolLent: 30, poolIdle: 12 },
  slots: [
    slotOf(0, [
      workerOf(0, 'current', { requests: 6000 }),
      workerOf(0, 'draining', { id: '6.0.0', generation: 6, drainingMs: 5_000, drainEndsInMs: 290_000, connections: 1, activeRequests: 1 }),
    ]),
    slotOf(1, [workerOf(1, 'current', { requests: 7000, loopLagMs: 140, utilization: 0.97 })]),
    { ...slotOf(2, []), standIn: '7.1.0' },
  ],
  listeners: [
    {
      ...LISTENER, requests: [['2xx', '-', 9500], ['4xx', 'NR', 300], ['5xx', 'UC', 200]], durations: [5000, 4000, 900, 90, 10],
      bytesOut: 2e8,
    },
    { ...LISTENER, name: 'admin/127.0.0.1:81' },
  ],
  upstreams: [
    { ...UPSTREAM, attempts: 9000, reused: 8900, fresh: 100, connectTimes: [60, 40], firstBytes: [100, 8000, 900] },
    { ...UPSTREAM, name: '10.0.0.2:8080', attempts: 500, errors: [['CONNECT_REFUSED', 500]], retries: 300 },
  ],
  limits: [['head-bytes', 17]], flags: [['NR', 'no route: a filter said 404'], ['UC', 'the upstream could not be reached']],
  notices: ['slot 2 is waiting, and 7.1.0 serves there as well'],
  changes: [{
    id: 'reload-3', kind: 'reload', result: 'committed', reason: '', generation: 7, release: '2026-11-21', steps: [], endedAtMs: 10_000,
  }],
}
const QUIET: Sample = {
  ...SAMPLE, slots: [slotOf(0), slotOf(1)], listeners: [LISTENER, { ...LISTENER, name: 'admin/127.0.0.1:81' }],
}

test('top: 80 by 24 shows what passes, what fails and why, each worker, listener and upstream', () => {
  assert.deepEqual(drawn(viewOf(QUIET, BUSY)), [
    'cirque 1.2.3  ready  generation 7  up 1m10s  app.ts  release 2026-11-21',
    'requests  1,000/s  4xx 3.0%  5xx 2.0%  p50 1.0 ms  p90 10 ms  p99 100 ms',
    'clients   1,234 (1,200 idle)  origins 30 in use, 12 idle  reuse 98.9%',
    'last      reload-3 committed 1m0s ago  generation 7  2026-11-21',
    '! slot 2 is waiting, and 7.1.0 serves there as well',
    '',
    '> WORKER  STATE                         REQ/S  CLIENTS   DELAY   BUSY  MEMORY',
    '  7.0.0   accepting                       500       12  1.5 ms  25.0%  90 MiB',
    '  6.0.0   draining: 1 open, 4m50s left    100        1  1.5 ms  25.0%  90 MiB',
    '  7.1.0   accepting                       600       12  140 ms  97.0%  90 MiB',
    '  ... 1 below',
    '  LISTENER            REQ/S   4XX   5XX     P50    P90     P99  IN/S   OUT/S',
    '  shop/0.0.0.0:80     1,000  3.0%  2.0%  1.0 ms  10 ms  100 ms   0 B  19 MiB',
    '  admin/127.0.0.1:81      0     -     -       -      -       -   0 B     0 B',
    '',
    '  FAILING  SHARE  /S  BECAUSE',
    '  4xx NR    3.0%  30  no route: a filter said 404',
    '  5xx UC    2.0%  20  the upstream could not be reached',
    '',
    '  UPSTREAM       TRIES/S  FAILED  5XX  CONN P50/P99  BYTE P50/P99  REUSE',
    '  10.0.0.1:8080      900      0%   0%   0.83/9.8 ms     6.0/91 ms  98.9%',
    '  10.0.0.2:8080       50    100%   0%             -             -      -',
    '',
    KEYS,
  ])
})

test('top: a larger terminal shows more of each, and nothing twice', () => {
  const lines = drawn(viewOf(QUIET, BUSY), WORKERS, SIZES[1]!)
  assert.equal(lines.length, 40)
  for (const what of [/^ {2}5xx UC +2\.0% +20 {2}the upstream could not be reached$/, /^ {2}head-bytes +1\.7 +17$/, /CONNECT_REFUSED$/]) {
    assert.equal(lines.filter(line => what.test(line)).length, 1, `${what} in\n${lines.join('\n')}`)
  }
  assert.ok(lines.some(line => line.startsWith('> WORKER') && line.includes('RESTARTS') && line.includes('PID')))
})

test('top: a change under way says where it is, for how long, and what is behind it', () => {
  const change = {
    id: 'upgrade-4', kind: 'upgrade', step: 'soak', steps: [{ step: 'preflight', ms: 400 }, { step: 'canary', ms: 1_240 }], stepMs: 2_500,
    soakMs: 10_000, generation: 8, workers: 2,
  } as const
  const lineOf = (more: object): string => drawn({ ...viewOf(QUIET, { ...BUSY, change: { ...change, ...more } }) })[3]!
  const behind = 'after  preflight 0.4s  canary 1.2s'
  assert.equal(lineOf({}), `change    upgrade-4  soak 8s left  ${behind}`)
  assert.equal(lineOf({ step: 'rolling', generation: 7 }), `change    upgrade-4  rolling 2 of 2 workers  ${behind}`)
  assert.equal(lineOf({ step: 'reverting' }), `change    upgrade-4  reverting 2.5s  ${behind}`)
})

test('top: a change that was taken back says why, in whole words', () => {
  const reason = 'no new worker came up in slot 0: the application ended because its database did not answer within five seconds'
  const changes = [{ ...BUSY.changes[0]!, result: 'rolled-back' as const, reason }]
  assert.deepEqual(drawn(viewOf(QUIET, { ...BUSY, changes })).slice(3, 6), [
    'last      reload-3 rolled-back 1m0s ago',
    '          no new worker came up in slot 0: the application ended because its',
    '          database did not answer within five seconds',
  ])
})

test('top: not ready, and without an answer, are the first that is said', () => {
  const alone: Sample = { ...BUSY, ready: false, reason: 'no worker accepts' }
  const view = { ...viewOf(QUIET, alone), lost: 'no supervisor is running', lostForMs: 12_000 }
  const [facts, lost, reason] = drawn(view)
  assert.match(facts!, /^cirque 1\.2\.3 {2}not ready {2}/)
  assert.equal(lost, 'no answer for 12s: no supervisor is running; what is below is as it was then')
  assert.equal(reason, 'not ready: no worker accepts')
})

test('top: before the second sample, and without counting, it says so', () => {
  const first = drawn({ ...viewOf(QUIET, BUSY), figures: null })
  assert.ok(first.includes('  listeners and upstreams follow with the next sample'), first.join('\n'))
  assert.match(first[1]!, /^requests {2}- /)
  const uncounted = drawn(viewOf(QUIET, { ...BUSY, counting: false }))
  assert.ok(uncounted.includes('  nothing is counted by listener and upstream: supervisor.metrics is false'))
  assert.match(uncounted[1]!, /^requests {2}1,200\/s /, 'by the heartbeats of workers')
})

test('top: the chosen table gets the room, is scrolled to its end, and says how many rows there are besides', () => {
  const upstreams = Array.from({ length: 40 }, (_, index) => ({ ...UPSTREAM, name: `origin-${index}`, attempts: 1000 - index }))
  const view = viewOf(QUIET, { ...BUSY, upstreams })
  const shown = (offset: number): string[] => {
    const lines = drawn(view, { chosen: 'upstreams', offset })
    return lines.slice(lines.findIndex(line => line.startsWith('> UPSTREAM')) + 1).filter(line => /origin-|above|below/.test(line))
  }
  assert.match(shown(0)[0]!, /^ {2}origin-0 /)
  assert.match(shown(0).at(-1)!, /^ {2}\.\.\. \d+ below$/)
  assert.match(shown(5)[0]!, /^ {2}origin-5 /)
  assert.match(shown(5).at(-1)!, /^ {2}\.\.\. 5 above, \d+ below$/)
  assert.match(shown(39).at(-2)!, /^ {2}origin-39 /)
  assert.match(shown(39).at(-1)!, /^ {2}\.\.\. \d+ above$/)
  const { lastOffset } = topFrame(view, { chosen: 'upstreams', offset: 0 }, SIZES[0]!, KEYS)
  assert.deepEqual(shown(lastOffset), shown(39))
  assert.notDeepEqual(shown(lastOffset - 1), shown(39))
})

test('top: whatever it is called and however large the terminal, no line wraps, is too much, or moves the cursor', () => {
  const anySize = fc.record({ columns: fc.integer({ min: 20, max: 200 }), rows: fc.integer({ min: 4, max: 60 }) })
  const size = fc.oneof(fc.constantFrom(...SIZES), anySize)
  const choice = fc.record({ chosen: fc.constantFrom(...TABLES), offset: fc.nat(20) })
  fc.assert(fc.property(twoSamples, size, choice, fc.string(), ([before, after], { columns, rows }, chosen, lost) => {
    const { lines, lastOffset } = topFrame({ ...viewOf(before, after), lost, lostForMs: 1 }, chosen, { columns, rows }, KEYS)
    assert.ok(lastOffset >= 0)
    assert.equal(lines.length, rows)
    for (const line of lines) {
      const text = line.map(piece => piece.text).join('')
      assert.match(text, /^[\x20-\x7E]*$/)
      assert.ok(text.length <= columns, `${text.length}: ${text}`)
    }
  }))
})

test('text table: figures are whole or not there, whatever the width', () => {
  const columns = [
    { head: 'NAME', spared: 0, text: 14 }, { head: 'ONE', spared: 0 }, { head: 'TWO', spared: 1 }, { head: 'THREE', spared: 2 },
  ]
  const rows = fc.array(fc.tuple(fc.string({ maxLength: 60 }), fc.nat(), fc.nat(), fc.nat()), { minLength: 1, maxLength: 5 })
  fc.assert(fc.property(rows, fc.integer({ min: 30, max: 120 }), (given, width) => {
    const { head, rows: drawnRows } = drawTable(columns, given.map(row => row.map(one => cell(String(one)))), width)
    const heads = writtenLine(head, false).trim().split(/ {2,}/)
    for (const [index, row] of drawnRows.entries()) {
      const text = writtenLine(row, false)
      assert.ok(text.length <= width)
      const figures = given[index]!.slice(1, heads.length).map(String)
      assert.deepEqual(text.split(/ +/).slice(-figures.length), figures)
    }
  }))
})

test('text table: sentences end between words, and say when there would be more', () => {
  assert.deepEqual(wrapped('one two three four', 9, 5), ['one two', 'three', 'four'])
  assert.deepEqual(wrapped('one two three four', 9, 1), ['one ...'])
  assert.deepEqual(wrapped('a'.repeat(12), 9, 2), ['aaaaaa...'])
  assert.deepEqual(wrapped('', 9, 2), [])
})

test('text table: colours are written only where they are wanted', () => {
  const line = [cell('2.0%', 'bad'), cell(' plain ')]
  assert.equal(writtenLine(line, false), '2.0% plain')
  assert.equal(writtenLine(line, true), '\u001B[31m2.0%\u001B[m plain ')
})
