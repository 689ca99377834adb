import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import type { AccessRecord } from '../../../src/telemetry/exporters/access-line.ts'
import { AccessLog } from '../../../src/telemetry/exporters/access-log.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

test('access log: a refused head has a line with its reason', async t => {
  const file = path.join(temporaryFolder(t), 'access.log')
  const log = new AccessLog({ file }, { worker: '2.1.4', generation: 2 })
  log.refused(
    'proxy/:80',
    '203.0.113.9',
    new ProxyError('HEAD_TOO_LARGE', 'downstream', 'too long', { status: 431, limit: 'head-bytes' }),
    'PE',
    Date.UTC(2026, 0, 1),
  )
  const cause = Object.assign(new Error('no'), { code: 'ECONNRESET' })
  log.refused('proxy/:80', '203.0.113.9', new ProxyError('CONNECTION_RESET', 'downstream', 'gone', { cause }), 'DC', Date.UTC(2026, 0, 1))
  await log.close()
  const [first, second] = readFileSync(file, 'utf8').trimEnd().split('\n').map(line => JSON.parse(line) as AccessRecord)
  assert.deepEqual([first?.status, first?.flag, first?.limit, first?.err, first?.worker, first?.gen, first?.ttfb_ms], [
    431, 'PE', 'head-bytes', 'HEAD_TOO_LARGE', '2.1.4', 2, undefined,
  ])
  assert.equal(second?.err, 'CONNECTION_RESET:ECONNRESET')
  assert.equal(log.dropped, 0)
})

test('access log: lines full of escapes from several processes on one pipe stay whole and valid', async t => {
  const module = path.join(import.meta.dirname, '../../../src/telemetry/exporters/access-log.ts')
  const error = path.join(import.meta.dirname, '../../../src/errors/proxy-error.ts')
  const file = path.join(temporaryFolder(t), 'writer.mjs')
  writeFileSync(file, `
    import { AccessLog } from ${JSON.stringify(module)}
    import { ProxyError } from ${JSON.stringify(error)}
    const log = new AccessLog('stdout', { worker: process.argv[2], collectMs: 0 })
    const unit = ['"', '\u00E9', 'a', '\\\\'], error = new ProxyError('BAD_HEAD', 'downstream', 'no')
    let written = 0
    const again = () => {
      for (let at = 0; at < 20; at++) log.refused(unit[at % 4].repeat(60_000), unit[(at + 1) % 4].repeat(at * 300), error, 'PE', 0)
      if (++written < 20) setImmediate(again)
      else void log.close().then(() => process.exit(log.dropped))
    }
    again()`)
  const writers = `{ for id in 1 2 3; do "$0" "$1" $id & done; wait; } | cat`
  const reader = spawn('sh', ['-c', writers, process.execPath, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => reader.kill('SIGKILL'))
  const parts: Buffer[] = []
  reader.stdout.on('data', (part: Buffer) => { parts.push(part) })
  await once(reader, 'close')
  const counts: Record<string, number> = {}
  for (const line of Buffer.concat(parts).toString().split('\n').slice(0, -1)) {
    assert.ok(line.length < 4096)
    const { worker } = JSON.parse(line) as AccessRecord
    counts[worker] = (counts[worker] ?? 0) + 1
  }
  assert.deepEqual(counts, { 1: 400, 2: 400, 3: 400 })
})
