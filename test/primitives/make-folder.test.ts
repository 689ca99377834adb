import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { makeFolder } from '../../src/primitives/make-folder.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('make folder: with those above it, and again', t => {
  const folder = path.join(temporaryFolder(t), 'a/b/c')
  makeFolder(folder, 0o700)
  makeFolder(folder, 0o700)
  assert.equal(fs.statSync(folder).mode & 0o777, 0o700)
})

test('make folder: where the system says no, it says so at once', { skip: process.platform !== 'linux' }, t => {
  const file = path.join(temporaryFolder(t), 'file')
  fs.writeFileSync(file, '')
  assert.throws(() => makeFolder('/proc/x/y'), { code: 'ENOENT' })
  assert.throws(() => makeFolder(path.join(file, 'x/y')), { code: 'ENOTDIR' })
})
