import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import os from 'node:os'
import { test, type TestContext } from 'node:test'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import { AccessLog } from '../../../src/telemetry/exporters/access-log.ts'
import { createLineLog } from '../../../src/telemetry/exporters/line-log.ts'
import { SyslogSink } from '../../../src/telemetry/exporters/syslog-sink.ts'
import { readMessage, TcpReceiver, UdpReceiver } from '../../support/syslog-receivers.ts'
import { waitFor } from '../../support/wait-for.ts'

const PROXY_ERROR = new ProxyError('BAD_HEAD', 'downstream', 'no', { status: 400 })

/** Ends with the test, whatever became of its receiver. */
function sinkTo(t: TestContext, address: string, options: { maxLogQueueBytes?: number; collectMs?: number } = {}): SyslogSink {
  const sink = new SyslogSink(address, { collectMs: 0, ...options }, 'access')
  t.after(() => sink.close())
  return sink
}

function textsOf({ messages }: { readonly messages: readonly string[] }): string[] {
  return messages.map(message => readMessage(message).text)
}

/** A port at which nobody is. */
async function unusedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

for (const Receiver of [TcpReceiver, UdpReceiver]) {
  const over = Receiver === TcpReceiver ? 'TCP' : 'UDP'

  test(`syslog sink: over ${over} each line is a message of RFC 5424: facility, severity, host, tag, pid and which log it is`, async t => {
    const receiver = await Receiver.start(t)
    const destination = { syslog: `${receiver.address}?facility=local0&tag=edge` }
    const log = createLineLog({ who: 'worker 1.0.1', level: 'debug', format: 'json', destination })
    const accessLog = new AccessLog({ syslog: receiver.address }, { format: 'common', client: 'off', collectMs: 0 })
    log.debug!('a')
    log.info('b', { name: '\u00E9\u20AC' })
    log.warn('c')
    log.error('d')
    accessLog.refused('a', '::1', PROXY_ERROR, 'PE', 0)
    await Promise.all([log.close(), accessLog.close()])
    await waitFor('five messages', () => receiver.messages.length === 5, { seen: () => receiver.messages })
    const read = receiver.messages.map(readMessage)
    const process_ = read.filter(({ about }) => about === 'process'), [access] = read.filter(({ about }) => about === 'access')
    assert.deepEqual(process_.map(({ severity }) => severity), [7, 6, 4, 3])
    assert.ok(process_.every(({ facility, tag }) => facility === 16 && tag === 'edge'))
    assert.deepEqual(process_.map(({ text }) => (JSON.parse(text) as { msg: string }).msg), ['a', 'b', 'c', 'd'])
    assert.equal((JSON.parse(process_[1]!.text) as { name: string }).name, '\u00E9\u20AC')
    assert.deepEqual([access!.severity, access!.facility, access!.tag, access!.pid, access!.host], [
      6, 23, 'cirque', String(process.pid), os.hostname(),
    ])
    assert.match(access!.text, /^- - - \[[^\]]+\] "-" 400 -$/)
    assert.ok(Math.abs(Date.parse(access!.time) - Date.now()) < 60_000)
    assert.deepEqual([log.dropped, log.faults, log.trouble, accessLog.dropped], [0, 0, '', 0])
  })

  test(`syslog sink: over ${over} many lines arrive in order, and closing waits for them`, async t => {
    const receiver = await Receiver.start(t)
    const sink = sinkTo(t, receiver.address)
    // The kernel drops datagrams that a receiver is too slow for.
    const lines = Array.from({ length: over === 'TCP' ? 3000 : 100 }, (_, at) => `line ${at} ${'x'.repeat(at % 300)}`)
    for (const line of lines) assert.equal(sink.write(`${line}\n`), true)
    await sink.close()
    await waitFor('all lines', () => receiver.messages.length === lines.length, { seen: () => receiver.messages.length })
    assert.deepEqual(textsOf(receiver), lines)
    assert.equal(sink.write('late\n'), false)
    assert.deepEqual([sink.queued, sink.dropped], [0, 1])
  })

  test(`syslog sink: over ${over} a receiver that goes and comes back gets lines again, without a restart`, async t => {
    const receiver = await Receiver.start(t)
    const sink = sinkTo(t, receiver.address)
    sink.write('first\n')
    await waitFor('the first line', () => receiver.messages.length === 1)
    await receiver.stop()
    // A datagram, or a piece of a connection, may go before its end is heard of.
    await waitFor('the loss to be seen', () => {
      sink.write('meanwhile\n')
      return sink.faults > 0
    })
    assert.match(sink.trouble, new RegExp(`^${receiver.address}: `))
    sink.write('kept\n')
    assert.ok(sink.queued > 0, 'lines wait for the receiver')
    await receiver.start()
    await waitFor('the line that waited', () => textsOf(receiver).includes('kept'), { deadlineMs: 15_000, seen: () => sink.trouble })
    assert.equal(sink.trouble, '')
    sink.write('after\n')
    await waitFor('a line after that', () => textsOf(receiver).includes('after'))
  })

  test(`syslog sink: over ${over} a receiver that never comes costs bounded memory; what is too much is dropped and counted`, async t => {
    const sink = sinkTo(t, `syslog:${over.toLowerCase()}:127.0.0.1:${await unusedPort()}`, { maxLogQueueBytes: 10_000 })
    let told = 0
    sink.onTrouble = () => { told++ }
    const line = `${'x'.repeat(99)}\n`
    let most = 0
    for (let at = 0; at < 20_000; at++) {
      sink.write(line)
      most = Math.max(most, sink.queued)
    }
    assert.ok(most <= 10_200 && most > 5000, `${most}`)
    assert.ok(sink.dropped > 19_800, `${sink.dropped}`)
    assert.ok(told >= sink.dropped)
    if (over === 'TCP') await waitFor('the refusal', () => sink.trouble.includes('ECONNREFUSED'))
    await sink.close()
    assert.equal(sink.queued, 0)
  })
}

test('syslog sink: a connection that takes nothing holds up nobody, and what waits is bounded', async t => {
  const receiver = await TcpReceiver.start(t)
  receiver.paused = true
  const sink = sinkTo(t, receiver.address, { maxLogQueueBytes: 200_000 })
  const line = `${'x'.repeat(4000)}\n`
  await waitFor('lines that are dropped', () => {
    for (let at = 0; at < 50; at++) sink.write(line)
    assert.ok(sink.queued < 210_000)
    return sink.dropped > 0
  })
  await waitFor('the connection', () => receiver.connections === 1)
  assert.equal(sink.faults, 0)
  receiver.resume()
  await waitFor('what waited', () => sink.queued === 0)
  assert.ok(receiver.messages.every(message => readMessage(message).text === 'x'.repeat(4000)))
})

test('syslog sink: of a connection that is reset the lines that were not taken go to the next, whole and in order', async t => {
  const receiver = await TcpReceiver.start(t)
  receiver.paused = true
  const sink = sinkTo(t, receiver.address, { maxLogQueueBytes: 20_000_000 })
  const lines = Array.from({ length: 4000 }, (_, at) => `${at} ${'x'.repeat(3000)}`)
  for (const line of lines) sink.write(`${line}\n`)
  await waitFor('a connection', () => receiver.connections === 1)
  receiver.paused = false
  await receiver.stop()
  await receiver.start()
  await waitFor('what waited', () => sink.queued === 0, { deadlineMs: 15_000 })
  await waitFor('the last line', () => textsOf(receiver).at(-1) === lines.at(-1), { seen: () => receiver.messages.length })
  const numbers = textsOf(receiver).map(text => Number(text.split(' ')[0]))
  // What the kernel had taken for the first connection is gone with it; behind that none is missing.
  assert.deepEqual(numbers, Array.from({ length: numbers.length }, (_, at) => lines.length - numbers.length + at))
})

test('syslog sink: a line break within a line is a blank, and a line is at most what receivers take', async t => {
  const receiver = await TcpReceiver.start(t)
  const log = createLineLog({ who: 'w', format: 'text', destination: { syslog: receiver.address } })
  log.error('failed', { stack: 'Error: no\n    at a' })
  log.info('x'.repeat(100_000), { field: 'y'.repeat(100_000) })
  await log.close()
  await waitFor('two messages', () => receiver.messages.length === 2)
  assert.equal(textsOf(receiver)[0], 'w: error: failed     Error: no         at a')
  assert.ok(receiver.messages.every(message => message.length <= 8192))
})

test('syslog sink: a name is looked up, and one that is none is a fault that is told', async t => {
  const receiver = await UdpReceiver.start(t)
  const sink = sinkTo(t, `syslog:udp:localhost:${receiver.port}`)
  await waitFor('a line by name', () => {
    sink.write('a\n')
    return receiver.messages.length > 0 || sink.faults > 0
  })
  // Too long for a label of a name: nobody has to be asked.
  const name = 'x'.repeat(64), none = sinkTo(t, `syslog:udp:${name}:514`)
  none.write('a\n')
  await waitFor('the fault', () => none.faults > 0)
  assert.match(none.trouble, new RegExp(`^syslog:udp:${name}:514: getaddrinfo`))
})

test('syslog sink: what is no target is refused', () => {
  const message = /use host and port, such as syslog:udp/
  assert.throws(() => new SyslogSink('syslog:udp:a', {}, 'access'), { name: 'OptionError', message })
})
