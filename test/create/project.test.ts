import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { init } from '../../create/init.ts'
import { dependencyOn } from '../../create/origins.ts'
import { RUNTIMES, TOOLS } from '../../create/pins.ts'
import { ProjectError } from '../../create/project-error.ts'
import { createProject } from '../../create/project.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')

interface Manifest {
  name: string
  type: string
  scripts: Record<string, string>
  dependencies: Record<string, string>
  optionalDependencies: Record<string, string>
  devDependencies: Record<string, string>
}

function readJson(file: string): Manifest { return JSON.parse(fs.readFileSync(file, 'utf8')) as Manifest }
function read(folder: string, file: string): string { return fs.readFileSync(path.join(folder, file), 'utf8') }

/** A project in a folder of its own. */
function made(t: TestContext, given = 'my-edge'): string { return createProject(given, temporaryFolder(t)).folder }

/** Everything below a folder, with its contents. */
function contents(folder: string): Record<string, string> {
  const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name => fs.statSync(path.join(folder, name)).isFile())
  return Object.fromEntries(names.map(name => [name, read(folder, name)]))
}

test('init: a project is a module, and brings what it needs by exact versions: those that Cirque itself is tested with', t => {
  const manifest = readJson(path.join(made(t), 'package.json'))
  const ours = readJson(path.join(ROOT, 'package.json'))
  assert.equal(manifest.name, 'my-edge')
  assert.equal(manifest.type, 'module')
  assert.deepEqual(manifest.optionalDependencies, ours.optionalDependencies)
  for (const [name, version] of Object.entries(manifest.devDependencies)) assert.equal(version, ours.devDependencies[name], name)
  assert.deepEqual([RUNTIMES, TOOLS], [manifest.optionalDependencies, manifest.devDependencies])
})

test('init: the container has the Node.js that the packages have, and so does what bin/cirque advises', t => {
  const [version = ''] = Object.values(RUNTIMES)
  assert.match(read(made(t), 'Dockerfile'), new RegExp(`^ARG NODE=${version}$`, 'm'))
  assert.match(read(ROOT, 'bin/cirque'), new RegExp(`^pinned_version=${version}$`, 'm'))
})

test('init: the container is built in two stages, runs as an ordinary user without a shell, and says whether it is healthy', t => {
  const folder = made(t)
  const steps = read(folder, 'Dockerfile').replaceAll('\\\n', ' ').split('\n').filter(line => /^[A-Z]+ /.test(line))
  const of = (word: string): string[] => steps.filter(line => line.startsWith(`${word} `)).map(line => line.slice(word.length + 1).trim())
  assert.equal(of('FROM').length, 2)
  const last = steps.findLastIndex(line => line.startsWith('FROM '))
  const user = steps.findLastIndex(line => line.startsWith('USER '))
  assert.deepEqual(of('USER'), ['node'])
  assert.ok(user > last && steps.slice(user).every(line => !/^(?:RUN|COPY|ADD) /.test(line)), 'nothing is written behind USER')
  const [command = ''] = of('CMD')
  assert.deepEqual(JSON.parse(command), ['node_modules/.bin/cirque', 'run', 'app.ts'])
  const [healthcheck = ''] = of('HEALTHCHECK')
  const check = JSON.parse(healthcheck.slice(healthcheck.indexOf('CMD ') + 4)) as string[]
  assert.deepEqual(check.slice(0, 2), ['node', '--eval'])
  assert.doesNotThrow(() => new Function(check[2] ?? '')) // oxlint-disable-line no-new-func
  // What it asks is what the container opens.
  const asked = new URL(/http:[^']+/.exec(check[2] ?? '')?.[0] ?? '')
  assert.ok(of('EXPOSE').join(' ').split(' ').includes(asked.port))
  assert.ok(of('ENV').join(' ').includes(`CIRQUE_SUPERVISOR_ADMIN_ADDRESS=0.0.0.0:${asked.port}`))
  const ignored = read(folder, '.dockerignore').split('\n')
  for (const name of ['node_modules', '.git']) assert.ok(ignored.includes(name), name)
})

test('init: the unit runs the release that current leads to, as a user and in a state folder of its own', t => {
  const folder = made(t)
  const unit = read(folder, 'my-edge.service')
  const current = '/opt/my-edge/current'
  assert.ok(unit.includes(`\nExecStart=${current}/node_modules/.bin/cirque run -c ${current}/cirque.yaml ${current}/app.ts\n`))
  assert.ok(unit.includes(`\nExecReload=${current}/node_modules/.bin/cirque reload\n`))
  for (const line of ['User=my-edge', 'Group=my-edge', 'RuntimeDirectory=my-edge']) assert.ok(unit.split('\n').includes(line), line)
  // Every setting of the unit that Cirque comes with is there, and nothing of it is called cirque any more.
  const keys = (text: string): string[] => [...text.matchAll(/^([A-Z]\w+)=/gm)].map(match => match[1] ?? '')
  assert.deepEqual(keys(unit), keys(read(ROOT, 'scripts/systemd/cirque.service')))
  assert.doesNotMatch(unit, /(?:opt|run)\/cirque\b|=cirque$/m)
})

test('init: a folder that is there is used when it is empty, and refused untouched, in one sentence, when it is not', t => {
  const folder = temporaryFolder(t)
  fs.mkdirSync(path.join(folder, 'empty'))
  assert.equal(createProject('empty', folder).folder, path.join(folder, 'empty'))
  fs.mkdirSync(path.join(folder, 'repository/.git'), { recursive: true })
  assert.ok(createProject('repository', folder).files.length > 0)
  for (const name of ['.hidden', 'package.json', 'sub/file']) {
    const used = path.join(folder, name.replaceAll(/\W/g, '-'))
    writeTree(used, { [name]: 'mine' })
    assert.throws(() => createProject(used, folder), (error: ProjectError) => {
      assert.match(error.message, /^\S+ is not empty \([^\n]+\); use [^\n]+$/)
      return error instanceof ProjectError && !error.usage
    })
    assert.deepEqual(contents(used), { [name]: 'mine' })
  }
})

test('init: a file in the place of the folder, or of one above it, is told and left alone', t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { file: 'mine' })
  fs.symlinkSync('nowhere', path.join(folder, 'dangling'))
  for (const name of ['file', 'file/below', 'dangling']) {
    assert.throws(() => createProject(name, folder), /is a file, or lies in one; use another name$|cannot be made \(\w+\)/, name)
  }
  assert.deepEqual(fs.readdirSync(folder).toSorted(), ['dangling', 'file'])
})

test('init: names of folders become names of packages and of services; those that cannot are refused', t => {
  const folder = temporaryFolder(t)
  const names = { 'My Edge': 'my-edge', 'edge.v2': 'edge-v2', '@scope/edge': 'edge', 'a/b/c': 'c', '007-edge_': 'edge', 'größe': 'gr-e' }
  for (const [given, name] of Object.entries(names)) {
    const project = createProject(given, folder)
    assert.equal(project.name, name, given)
    assert.equal(readJson(path.join(folder, given, 'package.json')).name, name)
    assert.ok(fs.existsSync(path.join(folder, given, `${name}.service`)))
  }
  const before = fs.readdirSync(folder)
  for (const given of ['cirque', 'Cirque', 'typescript', '123', '__', 'x'.repeat(33)]) {
    assert.throws(() => createProject(given, folder), (error: ProjectError) => error instanceof ProjectError && error.usage, given)
  }
  assert.deepEqual(fs.readdirSync(folder), before)
})

test('init: the folder that one is in will do as well, and says no cd', t => {
  const folder = path.join(temporaryFolder(t), 'here')
  fs.mkdirSync(folder)
  const before = process.cwd()
  process.chdir(folder)
  t.after(() => process.chdir(before))
  const said = init(['.'])
  assert.match(said, /^Made here in /)
  assert.doesNotMatch(said, /^ *cd /m)
  assert.match(said, /^ *npm install /m)
})

test('init: what comes next can be pasted, whatever the folder is called', t => {
  const folder = temporaryFolder(t)
  const before = process.cwd()
  process.chdir(folder)
  t.after(() => process.chdir(before))
  assert.match(init(['edge']), /^ {2}cd edge$/m)
  assert.match(init(["Bob's edge"]), /^ {2}cd 'Bob'\\''s edge'$/m)
})

test('init: wrong usage makes nothing and says the right one', t => {
  const folder = temporaryFolder(t)
  const before = process.cwd()
  process.chdir(folder)
  t.after(() => process.chdir(before))
  for (const args of [[], [''], ['a', 'b'], ['--template', 'x'], ['x', '-y']]) {
    assert.throws(() => init(args), (error: ProjectError) => error.usage && !error.message.includes('\n'), args.join(' '))
  }
  assert.match(init(['--help']), /^usage: cirque init NAME/)
  assert.deepEqual(fs.readdirSync(folder), [])
})

test('init: what it writes can be edited, whatever the modes of the installation are', t => {
  const folder = made(t)
  for (const name of fs.readdirSync(folder)) assert.equal(fs.statSync(path.join(folder, name)).mode & 0o200, 0o200, name)
})

test('init: no file of a project speaks of the template any more', t => {
  for (const [name, text] of Object.entries(contents(made(t)))) assert.doesNotMatch(text, /PROJECT/, name)
})

test('init: a project asks for the same Cirque: a checkout, a packed file, or a version', t => {
  const folder = temporaryFolder(t)
  writeTree(folder, { 'cirque-0.1.0.tgz': '', 'checkout/package.json': '' })
  const modules = path.join(folder, 'project/node_modules')
  const of = (resolved: unknown): string => {
    writeTree(modules, { '.package-lock.json': JSON.stringify({ packages: { 'node_modules/cirque': { resolved } } }) })
    return dependencyOn({ folder: path.join(modules, 'cirque'), name: 'cirque', version: '0.1.0' })
  }
  assert.equal(dependencyOn({ folder: path.join(folder, 'checkout'), name: 'cirque', version: '0.1.0' }), `file:${folder}/checkout`)
  assert.equal(dependencyOn({ folder: path.join(modules, 'cirque'), name: 'cirque', version: '0.1.0' }), '0.1.0')
  assert.equal(of('file:../cirque-0.1.0.tgz'), `file:${folder}/cirque-0.1.0.tgz`)
  assert.equal(of('file:../gone.tgz'), '0.1.0')
  for (const other of ['somewhere/cirque-0.1.0.tgz', undefined, 5, null]) assert.equal(of(other), '0.1.0')
  writeTree(modules, { '.package-lock.json': '[' })
  assert.equal(dependencyOn({ folder: path.join(modules, 'cirque'), name: 'cirque', version: '0.1.0' }), '0.1.0')
  assert.equal(dependencyOn({ folder: path.join(modules, 'create-cirque'), name: 'create-cirque', version: '0.1.0' }), '0.1.0')
})
