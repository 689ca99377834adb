import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Instance } from '../../supervisor/instance-id.ts'
import { SYSTEM_DISK } from '../../supervisor/journal.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const SILENT = { info() {}, warn() {}, error() {} }

test('instance: its id is made once for a folder, and another one for another folder', t => {
  const folder = temporaryFolder(t), other = temporaryFolder(t)
  const first = new Instance(folder, SYSTEM_DISK, SILENT)
  assert.match(first.id, /^[\w-]{24}$/)
  assert.equal(first.id, first.id)
  assert.equal(new Instance(folder, SYSTEM_DISK, SILENT).id, first.id)
  assert.notEqual(new Instance(other, SYSTEM_DISK, SILENT).id, first.id)
  first.forget()
  assert.deepEqual(fs.readdirSync(folder), [])
  assert.notEqual(new Instance(folder, SYSTEM_DISK, SILENT).id, first.id)
})

test('instance: what is no id in its file is replaced, and a folder that takes none is said once', t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'instance-id'), 'a b\r\nX-Evil: 1')
  const made = new Instance(folder, SYSTEM_DISK, SILENT).id
  assert.equal(new Instance(folder, SYSTEM_DISK, SILENT).id, made)
  const said: string[] = []
  const lost = new Instance(path.join(folder, 'gone'), SYSTEM_DISK, { ...SILENT, warn: text => { said.push(text) } })
  assert.match(lost.id, /^[\w-]{24}$/)
  assert.equal(lost.id, lost.id)
  assert.equal(said.length, 1)
})
