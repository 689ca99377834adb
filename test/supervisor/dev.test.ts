/** `cirque dev`, as somebody uses it who writes an application: saves, and looks. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
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

  constructor(t: TestContext) {
    this.folder = temporaryFolder(t)
    this.save('package.json', '{ "type": "module" }')
    this.save('app.ts', `
import { Server, httpProxyService, HttpPeer } from ${JSON.stringify(INDEX)}
import { text } from './text.ts'
const server = new Server()
server.addService(httpProxyService({
  newCtx: () => undefined,
  requestFilter: session => session.respond(200, {}, text),
  upstreamPeer: () => new HttpPeer('127.0.0.1:9'),
}).addTcp('127.0.0.1:0'))
await server.runForever()
`)
    this.save('text.ts', 'export const text = = 1\n')
    this.child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, 'dev', 'app.ts', '--state-dir', 'state'], {
      cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' },
    })
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.stdout += text })
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => { this.stderr += text })
    t.after(async () => {
      if (this.child.exitCode !== null) return
      this.child.kill('SIGINT')
      await once(this.child, 'exit')
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
  const app = new Writing(t)
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
  await app.says(/^more\.ts:2:7\n {2}1 \| export const more = ''\n> 2 \| throw new Error\('not yet'\)\n {4}\| {7}\^\n/m, before)
  await app.says(/^Error: not yet\n {4}at .*more\.ts:2:7/m, before)
  await app.says(/the version before text\.ts was saved serves on/, before)
  assert.equal(await app.get(), 'two')
  // It was never part of an application that worked, and is watched all the same.
  app.save('more.ts', 'export const more = \' and more\'\n')
  await app.says(/reloaded in [\d.]+ s: more\.ts/, before)
  assert.equal(await app.get(), 'three and more')

  const wrong = app.stderr.length
  app.save('cirque.yaml', 'limits:\n  maxConections: 1\n')
  await app.says(/cirque\.yaml:2:3: limits\.maxConections: found an unknown key; expected maxConnections/, wrong)
  await app.says(/the version before cirque\.yaml was saved serves on/, wrong)

  const pid = app.child.pid!
  app.child.kill('SIGINT')
  const [code] = await within('the end', once(app.child, 'exit'), LONG_MS) as [number]
  assert.deepEqual([code, isAlive(pid)], [0, false])
})
