/** What `cirque status` says of counts, which needs no server. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { statusText } from '../../../supervisor/commands/status-text.ts'
import type { ErrorReportsStatus } from '../../../supervisor/error-reports.ts'
import type { LevelStatus } from '../../../supervisor/log-level.ts'
import type { SupervisorStatus } from '../../../supervisor/operator-desk.ts'
import type { TicketStatus } from '../../../supervisor/ticket-keeper.ts'

const STATUS = {
  version: '1.0.0', state: 'running', pid: 1, uptimeMs: 0, operation: '', progress: null, application: '/srv/app.ts', release: '/srv',
  previousRelease: '', generation: 1, listeners: [], admin: '', controlSocket: '/run/control.sock', systemCalls: 'available', slots: [],
  outcomes: [], totals: {},
} satisfies Partial<SupervisorStatus> as unknown as SupervisorStatus

/** The lines between `open` and the workers. */
function linesOf(totals: Readonly<Record<string, number>>): string[] {
  const lines = statusText({ ...STATUS, totals }).split('\n')
  return lines.slice(lines.findIndex(line => line.startsWith('open')) + 1, lines.indexOf(''))
}

test('status text: backends, logs and traces are there when there is something to say of them', () => {
  assert.deepEqual(linesOf({}), [], 'of a build without these counts')
  assert.deepEqual(linesOf({ backends: 0, backendsReady: 0, logLinesDropped: 0, logFaults: 0 }), [])
  assert.deepEqual(linesOf({ backends: 4, backendsReady: 2 }), ['backends      2 of 4 get traffic, counted in each worker'])
  assert.deepEqual(linesOf({ logLinesDropped: 0, logFaults: 12 }), ['logs          0 lines lost, 12 writes failed'])
  assert.deepEqual(linesOf({ logLinesDropped: 1, logFaults: 1 }), ['logs          1 line lost, 1 write failed'])
  assert.deepEqual(linesOf({ traceSpansDropped: 0 }), [])
  assert.deepEqual(linesOf({ traceSpansDropped: 7 }), ['traces        7 spans lost'])
})

test('status text: error reports are there while they do not get through', () => {
  const shown = (errorReports?: ErrorReportsStatus | null): string | undefined => {
    const text = statusText({ ...STATUS, ...errorReports === undefined ? null : { errorReports } })
    return text.split('\n').find(line => line.startsWith('reports'))
  }
  const fine: ErrorReportsStatus = { state: 'open', events: 9, suppressed: 3, accepted: 4, failed: 3, dropped: 2, problem: '' }
  for (const status of [undefined, null, fine]) assert.equal(shown(status), undefined)
  const late = { ...fine, problem: 'no answer within 10 s' }
  assert.equal(shown(late), 'reports       errors are not told: no answer within 10 s (3 failed, 2 dropped)')
})

test('status text: keys of session tickets are there where a listener speaks TLS, and what is wrong with their file', () => {
  const shown = (tickets?: TicketStatus | null): string | undefined => {
    return statusText({ ...STATUS, ...tickets === undefined ? null : { tickets } }).split('\n').find(line => line.startsWith('tickets'))
  }
  assert.equal(shown(), undefined)
  assert.equal(shown(null), undefined)
  const fine: TicketStatus = { file: '/keys', keys: 2, encrypts: '0a0b0c0d', ageMs: 60_000, problem: '' }
  assert.equal(shown(fine), 'tickets       2 keys, 0a0b0c0d encrypts for 1m0s')
  const bad = 'tickets       1 key, 0a0b0c0d encrypts for 1m0s; the file with them cannot be used: it is gone'
  assert.equal(shown({ ...fine, keys: 1, problem: 'it is gone' }), bad)
})

test('status text: a level of the log is there while it is not what is configured', () => {
  const shown = (logLevel?: LevelStatus): string | undefined => {
    return statusText({ ...STATUS, ...logLevel === undefined ? null : { logLevel } }).split('\n').find(line => line.startsWith('log level'))
  }
  assert.equal(shown(), undefined, 'of a build without it')
  assert.equal(shown({ level: 'info', configured: 'info', endsInMs: null }), undefined)
  assert.equal(shown({ level: 'debug', configured: 'warn', endsInMs: 598_000 }), 'log level     debug for another 9m58s, then warn')
})
