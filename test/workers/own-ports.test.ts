/** Ports that an application opens itself, in a real worker and where an application is described. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { describe } from '../../supervisor/commands/chosen-application.ts'
import type { DescribeFailed } from '../../supervisor/describe-application.ts'
import { OrderedWorker } from '../support/ordered-worker.ts'
import { get } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const APP = path.join(import.meta.dirname, '../support/apps/own-ports.ts')
const LISTENERS = ['plain/127.0.0.1:1001']
const WHERE = 'for clients of the proxy use addTcp() or addUnix(), otherwise open it in start() of a background service and'

const LINES = fs.readFileSync(APP, 'utf8').split('\n')
const SERVER = new URL('../../src/server/server.ts', import.meta.url).href
const PLAIN_SERVICE = new URL('../support/plain-service.ts', import.meta.url).href

/** The line of the application that opens a port in this way. */
function lineOf(way: string): number { return LINES.findIndex(line => line.startsWith(`  ${way}: () =>`)) + 1 }

function refusal(way: string, wanted: string, own: string, placed = true): string {
  const place = placed ? `own-ports.ts:${lineOf(way)}` : 'nowhere'
  return `the application opens ${wanted} itself, which cannot listen in a worker; ${WHERE} ${own} | ${place}`
}

test('own ports: what the primary would be asked for is refused at once, what a worker can open by itself listens', async t => {
  const folder = temporaryFolder(t), report = path.join(folder, 'report.json')
  const env = { OWN_REPORT: report, OWN_FOLDER: folder }
  const worker = await OrderedWorker.start(t, { app: 'own-ports', listeners: LISTENERS, env })
  const each = 'add reusePort: true, with which each worker listens there'
  assert.deepEqual(JSON.parse(fs.readFileSync(report, 'utf8')), {
    port: refusal('port', 'port 6189', each),
    host: refusal('host', '127.0.0.1:6189', each),
    ipv6: refusal('ipv6', '[::1]:6189', each),
    path: refusal('path', `the path ${folder}/shared.sock`, 'take a path for each worker and add exclusive: true'),
    descriptor: refusal('descriptor', 'descriptor 4', 'by its address, with reusePort: true'),
    udp: refusal('udp', '127.0.0.1:6189', 'create the socket with reusePort: true', false),
    reusePort: 'listens',
    'udp with reusePort': 'listens',
    'path of its own': 'listens',
  })
  // Its own listeners are none of the application's.
  await worker.order({ tag: 'accept' })
  assert.equal(await get(worker.port(0)), String(worker.pid))
})

test('own ports: a refusal that nothing hears ends the start of the worker, with its place', async t => {
  const folder = temporaryFolder(t)
  const env = { OWN_REPORT: path.join(folder, 'report.json'), OWN_FOLDER: folder, OWN_UNHEARD: '1' }
  const worker = await OrderedWorker.start(t, { app: 'own-ports', listeners: LISTENERS, env, says: 'failed' })
  const failed = worker.messages.find(message => message.tag === 'failed')!
  assert.match(failed.message, /^the application opens port 6189 itself, which cannot listen in a worker; /)
  assert.match(failed.stack, /^Error: the application opens port 6189 itself.*\n {4}at .*own-ports\.ts:\d+:\d+/)
  assert.deepEqual(await worker.end(), { code: 1, signal: null })
})

test('own ports: what a worker would refuse is told when the application is described, what it could open is not', async t => {
  const folder = temporaryFolder(t)
  const app = (...lines: readonly string[]): string => {
    const file = path.join(folder, 'app.ts')
    const imports = [['http', 'node:http'], ['{ Server }', SERVER], ['{ PlainService }', PLAIN_SERVICE]]
    fs.writeFileSync(file, [
      ...imports.map(([names, from]) => `import ${names} from '${from}'`),
      ...lines,
      'const server = new Server()',
      'server.addService(new PlainService(\'plain\', \'127.0.0.1:0\'))',
      'await server.runForever()',
    ].join('\n'))
    return file
  }
  const options = resolveSupervisorOptions()
  const refused = app('', 'http.createServer().listen(6189, \'127.0.0.1\', () => {})')
  await assert.rejects(describe(refused, [], options), ({ message, applicationStack }: DescribeFailed) => {
    assert.match(message, /app\.ts could not be loaded: the application opens 127\.0\.0\.1:6189 itself, which cannot listen in a worker;/)
    assert.match(applicationStack, /\n {4}at .*app\.ts:5:21/)
    return true
  })
  const fine = app('await new Promise(listening => http.createServer().listen({ port: 0, reusePort: true }, listening))')
  assert.equal((await describe(fine, [], options)).listeners.length, 1)
})
