import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { SupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { FromWorker } from '../../src/ipc/messages.ts'
import { SILENT_LOG, type LogFields, type ProcessLog } from '../../src/ipc/process-log.ts'
import { ControlServer } from '../../supervisor/control-server.ts'
import { AlreadyRunning, SYSTEM_CONTROL_SOCKETS, type ControlSockets } from '../../supervisor/control-sockets.ts'
import { askSupervisor, NotRunning } from '../../supervisor/control-client.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

interface Started { server: ControlServer; folder: string; hellos: FromWorker[]; said: FromWorker[] }

/** A server that hears and admits nothing. */
function silent(folder: string, log: ProcessLog = SILENT_LOG, sockets: ControlSockets = SYSTEM_CONTROL_SOCKETS): ControlServer {
  return new ControlServer({
    folder,
    options: resolveSupervisorOptions(),
    log,
    workerUid: null,
    workerGid: null,
    calls: null,
    held: null,
    handlers: { onOperator() {}, onHello: () => null },
  }, sockets)
}

async function start(t: TestContext, options: SupervisorOptions = {}): Promise<Started> {
  const folder = temporaryFolder(t)
  const hellos: FromWorker[] = []
  const said: FromWorker[] = []
  const server = new ControlServer({
    folder, options: resolveSupervisorOptions(options), log: SILENT_LOG, workerUid: null, workerGid: null, calls: null, held: null,
    handlers: {
      onOperator: (message, question) => { if (message.tag === 'status') question.ok({ up: true }); else question.refuse('refused', 'no') },
      onHello: (hello, _link, question) => {
        hellos.push(hello)
        if (hello.token !== 'right') { question.refuse('refused', 'who?'); return null }
        question.ok({})
        return { onMessage: message => { said.push(message) }, onClose() {} }
      },
    },
  })
  await server.listen()
  t.after(() => server.close())
  return { server, folder, hellos, said }
}

/** Everything that comes back until the end. */
function speak(path: string, text: string): Promise<string> {
  return new Promise(resolve => {
    let heard = ''
    const socket = net.connect({ path }, () => { socket.write(text) })
    socket.on('data', chunk => { heard += String(chunk) })
    socket.on('error', () => {})
    socket.on('close', () => resolve(heard))
  })
}

const HELLO = { tag: 'hello', ask: 1, protocol: 1, worker: '1.0.0', token: 'right', pid: 1, phase: 'starting' }

test('control server: sockets are private, claimed once, and gone after the end', async t => {
  const { server, folder } = await start(t)
  assert.equal(fs.statSync(server.controlPath).mode & 0o777, 0o600)
  assert.equal(fs.statSync(server.workerPath).mode & 0o777, 0o600)
  const second = silent(folder)
  await assert.rejects(second.listen(), AlreadyRunning)
  assert.deepEqual(await askSupervisor(folder, { tag: 'status' }), { up: true })
  await assert.rejects(askSupervisor(folder, { tag: 'reopen-logs' }), { code: 'refused', message: 'no' })
  await server.close()
  await assert.rejects(askSupervisor(folder, { tag: 'status' }), NotRunning)
  assert.deepEqual(fs.readdirSync(folder), [])
})

test('control server: a socket left over from a kill is replaced', async t => {
  const folder = temporaryFolder(t)
  const stale = net.createServer().listen(`${folder}/control.sock`)
  await new Promise(resolve => stale.once('listening', resolve))
  fs.renameSync(`${folder}/control.sock`, `${folder}/kept`)
  await new Promise(resolve => stale.close(resolve))
  fs.renameSync(`${folder}/kept`, `${folder}/control.sock`)
  const server = silent(folder)
  await server.listen()
  await server.close()
})

test('control server: a worker says who it is first, and only then anything else', async t => {
  const { server, hellos, said } = await start(t)
  assert.equal(await within('the end', speak(server.workerPath, '{"tag":"ready"}\n')), '')
  const stranger = `${JSON.stringify({ ...HELLO, token: 'wrong' })}\n{"tag":"ready"}\n`
  const answer = await within('the end', speak(server.workerPath, stranger))
  assert.match(answer, /"ok":false,"code":"refused","reason":"who\?"/)
  assert.equal(said.length, 0)
  const socket = net.connect({ path: server.workerPath })
  socket.write(`${JSON.stringify(HELLO)}\n{"tag":"ready"}\n{"tag":"status","ask":2}\n`)
  await waitFor('ready', () => said.length === 1)
  assert.deepEqual(said.map(message => message.tag), ['ready'])
  assert.equal(hellos.length, 2)
  socket.destroy()
})

test('control server: messages of workers mean nothing on the operators\' socket', async t => {
  const { folder, server } = await start(t, { controlTimeoutMs: 100 })
  assert.match(await within('the end', speak(server.controlPath, `${JSON.stringify(HELLO)}\n`)), /does not know 'hello'/)
  void folder
})

test('control server: who says nothing, too much, or comes as one too many is disconnected', async t => {
  const { server } = await start(t, { controlTimeoutMs: 100, maxControlMessageBytes: 1024, maxControlClients: 1 })
  await Promise.all([within('silence', speak(server.controlPath, '')), within('silence', speak(server.workerPath, ''))])
  await within('a long line', speak(server.controlPath, 'x'.repeat(5_000)))
  const first = net.connect({ path: server.controlPath })
  await new Promise(resolve => first.once('connect', resolve))
  assert.equal(await within('one too many', speak(server.controlPath, '{"tag":"status","ask":1}\n')), '')
  first.destroy()
})

test('control server: sockets that were taken away are made anew, and connections go on', async t => {
  const folder = temporaryFolder(t)
  const server = silent(folder)
  await server.listen()
  t.after(() => server.close())
  const before = net.connect({ path: server.workerPath })
  await once(before, 'connect')
  t.after(() => before.destroy())
  for (const gone of [folder, server.controlPath, server.workerPath]) {
    assert.equal(server.reachable, true)
    fs.rmSync(gone, { recursive: true })
    assert.equal(server.reachable, false)
    fs.mkdirSync(folder, { recursive: true })
    await server.restore()
    assert.deepEqual([fs.statSync(server.controlPath).mode & 0o777, fs.statSync(server.workerPath).mode & 0o777], [0o600, 0o600])
    for (const path of [server.controlPath, server.workerPath]) {
      const socket = net.connect({ path })
      await within('the connection', once(socket, 'connect'))
      socket.destroy()
    }
  }
  assert.equal(before.destroyed, false)
})

test('control server: who dials without end brings about a line a second, with a count of the rest', async t => {
  const folder = temporaryFolder(t), written: LogFields[] = []
  const log: ProcessLog = { ...SILENT_LOG, warn: (message, fields) => { written.push({ message, ...fields }) } }
  const clock = new FakeClock()
  const server = silent(folder, log, { ...SYSTEM_CONTROL_SOCKETS, after: (ms, run) => clock.after(ms, run), nowMs: () => clock.exact() })
  await server.listen()
  t.after(() => server.close())
  for (let dials = 0; dials < 50; dials++) await within('the end', speak(server.workerPath, 'no JSON\n'))
  const message = 'a connection on the worker socket was closed'
  assert.deepEqual(written, [{ message, reason: 'a line is not JSON', suppressed: undefined }])
  clock.advance(1000)
  await within('the end', speak(server.workerPath, 'no JSON\n'))
  assert.deepEqual(written.map(({ suppressed }) => suppressed), [undefined, 49])
})
