/** `cirque stop`, and which supervisor it is for. What becomes of requests: test/integration/retire-and-stop. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { isFromHere } from '../../../supervisor/commands/chosen-supervisor.ts'
import { leftOnScreen } from '../../support/screen-text.ts'
import { isAlive, SupervisedApp } from '../../support/supervised-app.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { Terminal } from '../../support/terminal.ts'

const CLI = path.join(import.meta.dirname, '../../../supervisor/cli.ts')
const PLAIN = path.join(import.meta.dirname, '../../support/apps/plain.ts')

/** A user of whom so many supervisors run, each started in a folder of its own. */
class User {
  /** A folder from which nothing was started. */
  readonly elsewhere: string
  readonly env: Readonly<Record<string, string>>
  readonly apps: readonly SupervisedApp[]

  private constructor(elsewhere: string, apps: readonly SupervisedApp[]) {
    this.elsewhere = elsewhere
    this.apps = apps
    this.env = { XDG_RUNTIME_DIR: elsewhere, RUNTIME_DIRECTORY: '' }
  }

  static async with(t: TestContext, supervisors: number): Promise<User> {
    const elsewhere = temporaryFolder(t)
    fs.mkdirSync(path.join(elsewhere, 'cirque'))
    const apps = await Promise.all(Array.from({ length: supervisors }, async (_, index) => {
      const app = await SupervisedApp.start(t)
      // Where a command line that was not told looks for it.
      fs.symlinkSync(app.stateDir, path.join(elsewhere, 'cirque', `app-${index}`))
      return app
    }))
    return new User(elsewhere, apps)
  }

  cirque(cwd: string, ...args: readonly string[]): { code: number | null; out: string; err: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, ...args], {
      encoding: 'utf8', cwd, env: { ...process.env, ...this.env },
    })
    return { code: status, out: stdout, err: stderr }
  }
}

test('stop: a supervisor that was neither named nor started from here is named, and not stopped unasked', async t => {
  const user = await User.with(t, 1)
  const app = user.apps[0]!
  const what = `${PLAIN}, pid ${app.pid}, 2 workers, 0 connections open`
  const where = path.join(user.elsewhere, 'cirque/app-0')
  const refused = user.cirque(user.elsewhere, 'stop')
  const elsewhere = `the only supervisor of this user was not started from here: ${what}`
  const how = `cirque stop --state-dir ${where}, or cirque stop --yes`
  assert.deepEqual([refused.code, refused.err], [2, `cirque: ${elsewhere}; to stop it use ${how}\n`])

  const no = Terminal.cirque(t, ['stop'], { cwd: user.elsewhere, env: user.env })
  if (no === null) return
  await no.shows(/stop it\? \[y\/N\] $/)
  no.type('\n')
  assert.equal(await no.ends(), 1)
  assert.equal(leftOnScreen(no.shown).at(-1), `cirque: it was not stopped; ${how} stops it`)
  assert.ok(isAlive(app.pid))

  const yes = Terminal.cirque(t, ['stop'], { cwd: user.elsewhere, env: user.env })!
  await yes.shows(/stop it\? \[y\/N\] $/)
  yes.type('y\n')
  assert.equal(await yes.ends(), 0)
  assert.equal(leftOnScreen(yes.shown).at(-1), `stopped ${what}`)
  assert.deepEqual(await app.end(1_000), { code: 0, signal: null })
})

test('stop: what was started from here, and what was said to be stopped, is stopped without a question', async t => {
  const user = await User.with(t, 2)
  const [one, other] = user.apps
  const here = user.cirque(one!.folder, 'stop', '--json')
  assert.equal(here.code, 0, here.err)
  assert.deepEqual(JSON.parse(here.out), { cut: 0, application: PLAIN, pid: one!.pid, stateDir: one!.stateDir })
  const agreed = user.cirque(user.elsewhere, 'stop', '--yes', '--no-wait')
  assert.equal(agreed.out, `stopping ${PLAIN}, pid ${other!.pid}, 2 workers, 0 connections open\n`, agreed.err)
  for (const app of user.apps) assert.deepEqual(await app.end(), { code: 0, signal: null })
})

test('several supervisors: the one that was started from here is meant, and elsewhere each is listed with what it runs', async t => {
  const user = await User.with(t, 2)
  for (const app of user.apps) {
    const { out, err } = user.cirque(app.folder, 'status', '--json')
    assert.equal((JSON.parse(out) as { pid: number }).pid, app.pid, err)
  }
  const { code, err } = user.cirque(user.elsewhere, 'stop', '--yes')
  assert.equal(code, 2)
  const lines = user.apps.map((app, index) => {
    return `  --state-dir ${user.elsewhere}/cirque/app-${index}  ${PLAIN}, pid ${app.pid}, 2 workers, 0 connections open`
  })
  assert.deepEqual(err.trimEnd().split('\n'), ['cirque: several supervisors are running; say which:', ...lines])
})

test('from here is the folder of the start, and the release that runs with all that is in it', () => {
  const running = { startedIn: '/srv/app', release: '/srv/app/releases/2' }
  for (const here of ['/srv/app', '/srv/app/releases/2', '/srv/app/releases/2/src']) assert.ok(isFromHere(running, here), here)
  for (const here of ['/srv', '/srv/app/releases/1', '/srv/app/releases/20']) assert.ok(!isFromHere(running, here), here)
  assert.equal(isFromHere({ release: '' }, '/srv'), false, 'of an older build, before it serves')
})
