/** Events to a receiver of envelopes, by the real library. */
import assert from 'node:assert/strict'
import os from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { ServerResponse } from 'node:http'
import type { ErrorEvent, ErrorSink } from '../../../src/telemetry/exporters/error-sink.ts'
import { openSentry } from '../../../src/telemetry/exporters/sentry-sink.ts'
import { SentryReceiver } from '../../support/sentry-receiver.ts'
import { waitFor } from '../../support/wait-for.ts'

const ROOT = path.resolve(import.meta.dirname, '../../..')
const EVENT: ErrorEvent = {
  level: 'error', name: 'TypeError', message: 'no tenant', stack: '', fingerprint: ['hook', 'TypeError', 'requestFilter'], handled: true,
  tags: { worker: '1.0.0', hook: 'requestFilter' }, extra: { suppressed: 7 }, release: 'two', traceId: '', spanId: '',
  atMs: 1_800_000_000_000,
}

function open(t: TestContext, dsn: string, answerTimeoutMs?: number): { sink: ErrorSink; answers: string[] } {
  const answers: string[] = []
  const options = { dsn, environment: 'test', version: '1.2.3', onAnswer: (problem: string) => { answers.push(problem) } }
  const sink = openSentry(options, answerTimeoutMs)
  t.after(() => sink.close())
  return { sink, answers }
}

test('sentry: an event arrives with all that was given, and nothing that was not', async t => {
  const receiver = await SentryReceiver.start(t)
  const { sink, answers } = open(t, receiver.dsn)
  const [traceId, spanId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const stack = [
    '    at Shop.requestFilter (/app/shop.ts:5:6)', `    at Exchange.run (${ROOT}/src/proxy/exchange.ts:1:2)`,
    '    at get (/app/node_modules/db/index.js:3:4)', 'because of RangeError: too far', '    at far (/app/far.ts:7:8)', 'because of a text',
  ].join('\n')
  sink.send({ ...EVENT, stack, traceId, spanId })
  await waitFor('the event', () => receiver.events.length === 1 && answers.length === 1)
  const [event] = receiver.events as [typeof receiver.events[0]]
  assert.deepEqual(
    [event.level, event.release, event.environment, event.server_name, event.fingerprint, event.tags, event.extra],
    ['error', 'two', 'test', os.hostname(), EVENT.fingerprint, EVENT.tags, EVENT.extra],
  )
  assert.deepEqual(event.contexts['trace'], { trace_id: traceId, span_id: spanId })
  assert.equal((JSON.parse(receiver.bodies[0]!.split('\n')[0]!) as { trace: { trace_id: string } }).trace.trace_id, traceId)
  assert.deepEqual(event.exception.values.map(({ type, value }) => [type, value]), [
    ['Error', 'a text'], ['RangeError', 'too far'], ['TypeError', 'no tenant'],
  ])
  // The last one is where it was thrown.
  const frames = event.exception.values.at(-1)!.stacktrace!.frames
  assert.deepEqual(frames.map(frame => [frame.function, frame.in_app]), [
    ['get', false], ['Exchange.run', false], ['Shop.requestFilter', true],
  ])
  const known = ['breadcrumbs', 'user', 'request', 'modules', 'transaction'].filter(name => name in event)
  assert.deepEqual([known, Object.keys(event.contexts).sort()], [[], ['runtime', 'trace']])
  assert.deepEqual([sink.counts, answers], [{ accepted: 1, failed: 0, dropped: 0 }, ['']])
})

test('sentry: an event without a trace has none, and two that are alike are two', async t => {
  const receiver = await SentryReceiver.start(t)
  const { sink } = open(t, receiver.dsn)
  sink.send(EVENT)
  sink.send(EVENT)
  await waitFor('both', () => receiver.events.length === 2)
  for (const { contexts } of receiver.events) assert.equal(contexts['trace'], undefined)
})

test('sentry: a receiver that hangs holds a few events, each for its time; the rest is dropped, and it goes on by itself', async t => {
  const receiver = await SentryReceiver.start(t)
  receiver.answer = () => {}
  const { sink, answers } = open(t, receiver.dsn, 300)
  for (let index = 0; index < 40; index++) sink.send(EVENT)
  await waitFor('the drops', () => sink.counts.dropped === 24)
  await sink.flush(1)
  assert.equal(sink.counts.accepted, 0)
  await waitFor('those that were sent to be given up', () => sink.counts.failed === 16, { deadlineMs: 20_000 })
  assert.deepEqual([...new Set(answers)], ['no answer within 0.3 s'])
  receiver.answer = response => { response.end('{}') }
  sink.send(EVENT)
  await waitFor('the next one', () => sink.counts.accepted === 1)
})

test('sentry: one that refuses connections is tried again with the next event', async t => {
  const receiver = await SentryReceiver.start(t)
  const { sink, answers } = open(t, receiver.dsn)
  await receiver.stop()
  sink.send(EVENT)
  await waitFor('the failure', () => sink.counts.failed === 1)
  assert.match(answers[0]!, /^it could not be reached \(ECONNREFUSED\)$/)
  await receiver.listen()
  sink.send(EVENT)
  await waitFor('the event', () => sink.counts.accepted === 1)
})

test('sentry: after a 429 nothing is sent for as long as it says, and then again', async t => {
  const receiver = await SentryReceiver.start(t)
  const limited = (response: ServerResponse): void => { response.writeHead(429, { 'x-sentry-rate-limits': '1:error:organization' }).end() }
  receiver.answer = limited
  const { sink, answers } = open(t, receiver.dsn)
  sink.send(EVENT)
  await waitFor('the answer', () => sink.counts.failed === 1)
  assert.deepEqual(answers, ['it answered 429'])
  receiver.answer = response => { response.end('{}') }
  sink.send(EVENT)
  await waitFor('the drop', () => sink.counts.dropped === 1)
  assert.equal(receiver.bodies.length, 1)
  await waitFor('the end of the limit', () => {
    sink.send(EVENT)
    return sink.counts.accepted > 0
  })
})

test('sentry: an answer without end is cut, and one that breaks off is an answer', async t => {
  const receiver = await SentryReceiver.start(t)
  let cut = 0
  receiver.answer = response => {
    response.on('close', () => { cut++ }).write('x')
  }
  const { sink } = open(t, receiver.dsn, 200)
  sink.send(EVENT)
  await waitFor('the cut', () => cut === 1)
  assert.deepEqual(sink.counts, { accepted: 1, failed: 0, dropped: 0 })
  receiver.answer = response => { response.destroy() }
  sink.send(EVENT)
  await waitFor('the failure', () => sink.counts.failed === 1)
})
