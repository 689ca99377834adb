import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import test from 'node:test'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'

test('system calls: they are there on Linux, and can be turned off', async () => {
  assert.deepEqual(await loadSystemCalls({ CIRQUE_SYSTEM_CALLS: 'off' }), { available: false, reason: 'CIRQUE_SYSTEM_CALLS=off' })
  if (process.platform === 'linux') assert.equal((await loadSystemCalls({})).available, true)
})

test('system calls: a copy is another descriptor of the same socket; a queue is seen; shutdown refuses', { skip: process.platform !== 'linux' }, async () => {
  const loaded = await loadSystemCalls({})
  assert.ok(loaded.available)
  const { calls } = loaded
  const bound = new net.BoundSocket({ host: '127.0.0.1', port: 0 })
  const { port } = bound.address() as net.AddressInfo
  const fd = bound.fd()
  const copy = calls.dup(fd)
  assert.equal(fs.readlinkSync(`/proc/self/fd/${copy}`), fs.readlinkSync(`/proc/self/fd/${fd}`))
  // Closing the server closes its copy only: the socket goes on listening.
  const server = net.createServer().listen(new net.Socket({ fd: copy, readable: false, writable: false }), 16)
  await once(server, 'listening')
  server.close()
  assert.equal(calls.hasQueued(fd), false)
  const waiting = net.connect(port, '127.0.0.1')
  await once(waiting, 'connect')
  assert.equal(calls.hasQueued(fd), true)
  calls.shutdown(fd)
  waiting.destroy()
  const refused = net.connect(port, '127.0.0.1')
  const [error] = await once(refused, 'error') as [NodeJS.ErrnoException]
  assert.equal(error.code, 'ECONNREFUSED')
  // Again, and on one that never listened: no fault.
  calls.shutdown(fd)
  bound.close()
  assert.throws(() => calls.dup(9_999), /errno 9/)
})
