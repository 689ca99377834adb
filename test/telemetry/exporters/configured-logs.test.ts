import assert from 'node:assert/strict'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { LOG_DEFAULTS } from '../../../src/config/log-options.ts'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import { openLogs } from '../../../src/telemetry/exporters/configured-logs.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { waitFor } from '../../support/wait-for.ts'

test('configured logs: both files are written, and again after they were renamed', async t => {
  const folder = temporaryFolder(t)
  const files = [path.join(folder, 'process.log'), path.join(folder, 'access.log')] as const
  const logs = openLogs({ ...LOG_DEFAULTS, level: 'warn', process: files[0], access: files[1] }, 'worker 3.1.2', {
    id: '3.1.2', generation: 3,
  })
  const write = (name: string): void => {
    logs.log.warn(name)
    logs.accessLog?.refused(name, '::1', new ProxyError('BAD_HEAD', 'downstream', 'no'), 'PE', 0)
  }
  logs.log.info('too light')
  write('before')
  for (const file of files) {
    await waitFor(`a line in ${file}`, () => existsSync(file) && readFileSync(file).length > 0)
    renameSync(file, `${file}.1`)
  }
  logs.reopen()
  for (const file of files) await waitFor(`a new ${file}`, () => existsSync(file))
  write('after')
  await logs.close()
  for (const file of files) {
    assert.match(readFileSync(`${file}.1`, 'utf8'), /^[^\n]*before[^\n]*\n$/)
    assert.match(readFileSync(file, 'utf8'), /^[^\n]*after[^\n]*\n$/)
  }
  assert.match(readFileSync(files[1], 'utf8'), /"worker":"3\.1\.2","gen":3/)
})

test('configured logs: the access log is off when asked, and absent in the supervisor', async () => {
  for (const [access, worker] of [['off', { id: '1.0.0', generation: 1 }], ['stdout', null]] as const) {
    const logs = openLogs({ ...LOG_DEFAULTS, process: '/dev/null', access }, 'x', worker)
    assert.equal(logs.accessLog, null)
    await logs.close()
  }
})
