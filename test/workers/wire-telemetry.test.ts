import assert from 'node:assert/strict'
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
