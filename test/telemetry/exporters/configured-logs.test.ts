import assert from 'node:assert/strict'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { LOG_DEFAULTS } from '../../../src/config/log-options.ts'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import { openLogs } from '../../../src/telemetry/exporters/configured-logs.ts'
import { FakeClock } from '../../support/fake-clock.ts'
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
  // Until the new file is open, which the log hears of later than the file is there, lines go to the old one.
  for (const file of files) {
    await waitFor(`a line in the new ${file}`, () => {
      write('after')
      return existsSync(file) && readFileSync(file).length > 0
    })
  }
  await logs.close()
  for (const file of files) {
    assert.match(readFileSync(`${file}.1`, 'utf8'), /^[^\n]*before[^\n]*\n([^\n]*after[^\n]*\n)*$/)
    assert.match(readFileSync(file, 'utf8'), /^([^\n]*after[^\n]*\n)+$/)
  }
  assert.match(readFileSync(files[1], 'utf8'), /"worker":"3\.1\.2","gen":3/)
})

test('configured logs: another level holds until it is taken back to what is configured', async t => {
  const file = path.join(temporaryFolder(t), 'process.log')
  const logs = openLogs({ ...LOG_DEFAULTS, level: 'warn', process: file }, 'supervisor', null)
  const say = (): void => {
    logs.log.info('info')
    logs.log.warn('warn')
  }
  logs.setLevel('info')
  say()
  logs.setLevel(null)
  say()
  await logs.close()
  assert.deepEqual([...readFileSync(file, 'utf8').matchAll(/"msg":"(\w+)"/g)].map(([, msg]) => msg), ['info', 'warn', 'warn'])
})

test('configured logs: the access log is off when asked, and absent in the supervisor', async () => {
  for (const [access, worker] of [['off', { id: '1.0.0', generation: 1 }], ['stdout', null]] as const) {
    const logs = openLogs({ ...LOG_DEFAULTS, process: '/dev/null', access }, 'x', worker)
    assert.equal(logs.accessLog, null)
    await logs.close()
  }
})

test('configured logs: a log that cannot be written is told to the process log once a period, with what was lost, and counted', async t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'process.log'), clock = new FakeClock()
  const logs = openLogs({ ...LOG_DEFAULTS, process: file, access: '/dev/full', maxLogQueueBytes: 65_536 }, 'worker 1.0.1', {
    id: '1.0.1', generation: 1,
  }, clock)
  const error = new ProxyError('BAD_HEAD', 'downstream', 'no')
  const lines = (): Record<string, unknown>[] => (
    readFileSync(file, 'utf8').split('\n').slice(0, -1).map(line => JSON.parse(line) as Record<string, unknown>)
  )
  logs.accessLog!.refused('a', '::1', error, 'PE', 0)
  await waitFor('the first failure', () => logs.counts.logFaults > 0 && lines().length > 0)
  assert.match(String(lines()[0]!['error']), /dev\/full.*ENOSPC/)
  for (let line = 0; line < 1000; line++) logs.accessLog!.refused('a', '::1', error, 'PE', 0)
  const { logLinesDropped } = logs.counts
  assert.ok(logLinesDropped > 500, String(logLinesDropped))
  clock.advance(10_000)
  logs.accessLog!.refused('a', '::1', error, 'PE', 0)
  await waitFor('the next line', () => lines().length > 1)
  const [, second] = lines()
  assert.ok(Number(second!['suppressed']) >= logLinesDropped)
  assert.equal(second!['dropped'], logLinesDropped + 1)
  assert.equal(lines().length, 2)
  await logs.close()
})

test('configured logs: a file whose folder is gone when it is opened anew leaves the old one in use, and is found later', async t => {
  const folder = temporaryFolder(t), inner = path.join(folder, 'logs'), access = path.join(inner, 'access.log')
  const logs = openLogs({ ...LOG_DEFAULTS, process: path.join(folder, 'process.log'), access }, 'x', { id: '1.0.1', generation: 1 })
  const error = new ProxyError('BAD_HEAD', 'downstream', 'no')
  renameSync(inner, `${inner}.1`)
  writeFileSync(inner, 'no folder')
  logs.reopen()
  await waitFor('the failure', () => logs.counts.logFaults > 0)
  logs.accessLog!.refused('kept', '::1', error, 'PE', 0)
  await waitFor('a line in the old file', () => readFileSync(`${inner}.1/access.log`, 'utf8').includes('kept'))
  rmSync(inner)
  // The file is there a moment before lines go to it.
  await waitFor('a line in the new file', () => {
    logs.accessLog!.refused('after', '::1', error, 'PE', 0)
    return existsSync(access) && readFileSync(access, 'utf8').includes('after')
  })
  await logs.close()
})
