/** What an operator says of the access log's lines, through real workers. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { LogOptions } from '../../src/config/log-options.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answer, response, ScriptedOrigin, type Script } from '../support/scripted-origin.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

/** 500 for a path that asks for it. */
const SCRIPT: Script = async exchange => {
  await answer(response(exchange.request.target.startsWith('/fault') ? 500 : 200, 'hello'))(exchange)
}

/** Asks for each target, in turn and on one connection, and ends the server. @returns the lines of its access log */
async function logOf(t: TestContext, log: LogOptions, targets: readonly string[]): Promise<string[]> {
  const origin = await ScriptedOrigin.start(SCRIPT)
  t.after(() => origin.stop())
  const file = path.join(temporaryFolder(t), 'access.log')
  const app = await SupervisedApp.start(t, {
    app: 'proxy', options: { workers: 1 }, log: { ...log, access: file }, env: { PROXY_ORIGIN: origin.authority },
  })
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  for (const target of targets) {
    await client.write(get(target, 'User-Agent: a "b"\\', 'Referer: https://a.example/?session=secret'))
    await client.readResponse()
  }
  client.destroy()
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  return fs.readFileSync(file, 'utf8').trimEnd().split('\n')
}

test('access log: a template of the configuration is what the lines of all workers look like', async t => {
  const lines = await logOf(t, {
    accessFormat: '$client - $method $path "$query" $status "$ua" "$referer"', accessClient: 'masked', redactQueryKeys: ['session', 'pin'],
  }, ['/a?PIN=1234&b=2', '/fault'])
  assert.deepEqual(lines, [
    '127.0.0.0 - GET /a "PIN=***&b=2" 200 "a \\x22b\\x22\\x5C" "https://a.example/?session=***"',
    '127.0.0.0 - GET /fault "-" 500 "a \\x22b\\x22\\x5C" "https://a.example/?session=***"',
  ])
})

test('access log: of many requests a share is written, with what it stands for, and every fault', async t => {
  const targets = Array.from({ length: 200 }, (_, at) => at % 20 === 0 ? '/fault' : '/ordinary')
  const lines = await logOf(t, { accessSample: 0.1, accessSlowMs: 0, accessClient: 'off' }, targets)
  const read = lines.map(line => JSON.parse(line) as { path: string; status: number; w?: number; client?: string })
  const ordinary = read.filter(line => line.status === 200)
  assert.equal(read.filter(line => line.path === '/fault' && line.status === 500 && line.w === undefined).length, 10)
  assert.ok(ordinary.length >= 17 && ordinary.length <= 21, `${ordinary.length}`)
  assert.ok(ordinary.every(line => line.w === 10))
  assert.ok(read.every(line => !('client' in line)))
})

test('access log: a template that names what is no field is refused before anything starts, with the nearest name', async t => {
  const app = await SupervisedApp.start(t, { wait: false, log: { accessFormat: '$client $stauts' } })
  assert.deepEqual(await app.end(), { code: 2, signal: null })
  assert.match(app.stderr, /log\.accessFormat: found "\$client \$stauts"; expected \$status in the place of \$stauts/)
})
