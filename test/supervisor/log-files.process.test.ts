/** What is found out of the syslog of this machine, for which system calls are asked. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { syslogProblem } from '../../supervisor/log-files.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const linux = { skip: process.platform !== 'linux' }

test('log files: a syslog that no receiver could mend is a mistake; one that is not there yet is none', linux, t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'file')
  fs.writeFileSync(file, '')
  const off = { CIRQUE_SYSTEM_CALLS: 'off' }
  assert.equal(syslogProblem('syslog:unix:/dev/log', off), 'which needs system calls, and they are not available (CIRQUE_SYSTEM_CALLS=off)')
  assert.equal(syslogProblem('syslog:udp:127.0.0.1:514', off), '')
  assert.equal(syslogProblem(`syslog:unix:${file}`, {}), 'which is no socket')
  assert.equal(syslogProblem(`syslog:unix:${folder}/there/log`, {}), 'whose folder does not exist')
  assert.equal(syslogProblem(`syslog:unix:${file}/log`, {}), 'whose folder does not exist')
  assert.equal(syslogProblem(`syslog:unix:${folder}/later?facility=daemon`, {}), '')
})
