/** How an acceptor empties its queue; hand-overs of sockets are tested with workers. */
import assert from 'node:assert/strict'
import net from 'node:net'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { DescribedAddress } from '../../src/ipc/server-description.ts'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import type { AcceptCall } from '../../src/listener/acceptor.ts'
import { LISTENER_DEFAULTS, type ListenerOptions } from '../../src/listener/listener-options.ts'
import { TcpListener } from '../../src/listener/tcp-listener.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const loaded = await loadSystemCalls({})
const linux = { skip: process.platform !== 'linux' }
const accept: AcceptCall = fd => {
  assert.ok(loaded.available, loaded.available ? '' : loaded.reason)
  return loaded.calls.accept(fd)
}
const LOOPBACK: DescribedAddress = { kind: 'tcp', host: '127.0.0.1', port: 0, ipv6Only: false }

interface Queue {
  /** Connections let in so far. */
  accepted(): number
  /** Clients that have their answer. */
  answered(): number
  /** Clients that were reset. */
  reset(): number
  /** Codes of what the system refused. */
  readonly faults: string[]
  /** Dials so often within one turn of the loop. Resolves to how many were in when that turn of the acceptor was over. */
  dial(count: number): Promise<number>
  closeAt: number
}

async function listen(
  t: TestContext, acceptCall: AcceptCall | null, address: DescribedAddress = LOOPBACK, options: ListenerOptions = {},
): Promise<Queue> {
  const faults: string[] = [], clients: net.Socket[] = []
  let accepted = 0, answered = 0, reset = 0, firstOfTurn: ((value: unknown) => void) | null = null
  const listener = new TcpListener({ ...LISTENER_DEFAULTS, ...options }, {
    refusal: () => null,
    onAccepted(stream) {
      accepted++
      firstOfTurn?.(null)
      stream.owner = {
        onBytes: (buffer, from, to) => { stream.writeText(`<${buffer.latin1Slice(from, to)}>`) },
        onEnd() { stream.end() }, onDrained() {}, onClosed() {},
      }
      if (accepted === queue.closeAt) acceptor.close()
    },
    onAcceptFailed: ({ code = '' }) => { faults.push(code) },
  }, acceptCall)
  const acceptor = listener.createAcceptor()
  const { port } = await acceptor.listen(address, 512)
  t.after(() => {
    for (const client of clients) client.destroy()
    acceptor.close()
  })
  const queue: Queue = {
    faults, closeAt: 0, accepted: () => accepted, answered: () => answered, reset: () => reset,
    async dial(count) {
      const first = new Promise(resolve => { firstOfTurn = resolve })
      for (let dialled = 0; dialled < count; dialled++) {
        const client = address.kind === 'unix' ? net.connect(address.path) : net.connect(port, '127.0.0.1')
        client.on('error', ({ code }: NodeJS.ErrnoException) => { if (code === 'ECONNRESET') reset++ })
        client.on('data', bytes => { if (String(bytes) === '<hello>') answered++ })
        client.write('hello')
        clients.push(client)
      }
      await first
      return accepted
    },
  }
  return queue
}

test('tcp acceptor: what waits in the queue is accepted in one turn, up to a share of it, and served', linux, async t => {
  const queue = await listen(t, accept)
  // Node.js itself took one.
  assert.equal(await queue.dial(100), 65)
  await waitFor('the rest', () => queue.accepted() === 100)
  await waitFor('every answer', () => queue.answered() === 100)
})

test('tcp acceptor: a Unix socket is emptied the same way', linux, async t => {
  const queue = await listen(t, accept, { kind: 'unix', path: path.join(temporaryFolder(t), 'socket'), mode: 0o600 })
  assert.equal(await queue.dial(40), 40)
  await waitFor('every answer', () => queue.answered() === 40)
})

test('tcp acceptor: the filter sees the address of each, and whom it turns away is reset', linux, async t => {
  const seen: string[] = []
  const connectionFilter = (ip: string): boolean => seen.push(ip) % 2 === 1
  const queue = await listen(t, accept, LOOPBACK, { connectionFilter })
  await queue.dial(10)
  await waitFor('an answer or a reset for each', () => queue.answered() + queue.reset() === 10)
  assert.deepEqual(seen, Array.from({ length: 10 }, () => '127.0.0.1'))
  assert.deepEqual([queue.accepted(), queue.answered(), queue.reset()], [5, 5, 5])
})

test('tcp acceptor: closed while it empties its queue, it takes nothing more', linux, async t => {
  const queue = await listen(t, accept)
  queue.closeAt = 5
  assert.equal(await queue.dial(20), 5)
})

test('tcp acceptor: when the system has no descriptor left, that is told, and the rest is accepted later', linux, async t => {
  let fails = 3
  const queue = await listen(t, fd => {
    if (fails-- > 0) throw Object.assign(new Error('planned'), { code: 'EMFILE' })
    return accept(fd)
  })
  assert.equal(await queue.dial(10), 1)
  await waitFor('the rest', () => queue.accepted() === 10)
  assert.deepEqual(queue.faults, ['EMFILE', 'EMFILE', 'EMFILE'])
})

test('tcp acceptor: without the system call it takes one connection in a turn, and all of them in the end', async t => {
  const queue = await listen(t, null)
  assert.equal(await queue.dial(10), 1)
  await waitFor('the rest', () => queue.accepted() === 10)
})
