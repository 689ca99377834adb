import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import type { DescribedAddress } from '../../src/ipc/server-description.ts'
import { HandleAcceptor } from '../../src/listener/handle-acceptor.ts'
import { handleOf, type ListeningHandle, type StreamHandle } from '../../src/protocols/tcp/stream-handle.ts'
import { within } from '../support/wait-for.ts'

const linux = { skip: process.platform !== 'linux' }
const LOOPBACK: DescribedAddress = { kind: 'tcp', host: '127.0.0.1', port: 0, ipv6Only: false }

interface Started {
  readonly acceptor: HandleAcceptor
  readonly server: net.Server
  readonly port: number
  readonly handles: StreamHandle[]
  readonly sockets: net.Socket[]
  readonly failures: NodeJS.ErrnoException[]
  /** Resolves with the next of any of them. */
  came(): Promise<unknown>
}

async function start(t: TestContext, backlog = 16): Promise<Started> {
  const created = t.mock.method(net, 'createServer')
  const handles: StreamHandle[] = [], sockets: net.Socket[] = [], failures: NodeJS.ErrnoException[] = []
  let next = Promise.withResolvers<void>()
  const tell = (): void => {
    next.resolve()
    next = Promise.withResolvers()
  }
  const acceptor = new HandleAcceptor({
    onHandle: handle => { handles.push(handle); tell() },
    onSocket: socket => { sockets.push(socket); tell() },
    onAcceptFailed: error => { failures.push(error); tell() },
  }, null)
  const server = created.mock.calls[0]!.result as net.Server
  const { port } = await acceptor.listen(LOOPBACK, backlog)
  t.after(() => {
    acceptor.close()
    for (const handle of handles) handle.close()
    for (const socket of sockets) socket.destroy()
  })
  return { acceptor, server, port, handles, sockets, failures, came: () => within('a connection', next.promise) }
}

function dial(t: TestContext, port: number): net.Socket {
  const client = net.connect(port, '127.0.0.1')
  client.on('error', () => { /* what it was dialled for is gone */ })
  t.after(() => client.destroy())
  return client
}

test('handle acceptor: a connection comes as its handle, and no socket is built for it', async t => {
  const { server, port, handles, sockets, came } = await start(t)
  let built = 0
  server.on('connection', () => { built++ })
  const coming = came()
  dial(t, port)
  await coming
  assert.deepEqual([handles.length, sockets.length, built], [1, 0, 0])
  assert.ok(handles[0]!.fd >= 0)
})

test('handle acceptor: only what may have been in the queue before is told not to delay small writes', linux, async t => {
  const backlog = 2
  const { server, handles, port, came } = await start(t, backlog)
  const prototype = Object.getPrototypeOf(handleOf(server)) as { setNoDelay(enable: boolean): number }
  const told = t.mock.method(prototype, 'setNoDelay')
  const toldAfter: number[] = []
  for (let connection = 0; connection < 5; connection++) {
    const coming = came()
    dial(t, port)
    await coming
    toldAfter.push(told.mock.callCount())
  }
  assert.equal(handles.length, 5)
  assert.deepEqual(toldAfter, [1, 2, 3, 3, 3])
})

test('handle acceptor: what the system refuses is told by its code, and the next one comes', async t => {
  const { server, port, handles, failures, came } = await start(t)
  const tooMany = -24
  ;(handleOf(server) as ListeningHandle).onconnection!(tooMany, undefined)
  assert.deepEqual(failures.map(({ code, syscall }) => [code, syscall]), [['EMFILE', 'accept']])
  const coming = came()
  dial(t, port)
  await coming
  assert.equal(handles.length, 1)
})

test('handle acceptor: where the server emits sockets after all, they are handed on', async t => {
  const { server, sockets, handles } = await start(t)
  const socket = new net.Socket()
  server.emit('connection', socket)
  assert.deepEqual([sockets.length, handles.length], [1, 0])
  assert.equal(sockets[0], socket)
})

test('handle acceptor: closed, it lets nothing in', async t => {
  const { acceptor, port, handles } = await start(t)
  acceptor.close()
  const [error] = await once(net.connect(port, '127.0.0.1'), 'error') as [NodeJS.ErrnoException]
  assert.equal(error.code, 'ECONNREFUSED')
  assert.equal(handles.length, 0)
})
