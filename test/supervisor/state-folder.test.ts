import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import { once } from 'node:events'
import path from 'node:path'
import test from 'node:test'
import { applicationName, prepareStateFolder, runningFolders, StateFolderError, stateFolderOf } from '../../supervisor/state-folder.ts'
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

test('state folder: one that somebody made in our usual place is passed over, and the other one is found again', async t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  const usual = path.join(temporary, `cirque-${uid}`)
  // A file stands for what is not ours: only root could make a folder for somebody else.
  fs.writeFileSync(usual, '')
  const folder = stateFolderOf('/srv/app.ts', '', around)
  assert.match(path.relative(temporary, folder), new RegExp(`^cirque-${uid}-\\w{6}/${applicationName('/srv/app.ts')}$`))
  assert.equal(prepareStateFolder(folder, false, around), '')
  assert.equal(fs.statSync(path.dirname(folder)).mode & 0o777, 0o700)
  assert.equal(stateFolderOf('/srv/app.ts', '', around), folder)
  assert.equal(path.dirname(stateFolderOf('/srv/other.ts', '', around)), path.dirname(folder))
  const server = net.createServer().listen(path.join(folder, 'control.sock'))
  await once(server, 'listening')
  t.after(() => server.close())
  assert.deepEqual(await runningFolders('', around), [folder])
  fs.rmSync(usual)
  assert.equal(stateFolderOf('/srv/app.ts', '', around), folder, 'the workers of a killed supervisor must be found')
})

test('state folder: whoever else may rename it is named, a sticky folder keeps them from it', t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  const [open, sticky] = ['open', 'sticky'].map(name => path.join(temporary, name))
  fs.mkdirSync(open!)
  fs.chmodSync(open!, 0o777)
  fs.mkdirSync(sticky!)
  fs.chmodSync(sticky!, 0o1777)
  const warning = prepareStateFolder(path.join(open!, 'a/b'), false, around)
  assert.match(warning, /any user can replace .*, as all can write to .*\/open;/)
  assert.equal(prepareStateFolder(path.join(sticky!, 'a/b'), false, around), '')
})

test('state folder: where none can be made the system\'s reason is told, once and at once', t => {
  const temporary = temporaryFolder(t)
  const around = { uid, temporary, env: {} }
  const file = path.join(temporary, 'file')
  fs.writeFileSync(file, '')
  for (const [folder, reason] of [
    ['/proc/x', /\/proc\/x cannot be used \(ENOENT: /], ['/proc/x/y', /ENOENT/], [path.join(file, 'x'), /ENOTDIR/],
    [file, /does not belong to this user/],
  ] as const) {
    assert.throws(() => prepareStateFolder(folder, false, around), (error: Error) => {
      assert.ok(error instanceof StateFolderError)
      assert.match(error.message, reason)
      return true
    })
  }
})

const maySetUp = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0
test('state folder: of a read-only file system it is told that it is one', { skip: maySetUp ? false : 'needs root' }, t => {
  const mounted = temporaryFolder(t)
  const module = new URL('../../supervisor/state-folder.ts', import.meta.url).href
  const program = `const { prepareStateFolder } = await import(${JSON.stringify(module)})
    for (const name of ['/a', '/a/b']) {
      try { prepareStateFolder(${JSON.stringify(mounted)} + name, false) } catch (error) { console.log(error.message) }
    }`
  const inside = `mount -t tmpfs -o ro none "$1" && exec "$2" --disable-warning=ExperimentalWarning --input-type=module --eval "$3"`
  const command = ['--mount', 'sh', '-c', inside, 'sh', mounted, process.execPath, program]
  const { stdout, stderr } = spawnSync('unshare', command, { encoding: 'utf8' })
  const told = stdout.match(/\(EROFS: read-only file system\); choose another state folder with --state-dir\n/g)
  assert.equal(told?.length, 2, stdout + stderr)
})
