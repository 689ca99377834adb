import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { CompileCache, forgetCompileCache, withCompileCache } from '../../src/ipc/compile-cache.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const NAME = 'NODE_COMPILE_CACHE'
const SELF = { uid: null, gid: null }

test('compile cache: processes that are started inherit one in the state folder, unless the user has said something', () => {
  const env: NodeJS.ProcessEnv = {}
  const cache = new CompileCache(env, '/state', 1_000)
  assert.equal(env[NAME], '/state/cirque-compile-cache')
  assert.deepEqual(cache.environmentFor(SELF), {})
  for (const said of [{ [NAME]: '/theirs' }, { NODE_DISABLE_COMPILE_CACHE: '1' }, { [NAME]: '/code/build/cirque-compile-cache' }]) {
    const before = { ...said }
    assert.deepEqual(new CompileCache(said, '/state', 1_000).environmentFor(SELF), {})
    assert.deepEqual(said, before)
  }
})

test('compile cache: workers of another user have a folder of their own, which nobody else can write or has to read', t => {
  const [folder, [uid, gid]] = [temporaryFolder(t), [process.getuid!(), process.getgid!()]]
  const supervisor = new CompileCache({}, folder, uid + 1)
  const own = path.join(folder, `cirque-compile-cache-${uid}`)
  assert.deepEqual(supervisor.environmentFor({ uid, gid }), { [NAME]: own })
  assert.equal(fs.statSync(own).mode & 0o777, 0o700)
  assert.deepEqual(supervisor.environmentFor({ uid, gid }), { [NAME]: own }, 'again')
  const nowhere = new CompileCache({}, path.join(folder, 'missing'), uid + 1)
  assert.deepEqual(nowhere.environmentFor({ uid, gid }), { [NAME]: '' }, 'none rather than ours')
  assert.deepEqual(new CompileCache({ [NAME]: '/theirs' }, folder, uid + 1).environmentFor({ uid, gid }), {})
})

test('compile cache: an image from source keeps it beside the source, if that can be written', t => {
  const folder = temporaryFolder(t)
  assert.equal(withCompileCache({ A: '1' }, folder)[NAME], path.join(folder, 'build/cirque-compile-cache'))
  assert.deepEqual(withCompileCache({ [NAME]: '/theirs' }, folder), { [NAME]: '/theirs' })
  assert.deepEqual(withCompileCache({ A: '1' }, path.join(folder, 'missing')), { A: '1' })
})

test('compile cache: an application sees what the user has set, and nothing of ours', () => {
  for (const [folder, left] of [['/s/cirque-compile-cache', undefined], ['/s/cirque-compile-cache-7', undefined], ['/theirs', '/theirs']]) {
    const env: NodeJS.ProcessEnv = { [NAME]: folder }
    forgetCompileCache(env)
    assert.equal(env[NAME], left)
  }
})
