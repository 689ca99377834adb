import assert from 'node:assert/strict'
import test from 'node:test'
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import type { RunningListener } from '../../src/server/service.ts'
import { CopiesUsedUp, InheritedListeners, sendInherited } from '../../workers/inherited-listeners.ts'
import type { WorkerWorld } from '../../workers/worker-world.ts'
import { FakeClock } from '../support/fake-clock.ts'

const LAYOUT: DescriptorLayout = {
  slots: 150, copies: 3, listeners: [{ name: 'a', shared: false }, { name: 'shared', shared: true }, { name: 'b', shared: false }],
}

/** Of all calls only the one that is needed. */
function sending(sendDatagram: SystemCalls['sendDatagram']): SystemCalls { return { sendDatagram } as SystemCalls }

function refusal(code: string): Error { return Object.assign(new Error(code), { code }) }

test('inherited listeners: copy 0 of every socket is sent once, in order, in datagrams that the kernel takes', async () => {
  const sent: { index: number; descriptors: readonly number[] }[] = []
  let full = 3
  await sendInherited(LAYOUT, sending((path, payload, descriptors) => {
    assert.equal(path, '/inbox')
    if (sent.length === 1 && full-- > 0) throw refusal('EAGAIN')
    assert.equal(payload.length, 4)
    sent.push({ index: payload.readUInt32LE(0), descriptors })
  }), '/inbox', () => false)
  assert.deepEqual(sent.map(({ index, descriptors }) => [index, descriptors.length]), [[0, 200], [200, 101]])
  assert.deepEqual(sent.flatMap(({ descriptors }) => descriptors), Array.from({ length: 301 }, (_, index) => 4 + index))
})

test('inherited listeners: what was closed meanwhile is not sent, and a refusal of the kernel is passed on', async () => {
  let closed = false
  await assert.rejects(sendInherited(LAYOUT, sending(() => { closed = true }), '/inbox', () => closed), /closed for good/)
  await assert.rejects(sendInherited(LAYOUT, sending(() => { throw refusal('ENOENT') }), '/inbox', () => false), { code: 'ENOENT' })
})

/** A worker of slot 0 with one listener and two slots, whose queues hold what a test puts there. */
class Fixture {
  readonly clock = new FakeClock()
  readonly closed: number[] = []
  readonly stopped: number[] = []
  /** Waiting dials, by the descriptor that was inherited; each turn takes one. */
  readonly queued = new Map<number, number>()
  readonly listeners: InheritedListeners
  turns = 0
  #nextCopy = 100

  constructor() {
    const running = { spec: { name: 'a', options: {} }, createAcceptor: () => ({ fd: 0 }) } as unknown as RunningListener
    const calls = { dup: () => this.#nextCopy++, hasQueued: (fd: number) => (this.queued.get(fd) ?? 0) > 0 } as unknown as SystemCalls
    const world: Partial<WorkerWorld> = {
      clock: this.clock,
      turn: async () => {
        this.turns++
        this.clock.advance(1)
        for (const [fd, waiting] of this.queued) this.queued.set(fd, Math.max(0, waiting - 1))
      },
      listen: async (acceptor, fd) => { Object.assign(acceptor, { fd }) },
      stopListening: acceptor => { this.stopped.push((acceptor as unknown as { fd: number }).fd) },
      close: fd => { this.closed.push(fd) },
    }
    const layout: DescriptorLayout = { slots: 2, copies: 1, listeners: [{ name: 'a', shared: false }] }
    this.listeners = new InheritedListeners(layout, 0, [running], calls, world as WorkerWorld)
  }
}

test('inherited listeners: queues are emptied before everything is closed, but only those that this worker serves', async () => {
  const worker = new Fixture()
  await worker.listeners.accept()
  worker.queued.set(4, 3)
  worker.queued.set(5, 1_000)
  await worker.listeners.emptyAndClose(500)
  assert.equal(worker.turns, 3)
  assert.deepEqual([worker.stopped, worker.closed], [[100], [4, 5]])
  await assert.rejects(worker.listeners.accept(), /closed for good/)
})

test('inherited listeners: a queue that does not become empty is given up in time', async () => {
  const worker = new Fixture()
  await worker.listeners.accept()
  worker.queued.set(4, 1_000)
  await worker.listeners.emptyAndClose(20)
  assert.equal(worker.turns, 20)
  assert.deepEqual(worker.closed, [4, 5])
})

test('inherited listeners: handshakes that are under way are given their time before the queues are looked at', async () => {
  const worker = new Fixture()
  await worker.listeners.accept()
  const done = worker.listeners.emptyAndClose(500, 300)
  worker.clock.advance(299)
  worker.queued.set(4, 2)
  assert.deepEqual([worker.turns, worker.closed], [0, []])
  worker.clock.advance(1)
  await done
  assert.deepEqual([worker.turns, worker.closed], [2, [4, 5]])
})

test('inherited listeners: without system calls it accepts on several copies at once, and can be paused twice', async () => {
  const listened: number[] = [], stopped: number[] = []
  const layout: DescriptorLayout = { slots: 2, copies: 12, listeners: [{ name: 'a', shared: false }] }
  const running = { spec: { name: 'a', options: {} }, createAcceptor: () => ({ fd: 0 }) } as unknown as RunningListener
  const world: Partial<WorkerWorld> = {
    listen: async (acceptor, fd) => {
      Object.assign(acceptor, { fd })
      listened.push(fd)
    },
    stopListening: acceptor => { stopped.push((acceptor as unknown as { fd: number }).fd) },
  }
  const listeners = new InheritedListeners(layout, 0, [running], null, world as WorkerWorld)
  for (let times = 0; times < 3; times++) {
    await listeners.accept()
    listeners.pause()
  }
  const everyCopy = Array.from({ length: 12 }, (_, copy) => 4 + 2 * copy)
  assert.deepEqual([listened, stopped], [everyCopy, everyCopy])
  await assert.rejects(listeners.accept(), CopiesUsedUp)
})

test('inherited listeners: a listener that is left out is not listened on, the others are, and it may follow', async () => {
  const listened: number[] = []
  const layout: DescriptorLayout = { slots: 2, copies: 1, listeners: [{ name: 'a', shared: false }, { name: 'b', shared: false }] }
  const running = ['a', 'b'].map(name => ({ spec: { name, options: {} }, createAcceptor: () => ({}) }) as unknown as RunningListener)
  const world: Partial<WorkerWorld> = { listen: async (_acceptor, fd) => { listened.push(fd) } }
  const listeners = new InheritedListeners(layout, 0, running, { dup: (fd: number) => fd } as unknown as SystemCalls, world as WorkerWorld)
  await listeners.accept(['b'])
  await listeners.standIn(1, ['b', 'a name that it does not know'])
  assert.deepEqual(listened, [4, 5])
  await listeners.accept()
  assert.deepEqual(listened, [4, 5, 6, 7])
})
