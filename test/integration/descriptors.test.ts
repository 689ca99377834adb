/** Workers that may have few descriptors: what is served goes on, whatever else wants to come in. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answerOk, ScriptedOrigin } from '../support/scripted-origin.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

test('descriptors: more connections than a worker may have descriptors neither end it nor what it serves', async t => {
  let release: () => void = () => {}
  const origin = await ScriptedOrigin.start(async exchange => {
    if (exchange.request.target === '/slow') await new Promise<void>(resolve => { release = resolve })
    await answerOk(exchange)
  })
  t.after(() => origin.stop())
  const node = path.join(temporaryFolder(t), 'node-with-few-descriptors')
  fs.writeFileSync(node, `#!/bin/sh\nulimit -n 128\nexec '${process.execPath}' "$@"\n`, { mode: 0o755 })
  const app = await SupervisedApp.start(t, { app: 'proxy', node, options: { workers: 1 }, env: { PROXY_ORIGIN: origin.authority } })
  const [slot] = await app.slots()
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
    t.after(() => client.destroy())
    return client
  }
  const slow = await connect()
  await slow.write(get('/slow'))
  await waitFor('the slow request at the origin', () => origin.requests.length === 1)
  const held: RawClient[] = []
  for (let count = 0; count < 200; count++) {
    const client = await connect()
    // Some wait, some have said a part of a request.
    if (count % 2 === 0) await client.write('GET / HTTP/1.1\r\nHost: a')
    held.push(client)
  }
  await waitFor('the worker to have cut most of them', () => held.filter(({ closed }) => closed).length >= 200 - 32)
  const fresh = await connect()
  await fresh.write(get('/fresh'))
  assert.equal((await fresh.readResponse()).status, 200)
  release()
  assert.equal((await slow.readResponse()).status, 200)
  const [after] = await app.until('a heartbeat with the request', ([shown]) => (shown?.worker?.open.exchanges ?? 0) >= 2)
  assert.deepEqual([after!.worker!.pid, after!.restarts], [slot!.worker!.pid, 0])
  assert.match((await app.line('room for ')).msg, /^room for 32 connections only: this process may have 128 descriptors/)
})
