import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findOwn } from '../../src/ipc/own-imports.ts'

const ROOT = new URL('../../', import.meta.url).href

/** What `program` prints as JSON, in a process of its own. */
async function printed(program: string): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], { cwd: fileURLToPath(ROOT) })
  return JSON.parse(stdout)
}

test('own imports: a module of ours finds another one beside its own address', () => {
  const from = `${ROOT}src/server/server.ts`
  assert.equal(findOwn('./drain.ts', from), `${ROOT}src/server/drain.ts`)
  assert.equal(findOwn('../../src/ipc/channel.ts', from), `${ROOT}src/ipc/channel.ts`)
  assert.equal(findOwn('../src/index.ts', `${ROOT}workers/worker.ts`), `${ROOT}src/index.ts`)
})

test('own imports: whatever others import, or is no path to a module of ours, is left to Node.js', () => {
  const from = `${ROOT}src/server/server.ts`
  const paths = ['./drain', './drain.js', '../x.json', '../../test/a.ts', '../../../a.ts', '/a.ts', 'file:///a.ts']
  for (const specifier of ['node:fs', 'zod', '', ...paths]) {
    assert.equal(findOwn(specifier, from), null, specifier)
  }
  const foreign = [`${ROOT}node_modules/a/b.ts`, `${ROOT}app.ts`, `${ROOT}scripts/a.ts`, `${ROOT}srcs/a.ts`]
  for (const parent of [undefined, 'file:///app.ts', 'data:x', ...foreign]) {
    assert.equal(findOwn('./drain.ts', parent), null, String(parent))
  }
})

test('own imports: no module exists twice, by whichever way it is found', async () => {
  const same = await printed(`
    await import('./src/ipc/own-imports.ts')
    const { Server } = await import('./src/index.ts')
    const found = await import('./src/server/server.ts')
    const byLink = await import('./test/../src/../src/server/server.ts')
    console.log(JSON.stringify([Server === found.Server, Server === byLink.Server]))
  `)
  assert.deepEqual(same, [true, true])
})

test('own imports: a worker and the package load modules of ours and built-in ones, and none that is costly', async () => {
  const loaded = await printed(`
    const urls = []
    const load = (url, context, next) => { urls.push(url); return next(url, context) }
    process.getBuiltinModule('node:module').registerHooks({ load })
    await import('./src/index.ts')
    for (const name of ['worker-life', 'wire-telemetry', 'loop-watch']) await import('./workers/' + name + '.ts')
    console.log(JSON.stringify(urls))
  `) as string[]
  const others = loaded.filter(url => !url.startsWith(`${ROOT}src/`) && !url.startsWith(`${ROOT}workers/`))
  assert.ok(loaded.length > 100 && others.length > 0)
  assert.deepEqual(others.filter(url => !url.startsWith('node:')), [])
  const costly = ['http', 'https', 'http2', 'tls', 'zlib', 'util', 'inspector', 'fs/promises', 'readline']
  assert.deepEqual(others.filter(url => costly.includes(url.slice('node:'.length))), [])
})
