import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Contact, Intent, WorkerProcess, WorkerState } from '../../supervisor/worker-process.ts'
import type { WorkerLink, WorkerRecord } from '../../supervisor/worker-process.ts'

const LINK: WorkerLink = { ask: () => Promise.resolve(null), send() {}, close() {} }
const ENDED = { code: 0, signal: null, problem: '' }

function worker(states: readonly WorkerState[] = [], intent: Intent = Intent.Serve): WorkerProcess {
  const fresh = new WorkerProcess({ generation: 1, slot: 2, n: 3, token: 't', startedAtMs: 0, intent })
  for (const state of states) assert.ok(fresh.moveTo(state))
  return fresh
}

const ACCEPTING = [WorkerState.Ready, WorkerState.Accepting]

test('worker process: one that paused in part can pause wholly, never the other way round', () => {
  const inPart = worker([...ACCEPTING, WorkerState.PausedInPart])
  assert.deepEqual([inPart.paused, inPart.acceptsSomewhere, inPart.phase], [true, true, 'paused'])
  assert.equal(inPart.moveTo(WorkerState.Paused), true)
  assert.deepEqual([inPart.paused, inPart.acceptsSomewhere, inPart.phase], [true, false, 'paused'])
  assert.equal(inPart.moveTo(WorkerState.PausedInPart), false)
  assert.equal(inPart.moveTo(WorkerState.Accepting), true)
})

test('worker process: one that is on its way out is wanted for nothing else again, and at most for its sockets', () => {
  for (const last of [Intent.Retire, Intent.Dissolve]) {
    for (const first of [Intent.Trial, Intent.Serve]) {
      const leaving = worker([], first)
      assert.equal(leaving.intend(last), true)
      for (const next of [Intent.Trial, Intent.Serve, last]) assert.equal(leaving.intend(next), false)
      assert.equal(leaving.intent, last)
      assert.equal(leaving.intend(Intent.Dissolve), last === Intent.Retire)
      assert.equal(leaving.intend(Intent.Retire), false)
    }
  }
  assert.equal(worker().intend(Intent.Trial), false)
})

test('worker process: whatever is asked of it, it is gone once and for good', () => {
  fc.assert(fc.property(fc.array(fc.constantFrom(...Object.values(WorkerState))), moves => {
    const process = worker()
    let gone = false
    for (const to of moves) {
      const moved = to === WorkerState.Gone ? process.markGone(ENDED) : process.moveTo(to)
      assert.ok(!(gone && moved))
      gone ||= moved && to === WorkerState.Gone
      assert.equal(process.alive, !gone)
    }
  }))
})

test('worker process: a connection that is lost late does not take the next one with it', () => {
  const process = worker()
  const next = { ...LINK }
  assert.equal(process.contact, Contact.Expected)
  process.connect(LINK)
  process.connect(next)
  process.disconnect(LINK)
  assert.deepEqual([process.contact, process.link], [Contact.Connected, next])
  process.disconnect(next)
  assert.deepEqual([process.contact, process.link], [Contact.Lost, null])
})

function restored(record: Partial<WorkerRecord>): WorkerProcess {
  return WorkerProcess.restore({ ...worker(ACCEPTING).record(0), ...record }, 0, Number.POSITIVE_INFINITY)
}

test('worker process: what the journal says is believed until the worker says otherwise', () => {
  const accepting = restored({ phase: 'accepting' })
  assert.deepEqual([accepting.contact, accepting.state], [Contact.Awaited, WorkerState.Accepting])
  accepting.cameBack('draining', 5)
  assert.equal(accepting.state, WorkerState.Draining)

  // The journal does not say whether it goes on accepting somewhere.
  const paused = restored({ phase: 'paused' })
  assert.equal(paused.state, WorkerState.PausedInPart)
  paused.cameBack('accepting', 5)
  assert.deepEqual([paused.state, paused.acceptingSinceMs], [WorkerState.Accepting, 5])
  paused.cameBack('draining', 6)
  assert.deepEqual([paused.state, paused.acceptsSomewhere], [WorkerState.Draining, false])

  // It says `ready` again.
  const ready = restored({ phase: 'ready' })
  assert.equal(ready.state, WorkerState.Starting)
  ready.cameBack('ready', 5)
  assert.equal(ready.state, WorkerState.Starting)
})

test('worker process: one that was to retire is told so again by the supervisor that follows, one that is to dissolve is known', () => {
  assert.equal(restored({ intent: Intent.Retire }).intent, Intent.Trial)
  assert.equal(restored({ intent: Intent.Dissolve }).intent, Intent.Dissolve)
})

test('worker: a wall clock that was set back puts nothing that has happened into the future', () => {
  const record = { ...worker(ACCEPTING).record(0), startedAt: 9_000, acceptingSince: 9_500, drainingSince: 700, drainEndsAt: 99_000 }
  const restored = WorkerProcess.restore(record, 500, 1_000)
  assert.deepEqual([restored.startedAtMs, restored.acceptingSinceMs, restored.drainingSinceMs], [1_000, 1_000, 200])
  assert.equal(restored.drainEndsAtMs, 98_500, 'what is to come is a matter of the clock')
})
