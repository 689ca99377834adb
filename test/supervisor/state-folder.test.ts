import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { applicationName, prepareStateFolder, runningFolders, stateFolderOf } from '../../supervisor/state-folder.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const uid = process.getuid?.() ?? 0

test('state folder: the flag counts over RUNTIME_DIRECTORY, that over XDG_RUNTIME_DIR, that over the temporary folder', () => {
  const name = applicationName('/srv/app.ts')
  assert.match(name, /^app-[0-9a-f]{8}$/)
  assert.notEqual(name, applicationName('/srv2/app.ts'))
  const around = { uid: 5, temporary: '/tmp', env: {} }
  assert.equal(stateFolderOf('/srv/app.ts', '', around), `/tmp/cirque-5/${name}`)
  assert.equal(stateFolderOf('/srv/app.ts', '', { ...around, env: { XDG_RUNTIME_DIR: '/run/user/5' } }), `/run/user/5/cirque/${name}`)
  const ofService = { RUNTIME_DIRECTORY: '/run/cirque:/run/other', XDG_RUNTIME_DIR: '/x' }
  assert.equal(stateFolderOf('/srv/app.ts', '', { ...around, env: ofService }), '/run/cirque')
  assert.equal(stateFolderOf('/srv/app.ts', '/s', { ...around, env: { RUNTIME_DIRECTORY: '/run/cirque' } }), '/s')
})

test('state folder: it is private, or passable for workers of another user, and its parent as well', t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  const folder = stateFolderOf('/srv/app.ts', '', around)
  prepareStateFolder(folder, false, around)
  const modes = (): number[] => [folder, path.dirname(folder)].map(name => fs.statSync(name).mode & 0o777)
  assert.deepEqual(modes(), [0o700, 0o700])
  prepareStateFolder(folder, true, around)
  assert.deepEqual(modes(), [0o711, 0o711])
})

test('state folder: one that belongs to somebody else, a link and a path too long for a socket are refused', t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  const link = path.join(temporary, 'link')
  fs.symlinkSync(temporary, link)
  assert.throws(() => prepareStateFolder(link, false, around), /does not belong to this user/)
  assert.throws(() => prepareStateFolder(temporary, false, { ...around, uid: uid + 1 }), /does not belong to this user/)
  assert.throws(() => prepareStateFolder(path.join(temporary, 'x'.repeat(100)), false, around), /too long for a socket/)
})

test('state folder: only folders where somebody answers are running', async t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  assert.deepEqual(await runningFolders('', around), [])
  fs.mkdirSync(path.join(temporary, `cirque-${uid}/app`), { recursive: true })
  assert.deepEqual(await runningFolders('', around), [])
})
