/** What `cirque prove` shows to people. The proof itself: test/prove. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { ProofReport } from '../../src/config/prove-messages.ts'
import { columnsText, proveText, type ProveAction } from '../../supervisor/prove.ts'

const REPORT: ProofReport = {
  url: 'http://127.0.0.1:8080', phasesMs: { before: 2_000, during: 900, after: 3_000 }, lineDelayMs: 20,
  populations: [{
    name: 'keep-alive', attempted: 12, explained: 2, politeCloses: 3, refusedSessions: 0, reopenedStreams: 0,
    outcomes: { ok: 10, closed: 0, refused: 0, reset: 2, truncated: 0, wrong: 0, timedOut: 0, unable: 0 },
    p99Ms: { before: 41.5, during: 44, after: 41 },
  }],
  longestGapMs: { before: 10, during: 12, after: 10 }, attempted: 12, lost: 0, explained: 2, losses: [],
}

function shown(action: ProveAction, report: ProofReport = REPORT): string[] {
  return proveText({ action, acted: true, actionLines: [], report, verdict: '' }).split('\n')
}

test('prove: columns that do not speak for themselves are explained below the table', () => {
  const lines = shown('crash')
  const head = lines.find(line => line.includes('ATTEMPTED'))!
  const explained = lines.filter(line => /^[A-Z]\w+ {2,}/.test(line)).map(line => line.split(' ')[0]!)
  assert.deepEqual(explained, ['EXPLAINED', 'CLOSED', 'P99'])
  for (const column of explained) assert.ok(head.includes(column), column)
  assert.match(lines.find(line => line.startsWith('keep-alive'))!, / 12 +10 +0 +2 +0 +0 +0 +2 +3 +41\.5 ms/)
  assert.ok(!shown('reload').some(line => line.includes('EXPLAINED')), 'no worker was killed on purpose')
})

test('prove: the delay of the client\'s own line is said beside the times that have it in them', () => {
  const own = "of keep-alive and WebSocket echo 40 ms are the client's own line, 20 ms each way"
  assert.ok(shown('reload').some(line => line.startsWith('P99 ') && line.endsWith(own)))
  assert.ok(!shown('reload', { ...REPORT, lineDelayMs: 0 }).join('\n').includes('own line'))
  assert.equal(columnsText(20, null).length, 3, 'the help explains what any action shows')
})
