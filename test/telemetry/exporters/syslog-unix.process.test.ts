/** Syslog of this machine: Unix datagrams, by system calls. */
import assert from 'node:assert/strict'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { loadSystemCalls, type DatagramInbox } from '../../../src/ipc/system-calls.ts'
import { SyslogSink } from '../../../src/telemetry/exporters/syslog-sink.ts'
import { readMessage } from '../../support/syslog-receivers.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { waitFor } from '../../support/wait-for.ts'

const loaded = await loadSystemCalls({})
const linux = { skip: process.platform !== 'linux' }

function receiver(t: TestContext, file: string): DatagramInbox {
  assert.ok(loaded.available)
  const inbox = loaded.calls.openInbox(file)
  t.after(() => inbox.close())
  return inbox
}

/** The texts of all that is there. */
function received(inbox: DatagramInbox): string[] {
  const texts: string[] = []
  for (let message = inbox.receive(); message !== null; message = inbox.receive()) texts.push(readMessage(message.payload.toString()).text)
  return texts
}

test('syslog to a Unix socket: each line is a datagram, at once', linux, t => {
  const file = path.join(temporaryFolder(t), 'log'), inbox = receiver(t, file)
  const sink = new SyslogSink(`syslog:unix:${file}?facility=daemon`, {}, 'process')
  t.after(() => sink.close())
  assert.equal(sink.write('\u00E9\n', undefined, 'error'), true)
  const message = readMessage(inbox.receive()!.payload.toString())
  assert.deepEqual([message.facility, message.severity, message.about, message.text], [3, 3, 'process', '\u00E9'])
  assert.deepEqual([sink.queued, sink.dropped, sink.faults], [0, 0, 0])
})

test('syslog to a Unix socket: a full queue delays lines, and only what may not wait is lost and counted', linux, async t => {
  const file = path.join(temporaryFolder(t), 'log'), inbox = receiver(t, file)
  const sink = new SyslogSink(`syslog:unix:${file}`, { maxLogQueueBytes: 500_000 }, 'access')
  t.after(() => sink.close())
  const lines = Array.from({ length: 4000 }, (_, at) => `${at}`)
  const taken = lines.filter(line => sink.write(`${line}\n`))
  assert.ok(sink.queued > 0, 'the queue of a socket has less room')
  assert.equal(taken.length + sink.dropped, lines.length)
  const arrived: string[] = []
  await waitFor('all that were taken', () => {
    arrived.push(...received(inbox))
    return arrived.length >= taken.length
  }, { deadlineMs: 20_000, seen: () => arrived.length })
  assert.deepEqual(arrived, taken)
  assert.equal(sink.faults, 0)
})

test('syslog to a Unix socket: a receiver that is restarted gets the lines again, those included that came meanwhile', linux, async t => {
  const file = path.join(temporaryFolder(t), 'log'), first = receiver(t, file)
  const sink = new SyslogSink(`syslog:unix:${file}`, {}, 'access')
  t.after(() => sink.close())
  sink.write('before\n')
  assert.deepEqual(received(first), ['before'])
  first.close()
  sink.write('meanwhile\n')
  assert.equal(sink.faults, 1)
  assert.match(sink.trouble, /^syslog:unix:\/.*: connect\(.*\): ENOENT/)
  const second = receiver(t, file), arrived: string[] = []
  await waitFor('the line that waited', () => {
    arrived.push(...received(second))
    return arrived.length > 0
  }, { deadlineMs: 15_000 })
  sink.write('after\n')
  arrived.push(...received(second))
  assert.deepEqual([arrived, sink.dropped, sink.trouble], [['meanwhile', 'after'], 0, ''])
  // As fast as that nobody sees that it was away.
  second.close()
  const third = receiver(t, file)
  sink.write('at once\n')
  assert.deepEqual([received(third), sink.faults], [['at once'], 1])
})

test('syslog to a Unix socket: nobody receives, and what waits is bounded', linux, async t => {
  const sink = new SyslogSink(`syslog:unix:${path.join(temporaryFolder(t), 'log')}`, { maxLogQueueBytes: 10_000 }, 'access')
  for (let at = 0; at < 10_000; at++) sink.write(`${at}\n`)
  assert.ok(sink.queued <= 10_200 && sink.dropped > 9800, `${sink.queued} ${sink.dropped}`)
  await sink.close()
  assert.equal(sink.dropped, 10_000)
})

test('syslog to a Unix socket: without system calls it is refused, with the reason', t => {
  const before = process.env['CIRQUE_SYSTEM_CALLS']
  t.after(() => {
    if (before === undefined) delete process.env['CIRQUE_SYSTEM_CALLS']
    else process.env['CIRQUE_SYSTEM_CALLS'] = before
  })
  process.env['CIRQUE_SYSTEM_CALLS'] = 'off'
  assert.throws(() => new SyslogSink('syslog:unix:/dev/log', {}, 'access'), {
    message: 'syslog:unix:/dev/log needs system calls, which are not available: CIRQUE_SYSTEM_CALLS=off',
  })
})
