/**
 * `npm run build`: writes build/package/, the folder that is packed and published. Node refuses TypeScript under
 * node_modules, so what is published is JavaScript with declarations: dist/{src,supervisor,workers} as they lie here.
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
  'docs', 'src/proxy/README.md', 'supervisor/README.md', 'scripts/systemd/README.md', 'scripts/systemd/90-cirque.conf',
  'scripts/systemd/cirque.service', 'scripts/systemd/cirque.socket',
]

interface Manifest {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  readonly engines: Readonly<Record<string, string>>
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, unknown>>
}

/** The package.json that is published. */
export function publishedManifest(manifest: Manifest): Record<string, unknown> {
  const { name, version, description, license, engines, dependencies, peerDependencies, peerDependenciesMeta } = manifest
  return {
    name, version, description, license,
    type: 'module',
    bin: { cirque: 'bin/cirque' },
    exports: { '.': { types: './dist/src/index.d.ts', default: './dist/src/index.js' }, './package.json': './package.json' },
    files: ['bin', 'dist', ...PAGES],
    engines, dependencies,
    ...(peerDependencies === undefined ? {} : { peerDependencies }),
    ...(peerDependenciesMeta === undefined ? {} : { peerDependenciesMeta }),
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
  // Are JavaScript already.
  for (const name of ['supervisor/keep-signals.mjs', 'workers/loop-watch-thread.cjs']) {
    cpSync(path.join(ROOT, name), path.join(target, 'dist', name))
  }
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

if (import.meta.main) {
  const target = path.join(ROOT, 'build/package')
  buildPackage(target)
  console.log(`wrote ${path.relative(process.cwd(), target)}`)
}
