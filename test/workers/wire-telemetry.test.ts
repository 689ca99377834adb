import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { LOG_DEFAULTS, type ResolvedLogOptions } from '../../src/config/log-options.ts'
import { urlWithoutSecrets } from '../../src/telemetry/exporters/query-secrets.ts'
import { WorkerTelemetry } from '../../workers/wire-telemetry.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('worker telemetry: keys that an operator hides are hidden wherever this process shows a query', async () => {
  const telemetry = new WorkerTelemetry({ id: '1.0.0', generation: 1 })
  assert.equal(urlWithoutSecrets('/?pin=1&token=2'), '/?pin=1&token=***')
  telemetry.configure({ ...LOG_DEFAULTS, process: '/dev/null', access: 'off', redactQueryKeys: ['pin'] })
  assert.equal(urlWithoutSecrets('/?pin=1&token=2'), '/?pin=***&token=***')
  await telemetry.close()
})

test('worker telemetry: what a supervisor of an older build does not say is as it is by default', async t => {
  const access = path.join(temporaryFolder(t), 'access.log')
  const { level, format, maxLogQueueBytes } = LOG_DEFAULTS
  const telemetry = new WorkerTelemetry({ id: '1.0.0', generation: 1 })
  const told = { level, format, process: '/dev/null', access, maxLogQueueBytes } as ResolvedLogOptions
  assert.notEqual(telemetry.configure(told).accessLog, null)
  await telemetry.close()
})

test('worker telemetry: a level that is told before there is a log holds when there is one', async t => {
  const file = path.join(temporaryFolder(t), 'process.log')
  const telemetry = new WorkerTelemetry({ id: '1.0.0', generation: 1 })
  telemetry.setLevel('debug')
  telemetry.configure({ ...LOG_DEFAULTS, process: file, access: 'off' })
  telemetry.log.debug?.('for now')
  telemetry.setLevel(null)
  assert.equal(telemetry.log.debug, null)
  telemetry.log.info('as configured')
  await telemetry.close()
  assert.deepEqual([...readFileSync(file, 'utf8').matchAll(/"msg":"([^"]+)"/g)].map(([, msg]) => msg), ['for now', 'as configured'])
})
