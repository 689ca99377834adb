/** How a real worker takes connections from its queue. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

for (const [how, env, atLeast] of [
  ['in one turn of its loop', {}, 30],
  ['several in one turn of its loop, without system calls', { CIRQUE_SYSTEM_CALLS: 'off' }, 4],
] as const) {
  test(`accepting: a worker that was busy takes what waits for it ${how}`, { skip: process.platform !== 'linux' }, async t => {
    const gate = path.join(temporaryFolder(t), 'gate')
    fs.writeFileSync(gate, '')
    const app = await SupervisedApp.start(t, { app: 'turns', options: { workers: 1 }, env: { GATE: gate, ...env } })
    const connect = async (): Promise<RawClient> => {
      const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
      t.after(() => client.destroy())
      return client
    }
    const asked = async (client: RawClient): Promise<string> => {
      await client.write(get())
      return String((await client.readResponse()).body)
    }
    const blocking = await connect()
    assert.equal(await asked(blocking), '1')
    await blocking.write(get('/block'))
    await waitFor('the worker to be held up', () => !fs.existsSync(gate))
    const waiting = await Promise.all(Array.from({ length: 30 }, connect))
    fs.writeFileSync(gate, '')
    await blocking.readResponse()
    const most = Number(await asked(waiting.at(-1)!))
    assert.ok(most >= atLeast, `${most} in one turn`)
  })
}
