/** Another checkout of Cirque: whether it can be run beside this one, and which commit it holds. */
import { spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'

/** Programs that do not answer by then do not answer. */
const ANSWER_MAX_MS = 20_000
/** What the bench starts; every layout of the repository since the first bench has them. */
const NEEDED = ['src/index.ts', 'bin/cirque', 'scripts/bench/app.ts']

/** @returns what keeps the folder from being run and what would do, as the end of a sentence, or null. Reads files only. */
export function faultOfCheckout(folder: string): string | null {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return 'which is no folder; name a checkout of Cirque'
  const manifest = manifestOf(folder)
  if (manifest?.name !== 'cirque') return 'which is no checkout of Cirque (by its package.json); name one'
  const missing = NEEDED.find((file) => statSync(path.join(folder, file), { throwIfNoEntry: false }) === undefined)
  if (missing !== undefined) return `which has no ${missing}; name a checkout that has the bench`
  const absent = Object.keys(manifest.dependencies ?? {})
    .find((name) => statSync(path.join(folder, 'node_modules', name), { throwIfNoEntry: false }) === undefined)
  return absent === undefined ? null : `which lacks the package ${absent}; run npm ci there`
}

interface Manifest { readonly name?: unknown; readonly dependencies?: Readonly<Record<string, string>> }

function manifestOf(folder: string): Manifest | null {
  try {
    return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as Manifest
  } catch {
    return null // Missing or no JSON: either way the folder is not ours.
  }
}

/** @returns why the command line of that checkout does not start (a Node.js that is too old, a broken tree), or null. */
export function faultOfStart(folder: string): string | null {
  const program = path.resolve(folder, 'bin', 'cirque')
  const { status, stderr, error } = spawnSync(program, ['--version'], { encoding: 'utf8', timeout: ANSWER_MAX_MS })
  if (status === 0) return null
  const lines = (stderr ?? '').split('\n').map((line) => line.trim()).filter((line) => line !== '')
  const reason = error?.message ?? lines.find((line) => /error/i.test(line)) ?? lines[0] ?? `it ended with ${status}`
  return `whose bin/cirque does not start: ${reason}`
}

/** The folder and, where git knows it, its commit; `-dirty` when files differ from it. */
export function describeCheckout(folder: string): string {
  const full = path.resolve(folder)
  const { status, stdout } = spawnSync('git', ['-C', full, 'describe', '--always', '--dirty'], { encoding: 'utf8', timeout: ANSWER_MAX_MS })
  return status === 0 ? `${full} (${stdout.trim()})` : full
}
