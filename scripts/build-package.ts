/**
 * `npm run build`: writes build/package/, the folder that is packed and published. Node refuses TypeScript under
 * node_modules, so what is published is JavaScript with declarations: dist/{create,examples,src,supervisor,workers} as they
 * lie here. The examples come as TypeScript as well, to be read and copied.
 * Its package.json is made from ours, less what belongs to the repository: scripts, tools, and the pinned runtime, which
 * would come first in the PATH of an application's own npm scripts. Pages keep their places, so that their links lead to
 * one another; a link to a file that is not published becomes plain text.
 */
import '../src/runtime-check.ts'
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { listPages, withoutDeadLinks } from './page-links.ts'

const ROOT = path.join(import.meta.dirname, '..')

/** What is published as it lies here, besides README.md, the licence and the command: what an application, or an operator, reads. */
const PAGES: readonly string[] = [
  'docs', 'examples', 'src/proxy/README.md', 'supervisor/README.md', 'scripts/systemd/README.md', 'scripts/systemd/90-cirque.conf',
  'scripts/systemd/cirque.service', 'scripts/systemd/cirque.socket',
]

/** Not compiled: JavaScript as it is, the status page, and the files that a project is made from. */
const AS_THEY_ARE: readonly string[] = [
  'supervisor/keep-signals.mjs', 'supervisor/status-page.html', 'workers/loop-watch-thread.cjs', 'create/template',
]
/** What makes a project, in both packages. */
const CREATOR: readonly string[] = ['dist/create', 'scripts/systemd/cirque.service', 'LICENSE']
/** Packages are installed and started with this; npm may run on it, and bin/cirque finds or asks for the one to serve with. */
const INSTALLS_WITH = { node: '>=20' }

interface Manifest {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  readonly dependencies: Readonly<Record<string, string>>
}

/** The package.json that is published. */
export function publishedManifest(manifest: Manifest): Record<string, unknown> {
  const { name, version, description, license, dependencies } = manifest
  return {
    name, version, description, license,
    type: 'module',
    bin: { cirque: 'bin/cirque' },
    exports: {
      '.': { types: './dist/src/index.d.ts', default: './dist/src/index.js' },
      './kit': { types: './dist/src/kit/index.d.ts', default: './dist/src/kit/index.js' },
      './package.json': './package.json',
    },
    files: ['bin', 'dist', ...PAGES],
    engines: INSTALLS_WITH, dependencies,
    // The declarations name types of Node.js: said, and for who writes plain JavaScript not asked for.
    peerDependencies: { '@types/node': '*' }, peerDependenciesMeta: { '@types/node': { optional: true } },
  }
}

/** @throws with the compiler's own words when it finds a fault. */
export function buildPackage(target: string): void {
  rmSync(target, { recursive: true, force: true })
  mkdirSync(path.join(target, 'bin'), { recursive: true })
  const args = ['--project', 'tsconfig.build.json', '--outDir', path.join(target, 'dist')]
  const programs = `${path.join(ROOT, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`
  const { status, stdout } = spawnSync('tsc', args, { cwd: ROOT, encoding: 'utf8', env: { ...process.env, PATH: programs } })
  if (status !== 0) throw new Error(`the package does not compile:\n${stdout}`)
  for (const name of AS_THEY_ARE) cpSync(path.join(ROOT, name), path.join(target, 'dist', name), { recursive: true })
  const manifest = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Manifest
  writeFileSync(path.join(target, 'package.json'), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`)
  for (const name of ['bin/cirque', 'README.md', 'LICENSE', ...PAGES]) {
    cpSync(path.join(ROOT, name), path.join(target, name), { recursive: true })
  }
  for (const page of listPages(target)) {
    const file = path.join(target, page)
    const text = readFileSync(file, 'utf8')
    writeFileSync(file, withoutDeadLinks(page, text, name => existsSync(path.join(target, name))))
  }
  chmodSync(path.join(target, 'bin/cirque'), 0o755)
}

/** @param built where `buildPackage` has put the other one */
export function buildCreator(target: string, built: string): void {
  rmSync(target, { recursive: true, force: true })
  for (const name of CREATOR) cpSync(path.join(built, name), path.join(target, name), { recursive: true })
  const { version, license, engines } = JSON.parse(readFileSync(path.join(built, 'package.json'), 'utf8')) as Record<string, unknown>
  writeFileSync(path.join(target, 'package.json'), `${JSON.stringify({
    name: 'create-cirque', version, description: 'Makes an edge proxy of your own with Cirque: npm create cirque NAME', license,
    type: 'module', bin: { 'create-cirque': 'dist/create/main.js' }, files: CREATOR, engines,
  }, null, 2)}\n`)
  chmodSync(path.join(target, 'dist/create/main.js'), 0o755)
}

if (import.meta.main) {
  const folder = path.join(ROOT, 'build')
  const built = path.join(folder, 'package')
  const creator = path.join(folder, 'create-cirque')
  buildPackage(built)
  buildCreator(creator, built)
  for (const target of [built, creator]) console.log(`wrote ${path.relative(process.cwd(), target)}`)
}
