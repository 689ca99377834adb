/** What the configuration says reaches the workers: logs, limits, overrides of listeners. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { get } from '../support/proxy.ts'
import { RawClient, type RawResponse } from '../support/raw-client.ts'
import { answerOk, ScriptedOrigin, type Script } from '../support/scripted-origin.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { SupervisedApp, type SupervisedOptions } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

interface AccessLine { readonly worker: string; readonly gen: number; readonly path: string; readonly status: number }

async function start(t: TestContext, options: SupervisedOptions, script: Script = answerOk): Promise<{
  app: SupervisedApp
  origin: ScriptedOrigin
}> {
  const origin = await ScriptedOrigin.start(script)
  t.after(() => origin.stop())
  return {
    app: await SupervisedApp.start(t, { app: 'proxy', ...options, env: { PROXY_ORIGIN: origin.authority, ...options.env } }),
    origin,
  }
}

async function exchange(app: SupervisedApp, bytes: string): Promise<RawResponse> {
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  try {
    await client.write(bytes)
    return await client.readResponse()
  } finally { client.destroy() }
}

function linesOf(text: string): AccessLine[] {
  return text.split('\n').filter(line => line !== '').map(line => JSON.parse(line) as AccessLine)
}
function linesIn(file: string): AccessLine[] { return fs.existsSync(file) ? linesOf(fs.readFileSync(file, 'utf8')) : [] }

test('configured workers: the access log goes to stdout, names the worker, and is whole when the worker has ended', async t => {
  const { app } = await start(t, {})
  for (let count = 0; count < 20; count++) assert.equal((await exchange(app, get(`/${count}`))).status, 200)
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  const lines = await waitFor('20 lines', () => app.stdout.split('\n').length > 20 ? linesOf(app.stdout) : null, {
    seen: () => app.stdout.slice(-500),
  })
  assert.deepEqual(lines.map(line => Number(line.path.slice(1))).sort((a, b) => a - b), Array.from({ length: 20 }, (_, index) => index))
  for (const { worker, gen, status } of lines) {
    assert.match(worker, /^1\.[01]\.0$/)
    assert.deepEqual([gen, status], [1, 200])
  }
  assert.equal(app.has('this Node.js reads accepted connections the slow way'), false)
})

test('configured workers: the access log can be off', async t => {
  const { app } = await start(t, { log: { access: 'off' } })
  assert.equal((await exchange(app, get())).status, 200)
  app.signal('SIGTERM')
  await app.end()
  assert.equal(app.stdout, '')
})

test('configured workers: SIGUSR1 reopens the files of supervisor and workers, and no line is lost', async t => {
  const folder = temporaryFolder(t)
  const [access, log] = [path.join(folder, 'access.log'), path.join(folder, 'process.log')]
  const { app } = await start(t, { folder, wait: false, log: { access, process: log } })
  const running = await waitFor(
    'the supervisor to run',
    () => fs.existsSync(log) && /"listeners":\["127\.0\.0\.1:(\d+)"\]/.exec(fs.readFileSync(log, 'utf8')),
    { deadlineMs: 20_000, seen: () => app.stderr },
  )
  const load = new SteadyLoad({ to: Number(running[1]), fresh: 2, keepAlive: 4, pauseMs: 1 })
  t.after(() => load.stop())
  for (let rotations = 1; rotations <= 3; rotations++) {
    const seen = load.ledger.ok
    await waitFor('load', () => load.ledger.ok > seen + 100 && linesIn(access).length > 0)
    for (const file of [access, log]) fs.renameSync(file, `${file}.${rotations}`)
    if (rotations === 2) await app.ask({ tag: 'reopen-logs' })
    else app.signal('SIGUSR1')
    await waitFor('new files', () => fs.existsSync(access) && fs.existsSync(log))
  }
  await app.ask({ tag: 'restart-workers', worker: '0', wait: true })
  await waitFor('a line of the new worker', () => linesIn(access).some(line => line.worker === '1.0.1'))
  const { ok, failed } = await load.stop()
  assert.deepEqual(failed, {})
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  const lines = [1, 2, 3].flatMap(count => linesIn(`${access}.${count}`)).concat(linesIn(access))
  assert.equal(lines.length, ok)
  assert.deepEqual([...new Set(lines.map(line => line.worker))].sort(), ['1.0.0', '1.0.1', '1.1.0'])
  const said = ['1', '2', '3'].map(count => fs.readFileSync(`${log}.${count}`, 'utf8')).join('') + fs.readFileSync(log, 'utf8')
  assert.match(said, /"who":"supervisor".*"msg":"stopped"/)
  assert.equal(app.stderr, '')
})

test('configured workers: level and format hold for supervisor and workers', async t => {
  const { app } = await start(t, { wait: false, log: { format: 'text', level: 'warn', access: 'off' } }, exchange => { exchange.destroy() })
  await waitFor('all slots', async () => (await app.slots().catch(() => [])).filter(({ state }) => state === 'serving').length === 2)
  app.configure({ options: { stateDir: '/elsewhere' } })
  await app.ask({ tag: 'reload' })
  await waitFor('the refusal', () => app.stderr.includes('supervisor: error: reload-1: refused'))
  app.signal('SIGTERM')
  await app.end()
  assert.doesNotMatch(app.stderr, /^\{|stopped|running/m)
})

test('configured workers: limits and overrides of listeners count over what the code says', async t => {
  const held: (() => void)[] = []
  const { app, origin } = await start(t, {
    options: { workers: 1 }, log: { access: 'off' }, limits: { maxActiveRequests: 2 },
    listeners: { '*': { maxHeadBytes: 2048, maxUriBytes: 300 }, 'http-proxy/127.0.0.1:0': { maxUriBytes: 256 } },
  }, async exchange => {
    await new Promise<void>(resolve => { held.push(resolve) })
    await answerOk(exchange)
  })
  const first = exchange(app, get('/1'))
  const second = exchange(app, get('/2'))
  await waitFor('two requests at the origin', () => origin.requests.length === 2)
  assert.equal((await exchange(app, get('/3'))).status, 503)
  for (const release of held) release()
  assert.deepEqual((await Promise.all([first, second])).map(({ status }) => status), [200, 200])
  assert.equal((await exchange(app, get(`/${'x'.repeat(270)}`))).status, 414)
  assert.equal((await exchange(app, get('/', `X-Long: ${'x'.repeat(2048)}`))).status, 431)
})

test('configured workers: an override for a listener that does not exist is refused', async t => {
  const { app } = await start(t, { wait: false, listeners: { 'web/:80': { maxUriBytes: 4096 } } })
  assert.deepEqual(await app.end(), { code: 2, signal: null })
  assert.match(app.lines.at(-1)!.msg, /listeners\.web\/:80: found the name of no listener; expected one of \*, http-proxy\/127\.0\.0\.1:0/)
})

test('configured workers: a log that cannot be opened is named', async t => {
  const folder = temporaryFolder(t)
  for (const key of ['access', 'process'] as const) {
    const { app } = await start(t, { ...key === 'access' ? { folder } : null, wait: false, log: { [key]: folder } })
    assert.deepEqual(await app.end(), { code: 2, signal: null })
    assert.match(app.stderr, new RegExp(`log\\.${key}: found .*, which is a folder; expected a file`))
  }
})
