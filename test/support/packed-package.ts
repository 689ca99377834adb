/** The package as others get it: built, packed and unpacked. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import path from 'node:path'
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { buildPackage } from '../../scripts/build-package.ts'
import { temporaryFolder } from './temporary-folder.ts'

/** @returns the folder that it was unpacked to, which is called cirque and lies in a node_modules. */
export function packedPackage(t: TestContext): string {
  const folder = temporaryFolder(t)
  const built = path.join(folder, 'built')
  buildPackage(built)
  run('npm', ['pack', '--silent', '--pack-destination', folder], built)
  const file = readdirSync(folder).find(name => name.endsWith('.tgz')) ?? ''
  const target = path.join(folder, 'node_modules/cirque')
  mkdirSync(target, { recursive: true })
  run('tar', ['--extract', '--gzip', '--file', path.join(folder, file), '--strip-components', '1', '--directory', target], folder)
  return target
}

function run(command: string, args: readonly string[], cwd: string): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  assert.equal(status, 0, `${command} ${args.join(' ')}:\n${stdout}\n${stderr}`)
}
