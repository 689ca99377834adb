/**
 * The package as others get it: built, packed, unpacked into a project of plain JavaScript, imported, type-checked and
 * run. Its dependencies are linked from here, so no registry is asked.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, symlinkSync } from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { buildCreator, buildPackage, type publishedManifest } from '../../scripts/build-package.ts'
import { linkTarget } from '../../scripts/page-links.ts'
import { importsOf } from '../../scripts/source-text.ts'
import * as source from '../../src/index.ts'
import * as kit from '../../src/kit/index.ts'
import type { StatusPage } from '../../supervisor/status-page.ts'
import { olderNode } from '../support/clean-clone.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'cirque-')))
const project = path.join(folder, 'project')
const installed = path.join(project, 'node_modules/cirque')
const built = path.join(folder, 'package')
/** What the packed file holds, relative to the package. */
let packed: string[] = []

/** @returns the path of the packed file, and what it holds. */
function pack(source: string): { file: string; files: string[] } {
  const [{ filename, files }] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], source)) as [
    { filename: string; files: { path: string }[] },
  ]
  return { file: path.join(folder, filename), files: files.map(file => file.path) }
}

function unpack(file: string, target: string): void {
  mkdirSync(target, { recursive: true })
  run('tar', ['--extract', '--gzip', '--file', file, '--strip-components', '1', '--directory', target], target)
}

function run(command: string, args: readonly string[], cwd: string = project): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${error?.message ?? ''}\n${stdout}\n${stderr}`)
  return stdout
}

before(() => {
  buildPackage(built)
  const { file, files } = pack(built)
  packed = files
  unpack(file, installed)
  mkdirSync(path.join(project, 'node_modules/.bin'))
  symlinkSync('../cirque/bin/cirque', path.join(project, 'node_modules/.bin/cirque'))
  const { dependencies } = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of [...Object.keys(dependencies), '@types/node']) {
    mkdirSync(path.dirname(path.join(project, 'node_modules', name)), { recursive: true })
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(project, 'node_modules', name))
  }
  writeTree(project, { 'package.json': '{ "name": "project", "private": true, "type": "module" }' })
})
after(() => rmSync(folder, { recursive: true, force: true }))

test('package: it holds JavaScript and declarations, the command, its licence and its pages, nothing else', () => {
  for (const name of ['dist/src/index.js', 'dist/src/index.d.ts', 'dist/workers/main.js', 'dist/supervisor/cli.js']) {
    assert.ok(packed.includes(name), name)
  }
  for (const name of packed) {
    assert.match(
      name,
      new RegExp([
        String.raw`^(?:dist/(?:create|examples|src|supervisor|workers)/.*\.(?:[mc]?js|d\.ts)|bin/cirque|LICENSE|package\.json`,
        String.raw`dist/supervisor/status-page\.html`,
        String.raw`dist/create/template/.*|examples/[\w-]+\.(?:ts|conf)`,
        String.raw`(?:docs|src/proxy|supervisor|scripts/systemd)/[\w-]+\.md|README\.md`,
        String.raw`scripts/systemd/[\w-]+\.(?:conf|service|socket))$`,
      ].join('|')),
    )
  }
  assert.equal(statSync(path.join(installed, 'bin/cirque')).mode & 0o111, 0o111)
})

test('package: the status page lies beside the code that shows it', async () => {
  const file = path.join(installed, 'dist/supervisor/status-page.js')
  const { statusPage } = await import(file) as { statusPage: () => StatusPage }
  assert.equal(statusPage().html, readFileSync(path.join(ROOT, 'supervisor/status-page.html'), 'utf8'))
})

test('package: every link of its pages leads to a file of the package', () => {
  const pages = packed.filter(name => name.endsWith('.md') && !name.includes('/template/'))
  assert.ok(['README.md', 'src/proxy/README.md', 'supervisor/README.md'].every(name => pages.includes(name)), pages.join(' '))
  let followed = 0
  for (const page of pages) {
    for (const [, link = ''] of readFileSync(path.join(installed, page), 'utf8').matchAll(/\]\(([^()\s]+)\)/g)) {
      const target = linkTarget(page, link)
      if (target === null) continue
      followed++
      assert.ok(packed.some(name => name === target || name.startsWith(`${target}/`)), `${page} links to ${link}`)
    }
  }
  assert.ok(followed > 5)
})

test('package: its package.json has the dependencies, and neither the runtime nor the tools', () => {
  const manifest = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as Record<string, unknown>
  const ours = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Parameters<typeof publishedManifest>[0]
  assert.deepEqual(manifest['dependencies'], ours.dependencies)
  for (const key of ['optionalDependencies', 'devDependencies', 'scripts', 'private', 'devEngines']) {
    assert.equal(manifest[key], undefined, key)
  }
  // To be installed with: the one that it serves with comes as a package.
  assert.deepEqual(manifest['engines'], { node: '>=20' })
})

test('package: every package that it imports is one of its dependencies', () => {
  const { name: itself, dependencies } = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as {
    name: string
    dependencies: Record<string, string>
  }
  const imported = new Set<string>()
  const compiled = readdirSync(path.join(installed, 'dist'), { recursive: true, encoding: 'utf8' })
  for (const name of compiled.filter(file => file.endsWith('.js'))) {
    const text = readFileSync(path.join(installed, 'dist', name), 'utf8')
    for (const { specifier } of importsOf(text)) {
      assert.ok(!specifier.endsWith('.ts'), `${name} imports ${specifier}`)
      if (!specifier.startsWith('.') && !specifier.startsWith('node:')) imported.add(specifier)
    }
  }
  // Its examples import it by name, as a user's copies of them do.
  assert.deepEqual([...imported].filter(name => name.split('/')[0] !== itself && !Object.hasOwn(dependencies, name)), [])
})

test('package: a JavaScript project imports the same names as the source exports, and runs a request', () => {
  writeTree(project, {
    'names.js': `
      import * as cirque from 'cirque'
      import * as kit from 'cirque/kit'
      console.log(JSON.stringify([cirque, kit].map(names => Object.keys(names).sort())))`,
    'request.js': `
      import http from 'node:http'
      import { once } from 'node:events'
      import { HttpPeer, Server, httpProxyService } from 'cirque'
      const origin = http.createServer((request, response) => response.end('from the origin: ' + request.url)).listen(0, '127.0.0.1')
      await once(origin, 'listening')
      const server = new Server()
      const upstreamPeer = () => new HttpPeer('127.0.0.1:' + origin.address().port)
      server.addService(httpProxyService({ newCtx: () => undefined, upstreamPeer }).addTcp('127.0.0.1:0'))
      const [{ address }] = await server.start()
      console.log(await (await fetch('http://' + address + '/path', { headers: { connection: 'close' } })).text())
      await server.stop()
      origin.close()
      origin.closeAllConnections()`,
  })
  assert.deepEqual(JSON.parse(run(process.execPath, ['names.js'])), [source, kit].map(names => Object.keys(names).toSorted()))
  assert.equal(run(process.execPath, ['request.js']), 'from the origin: /path\n')
})

test('package: its declarations and the TypeScript of README.md pass a strict check', () => {
  const blocks = [...readFileSync(path.join(installed, 'README.md'), 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(match => match[1] ?? '')
  assert.ok(blocks.length >= 3)
  writeTree(project, {
    'tsconfig.json': JSON.stringify({
      compilerOptions: {
        target: 'esnext', lib: ['esnext'], module: 'nodenext', types: ['node'], strict: true, noEmit: true,
        skipLibCheck: false, exactOptionalPropertyTypes: true,
      },
      include: ['*.ts'],
    }),
    ...Object.fromEntries(blocks.map((block, index) => [`readme-${index}.ts`, block])),
  })
  run(path.join(ROOT, 'node_modules/.bin/tsc'), ['--project', '.'])
})

test('package: its examples are there to be copied, and run as they are', async t => {
  const examples = packed.filter(name => name.startsWith('examples/') && name.endsWith('.ts'))
  assert.ok(examples.length > 0)
  writeTree(project, Object.fromEntries(examples.map(name => [name, readFileSync(path.join(installed, name), 'utf8')])))
  run(path.join(ROOT, 'node_modules/.bin/tsc'), [
    '--noEmit', '--strict', '--target', 'esnext', '--module', 'nodenext', '--types', 'node', '--allowImportingTsExtensions',
    '--ignoreConfig', ...examples,
  ])
  const output = run(path.join(project, 'node_modules/.bin/cirque'), ['validate', path.join(installed, 'dist/examples/load-balancer.js')])
  assert.match(output, /load-balancer\.js is fine/)
  t.diagnostic(output)
})

test('package: packing the source is refused with the way to the package', () => {
  const { status, stderr } = spawnSync('npm', ['pack', '--dry-run'], { cwd: ROOT, encoding: 'utf8' })
  assert.notEqual(status, 0)
  assert.match(stderr, /cirque: this folder is the source, [^\n]* npm run build && npm pack \.\/build\/package$/m)
})

test('package: nothing that npm ci installs here runs a script of its own', () => {
  const read = (name: string): unknown => JSON.parse(readFileSync(path.join(ROOT, name), 'utf8'))
  const { packages } = read('package-lock.json') as { packages: Record<string, { hasInstallScript?: boolean }> }
  const { allowScripts } = read('package.json') as { allowScripts: Record<string, boolean> }
  // The one of protobufjs, which comes with the OpenTelemetry SDK, compares versions and prints what it thinks of them.
  assert.deepEqual(allowScripts, { protobufjs: false })
  const having = Object.keys(packages).filter(name => packages[name]?.hasInstallScript === true)
  assert.deepEqual(having, ['node_modules/protobufjs'])
})

test('package: an older Node.js makes a project with its command, and with create-cirque, from folders that nobody may write to', t => {
  const env = olderNode(t)
  if (env === null) return
  const creator = path.join(folder, 'create-cirque')
  buildCreator(creator, built)
  const { file, files } = pack(creator)
  for (const name of files) assert.match(name, /^(?:package\.json|LICENSE|dist\/create\/.*|scripts\/systemd\/cirque\.service)$/)
  const shelf = path.join(folder, 'read-only')
  unpack(pack(built).file, path.join(shelf, 'node_modules/cirque'))
  unpack(file, path.join(shelf, 'node_modules/create-cirque'))
  run('chmod', ['--recursive', 'a-w', shelf], folder)
  t.after(() => run('chmod', ['--recursive', 'u+w', shelf], folder))
  const target = temporaryFolder(t)
  const create = path.join(shelf, 'node_modules/create-cirque', 'dist/create/main.js')
  const commands: readonly [string, string[]][] = [
    [path.join(shelf, 'node_modules/cirque/bin/cirque'), ['init', 'one']], [create, ['two']],
  ]
  for (const [command, args] of commands) {
    const ended: SpawnSyncReturns<string> = spawnSync(command, args, { cwd: target, encoding: 'utf8', env })
    assert.deepEqual([ended.status, ended.stderr], [0, ''], ended.stdout)
    assert.match(ended.stdout, /^ {2}npm install /m)
  }
  assert.deepEqual(readdirSync(target).toSorted(), ['one', 'two'])
  const names = (name: string): string[] => readdirSync(path.join(target, name)).filter(file => !file.endsWith('.service'))
  assert.deepEqual(names('one'), names('two'))
  const again = spawnSync(create, ['one'], { cwd: target, encoding: 'utf8', env })
  assert.equal(again.status, 1)
  assert.match(again.stderr, /^cirque: \S+\/one is not empty \([^\n]+\n$/)
})

test('package: an older Node.js is told by each way in what would do, in one line', t => {
  const env = olderNode(t)
  if (env === null) return
  writeTree(project, { 'older.js': "import 'cirque'\n" })
  for (const entry of ['older.js', 'node_modules/cirque/dist/supervisor/cli.js', 'node_modules/cirque/dist/supervisor/main.js']) {
    const { status, stdout, stderr }: SpawnSyncReturns<string> = spawnSync('node', [entry], { cwd: project, encoding: 'utf8', env })
    assert.deepEqual([status, stdout], [2, ''], `${entry}: ${stderr}`)
    assert.match(stderr, /^cirque: needs Node\.js 26\.9 or newer, found v[\d.]+ at [^\n]+\n$/, entry)
  }
})

test('package: its command runs an application of the project under its own supervisor', async t => {
  const origin = http.createServer((_, response) => response.end('from the origin')).listen(0, '127.0.0.1')
  await once(origin, 'listening')
  t.after(() => { origin.close(); origin.closeAllConnections() })
  writeTree(project, {
    'app.js': `
      import { HttpPeer, Server, httpProxyService } from 'cirque'
      const server = new Server()
      const upstreamPeer = () => new HttpPeer('127.0.0.1:${(origin.address() as net.AddressInfo).port}')
      server.addService(httpProxyService({ newCtx: () => undefined, upstreamPeer }).addTcp('127.0.0.1:0'))
      await server.runForever()`,
  })
  const command = path.join(project, 'node_modules/.bin/cirque')
  const state = path.join(folder, 'state')
  // The package has no runtime of its own: it takes the one in the PATH, or the one that it is told.
  const env = { ...process.env, CIRQUE_NODE: process.execPath }
  const child = spawn(command, ['run', 'app.js', '--workers', '1', '--state-dir', state], {
    cwd: project, env, stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line)
    if (line.includes('"msg":"running"')) break
  }
  const running = JSON.parse(lines.at(-1) ?? '{}') as { listeners?: string[] }
  assert.equal(running.listeners?.length, 1, lines.join('\n'))
  assert.equal(await (await fetch(`http://${running.listeners?.[0]}/`)).text(), 'from the origin')
  child.kill('SIGTERM')
  assert.deepEqual(await exited, [0, null])
})
