/** This checkout as a newcomer has it behind `git clone` and `npm ci`, on a machine that came with an older Node.js. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { runtimeFault } from '../../src/runtime-check.ts'
import { requireProgram } from './programs.ts'
import { temporaryFolder } from './temporary-folder.ts'

const ROOT = path.join(import.meta.dirname, '../..')

/** Its folder: what git tracks, as it is now, and the packages; nothing that was built. Null after the test was marked as skipped. */
export function cleanClone(t: TestContext): string | null {
  const git = requireProgram(t, 'git')
  if (git === null) return null
  const folder = path.join(temporaryFolder(t), 'clone')
  const tracked = execFileSync(git, ['-C', ROOT, 'ls-files', '-z'], { encoding: 'utf8' }).split('\0')
  // The index may still name what was removed here.
  const present = tracked.filter(name => name !== '' && existsSync(path.join(ROOT, name)))
  for (const name of present) cpSync(path.join(ROOT, name), path.join(folder, name))
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  return folder
}

/**
 * The environment of a shell in which `node` is one that is too old for Cirque, and that no npm has started. Null after the
 * test was marked as skipped, because the PATH has no such `node`.
 */
export function olderNode(t: TestContext): NodeJS.ProcessEnv | null {
  const folders = (process.env['PATH'] ?? '').split(path.delimiter).filter(folder => !folder.endsWith('node_modules/.bin'))
  const found = folders.find(folder => {
    const { stdout } = spawnSync(path.join(folder, 'node'), ['--version'], { encoding: 'utf8' })
    return typeof stdout === 'string' && stdout.startsWith('v') && runtimeFault(stdout.trim().slice(1), '') !== null
  })
  if (found === undefined) {
    t.skip('node: none in the PATH that is too old for Cirque')
    return null
  }
  const own = Object.entries(process.env).filter(([name]) => !/^(?:npm_|NODE_)/.test(name))
  return { ...Object.fromEntries(own), PATH: [found, ...folders].join(path.delimiter) }
}
