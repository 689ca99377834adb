/** Releases on disk: what belongs to one, which Node.js runs it, when its supervisor differs, and the link to the current one. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { currentLinkOf, flipCurrent, readRelease, releaseOf, ReleaseError, SYSTEM_RELEASES } from '../../supervisor/releases.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const OURS = path.join(import.meta.dirname, '../..')
const MANIFEST = '{ "name": "cirque", "type": "module", "exports": { ".": "./src/index.ts", "./package.json": "./package.json" } }'
const SOURCE = { 'package.json': MANIFEST, 'src/index.ts': '', 'supervisor/cli.ts': '', 'workers/main.ts': '', 'workers/describe.ts': '' }
const BUILT = {
  'package.json': MANIFEST,
  'dist/src/index.js': '',
  'dist/supervisor/cli.js': '',
  'dist/workers/main.js': '',
  'dist/workers/describe.js': '',
}

function below(folder: string, files: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([name, text]) => [path.join(folder, name), text]))
}

function executable(file: string, text = '#!/bin/sh\n'): string {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, text, { mode: 0o755 })
  return file
}

/** Runs a piece of code with another Node.js binary: what a process is run by cannot be changed from within. @returns what it prints */
function runWith(node: string, code: string): string {
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '--eval', code]
  const { stdout, stderr } = spawnSync(node, args, { encoding: 'utf8', timeout: 20_000 })
  assert.equal(stderr, '')
  return stdout.trim()
}

function nodeChosenBy(node: string, release: string): string {
  const module = JSON.stringify(path.join(OURS, 'supervisor/releases.ts'))
  const chosen = `readRelease(${JSON.stringify(release)}, 'app.ts').node`
  return runWith(node, `import { readRelease } from ${module}; console.log(${chosen})`)
}

/** A package with the binary of this process, hard-linked where that works: a file of its own name at no cost. */
function placeNode(file: string): string {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const own = fs.realpathSync(process.execPath)
  try { fs.linkSync(own, file) } catch { fs.copyFileSync(own, file) }
  return file
}

function pinnedPackage(): string {
  const match = /[\\/]node_modules[\\/](node-[^\\/]+)[\\/]bin[\\/]node$/.exec(fs.realpathSync(process.execPath))
  return match === null ? '' : match[1]!
}

/** A release with an installation of its own, and an application. */
function releaseFolder(t: TestContext, files: Readonly<Record<string, string>> = {}): string {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'package.json': '{ "name": "shop" }', 'app.ts': '', ...below('node_modules/cirque', BUILT), ...files })
  return folder
}

test('releases: current is a link above the application, not a folder of that name', t => {
  const root = temporaryFolder(t)
  writeTree(root, { 'releases/1/app/main.ts': '', 'plain/current/main.ts': '', 'file': '' })
  fs.symlinkSync('releases/1', path.join(root, 'current'))
  fs.symlinkSync('nowhere', path.join(root, 'releases/current'))
  fs.symlinkSync('../file', path.join(root, 'plain/file'))
  const current = currentLinkOf(path.join(root, 'current/app/main.ts'))
  assert.deepEqual(current, { root, link: path.join(root, 'current'), relative: 'app/main.ts' })
  assert.equal(currentLinkOf(path.join(root, 'releases/1/app/main.ts')), null)
  assert.equal(currentLinkOf(path.join(root, 'plain/current/main.ts')), null)
  assert.equal(currentLinkOf(path.join(root, 'releases/current/main.ts')), null)
  assert.equal(currentLinkOf(path.join(root, 'current')), null)
  assert.equal(currentLinkOf(path.join(root, 'file/current/main.ts')), null)
})

test('releases: of two links called current the inner one counts', t => {
  const root = temporaryFolder(t)
  writeTree(root, { 'a/releases/1/main.ts': '' })
  fs.symlinkSync('a', path.join(root, 'current'))
  fs.symlinkSync('releases/1', path.join(root, 'a/current'))
  const link = currentLinkOf(path.join(root, 'current/current/main.ts'))
  assert.deepEqual(link, { root: path.join(root, 'current'), link: path.join(root, 'current/current'), relative: 'main.ts' })
})

test('releases: the running one is where current leads, else the nearest package, else the folder of the file', t => {
  const root = temporaryFolder(t)
  writeTree(root, {
    'releases/1/app/main.ts': '',
    'releases/1/app/package.json': '{}',
    'project/package.json': '{}',
    'project/src/deep/main.ts': '',
  })
  fs.symlinkSync('releases/1', path.join(root, 'current'))
  const current = releaseOf(path.join(root, 'current/app/main.ts'))
  assert.deepEqual([current.folder, current.application], [path.join(root, 'releases/1'), path.join(root, 'releases/1/app/main.ts')])
  fs.symlinkSync(path.join(root, 'project/src/deep/main.ts'), path.join(root, 'main.ts'))
  for (const started of ['project/src/deep/main.ts', 'main.ts']) {
    const project = releaseOf(path.join(root, started))
    assert.deepEqual([project.folder, project.application], [path.join(root, 'project'), path.join(root, 'project/src/deep/main.ts')])
  }
  assert.throws(() => releaseOf(path.join(root, 'gone.ts')), (error: Error) => {
    return error instanceof ReleaseError && /there is no application .*gone\.ts; name/.test(error.message)
  })
})

const packageAboveTemporary = ['/tmp/package.json', '/package.json'].some(file => fs.existsSync(file))

test('releases: a file without any package is a release of its own folder', { skip: packageAboveTemporary }, t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'app.ts': '' })
  assert.equal(releaseOf(path.join(folder, 'app.ts')).folder, folder)
})

test('releases: an installed package is found in node_modules of any folder above, through links', t => {
  const built = releaseFolder(t)
  const { installation, entries } = readRelease(built, 'app.ts')
  assert.equal(installation, path.join(built, 'node_modules/cirque'))
  assert.deepEqual(entries, {
    worker: path.join(installation, 'dist/workers/main.js'), describe: path.join(installation, 'dist/workers/describe.js'),
    boot: path.join(installation, 'dist/supervisor/boot.js'), resume: path.join(installation, 'dist/supervisor/resume.js'),
  })
  const linked = temporaryFolder(t)
  writeTree(linked, { 'package.json': '{}', 'deep/app.ts': '' })
  fs.symlinkSync(path.join(built, 'node_modules'), path.join(linked, 'node_modules'))
  assert.equal(readRelease(linked, 'deep/app.ts').installation, installation)
  const toSource = temporaryFolder(t)
  writeTree(toSource, { ...below('cirque', SOURCE), 'release/app.ts': '', 'release/node_modules/other/package.json': '{}' })
  fs.symlinkSync('../../cirque', path.join(toSource, 'release/node_modules/cirque'))
  const source = readRelease(path.join(toSource, 'release'), 'app.ts')
  assert.equal(source.installation, path.join(toSource, 'cirque'))
  assert.equal(source.entries.worker, path.join(toSource, 'cirque/workers/main.ts'))
})

test('releases: a copy of this repository finds itself, with or without a package of its own around the application', t => {
  for (const files of [{}, { 'examples/package.json': '{ "name": "examples" }' }]) {
    const copy = temporaryFolder(t)
    writeTree(copy, { ...SOURCE, 'examples/app.ts': '', ...files })
    fs.symlinkSync(path.join(OURS, 'node_modules'), path.join(copy, 'node_modules'))
    assert.equal(readRelease(copy, 'examples/app.ts').installation, copy)
  }
  const ours = releaseOf(path.join(OURS, 'examples/load-balancer.ts'))
  assert.deepEqual([ours.folder, ours.installation, ours.application], [OURS, OURS, path.join(OURS, 'examples/load-balancer.ts')])
  assert.ok([ours.entries.worker, ours.entries.describe].every(file => fs.existsSync(file)))
})

test('releases: an application without an installation gets ours, and what was replaced at the same path is seen', t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'app.ts': '' })
  assert.equal(readRelease(folder, 'app.ts').installation, OURS)
  writeTree(folder, below('node_modules/cirque', BUILT))
  assert.equal(readRelease(folder, 'app.ts').installation, path.join(folder, 'node_modules/cirque'))
})

test('releases: what cannot be one is refused with where, what and what to do', t => {
  const folder = releaseFolder(t)
  const rows: readonly (readonly [string, string, RegExp])[] = [
    [path.join(folder, 'gone'), 'app.ts', /gone is not a folder; name the folder of a release$/],
    [path.join(folder, 'app.ts'), 'app.ts', /app\.ts is not a folder; /],
    [folder, 'other.ts', /has no file other\.ts, which is the application; put it there/],
    [folder, '../app.ts', /^\.\.\/app\.ts leads out of the release/],
    [folder, '/etc/passwd', /leads out of the release/],
  ]
  for (const [where, application, message] of rows) {
    const isTold = (error: Error): boolean => error instanceof ReleaseError && message.test(error.message)
    assert.throws(() => readRelease(where, application), isTold, String(message))
  }
  fs.rmSync(path.join(folder, 'node_modules/cirque/dist/workers/describe.js'))
  assert.throws(() => readRelease(folder, 'app.ts'), /cirque lacks dist\/workers\/describe\.js; install it again$/)
  const odd = releaseFolder(t, { 'bin/node': '' })
  fs.chmodSync(path.join(odd, 'bin/node'), 0o644)
  assert.throws(() => readRelease(odd, 'app.ts'), process.getuid?.() === undefined ? /./ : /bin\/node cannot be executed by this user; /)
})

test('releases: its own bin/node runs it; without one the runtime stays what it is', t => {
  const plain = releaseFolder(t)
  assert.equal(readRelease(plain, 'app.ts').node, process.execPath)
  const own = releaseFolder(t)
  const node = executable(path.join(own, 'bin/node'))
  assert.equal(readRelease(own, 'app.ts').node, node)
  const same = releaseFolder(t)
  fs.mkdirSync(path.join(same, 'bin'))
  fs.symlinkSync(process.execPath, path.join(same, 'bin/node'))
  assert.equal(readRelease(same, 'app.ts').node, process.execPath)
})

const ifPinned = { skip: pinnedPackage() === '' ? 'this process is not run by a pinned runtime' : false }

test('releases: a pinned runtime gives way to the pinned one of a release, unless that is the same file', ifPinned, t => {
  const pinned = pinnedPackage()
  const places = ['node_modules/cirque/node_modules', 'node_modules']
  for (const place of places) {
    const release = releaseFolder(t)
    const node = executable(path.join(release, place, pinned, 'bin/node'))
    assert.equal(readRelease(release, 'app.ts').node, node)
  }
  const linked = releaseFolder(t)
  fs.symlinkSync(path.join(OURS, 'node_modules', pinned), path.join(linked, 'node_modules', pinned))
  assert.equal(readRelease(linked, 'app.ts').node, process.execPath)
  const both = releaseFolder(t)
  for (const place of places) executable(path.join(both, place, pinned, 'bin/node'))
  assert.equal(readRelease(both, 'app.ts').node, path.join(both, places[0]!, pinned, 'bin/node'))
})

test('releases: a Node.js of somebody\'s own choice stays, whatever a release has pinned', ifPinned, t => {
  const pinned = pinnedPackage()
  const release = releaseFolder(t)
  executable(path.join(release, 'node_modules', pinned, 'bin/node'))
  const chosen = placeNode(path.join(temporaryFolder(t), 'usr/bin/node'))
  assert.equal(nodeChosenBy(chosen, release), chosen)
  executable(path.join(release, 'bin/node'))
  assert.equal(nodeChosenBy(chosen, release), path.join(release, 'bin/node'))
})

test('releases: the fingerprint follows the supervisor\'s code and the runtime, and nothing else', t => {
  const built = releaseFolder(t)
  const source = temporaryFolder(t)
  writeTree(source, { ...SOURCE, 'app.ts': '' })
  const file = (folder: string, name: string): string => path.join(folder, name)
  const rows = [
    { folder: built, changes: file(built, 'node_modules/cirque/dist/src/index.js'), spares: file(built, 'app.ts') },
    { folder: source, changes: file(source, 'supervisor/cli.ts'), spares: file(source, 'workers/main.ts') },
    { folder: source, changes: file(source, 'src/index.ts'), spares: file(source, 'app.ts') },
  ]
  for (const { folder, changes, spares } of rows) {
    const { fingerprint } = readRelease(folder, 'app.ts')
    assert.match(fingerprint, /^[0-9a-f]{64}$/)
    fs.writeFileSync(spares, '// longer')
    assert.equal(readRelease(folder, 'app.ts').fingerprint, fingerprint)
    fs.writeFileSync(changes, '// longer')
    const longer = readRelease(folder, 'app.ts').fingerprint
    assert.notEqual(longer, fingerprint)
    // Same size, another time.
    fs.utimesSync(changes, 1, 1)
    assert.notEqual(readRelease(folder, 'app.ts').fingerprint, longer)
  }
  const before = readRelease(source, 'app.ts').fingerprint
  writeTree(source, { 'src/new/file.ts': '' })
  const more = readRelease(source, 'app.ts').fingerprint
  assert.notEqual(more, before)
  executable(path.join(source, 'bin/node'))
  const own = readRelease(source, 'app.ts').fingerprint
  assert.notEqual(own, more)
  fs.rmSync(path.join(source, 'bin/node'))
  assert.equal(readRelease(source, 'app.ts').fingerprint, more)
})

test('releases: the fingerprint of a moved copy with the same times is the same', t => {
  const one = releaseFolder(t)
  const other = path.join(temporaryFolder(t), 'copy')
  fs.cpSync(one, other, { recursive: true, preserveTimestamps: true })
  // cpSync keeps no more than milliseconds.
  for (const name of Object.keys(BUILT)) {
    for (const folder of [one, other]) fs.utimesSync(path.join(folder, 'node_modules/cirque', name), 1_000, 1_000)
  }
  assert.equal(readRelease(other, 'app.ts').fingerprint, readRelease(one, 'app.ts').fingerprint)
})

test('releases: current is flipped in one step, relative below its own folder', t => {
  const root = temporaryFolder(t)
  const elsewhere = temporaryFolder(t)
  writeTree(root, { 'releases/1/a': '', 'releases/2/a': '', 'file': '' })
  const link = path.join(root, 'current')
  flipCurrent(link, path.join(root, 'releases/1'))
  assert.equal(fs.readlinkSync(link), 'releases/1')
  flipCurrent(link, path.join(root, 'current/../releases/2'))
  assert.equal(fs.readlinkSync(link), 'releases/2')
  flipCurrent(link, elsewhere)
  assert.equal(fs.readlinkSync(link), elsewhere)
  // A root that is reached through a link itself: the link's target is followed from the real place.
  const alias = path.join(elsewhere, 'alias')
  fs.symlinkSync(root, alias)
  flipCurrent(path.join(alias, 'current'), path.join(alias, 'releases/1'))
  assert.equal(fs.readlinkSync(link), 'releases/1')
  assert.throws(() => flipCurrent(link, path.join(root, 'file')), ReleaseError)
  assert.equal(fs.readlinkSync(link), 'releases/1')
  assert.deepEqual(fs.readdirSync(root).sort(), ['current', 'file', 'releases'])
})

test('releases: a file named through current is that of the release that current will lead to; any other stays', t => {
  const root = temporaryFolder(t)
  writeTree(root, { 'releases/1/app.ts': '', 'releases/2/app.ts': '', 'app.yaml': '' })
  fs.symlinkSync('releases/1', path.join(root, 'current'))
  const alias = path.join(temporaryFolder(t), 'alias')
  fs.symlinkSync(root, alias)
  const [application, next] = [path.join(root, 'current/app.ts'), path.join(root, 'releases/2')]
  const once = (file: string, started = application): string => SYSTEM_RELEASES.fileOnceCurrent(started, file, next)
  for (const spelled of [root, alias]) assert.equal(once(path.join(spelled, 'current/etc/app.yaml')), path.join(next, 'etc/app.yaml'))
  for (const file of ['app.yaml', 'releases/1/app.yaml', 'other/current/app.yaml'].map(name => path.join(root, name))) {
    assert.equal(once(file), file)
  }
  const through = path.join(root, 'current/app.yaml')
  assert.equal(once(through, path.join(root, 'releases/1/app.ts')), through)
})

test('releases: a folder that is called current is not replaced, and nothing is left behind', t => {
  const root = temporaryFolder(t)
  writeTree(root, { 'releases/1/a': '', 'current/a': '' })
  const flip = (): void => flipCurrent(path.join(root, 'current'), path.join(root, 'releases/1'))
  assert.throws(flip, /current could not be turned into a link to .*releases\/1 \(E[A-Z]+\); remove what is there/)
  assert.deepEqual(fs.readdirSync(root).sort(), ['current', 'releases'])
})

test('releases: whoever looks while current is flipped always finds a release', { timeout: 20_000 }, t => {
  const root = temporaryFolder(t)
  writeTree(root, { 'releases/1/a': '', 'releases/2/a': '' })
  const link = path.join(root, 'current')
  flipCurrent(link, path.join(root, 'releases/1'))
  const watcher = `
    const fs = require('node:fs')
    const seen = {}
    for (const until = Date.now() + 300; Date.now() < until;) {
      let found
      try { found = fs.readlinkSync(${JSON.stringify(link)}) } catch (error) { found = error.code }
      seen[found] = true
    }
    console.log(Object.keys(seen).sort().join())`
  const flipper = `
    import { flipCurrent } from ${JSON.stringify(fileURLToPath(new URL('../../supervisor/releases.ts', import.meta.url)))}
    import { spawn } from 'node:child_process'
    const watcher = spawn(process.execPath, ['--eval', ${JSON.stringify(watcher)}], { stdio: 'inherit' })
    let n = 0
    const flipSome = () => {
      for (let i = 0; i < 20; i++) flipCurrent(${JSON.stringify(link)}, ${JSON.stringify(root)} + '/releases/' + (1 + n++ % 2))
    }
    const flip = setInterval(flipSome, 0)
    watcher.on('exit', () => clearInterval(flip))`
  assert.equal(runWith(process.execPath, flipper), 'releases/1,releases/2')
})
