import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'
import { OptionError } from '../../src/primitives/option-table.ts'
import { ConfigError } from '../../src/config/server-config.ts'
import type { ServerDescription } from '../../src/ipc/server-description.ts'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { OperationOutcome } from '../../src/ipc/messages.ts'
import { outcomeOf } from '../../supervisor/cli.ts'
import { NotRunning } from '../../supervisor/control-client.ts'
import { DescribeFailed } from '../../supervisor/describe-application.ts'
import type { SupervisorStatus } from '../../supervisor/operator-desk.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { makeTestCa, writeCertificate } from '../support/test-ca.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const CLI = path.join(import.meta.dirname, '../../supervisor/cli.ts')
const INDEX = path.join(import.meta.dirname, '../../src/index.ts')
const PLAIN = path.join(import.meta.dirname, '../support/apps/plain.ts')

type Ended = { code: number | null; out: string; err: string }

function cirque(args: string[], cwd: string, env: Readonly<Record<string, string>> = {}): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, ...args], {
    encoding: 'utf8',
    cwd,
    env: { ...process.env, XDG_RUNTIME_DIR: cwd, RUNTIME_DIRECTORY: '', ...env },
  })
  return { code: status, out: stdout, err: stderr }
}

test('cli: every way to fail has its exit code', () => {
  assert.equal(outcomeOf(new NotRunning('/x')).code, 3)
  assert.equal(outcomeOf(OptionError.of('a', 1, 'use 2')).code, 2)
  assert.equal(outcomeOf(new ConfigError([])).code, 2)
  assert.equal(outcomeOf(new ChannelError('refused', 'no')).code, 1)
  assert.equal(outcomeOf(new ChannelError('closed', 'gone')).code, 1)
  assert.equal(outcomeOf(new ChannelError('superseded', 'by 5')).code, 4)
  assert.equal(outcomeOf(new DescribeFailed('x', 'Error: x')).code, 1)
  assert.equal(outcomeOf(new Error('x')).code, 1)
})

test('cli: wrong usage is 2, nothing running is 3, help is 0', t => {
  const folder = temporaryFolder(t)
  assert.equal(cirque(['--help'], folder).code, 0)
  assert.equal(cirque(['bogus'], folder).code, 2)
  const run = cirque(['run'], folder)
  assert.equal(run.code, 2)
  assert.match(run.err, /which application\?/)
  assert.equal(cirque(['run', 'missing.ts'], folder).code, 2)
  assert.equal(cirque(['run', PLAIN, '--workers', 'many'], folder).code, 2)
  const status = cirque(['status', '--json'], folder)
  assert.equal(status.code, 3)
  const error = 'no supervisor of this user is running; `cirque run APP` starts one'
  assert.deepEqual(JSON.parse(status.err), { ok: false, exitCode: 3, error })
})

test('cli: an option before the command is told where it goes', t => {
  const folder = temporaryFolder(t)
  const before = cirque(['--state-dir', '/run/cirque', 'workers', 'ls'], folder)
  const place = "error: unknown option '--state-dir' before the command; use cirque workers ls --state-dir /run/cirque\n"
  assert.deepEqual([before.code, before.err], [2, place])
  assert.equal(cirque(['--bogus', 'status'], folder).err, "error: unknown option '--bogus'\n")
  assert.equal(cirque(['status', '--soak', '3s'], folder).err, "error: unknown option '--soak'\n", 'it stands where it should')
})

test('cli: validate loads an application and binds nothing', t => {
  const folder = temporaryFolder(t)
  const good = cirque(['validate', PLAIN, '--json'], folder)
  assert.equal(good.code, 0)
  const { description } = JSON.parse(good.out) as { description: { listeners: { canonical: string }[] } }
  assert.equal(description.listeners[0]!.canonical, '127.0.0.1:0')
  fs.writeFileSync(path.join(folder, 'bad.ts'), 'import "./nothing.ts"\n')
  const bad = cirque(['validate', 'bad.ts'], folder)
  assert.equal(bad.code, 1)
  assert.match(bad.err, /bad\.ts could not be loaded: bad\.ts:1: there is no nothing\.ts\nbad\.ts:1:8\n> 1 \| import/)
  fs.writeFileSync(path.join(folder, 'mistakes.ts'), `throw new TypeError('first mistake\\nsecond mistake')\n`)
  const mistakes = cirque(['validate', 'mistakes.ts'], folder).err
  const once = /mistakes\.ts could not be loaded: first mistake\nsecond mistake\nmistakes\.ts:1:7\n> 1 .*\n.*\^\n {4}at/
  assert.match(mistakes, once)
})

test('cli: validate says what it found: services, listeners, hooks, modules, and methods that are no hooks', t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'app.ts'), `import { HttpPeer, Server, httpProxyService } from ${JSON.stringify(INDEX)}
const gzip = { name: 'gzip', responseFilter() {}, level() {} }
const upstreamPeer = () => new HttpPeer('127.0.0.1:1')
const app = { modules: [gzip], newCtx() {}, upstreamPeer, requestFilter: () => 'continue', onRequest() {} }
const server = new Server()
const origins = server.addService({ kind: 'background', name: 'origins', start() {} })
server.addService(httpProxyService(app, { name: 'gateway' }).addTcp('127.0.0.1:8080').addUnix('/tmp/a.sock')).dependsOn(origins)
await server.runForever()
`)
  const text = cirque(['validate', 'app.ts'], folder)
  assert.equal(text.out, `app.ts is fine
  origins: background
  gateway: listening, after origins
    listens on 127.0.0.1:8080
    listens on unix:/tmp/a.sock
    hooks: newCtx, requestFilter, upstreamPeer
    methods that are no hooks: onRequest
    module gzip
      hooks: responseFilter
      methods that are no hooks: level
`)
  const { description } = JSON.parse(cirque(['validate', 'app.ts', '--json'], folder).out) as { description: ServerDescription }
  assert.deepEqual(description.services[1], {
    name: 'gateway', kind: 'listening', dependsOn: ['origins'],
    hooks: ['newCtx', 'requestFilter', 'upstreamPeer'], otherMethods: ['onRequest'],
    modules: [{ name: 'gzip', hooks: ['responseFilter'], otherMethods: ['level'] }],
  })
})

test('cli: validate checks a configuration file without its application', t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'good.yaml'), 'supervisor:\n  workers: 3\n')
  const good = cirque(['validate', '-c', 'good.yaml', '--json'], folder)
  assert.equal(good.code, 0)
  assert.equal((JSON.parse(good.out) as { supervisor: { workers: number } }).supervisor.workers, 3)
  fs.writeFileSync(path.join(folder, 'bad.yaml'), 'supervisor:\n  wokers: 3\n')
  const bad = cirque(['validate', '-c', 'bad.yaml'], folder)
  assert.equal(bad.code, 2)
  assert.match(bad.err, /bad\.yaml:2:3: supervisor\.wokers: found an unknown key; expected workers/)
})

test('cli: validate reads certificates as a start would, and knows which listeners speak TLS', t => {
  const folder = temporaryFolder(t), ca = makeTestCa()
  writeCertificate(folder, 'site', ca.issue({ names: ['a.test'] }))
  writeCertificate(folder, 'other', ca.issue({ names: ['b.test'] }))
  fs.writeFileSync(path.join(folder, 'app.ts'), `import { Server, httpProxyService } from ${JSON.stringify(INDEX)}
const server = new Server()
const app = { newCtx() {}, upstreamPeer() { throw new Error('none') } }
server.addService(httpProxyService(app, { name: 'web' }).addTls(':443', {}).addTcp(':80'))
await server.runForever()
`)
  const validate = (listeners: string): Ended => {
    fs.writeFileSync(path.join(folder, 'cirque.yaml'), `listeners:\n  ${listeners}\n`)
    return cirque(['validate', 'app.ts'], folder)
  }
  assert.equal(validate("'web/:443': { tls: { certificateFiles: ['site.crt site.key'] } }").code, 0)
  const mixed = validate("'web/:443': { tls: { certificateFiles: ['site.crt other.key'] } }")
  const pair = `${folder}/other.key does not belong to the certificate in ${folder}/site.crt; give the key that it was made with`
  assert.deepEqual([mixed.code, mixed.err], [1, `cirque: ${folder}/app.ts could not be loaded: ${pair}\n`])
  const none = validate("'*': { maxConnections: 5 }")
  assert.match(none.err, /listener\.tls\.certificates .*; give at least one certificate, or certificateFor\n$/)
  const plain = validate("'*': { tls: { certificateFiles: ['site.crt site.key'] } }\n  'web/:80': { tls: { policy: modern } }")
  assert.equal(plain.code, 2)
  assert.match(plain.err, /cirque\.yaml:3:3: listeners\.web\/:80\.tls: found options of TLS; expected a listener that speaks it/)
})

test('cli: a log that could not be written is told by validate and by a start', t => {
  const folder = temporaryFolder(t), env = { CIRQUE_LOG_ACCESS: path.join(folder, 'missing/access.log') }
  for (const verb of ['validate', 'run']) {
    const { code, err } = cirque([verb, PLAIN], folder, env)
    assert.equal(code, 2)
    assert.match(err, /^cirque: CIRQUE_LOG_ACCESS: log\.access: found .*access\.log, whose folder does not exist; expected a file in a/)
  }
  fs.writeFileSync(path.join(folder, 'cirque.yaml'), 'log:\n  access: missing/access.log\n')
  assert.match(cirque(['validate', PLAIN], folder).err, /^cirque: cirque\.yaml:2:11: log\.access: found /)
})

test('cli: a variable that is nearly one of ours is refused, and one that is nobody\'s is named', t => {
  const folder = temporaryFolder(t)
  const meant = cirque(['validate', PLAIN], folder, { CIRQUE_WORKERS: '1' })
  assert.equal(meant.code, 2)
  assert.match(meant.err, /CIRQUE_WORKERS: found a variable that sets nothing; expected CIRQUE_SUPERVISOR_WORKERS/)
  const stranger = cirque(['validate', PLAIN], folder, { CIRQUE_ROOT: '/x', CIRQUE_LOG_PORT: 'tcp://10.0.0.1:80' })
  assert.deepEqual([stranger.code, stranger.err], [0, 'cirque: the variable CIRQUE_ROOT sets nothing\n'])
})

test('cli: status, workers and stop of a running one', async t => {
  const app = await SupervisedApp.start(t)
  const where = ['--state-dir', app.stateDir]
  const status = cirque(['status', ...where], app.folder)
  assert.equal(status.code, 0)
  assert.match(status.out, /running {2}pid \d+/)
  assert.equal((JSON.parse(cirque(['status', '--json', ...where], app.folder).out) as { pid: number }).pid, app.pid)
  assert.match(cirque(['workers', 'ls', ...where], app.folder).out, /1\.0\.0 +\d+ +accepting/)
  assert.equal(cirque(['workers', 'restart', '1', ...where], app.folder).out, 'slot 1: 1.1.0 -> 1.1.1\n')
  const unknown = cirque(['workers', 'restart', '9', ...where], app.folder)
  assert.equal(unknown.code, 1)
  assert.match(unknown.err, /there is no worker '9'/)
  const begun = cirque(['workers', 'restart', '--no-wait', '--json', ...where], app.folder)
  assert.deepEqual(JSON.parse(begun.out), { operation: 'restart-workers' })
  const stop = cirque(['stop', ...where], app.folder)
  assert.deepEqual([stop.code, stop.out], [0, `stopped ${PLAIN}, pid ${app.pid}, 2 workers, 0 connections open\n`])
  assert.deepEqual(await app.end(1_000), { code: 0, signal: null })
  assert.equal(cirque(['stop', ...where], app.folder).code, 3)
})

test('cli: a refused reload says on the terminal what validate says, and one line of it in log, journal and status', async t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'app.ts')
  const save = (...lines: readonly string[]): void => {
    const app = fs.readFileSync(PLAIN, 'utf8').replaceAll(/'\.\.\/(\.\.\/\.\.\/src\/[^']+|[^']+)'/g, (_, from: string) => {
      return JSON.stringify(path.resolve(path.dirname(PLAIN), '..', from))
    })
    fs.writeFileSync(file, [...lines, app].join('\n'))
  }
  save()
  const app = await SupervisedApp.start(t, { file, folder, options: { upgrade: { soakMs: 0 } } })
  const where = ['--state-dir', app.stateDir]

  save('const answer = 42', 'throw new Error(`no ${answer}`)')
  const frame = [
    'app.ts:2:7',
    '  1 | const answer = 42',
    '> 2 | throw new Error(`no ${answer}`)',
    '    |       ^',
    '  3 | /** The plain service on the addresses of $PLAIN_LISTEN (space between, default one free port). */',
    `    at ${pathToFileURL(file).href}:2:7`,
  ].join('\n')
  assert.equal(cirque(['validate', 'app.ts'], folder).err.trimEnd(), `cirque: ${file} could not be loaded: no 42\n${frame}`)
  const reload = cirque(['reload', ...where], folder)
  assert.deepEqual([reload.code, reload.err.trimEnd()], [1, `cirque: reload-1: refused, nothing was changed: no 42\n${frame}`])

  // Only a worker runs this.
  save('import cluster from "node:cluster"', 'if (cluster.isWorker) throw new Error(\'not here\')')
  const upgrade = cirque(['upgrade', '--json', ...where], folder)
  const outcome = JSON.parse(upgrade.out) as OperationOutcome
  assert.deepEqual([outcome.result, outcome.reason], ['rolled-back', 'no new worker came up in slot 0: not here'])
  assert.match(outcome.applicationStack!, /^Error: not here\n {4}at .*app\.ts:2:29\n/)
  assert.match(upgrade.err, /not here\\napp\.ts:2:29\\n {2}1 \| import cluster/)

  const { outcomes } = await app.ask({ tag: 'status' }) as SupervisorStatus
  assert.deepEqual(outcomes.map(({ reason, applicationStack }) => [reason, applicationStack]), [
    ['no 42', undefined], ['no new worker came up in slot 0: not here', undefined],
  ])
  const journal = fs.readFileSync(path.join(app.stateDir, 'journal.json'), 'utf8')
  assert.ok(journal.includes('no 42') && !journal.includes('applicationStack'))
  assert.equal((await app.line('reload-1: refused: no 42'))['stack'], undefined)
})
