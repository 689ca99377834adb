/** The operator's end of a look: supervisors that know nothing of it, go away and come back, or answer slowly. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { resolveSupervisorOptions } from '../../../src/config/supervisor-options.ts'
import { ChannelError, type Question } from '../../../src/ipc/channel.ts'
import type { LookOrder, SeenByAll } from '../../../src/ipc/looking.ts'
import type { FromOperator } from '../../../src/ipc/messages.ts'
import { SILENT_LOG } from '../../../src/ipc/process-log.ts'
import { main } from '../../../supervisor/cli.ts'
import { look, type LookHandlers } from '../../../supervisor/commands/look.ts'
import { Failure } from '../../../supervisor/commands/shared-options.ts'
import { NotRunning } from '../../../supervisor/control-client.ts'
import { ControlServer } from '../../../supervisor/control-server.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const WANTED: Omit<LookOrder, 'id'> = { kind: 'tail', match: {}, count: 0 }
const NOTHING: SeenByAll = { entries: [], dropped: 0, over: false, workers: ['1.0.0'], unable: [] }

class Shown implements LookHandlers {
  readonly entries: string[] = []
  readonly notes: string[] = []
  dropped = 0
  onEntry(entry: string): void { this.entries.push(entry) }
  onDropped(count: number): void { this.dropped += count }
  onNote(text: string): void { this.notes.push(text) }
}

type Answer = (message: FromOperator, question: Question) => void

async function serve(t: TestContext, answer: Answer, folder = temporaryFolder(t)): Promise<ControlServer> {
  const server = new ControlServer({
    folder, options: resolveSupervisorOptions(), log: SILENT_LOG, workerUid: null, workerGid: null, calls: null, held: null,
    handlers: { onOperator: answer, onHello: () => null },
  })
  await server.listen()
  t.after(() => server.close())
  return server
}

/** Where it was made. */
function folderOf({ controlPath }: ControlServer): string { return controlPath.slice(0, controlPath.lastIndexOf('/')) }

/** Gives one answer after the other. */
function telling(...answers: readonly Partial<SeenByAll>[]): Answer & { readonly orders: LookOrder[] } {
  const rest = [...answers], orders: LookOrder[] = []
  const tell: Answer = (message, question) => {
    assert.ok(message.tag === 'look')
    orders.push(message.look)
    const next = rest.shift()
    if (next !== undefined) question.ok({ ...NOTHING, ...next })
  }
  return Object.assign(tell, { orders })
}

test('look: it asks on until it is told that it is over, and hands on what it is told', async t => {
  const tell = telling({ entries: ['1', '2'], dropped: 3 }, {}, { entries: ['3'], over: true }), shown = new Shown()
  const server = await serve(t, tell)
  assert.equal(await look(folderOf(server), { ...WANTED, count: 3 }, Infinity, shown), 'enough')
  assert.deepEqual([shown.entries, shown.dropped, shown.notes], [['1', '2', '3'], 3, []])
  assert.equal(new Set(tell.orders.map(({ id }) => id)).size, 1)
  assert.deepEqual(tell.orders.map(({ count }) => count), [3, 3, 3])
})

test('look: a worker that cannot be looked at is noted, and without any other that is a failure', async t => {
  const unable = [{ worker: '1.0.0', reason: 'too\u001B[2J old' }], shown = new Shown()
  const some = await serve(t, telling({ unable, workers: ['1.0.1'] }, { over: true }))
  assert.equal(await look(folderOf(some), WANTED, Infinity, shown), 'enough')
  assert.deepEqual(shown.notes, ['worker 1.0.0 is left out: too\\x1b[2J old'])
  const none = await serve(t, telling({ unable, workers: [] }))
  await assert.rejects(look(folderOf(none), WANTED, Infinity, shown), error => error instanceof Failure && error.code === 1)
})

test('look: its time is over while it waits for an answer', async t => {
  const server = await serve(t, telling())
  assert.equal(await look(folderOf(server), WANTED, 20, new Shown()), 'time')
})

test('look: a supervisor that drops its connections is asked again, for what is still wanted, and it is said', async t => {
  const shown = new Shown(), folder = temporaryFolder(t)
  const first = await serve(t, telling({ entries: ['1', '2'] }), folder)
  const looking = look(folder, { ...WANTED, count: 5 }, Infinity, {
    onDropped() {},
    onNote: text => { shown.notes.push(text) },
    onEntry: entry => {
      shown.entries.push(entry)
      if (entry === '2') void first.close().then(() => serve(t, second, folder))
    },
  })
  const second = telling({ entries: ['3', '4', '5'], over: true })
  assert.equal(await looking, 'enough')
  assert.deepEqual([shown.entries.join(), second.orders.map(({ count }) => count)], ['1,2,3,4,5', [3]])
  assert.deepEqual(shown.notes, ['the connection to the supervisor was lost for a while; what passed meanwhile is not shown'])
})

test('look: where no supervisor runs it is said at once, and so is a refusal', async t => {
  await assert.rejects(look(temporaryFolder(t), WANTED, Infinity, new Shown()), NotRunning)
  const server = await serve(t, (_message, question) => question.refuse('refused', '16 operators look already'))
  await assert.rejects(look(folderOf(server), WANTED, Infinity, new Shown()), (error: unknown) => {
    return error instanceof ChannelError && error.message === '16 operators look already'
  })
})

test('tail, trace, explain: a supervisor of a build that does not know the order is told as that', async t => {
  const server = await serve(t, (message, question) => question.refuse('unknown', `this build does not know '${message.tag}'`))
  let said = ''
  t.mock.method(process.stderr, 'write', (text: string) => {
    said += text
    return true
  })
  for (const words of [['tail'], ['trace', '--json'], ['explain', '/']]) {
    said = ''
    assert.equal(await main([...words, '--state-dir', folderOf(server)]), 1)
    assert.match(said, /is of a build that cannot (look at traffic|explain); `cirque upgrade --supervisor` replaces it/)
  }
})
