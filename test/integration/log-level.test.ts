/** `cirque log-level`, asked of a real supervisor with real workers. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import type { LevelStatus } from '../../supervisor/log-level.ts'
import { RawClient } from '../support/raw-client.ts'
import { ScriptedOrigin } from '../support/scripted-origin.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { waitFor } from '../support/wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')

function cirque(app: SupervisedApp, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const flags = ['--disable-warning=ExperimentalWarning', CLI, ...args, '--state-dir', app.stateDir]
  return spawnSync(process.execPath, flags, { encoding: 'utf8', cwd: app.folder })
}

/** A head that is none, which no log of the usual level mentions. */
async function sayNonsense(app: SupervisedApp): Promise<void> {
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  await client.write('nonsense\r\n\r\n')
  await client.readResponse()
  client.destroy()
}

test('log level: supervisor, workers and a worker that starts later write what is asked for, and go back by themselves', async t => {
  const origin = await ScriptedOrigin.start()
  t.after(() => origin.stop())
  const app = await SupervisedApp.start(t, {
    app: 'proxy', options: { workers: 1 }, log: { access: 'off' }, env: { PROXY_ORIGIN: origin.authority },
  })
  const level = async (): Promise<LevelStatus> => await app.ask({ tag: 'log-level', level: '', forMs: 0 }) as LevelStatus
  const told = (who: string, message: string): boolean => {
    return app.lines.some(line => line.who === who && line.level === 'debug' && line.msg.includes(message))
  }
  await sayNonsense(app)
  assert.deepEqual(await level(), { level: 'info', configured: 'info', endsInMs: null })
  assert.equal(cirque(app, 'log-level').stdout, 'info\n')

  const set = cirque(app, 'log-level', 'debug', '--for', '1h')
  assert.deepEqual([set.status, set.stderr], [0, ''])
  assert.match(set.stdout, /^debug for another (?:59m\d+s|1h0m), then info\n$/)
  assert.equal(app.lines.some(line => line.level === 'debug'), false)
  await sayNonsense(app)
  await waitFor('the worker\'s line', () => told('worker 1.0.0', 'a head was refused'))
  assert.match(cirque(app, 'status').stdout, /^log level {5}debug for another /m)

  await app.ask({ tag: 'restart-workers', worker: '', wait: true })
  await waitFor('the supervisor\'s line', () => told('supervisor', "worker 1.0.1 is told to 'accept'"))
  await waitFor('the line of the worker that came later', async () => {
    await sayNonsense(app)
    return told('worker 1.0.1', 'a head was refused')
  })

  const short = await app.ask({ tag: 'log-level', level: 'warn', forMs: 50 }) as LevelStatus
  assert.equal(short.level, 'warn')
  await waitFor('the end of its time', async () => (await level()).endsInMs === null)
  assert.deepEqual(await level(), { level: 'info', configured: 'info', endsInMs: null })
  const before = app.lines.length
  await app.ask({ tag: 'restart-workers', worker: '', wait: true })
  await sayNonsense(app)
  await waitFor('the supervisor\'s line', () => app.lines.slice(before).some(line => line.msg === 'workers were restarted'))
  assert.equal(app.lines.slice(before).some(line => line.level === 'debug'), false)

  await app.ask({ tag: 'log-level', level: 'error', forMs: 60_000 })
  assert.equal(cirque(app, 'log-level', 'configured').stdout, 'info\n')
})

test('log level: what is none, and a time that is none, are refused with what would do', async t => {
  const app = await SupervisedApp.start(t, { options: { workers: 1 } })
  assert.match(cirque(app, 'log-level', 'loud').stderr, /Allowed choices are debug, info, warn, error, configured/)
  const { status, stderr } = cirque(app, 'log-level', 'debug', '--for', '2d')
  assert.deepEqual([status, stderr], [2, 'cirque: --for is "2d"; use a duration such as 10m, of at most 1d; log.level lasts longer\n'])
  await assert.rejects(app.ask({ tag: 'log-level', level: 'debug', forMs: -1 }), /'debug' for -1 ms is no level of a log/)
  await assert.rejects(app.ask({ tag: 'log-level', level: 'loud' as 'debug', forMs: 1000 }), /'loud' for 1000 ms is no level/)
})

test('log level: a supervisor that is killed and started again, or replaced in place, goes on with it', async t => {
  const app = await SupervisedApp.start(t, { options: { workers: 1 } })
  await app.ask({ tag: 'log-level', level: 'debug', forMs: 3_600_000 })
  const { id } = await app.ask({ tag: 'upgrade', folder: '', supervisor: 'always' }) as { id: string }
  assert.equal((await app.ask({ tag: 'outcome', id }) as { result: string }).result, 'committed')
  const holds = async (supervisor: SupervisedApp): Promise<void> => {
    const { level, endsInMs } = await supervisor.ask({ tag: 'log-level', level: '', forMs: 0 }) as LevelStatus
    assert.equal(level, 'debug')
    assert.ok(endsInMs !== null && endsInMs > 3_000_000 && endsInMs < 3_600_000)
  }
  await holds(app)
  app.signal('SIGKILL')
  await app.end()
  await holds(await SupervisedApp.start(t, { folder: app.folder, options: { workers: 1 } }))
})
