import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { LOG_DEFAULTS } from '../../src/config/log-options.ts'
import { ConfigError } from '../../src/config/server-config.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { checkLogFiles, fileProblem } from '../../supervisor/log-files.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const OURSELVES = { uid: null, gid: null }
const isRoot = process.geteuid?.() === 0

test('log files: what could not be opened is told, and nothing is made for that', t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'access.log')
  assert.equal(fileProblem(file, OURSELVES), '')
  assert.equal(fileProblem(path.join(folder, 'missing/access.log'), OURSELVES), 'whose folder does not exist')
  assert.equal(fileProblem(folder, OURSELVES), 'which is a folder')
  assert.deepEqual(fs.readdirSync(folder), [])
  fs.writeFileSync(file, '')
  assert.equal(fileProblem(file, OURSELVES), '')
  assert.equal(fileProblem(path.join(file, 'x'), OURSELVES), 'whose folder is no folder')
  assert.equal(fileProblem(path.join(file, 'x/y'), OURSELVES), 'whose folder does not exist')
  assert.match(fileProblem(path.join(folder, 'x'.repeat(5_000)), OURSELVES), /ENAMETOOLONG/)
  assert.equal(fileProblem('/dev/full', OURSELVES), '', 'a full disk may have room later')
})

test('log files: rights are those of the user who writes', t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'access.log')
  const [uid, gid] = [process.geteuid!() + 1, process.getegid!() + 1]
  const asOther = (mode: number): string => {
    fs.chmodSync(folder, mode)
    return fileProblem(file, { uid, gid })
  }
  assert.equal(asOther(0o755), 'which cannot be made in its folder')
  assert.equal(asOther(0o757), '')
  fs.chmodSync(folder, 0o775)
  assert.equal(fileProblem(file, { uid, gid: process.getegid!() }), '', 'a folder of its group')
  fs.writeFileSync(file, '')
  fs.chmodSync(file, 0o644)
  assert.equal(fileProblem(file, { uid, gid }), 'which cannot be written to')
  fs.chmodSync(file, 0o646)
  assert.equal(fileProblem(file, { uid, gid }), '')
})

test('log files: our own rights are the system\'s to say', { skip: isRoot ? 'root may write anywhere' : false }, t => {
  const folder = temporaryFolder(t)
  fs.chmodSync(folder, 0o500)
  assert.equal(fileProblem(path.join(folder, 'access.log'), OURSELVES), 'which cannot be made in its folder')
  fs.chmodSync(folder, 0o700)
})

test('log files: every log of a configuration is checked, for whoever writes to it', t => {
  const folder = temporaryFolder(t)
  const check = (log: Partial<typeof LOG_DEFAULTS>, user = ''): string => {
    try {
      checkLogFiles({ log: { ...LOG_DEFAULTS, ...log }, supervisor: resolveSupervisorOptions({ user }) })
      return ''
    } catch (error) {
      assert.ok(error instanceof ConfigError)
      return error.message
    }
  }
  fs.chmodSync(folder, 0o700)
  const inside = (name: string): string => path.join(folder, name)
  assert.equal(check({}), '')
  assert.equal(check({ access: 'off' }), '')
  assert.equal(check({ access: inside('a.log'), process: inside('p.log') }), '')
  const socket = 'syslog:udp:127.0.0.1:514'
  assert.equal(check({ access: socket, process: socket }), '')
  const found = `found ${inside('x/a.log')}, whose folder does not exist`
  const expected = 'a file in a folder that is there, which can be written to'
  assert.equal(check({ access: inside('x/a.log') }), `configuration: log.access: ${found}; expected ${expected}`)
  assert.equal(check({ access: inside('x/a.log'), process: inside('y/p.log') }).split('\n').length, 2)
  const other = String(process.geteuid!() + 1)
  const both = check({ access: inside('a.log'), process: inside('p.log') }, other)
  assert.match(both, /log\.process: .* for the user of the workers;.*\n.*log\.access: /)
})
