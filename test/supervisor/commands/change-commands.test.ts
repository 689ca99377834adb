/** `cirque reload` and its kin as somebody sees them who waits. What becomes of workers meanwhile: test/integration/upgrade. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { resolveSupervisorOptions } from '../../../src/config/supervisor-options.ts'
import type { Question } from '../../../src/ipc/channel.ts'
import type { FromOperator, OperationOutcome } from '../../../src/ipc/messages.ts'
import { SILENT_LOG } from '../../../src/ipc/process-log.ts'
import { ControlServer } from '../../../supervisor/control-server.ts'
import { ReleasedApp } from '../../support/released-app.ts'
import { leftOnScreen } from '../../support/screen-text.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { INTERRUPT, Terminal } from '../../support/terminal.ts'
import { waitFor } from '../../support/wait-for.ts'

const COMMITTED: OperationOutcome = {
  id: 'reload-1', kind: 'reload', result: 'committed', reason: '', configuration: false, from: '/srv', to: '/srv', generation: 2,
  supervisorReplaced: false, steps: [{ step: 'preflight', ms: 100 }],
}

/** A supervisor of another build, as far as an operator can see it. */
class OtherBuild {
  readonly folder: string
  asked: string[] = []
  readonly #outcomes: Question[] = []

  constructor(folder: string) { this.folder = folder }

  static async start(t: TestContext, status: object | null): Promise<OtherBuild> {
    const other = new OtherBuild(temporaryFolder(t))
    const server = new ControlServer({
      folder: other.folder, options: resolveSupervisorOptions(), log: SILENT_LOG, workerUid: null, workerGid: null, calls: null, held: null,
      handlers: { onOperator: (message, question) => other.#answer(message, question, status), onHello: () => null },
    })
    await server.listen()
    t.after(() => server.close())
    return other
  }

  #answer(message: FromOperator, question: Question, status: object | null): void {
    this.asked.push(message.tag)
    if (message.tag === 'reload') question.ok({ id: 'reload-1' })
    else if (message.tag === 'outcome') this.#outcomes.push(question)
    else if (status === null) question.refuse('unknown', 'this build does not know it')
    else question.ok(status)
  }

  end(): void { for (const question of this.#outcomes) question.ok(COMMITTED) }
}

test('reload: a terminal shows each step, and the outcome in the end', async t => {
  const server = await ReleasedApp.start(t, { upgrade: { soakMs: 300, maxLoopLagMs: 0 } })
  const terminal = Terminal.cirque(t, ['reload', '--state-dir', server.app.stateDir], { cwd: server.root.folder })
  if (terminal === null) return
  assert.equal(await terminal.ends(), 0, terminal.shown)
  assert.deepEqual(leftOnScreen(terminal.shown).map(line => line.replace(/\d+(\.\d)?s/, 'T')), [
    'reload-1: preflight: done in T', 'reload-1: canary: done in T', 'reload-1: soak: done in T', 'reload-1: rolling: done in T',
    `reload-1: done in T, generation 2, ${server.root.folderOf('one')}`,
  ])
  const plain = await server.cirque('reload')
  assert.deepEqual([plain.code, plain.stderr], [0, ''], 'nothing but the outcome where it is no terminal')
  const asked = await server.cirque('reload', '--progress')
  assert.match(asked.stderr, /^reload-3: soak: the first new worker serves alone for 0\.3s$/m)
  assert.match(asked.stdout, /^reload-3: done in .*\n$/)
  const programs = await server.cirque('reload', '--progress', '--json')
  assert.equal((JSON.parse(programs.stdout) as OperationOutcome).result, 'committed')
})

test('reload: Ctrl-C ends the wait, says that the reload goes on, and it does', async t => {
  const server = await ReleasedApp.start(t, { upgrade: { soakMs: 5_000, maxLoopLagMs: 0 } })
  const terminal = Terminal.cirque(t, ['reload', '--state-dir', server.app.stateDir], { cwd: server.root.folder })
  if (terminal === null) return
  await terminal.shows(/soak: the first new worker serves alone/)
  assert.match((await server.cirque('status')).stdout, /^change {8}reload-1: soak: the first new worker serves alone, \ds left$/m)
  terminal.type(INTERRUPT)
  assert.equal(await terminal.ends(), 128 + 2, terminal.shown)
  assert.equal(leftOnScreen(terminal.shown).at(-1), 'cirque: reload-1 goes on without this command; cirque status says where it is')
  assert.equal((await server.outcome('reload-1')).result, 'committed')
})

for (const [what, status] of [['says nothing of its progress', { pid: 1, slots: [] }], ['refuses to say anything', null]] as const) {
  test(`reload: a supervisor of an older build, which ${what}, is waited for as ever`, async t => {
    const other = await OtherBuild.start(t, status)
    const terminal = Terminal.cirque(t, ['reload', '--state-dir', other.folder], { cwd: other.folder })
    if (terminal === null) return
    const wanted = status === null ? 1 : 2
    const looks = (): number => other.asked.filter(tag => tag === 'status').length
    await waitFor('questions', () => looks() >= wanted, { deadlineMs: 30_000, seen: () => other.asked })
    other.end()
    assert.equal(await terminal.ends(), 0, terminal.shown)
    assert.equal(leftOnScreen(terminal.shown).at(-1), 'reload-1: done in 0s, generation 2, /srv')
  })
}
