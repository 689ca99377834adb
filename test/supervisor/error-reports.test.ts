import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SENTRY_DEFAULTS, type SentryOptions } from '../../src/config/sentry-options.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { ErrorEvent, ErrorSink, ErrorSinkOptions } from '../../src/telemetry/exporters/error-sink.ts'
import { ErrorReports, type Incident } from '../../supervisor/error-reports.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { settle } from '../support/fake-process-host.ts'

const DSN = 'https://5ecre7@sentry.example.com/42'
const HOOK: Incident = {
  kind: 'hook', name: 'TypeError', message: 'no tenant', stack: '', place: 'requestFilter', fatal: false, count: 1, again: false,
  tags: { worker: '1.0.0' }, release: '/srv/releases/two', traceId: '', spanId: '',
}

class FakeSink implements ErrorSink {
  readonly counts = { accepted: 0, failed: 0, dropped: 0 }
  readonly events: ErrorEvent[] = []
  readonly options: ErrorSinkOptions
  closed = false
  #flushed: () => void = () => {}

  constructor(options: ErrorSinkOptions) { this.options = options }
  send(event: ErrorEvent): void { this.events.push(event) }
  flush(): Promise<void> { return new Promise(resolve => { this.#flushed = resolve }) }
  close(): void { this.closed = true }

  answer(problem = ''): void {
    if (problem === '') this.counts.accepted++
    else this.counts.failed++
    this.options.onAnswer(problem)
    this.#flushed()
  }
}

interface Fixture {
  reports: ErrorReports
  clock: FakeClock
  sinks: FakeSink[]
  log: string[]
  counted: { readonly times: number }
  configure(options?: SentryOptions): void
}

function fixture(open: (options: ErrorSinkOptions) => Promise<void> = async () => {}): Fixture {
  const clock = new FakeClock(), sinks: FakeSink[] = [], lines: string[] = [], counted = { times: 0 }
  const write = (level: string) => (message: string, fields: LogFields = {}): void => {
    lines.push(`${level}: ${message} ${String(fields['reason'] ?? '')}`)
  }
  const log: ProcessLog = { info: write('info'), warn: write('warn'), error: write('error') }
  const reports = new ErrorReports({
    host: { nowMs: () => clock.now(), after: (ms, run) => clock.after(ms, run) }, own: { version: '1' }, wallMs: () => clock.wall(),
    openErrorSink: async options => {
      await open(options)
      const sink = new FakeSink(options)
      sinks.push(sink)
      return sink
    },
  }, log, { count: (_name, _labels, times) => { counted.times += times } })
  const configure = (options: SentryOptions = {}): void => { reports.configure({ ...SENTRY_DEFAULTS, dsn: DSN, ...options }) }
  return { reports, clock, sinks, counted, log: lines, configure }
}

test('error reports: without a DSN nothing is opened, counted or shown', async () => {
  const { reports, sinks } = fixture()
  reports.configure(SENTRY_DEFAULTS)
  reports.begin()
  reports.report(HOOK)
  await settle()
  assert.deepEqual([sinks, reports.status(), reports.counts.suppressed], [[], null, 0])
  await reports.flush()
  await reports.close(false)
})

test('error reports: what happens while the sink is loaded waits for it, and loading is begun by the first incident', async () => {
  const { reports, sinks, configure } = fixture()
  configure()
  assert.equal(reports.status()!.state, 'idle')
  reports.report(HOOK)
  reports.report({ ...HOOK, place: 'logging' })
  assert.equal(reports.status()!.state, 'opening')
  await settle()
  assert.deepEqual([reports.status()!.state, sinks.length, sinks[0]!.events.length], ['open', 1, 2])
  const { dsn, environment, version } = sinks[0]!.options
  assert.deepEqual([dsn, environment, version], [DSN, 'production', '1'])
  assert.doesNotMatch(JSON.stringify(reports.status()), /5ecre7|sentry\.example/)
})

test('error reports: a thousand of one fingerprint are one event, and the next one tells the count', async () => {
  const { reports, clock, sinks, counted, configure } = fixture()
  configure()
  for (let index = 0; index < 600; index++) reports.report(HOOK)
  reports.report({ ...HOOK, again: true, count: 400 })
  reports.report({ ...HOOK, name: 'RangeError' })
  await settle()
  assert.deepEqual(sinks[0]!.events.map(({ fingerprint, extra }) => [fingerprint, extra]), [
    [['hook', 'TypeError', 'requestFilter'], {}], [['hook', 'RangeError', 'requestFilter'], {}],
  ])
  assert.equal(reports.counts.suppressed, 999)
  clock.advance(SENTRY_DEFAULTS.repeatAfterMs)
  reports.report({ ...HOOK, count: 5 })
  assert.deepEqual(sinks[0]!.events.at(-1)!.extra, { suppressed: 1_003 })
  assert.deepEqual([reports.counts.events, reports.counts.suppressed, counted.times], [3, 1_003, 1_003])
})

test('error reports: a count alone never becomes an event', async () => {
  const { reports, sinks, configure } = fixture()
  configure({ repeatAfterMs: 0 })
  reports.begin()
  reports.report({ ...HOOK, again: true, count: 3 })
  await settle()
  assert.equal(sinks[0]!.events.length, 0)
  reports.report(HOOK)
  assert.deepEqual(sinks[0]!.events[0]!.extra, { suppressed: 3 })
})

test('error reports: all together are so many in a minute, and as many again as time has passed', async () => {
  const { reports, clock, sinks, configure } = fixture()
  configure({ maxEventsPerMinute: 6 })
  reports.begin()
  await settle()
  const burst = (from: number): void => { for (let index = 0; index < 50; index++) reports.report({ ...HOOK, name: `E${from + index}` }) }
  burst(0)
  assert.equal(sinks[0]!.events.length, 6)
  clock.advance(20_000)
  burst(100)
  assert.equal(sinks[0]!.events.length, 8)
  clock.advance(3_600_000)
  burst(200)
  assert.equal(sinks[0]!.events.length, 14)
  assert.equal(reports.counts.suppressed, 150 - 14)
})

test('error reports: names that are made up are remembered up to a number, and those in use are', async () => {
  const { reports, sinks, configure } = fixture()
  configure({ maxEventsPerMinute: 6_000 })
  reports.begin()
  await settle()
  for (let index = 0; index < 1_000; index++) {
    reports.report({ ...HOOK, name: `E${index}` })
    reports.report(HOOK)
  }
  assert.equal(sinks[0]!.events.filter(({ name }) => name === 'TypeError').length, 1)
})

test('error reports: release, level and words of an event', async () => {
  const { reports, sinks, configure } = fixture()
  configure()
  reports.report(HOOK)
  reports.report({ ...HOOK, kind: 'uncaught', fatal: true, message: 'GET /x?token=1', release: '/' })
  await settle()
  const [first, second] = sinks[0]!.events as [ErrorEvent, ErrorEvent]
  assert.deepEqual([first.release, first.level, first.handled, first.tags], ['two', 'error', true, { kind: 'hook', worker: '1.0.0' }])
  assert.deepEqual([second.release, second.level, second.handled, second.message], ['', 'fatal', false, 'GET /x?(query)'])
  configure({ release: 'shop@1.2' })
  reports.report({ ...HOOK, place: 'logging' })
  assert.equal(sinks[0]!.events.at(-1)!.release, 'shop@1.2')
})

test('error reports: another DSN gets the next events, and none of what belonged to the one before; off ends it', async () => {
  const { reports, sinks, configure } = fixture()
  configure()
  reports.report(HOOK)
  await settle()
  sinks[0]!.answer()
  configure({ maxEventsPerMinute: 7 })
  assert.equal(sinks[0]!.closed, false, 'the same one goes on')
  configure({ dsn: 'https://other@sentry.example.com/1' })
  assert.equal(sinks[0]!.closed, true)
  reports.report({ ...HOOK, place: 'logging' })
  await settle()
  assert.deepEqual(sinks.map(({ events }) => events.length), [1, 1])
  sinks[0]!.options.onAnswer('too late')
  assert.equal(reports.status()!.problem, '')
  assert.deepEqual([reports.counts.events, reports.counts.accepted, reports.counts.failed], [2, 1, 0])
  reports.configure(SENTRY_DEFAULTS)
  assert.deepEqual([sinks[1]!.closed, reports.status()], [true, null])
  assert.equal(reports.counts.failed, 1, 'what has no answer by then will have none')
})

test('error reports: one that is configured while another is being loaded does not get its events', async () => {
  const gate = Promise.withResolvers<void>()
  const { reports, sinks, configure } = fixture(({ dsn }) => dsn === DSN ? gate.promise : Promise.resolve())
  configure()
  reports.report(HOOK)
  configure({ dsn: 'https://other@sentry.example.com/1' })
  gate.resolve()
  await settle()
  assert.deepEqual(sinks.map(({ closed, events }) => [closed, events.length]), [[true, 0]])
  assert.deepEqual([reports.status()!.state, reports.counts.dropped], ['idle', 1])
})

test('error reports: a library that cannot be loaded costs the events, says so once, and is tried again after a reload', async () => {
  let missing = true
  const { reports, sinks, log, configure } = fixture(() => missing ? Promise.reject(new Error('Cannot find module')) : Promise.resolve())
  configure()
  for (let index = 0; index < 40; index++) reports.report({ ...HOOK, name: `E${index}` })
  await settle()
  assert.deepEqual([reports.status()!.state, reports.status()!.problem], ['broken', 'Cannot find module'])
  assert.equal(reports.counts.dropped, 30)
  reports.report({ ...HOOK, name: 'later' })
  assert.equal(log.length, 1)
  missing = false
  configure()
  reports.report(HOOK)
  await settle()
  assert.equal(sinks[0]!.events.length, 1)
})

test('error reports: the log is told when events stop to get through, and when they do again', async () => {
  const { reports, sinks, log, configure } = fixture()
  configure()
  reports.begin()
  await settle()
  const [sink] = sinks as [FakeSink]
  for (const problem of ['', 'it answered 500', 'it answered 500', 'no answer within 10 s', '', '']) sink.answer(problem)
  assert.deepEqual(log, ['warn: error reports do not get through it answered 500', 'info: error reports get through again '])
})

test('error reports: an end waits for answers only when some are outstanding, and no longer than it may', async () => {
  const { reports, clock, sinks, configure } = fixture()
  configure({ flushTimeoutMs: 500 })
  reports.begin()
  await settle()
  await reports.flush()
  reports.report(HOOK)
  let flushed = 0
  void reports.flush().then(() => { flushed++ })
  await settle()
  assert.equal(flushed, 0)
  sinks[0]!.answer()
  await settle()
  assert.equal(flushed, 1)
  reports.report({ ...HOOK, place: 'logging' })
  void reports.close(false).then(() => { flushed++ })
  clock.advance(499)
  await settle()
  assert.deepEqual([flushed, sinks[0]!.closed], [1, false])
  clock.advance(1)
  await settle()
  assert.deepEqual([flushed, sinks[0]!.closed, clock.pending], [2, true, 0])
})

test('error reports: an end that is forced, or may not wait, waits for nothing', async () => {
  for (const [flushTimeoutMs, forced] of [[500, true], [0, false]] as const) {
    const { reports, sinks, clock, configure } = fixture()
    configure({ flushTimeoutMs })
    reports.begin()
    await settle()
    reports.report(HOOK)
    await reports.close(forced)
    assert.deepEqual([sinks[0]!.closed, clock.pending], [true, 0])
  }
})
