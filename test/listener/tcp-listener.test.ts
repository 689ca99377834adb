import assert from 'node:assert/strict'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { LISTENER_DEFAULTS, type ListenerOptions } from '../../src/listener/listener-options.ts'
import { TcpListener, clientOf } from '../../src/listener/tcp-listener.ts'
import type { ByteStream } from '../../src/protocols/byte-stream.ts'
import { within } from '../support/wait-for.ts'

for (const [ip, client] of [
  ['', ''], ['127.0.0.1', ''], ['127.9.9.9', ''], ['::1', ''], ['::ffff:127.0.0.1', ''],
  ['10.1.2.3', '10.1.2.3'], ['::ffff:10.1.2.3', '10.1.2.3'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'], ['2001:db8:1:2::6', '2001:db8:1:2'], ['2001:db8::1', '2001:db8:0:0'],
  ['2001:db8::1:2:3:4', '2001:db8:0:0'], ['fe80::1', 'fe80:0:0:0'], ['::', '0:0:0:0'], ['::2:3', '0:0:0:0'],
] as const) {
  test(`tcp listener: ${ip === '' ? 'an unknown address' : ip} counts as ${client === '' ? 'nobody' : client}`, () => {
    assert.equal(clientOf(ip), client)
  })
}

interface Started {
  readonly listener: TcpListener
  readonly port: number
  readonly streams: ByteStream[]
  readonly filterFaults: string[]
  evict: () => boolean
  connect(): Promise<'in' | 'out'>
}

async function start(t: TestContext, options: ListenerOptions, host = '127.0.0.1'): Promise<Started> {
  const streams: ByteStream[] = [], sockets: net.Socket[] = [], filterFaults: string[] = []
  const started = { evict: () => false } as { -readonly [Key in keyof Started]: Started[Key] }
  let accepted: (() => void) | null = null
  started.streams = streams
  started.filterFaults = filterFaults
  let open = 0
  started.listener = new TcpListener({ ...LISTENER_DEFAULTS, ...options }, {
    refusal: maxConnections => open < maxConnections || started.evict() ? null : 'max-connections',
    onFilterFailed: thrown => { filterFaults.push((thrown as Error).message) },
    onAccepted(stream, countedAs) {
      open++
      streams.push(stream)
      const onClosed = (): void => {
        open--
        started.listener.left(countedAs)
      }
      stream.owner = { onBytes() {}, onEnd() { stream.end() }, onDrained() {}, onClosed }
      accepted?.()
    },
  })
  const acceptor = started.listener.createAcceptor()
  const { port } = await acceptor.listen({ kind: 'tcp', host, port: 0, ipv6Only: false }, 16)
  started.port = port
  started.connect = () => within('the connection to be let in or not', new Promise(resolve => {
    accepted = () => resolve('in')
    const socket = net.connect(started.port, '127.0.0.1')
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('close', () => resolve('out'))
    socket.resume()
  }))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    for (const stream of streams) stream.destroy()
    acceptor.close()
  })
  return started
}

test('tcp listener: an IPv4 client of a dual-stack listener is one to the filter as well', async t => {
  const heard: string[] = []
  let started: Started
  try {
    started = await start(t, { connectionFilter: ip => heard.push(ip) > 1 }, '::')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAFNOSUPPORT') throw error
    t.skip('this machine has no IPv6')
    return
  }
  assert.deepEqual([await started.connect(), await started.connect()], ['out', 'in'])
  assert.deepEqual(heard, ['127.0.0.1', '127.0.0.1'])
  assert.equal(started.streams[0]!.digest.remoteIp, '127.0.0.1')
})

test('tcp listener: a connection began when it came, also when no tick has moved the clock on', async t => {
  const started = await start(t, {})
  const beforeMs = performance.now()
  assert.equal(await started.connect(), 'in')
  const { establishedAt } = started.streams[0]!.digest
  assert.ok(establishedAt >= beforeMs && establishedAt <= performance.now(), `${establishedAt} is before ${beforeMs}`)
})

test('tcp listener: over its limit the oldest idle connection makes room, and without one the new one is reset', async t => {
  const started = await start(t, { maxConnections: 2 })
  assert.deepEqual([await started.connect(), await started.connect()], ['in', 'in'])
  assert.equal(await started.connect(), 'out')
  let asked = 0
  started.evict = () => {
    asked++
    started.streams[0]!.destroy()
    return true
  }
  assert.equal(await started.connect(), 'in')
  const { accepted, refused } = started.listener
  assert.deepEqual([accepted, refused, asked], [3, 1, 1])
})

test('tcp listener: the filter sees the address before anything is read, and one that throws lets nobody in', async t => {
  const seen: string[] = []
  const started = await start(t, {
    connectionFilter: ip => { seen.push(ip); if (seen.length > 2) throw new Error('no'); return seen.length === 2 },
  })
  assert.deepEqual([await started.connect(), await started.connect(), await started.connect()], ['out', 'in', 'out'])
  assert.deepEqual(seen, ['127.0.0.1', '127.0.0.1', '127.0.0.1'])
  assert.deepEqual([started.listener.accepted, started.listener.refused], [1, 2])
})

test('tcp listener: a filter that does not say true lets nobody in, and is told of', async t => {
  const rejects = async (): Promise<never> => { throw new Error('planned') }
  const answers: (() => unknown)[] = [async () => true, rejects, () => 1, () => undefined, () => 'yes', () => true]
  const started = await start(t, { connectionFilter: (() => answers.shift()!()) as () => boolean })
  const outcomes: string[] = []
  while (answers.length > 0) outcomes.push(await started.connect())
  assert.deepEqual(outcomes, ['out', 'out', 'out', 'out', 'out', 'in'])
  assert.deepEqual(started.filterFaults.map(one => /returned (.*);/.exec(one)?.[1]), ['a promise', 'a promise', '1', 'undefined', 'yes'])
})

test('tcp listener: loopback is not counted against the limit of a client', async t => {
  const started = await start(t, { maxConnectionsPerClient: 1 })
  assert.deepEqual([await started.connect(), await started.connect()], ['in', 'in'])
})
