/** `cirque dev`, as somebody uses it who writes an application: saves, and looks. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { loadConfig } from '../../src/config/load-config.ts'
import { DEV_FLAGS } from '../../supervisor/dev.ts'
import { isAlive } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const CLI = path.join(import.meta.dirname, '../../supervisor/cli.ts')
const INDEX = path.join(import.meta.dirname, '../../src/index.ts')
const LONG_MS = 60_000

class Writing {
  readonly folder: string
  readonly child: ChildProcess
  stdout = ''
  stderr = ''

  /** @param text of text.ts, which answers every request */
  constructor(t: TestContext, text: string) {
    this.folder = temporaryFolder(t)
    this.save('package.json', '{ "type": "module" }')
    this.save('app.ts', `
import { Server, httpProxyService, HttpPeer } from ${JSON.stringify(INDEX)}
import { text } from './text.ts'
const origin = new HttpPeer('127.0.0.1:9')
const server = new Server()
server.addService(httpProxyService({
  requestFilter: session => session.respond(200, {}, typeof text === 'string' ? text : text(session)),
  upstreamPeer: () => origin,
}).addTcp('127.0.0.1:0'))
await server.runForever()
`)
    this.save('text.ts', text)
    this.child = this.start()
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.stdout += text })
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => { this.stderr += text })
    t.after(async () => {
      if (this.child.exitCode !== null) return
      this.child.kill('SIGINT')
      await once(this.child, 'exit')
    })
  }

  start(): ChildProcess {
    return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, 'dev', 'app.ts', '--state-dir', 'state'], {
      cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' },
    })
  }

  save(file: string, text: string): void { fs.writeFileSync(path.join(this.folder, file), text) }

  /** What it says on stderr from now on. */
  async says(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    const seen = (): string => this.stderr.slice(from)
    return await waitFor(`${String(pattern)} on stderr`, () => pattern.exec(seen()), { deadlineMs: LONG_MS, seen })
  }

  get url(): string { return /http:\/\/127\.0\.0\.1:\d+/.exec(this.stderr)![0] }
  async get(target = '/'): Promise<string> { return await (await fetch(this.url + target)).text() }
}

const TITLE = 'dev: a save replaces the worker, one that is no good is shown with its place and leaves the last good one, and requests show'
test(TITLE, async t => {
  const app = new Writing(t, 'export const text = = 1\n')
  // Nothing serves yet: a first start that fails is tried again.
  await app.says(/text\.ts:1:21\n +> 1 \| export const text = = 1\n +\| {21}\^\n/)
  await app.says(/waiting for the next save of app\.ts/)
  app.save('text.ts', 'export const text = \'one\'\n')
  await app.says(/open +http:/)
  assert.equal(await app.get('/a?password=x'), 'one')
  const line = /^\d\d:\d\d:\d\d {2}200 {2}GET {3}\/a\?password=\*\*\* +[\d.]+ ms\n/m
  await waitFor('the request', () => line.exec(app.stdout), { seen: () => app.stdout })

  app.save('text.ts', 'export const text = \'two\'\n')
  await app.says(/reloaded in [\d.]+ s: text\.ts/)
  assert.equal(await app.get(), 'two')

  const before = app.stderr.length
  app.save('more.ts', 'export const more = \'\'\nthrow new Error(\'not yet\')\n')
  app.save('text.ts', 'import { more } from \'./more.ts\'\nexport const text = \'three\' + more\n')
  await app.says(/^cirque: not reloaded, the version before serves on: not yet\nmore\.ts:2:7\n/m, before)
  await app.says(/^ {2}1 \| export const more = ''\n> 2 \| throw new Error\('not yet'\)\n {4}\| {7}\^\n/m, before)
  await app.says(/^ {4}at .*more\.ts:2:7\n/m, before)
  assert.equal(await app.get(), 'two')
  // It was never part of an application that worked, and is watched all the same.
  app.save('more.ts', 'export const more = \' and more\'\n')
  await app.says(/reloaded in [\d.]+ s: more\.ts/, before)
  assert.equal(await app.get(), 'three and more')

  const wrong = app.stderr.length
  app.save('cirque.yaml', 'limits:\n  maxConections: 1\n')
  await app.says(/^cirque: not reloaded, .*: cirque\.yaml:2:3: limits\.maxConections: found an unknown key; .*\n/m, wrong)
  // One report for each save, and no line of the supervisor about the same.
  assert.doesNotMatch(app.stderr, /reload-\d/)

  const pid = app.child.pid!
  app.child.kill('SIGINT')
  const [code] = await within('the end', once(app.child, 'exit'), LONG_MS) as [number]
  assert.deepEqual([code, isAlive(pid)], [0, false])
})

test('dev: a hook that throws is shown with its lines, a worker that is killed is replaced, and another address is told', async t => {
  // `/` is what a new worker is tried out with.
  const app = new Writing(t, `export const text = ({ request }) => {
  if (request.path !== '/') throw new Error('no text')
  return 'one'
}
`)
  await app.says(/open +http:/)
  assert.match(await app.get('/a'), /^500 /)
  const lines = /^ +text\.ts:2:35\n +1 \| .*\n +> 2 \| {3}if .* throw new Error\('no text'\)\n +\| {35}\^\n +3 \|.*\n/m
  await app.says(lines)
  // What called the application is no part of its error.
  assert.doesNotMatch((await app.says(/^ +Error: no text\n(?: +at .*\n)+/m))[0], /exchange/)

  const killed = app.stderr.length
  const [worker = ''] = /\d+$/.exec((await app.says(/worker (\d+)$/m))[0]) ?? []
  process.kill(Number(worker), 'SIGKILL')
  await app.says(/^cirque: error: worker \S+ died: ended by SIGKILL\n/m, killed)
  assert.match(await app.get('/b'), /^500 /)

  // One that is still being loaded when the next save comes is named by the report of that one.
  const elsewhere = app.stderr.length
  const loading = path.join(app.folder, 'loading')
  app.save('text.ts', `import fs from 'node:fs'
fs.writeFileSync(${JSON.stringify(loading)}, '')
await new Promise(() => { setInterval(() => {}, 1000) })
export const text = 'never'
`)
  await waitFor('the new version to be loaded', () => fs.existsSync(loading), { deadlineMs: LONG_MS })
  const source = fs.readFileSync(path.join(app.folder, 'app.ts'), 'utf8')
  app.save('app.ts', source.replace('127.0.0.1:0', '[::1]:0').replace('import { text } from \'./text.ts\'', 'const text = \'two\''))
  await app.says(/^cirque: reloaded in [\d.]+ s: text\.ts, app\.ts\n/m, elsewhere)
  await app.says(/^cirque: open now: http:\/\/\[::1\]:\d+\n/m, elsewhere)
})

test('dev: a second one says that one runs, and how to end it; closing the terminal ends it, too', async t => {
  const app = new Writing(t, 'export const text = \'one\'\n')
  await app.says(/open +http:/)
  const second = app.start()
  let said = ''
  second.stderr!.setEncoding('utf8').on('data', (text: string) => { said += text })
  const [refused] = await within('the second one to end', once(second, 'close'), LONG_MS) as [number]
  assert.equal(refused, 3)
  assert.match(said, /^cirque: error: already running, pid \d+\ncirque: `\S+ stop` ends the one that runs\n$/)
  app.child.kill('SIGHUP')
  const [code] = await within('the end', once(app.child, 'exit'), LONG_MS) as [number]
  assert.equal(code, 0)
})

test('dev: every request shows, whatever the configuration takes a sample of', t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'cirque.yaml'), 'log: { accessSample: 0.01, access: off, accessFormat: json }')
  const { accessSample, access, accessFormat } = loadConfig({ folder, env: {}, flags: DEV_FLAGS }).log
  assert.deepEqual([accessSample, access, accessFormat], [1, 'stdout', 'text'])
})
