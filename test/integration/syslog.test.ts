/** Both logs to syslog, from a real supervisor and real workers. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { ScriptedOrigin } from '../support/scripted-origin.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { readMessage, TcpReceiver, UdpReceiver, type SyslogMessage } from '../support/syslog-receivers.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

async function ask(port: number, target: string): Promise<number> {
  const client = await RawClient.connect({ host: '127.0.0.1', port })
  try {
    await client.write(get(target))
    return (await client.readResponse()).status
  } finally { client.destroy() }
}

function pathsOf({ messages }: TcpReceiver): string[] {
  return messages.map(message => (JSON.parse(readMessage(message).text) as { path: string }).path)
}

test('syslog: the access log goes over TCP, and a receiver that stops costs no request and gets lines again when it is back', async t => {
  const origin = await ScriptedOrigin.start()
  t.after(() => origin.stop())
  const receiver = await TcpReceiver.start(t)
  const app = await SupervisedApp.start(t, {
    app: 'proxy', options: { workers: 1 }, env: { PROXY_ORIGIN: origin.authority },
    log: { access: `${receiver.address}?facility=local0&tag=edge` },
  })
  assert.equal(await ask(app.port, '/first'), 200)
  await waitFor('the first line', () => pathsOf(receiver).includes('/first'))
  const first = readMessage(receiver.messages[0]!)
  assert.deepEqual([first.facility, first.severity, first.tag, first.about], [16, 6, 'edge', 'access'])
  await receiver.stop()
  // Until the loss is heard of a line may go to the connection that is none any more.
  await waitFor('the loss to be told', async () => {
    assert.equal(await ask(app.port, '/meanwhile'), 200)
    const [line] = app.lines.filter(({ msg }) => msg.startsWith('the access log cannot be written'))
    return line !== undefined && String(line['error']).startsWith(receiver.address)
  })
  assert.equal(await ask(app.port, '/kept'), 200)
  await receiver.start()
  await waitFor('the line that waited', () => pathsOf(receiver).includes('/kept'), { deadlineMs: 15_000 })
  const { totals } = await app.ask({ tag: 'status' }) as { totals: { logFaults: number; logLinesDropped: number } }
  assert.ok(totals.logFaults > 0)
  assert.equal(totals.logLinesDropped, 0)
  // What waits when a worker ends is sent before it does.
  assert.equal(await ask(app.port, '/last'), 200)
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  await waitFor('the last line', () => pathsOf(receiver).at(-1) === '/last')
})

test('syslog: both logs go over UDP, each process with a socket of its own', async t => {
  const origin = await ScriptedOrigin.start()
  t.after(() => origin.stop())
  const receiver = await UdpReceiver.start(t)
  const folder = temporaryFolder(t), { address } = receiver
  const app = await SupervisedApp.start(t, {
    app: 'proxy', folder, wait: false, env: { PROXY_ORIGIN: origin.authority },
    log: { access: address, process: `${address}?facility=daemon` },
  })
  const read = (about: string): SyslogMessage[] => receiver.messages.map(readMessage).filter(message => message.about === about)
  const listening = (): RegExpExecArray | null => /"listeners":\["127\.0\.0\.1:(\d+)"\]/.exec(receiver.messages.join('\n'))
  const running = await waitFor('the supervisor to run', listening, { deadlineMs: 20_000, seen: () => app.stderr })
  await waitFor('a line of each worker', async () => {
    assert.equal(await ask(Number(running[1]), '/'), 200)
    return new Set(read('access').map(({ pid }) => pid)).size === 2
  })
  assert.ok(read('access').every(({ facility, pid }) => facility === 23 && Number(pid) !== app.pid))
  assert.ok(read('process').some(({ facility, pid }) => facility === 3 && Number(pid) === app.pid))
})

test('syslog: where nobody receives requests are answered as ever, and lines that may not wait are counted in the status', async t => {
  const origin = await ScriptedOrigin.start()
  t.after(() => origin.stop())
  const receiver = await TcpReceiver.start(t)
  await receiver.stop()
  const app = await SupervisedApp.start(t, {
    app: 'proxy', options: { workers: 1 }, env: { PROXY_ORIGIN: origin.authority },
    log: { access: receiver.address, maxLogQueueBytes: 65_536 },
  })
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  t.after(() => client.destroy())
  for (let requests = 0; requests < 400; requests++) {
    await client.write(get(`/${requests}`))
    assert.equal((await client.readResponse()).status, 200)
  }
  const { logLinesDropped } = await waitFor('lost lines in the status', async () => {
    const { totals } = await app.ask({ tag: 'status' }) as { totals: { logLinesDropped: number } }
    // 64 KiB are 130 lines or so. A heartbeat may have told of some of the others only.
    return totals.logLinesDropped > 200 && totals
  })
  assert.ok(logLinesDropped < 350, `${logLinesDropped}`)
  assert.ok(app.lines.some(({ msg }) => msg === 'the access log cannot be written as fast as it is made, or not at all'))
})

test('syslog: the process log of supervisor and workers goes to a Unix socket', { skip: process.platform !== 'linux' }, async t => {
  const loaded = await loadSystemCalls({})
  assert.ok(loaded.available)
  const folder = temporaryFolder(t), file = path.join(folder, 'log'), inbox = loaded.calls.openInbox(file)
  t.after(() => inbox.close())
  const messages: SyslogMessage[] = []
  const said = (msg: string): boolean => {
    for (let one = inbox.receive(); one !== null; one = inbox.receive()) messages.push(readMessage(one.payload.toString()))
    return messages.some(({ text }) => (JSON.parse(text) as { msg: string }).msg.startsWith(msg))
  }
  const app = await SupervisedApp.start(t, { folder, wait: false, log: { process: `syslog:unix:${file}?facility=daemon` } })
  await waitFor('the supervisor to run', () => said('running'), { deadlineMs: 20_000, seen: () => app.stderr })
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.ok(said('stopped'))
  assert.ok(messages.every(({ facility, about, tag }) => facility === 3 && about === 'process' && tag === 'cirque'))
  assert.equal(app.stderr, '')
})

test('syslog: without system calls a Unix socket is refused before anything starts, with the reason and what would do', async t => {
  const app = await SupervisedApp.start(t, {
    wait: false, log: { access: 'syslog:unix:/dev/log', process: 'syslog:unix:/dev/log' }, env: { CIRQUE_SYSTEM_CALLS: 'off' },
  })
  assert.deepEqual(await app.end(), { code: 2, signal: null })
  const mistake = 'found syslog:unix:/dev/log, which needs system calls, and they are not available (CIRQUE_SYSTEM_CALLS=off); '
    + 'expected syslog:udp:HOST:PORT, syslog:tcp:HOST:PORT, or a file'
  for (const key of ['log.access', 'log.process']) assert.ok(app.stderr.includes(`${key}: ${mistake}`), app.stderr)
})
