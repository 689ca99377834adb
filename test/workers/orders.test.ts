/** A real worker process under orders: which of its sockets it listens on, what it hands out, what it does without a supervisor. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import path from 'node:path'
import test from 'node:test'
import { loadSystemCalls, type SystemCalls } from '../../src/ipc/system-calls.ts'
import { inodeOf, OrderedWorker, SHORT_DRAIN } from '../support/ordered-worker.ts'
import { get } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const KEPT = 'plain/127.0.0.1:1001'
const MOVED = 'plain/127.0.0.1:1002'
const PLAIN = { app: 'plain', listeners: [KEPT, MOVED], env: { PLAIN_LISTEN: '127.0.0.1:1001 127.0.0.1:1002' } }

const loaded = await loadSystemCalls()
const calls: SystemCalls | null = loaded.available ? loaded.calls : null
const linux = { skip: process.platform === 'linux' && calls !== null ? false : 'needs /proc and system calls' }

test('orders: a worker that stops accepting with exceptions goes on there, for its own slot and a sibling\'s', linux, async t => {
  const worker = await OrderedWorker.start(t, { ...PLAIN, slots: 2 })
  const own = String(worker.pid)
  await worker.order({ tag: 'accept' })
  await worker.order({ tag: 'stand-in', slot: 1 })
  const ports = [0, 1].flatMap(listener => [0, 1].map(slot => worker.port(listener, slot)))
  for (const port of ports) assert.equal(await get(port), own)

  await worker.order({ tag: 'stop-accept', except: [KEPT, 'a name that it does not know'] })
  const kept = worker.descriptors()
  const waiting = [get(worker.port(1, 0)), get(worker.port(1, 1))]
  await waitFor('both dials in the queues', () => [0, 1].every(slot => calls!.hasQueued(worker.descriptor(1, slot))))
  assert.equal(await get(worker.port(0, 0)), own)
  assert.equal(await get(worker.port(0, 1)), own)
  assert.ok([0, 1].every(slot => calls!.hasQueued(worker.descriptor(1, slot))))

  await worker.order({ tag: 'accept' })
  assert.deepEqual(await within('what waited in the queues', Promise.all(waiting)), [own, own])
  // The acceptors that stayed are the same descriptors as before.
  assert.deepEqual(kept.filter(fd => !worker.descriptors().includes(fd)), [])
  for (const port of ports) assert.equal(await get(port), own)
})

test('orders: what stayed open is closed with the rest, before a drain and by it', linux, async t => {
  for (const tag of ['close-listeners', 'drain'] as const) {
    const worker = await OrderedWorker.start(t, PLAIN)
    await worker.order({ tag: 'accept' })
    await worker.order({ tag: 'stop-accept', except: [KEPT] })
    assert.deepEqual([0, 1].map(listener => worker.holds(worker.descriptor(listener))), [2, 1])
    // A queue that somebody else has to empty must not hold this worker up.
    const elsewhere = get(worker.port(1))
    await waitFor('a dial in the other queue', () => calls!.hasQueued(worker.descriptor(1)))
    const slow = get(worker.port(0), '/slow?ms=100')
    await waitFor(
      'the slow request',
      () => worker.messages.some(message => message.tag === 'heartbeat' && message.open.activeExchanges > 0),
    )
    const begun = performance.now()
    if (tag === 'close-listeners') {
      const dialled = Promise.withResolvers<void>()
      const last = get(worker.port(0), '/', dialled.resolve)
      await dialled.promise
      await worker.order({ tag, emptyQueueMs: 4_000 })
      assert.equal(await last, String(worker.pid))
    } else await worker.order({ tag, order: SHORT_DRAIN })
    assert.ok(performance.now() - begun < 2_000)
    assert.equal(await slow, String(worker.pid))
    await waitFor('every socket to be closed', () => [0, 1].every(listener => worker.holds(worker.descriptor(listener)) === 0))
    if (tag === 'close-listeners') {
      await assert.rejects(worker.order({ tag: 'accept' }), /closed for good/)
      await assert.rejects(worker.order({ tag: 'send-descriptors', path: '/nowhere' }), /closed for good/)
    } else assert.deepEqual(await worker.end(), { code: 0, signal: null })
    for (const listener of [0, 1]) calls!.shutdown(worker.descriptor(listener))
    await elsewhere
  }
})

test('orders: without system calls a listener that stays open spares its copies', async t => {
  const worker = await OrderedWorker.start(t, { ...PLAIN, copies: 3, env: { ...PLAIN.env, CIRQUE_SYSTEM_CALLS: 'off' } })
  const own = String(worker.pid)
  for (let copy = 0; copy < 3; copy++) {
    await worker.order({ tag: 'accept' })
    assert.deepEqual(await Promise.all([get(worker.port(0)), get(worker.port(1))]), [own, own])
    await worker.order({ tag: 'stop-accept', except: [KEPT] })
  }
  await assert.rejects(worker.order({ tag: 'accept' }), /copies of the socket of 'plain\/127\.0\.0\.1:1002' are used up/)
  await worker.said('cannot-accept')
  assert.equal(await get(worker.port(0)), own)
  await assert.rejects(worker.order({ tag: 'send-descriptors', path: '/nowhere' }), /without system calls/)
})

test('orders: every inherited socket arrives, in the order of the layout', linux, async t => {
  const worker = await OrderedWorker.start(t, { ...PLAIN, slots: 2 })
  const inboxPath = path.join(temporaryFolder(t), 'inbox')
  const inbox = calls!.openInbox(inboxPath)
  t.after(() => inbox.close())
  assert.deepEqual(await worker.order({ tag: 'send-descriptors', path: inboxPath }), { layout: worker.layout })
  const received = inbox.receive()!
  assert.equal(received.payload.readUInt32LE(0), 0)
  assert.deepEqual(
    received.descriptors.map(fd => inodeOf('self', String(fd))),
    [0, 1].flatMap(listener => [0, 1].map(slot => inodeOf('self', String(worker.descriptor(listener, slot))))),
  )
  assert.equal(inbox.receive(), null)
  for (const fd of received.descriptors) calls!.close(fd)
  await assert.rejects(worker.order({ tag: 'send-descriptors', path: `${inboxPath}-nobody` }), /ENOENT/)
  // It goes on with what it has.
  await worker.order({ tag: 'accept' })
  assert.equal(await get(worker.port(1, 0)), String(worker.pid))
})

test('orders: a worker tests itself before it accepts, again while it does, and leaves nothing open', linux, async t => {
  const worker = await OrderedWorker.start(t, { app: 'self-tested', listeners: ['http-proxy/127.0.0.1:0'] })
  const passed = async (): Promise<void> => {
    const { passed, detail } = await worker.order({ tag: 'self-test' }) as { passed: boolean; detail: string }
    assert.match(detail, /^GET \/ answered 204 in \d+ ms$/)
    assert.equal(passed, true)
  }
  // Those of its stderr, of the control connection and of the listener. What the start tried out may still be closing.
  const before = 3
  await waitFor('the sockets of the start to be gone', () => worker.sockets === before)
  await passed()
  await waitFor('the private socket to be gone', () => worker.sockets === before)
  assert.equal(worker.holds(worker.descriptor(0)), 1)
  await worker.order({ tag: 'accept' })
  assert.equal(await get(worker.port(0)), String(worker.pid))
  await passed()
  const counted = await waitFor(
    'a heartbeat after all that',
    () => worker.messages.findLast(message => message.tag === 'heartbeat' && message.open.exchanges > 0),
  )
  assert.equal(counted.tag === 'heartbeat' && counted.open.exchanges, 1)
})

test('orders: an application without HTTP listeners of ours has nothing to test', async t => {
  const worker = await OrderedWorker.start(t, PLAIN)
  assert.deepEqual(await worker.order({ tag: 'self-test' }), { passed: true, detail: 'nothing to test' })
})

test('orders: whatever its phase, a worker whose supervisor comes back goes on as it is', async t => {
  const worker = await OrderedWorker.start(t, PLAIN)
  // An orphan's time, 1 ms, is over before it first looks for a supervisor: with 'keep' it does not count.
  const goneAndBack = async (): Promise<string> => {
    worker.leave()
    const { phase } = await worker.comeBack(1_000)
    const heard = worker.count('heartbeat')
    await worker.said('heartbeat', heard + 3)
    return phase
  }
  assert.equal(await goneAndBack(), 'ready')
  await worker.said('ready', 2)
  await worker.order({ tag: 'accept' })
  assert.equal(await goneAndBack(), 'accepting')
  assert.equal(await get(worker.port(0)), String(worker.pid))
  await worker.order({ tag: 'stop-accept', except: [KEPT] })
  assert.equal(await goneAndBack(), 'paused')
  await worker.order({ tag: 'accept' })
  assert.equal(await get(worker.port(1)), String(worker.pid))
  const slow = get(worker.port(0), '/slow?ms=400')
  await waitFor('the slow request', () => worker.messages.some(message => message.tag === 'heartbeat' && message.open.activeExchanges > 0))
  await worker.order({ tag: 'drain', order: { ...SHORT_DRAIN, hardDrainMs: 5_000, endAfterMs: 5_000 } })
  assert.equal(await goneAndBack(), 'draining')
  assert.equal(await slow, String(worker.pid))
  assert.deepEqual(await worker.end(), { code: 0, signal: null })
  assert.equal(worker.count('ready'), 2)
})

test('orders: an orphan\'s time starts anew with every loss, and at its end the orphan drains', async t => {
  const worker = await OrderedWorker.start(t, { ...PLAIN, welcome: { orphanPolicy: 'drain-after', orphanDrainAfterMs: 600 } })
  await worker.order({ tag: 'accept' })
  worker.leave()
  assert.equal((await worker.comeBack(500)).phase, 'accepting')
  // 35 heartbeats take 700 ms, which is past the first loss's time.
  const heard = worker.count('heartbeat')
  await worker.said('heartbeat', heard + 35)
  assert.equal(await get(worker.port(0)), String(worker.pid))
  worker.leave()
  assert.deepEqual(await worker.end(), { code: 0, signal: null })
})

test('orders: an orphan whose time is over looks for a supervisor once more before it drains', async t => {
  const worker = await OrderedWorker.start(t, { ...PLAIN, welcome: { orphanPolicy: 'drain-after', orphanDrainAfterMs: 1 } })
  await worker.order({ tag: 'accept' })
  worker.leave()
  assert.equal((await worker.comeBack()).phase, 'accepting')
  assert.equal(await get(worker.port(0)), String(worker.pid))
})
