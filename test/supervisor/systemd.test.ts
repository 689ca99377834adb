import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dlopen } from 'node:ffi'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { SILENT_LOG, type LogFields, type ProcessLog } from '../../src/ipc/process-log.ts'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import type { DatagramInbox, SystemCalls } from '../../src/ipc/system-calls.ts'
import { ServiceManager, storedName } from '../../supervisor/systemd.ts'
import '../support/no-process-left.ts'
import { reportedFields } from '../support/reported-fields.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const loaded = await loadSystemCalls({})
const linux = { skip: process.platform !== 'linux' }
const PID = String(process.pid)

function systemCalls(): SystemCalls {
  assert.ok(loaded.available, loaded.available ? '' : loaded.reason)
  return loaded.calls
}

class WarningLog implements ProcessLog {
  readonly warnings: string[] = []
  info(): void { assert.fail('nothing to say') }
  warn(message: string, fields: LogFields = {}): void {
    const { error } = fields
    this.warnings.push(error instanceof Error ? `${message}: ${error.message}` : message)
  }
  error(): void { assert.fail('nothing is that bad') }
}

interface Told { readonly fields: Record<string, string>; readonly files: string[] }

/** A service manager's end, and ours. */
class Scene {
  readonly log = new WarningLog()
  readonly inbox: DatagramInbox
  readonly manager: ServiceManager
  readonly env: NodeJS.ProcessEnv

  constructor(t: TestContext, env: NodeJS.ProcessEnv = {}, address = path.join(temporaryFolder(t), 'notify')) {
    this.inbox = systemCalls().openInbox(address)
    t.after(() => this.inbox.close())
    this.env = { NOTIFY_SOCKET: address, HOME: '/root', ...env }
    this.manager = ServiceManager.fromEnvironment(this.env, systemCalls(), this.log)
  }

  /** Everything that has been said since the last time. */
  told(): Told[] {
    const told: Told[] = []
    for (let received = this.inbox.receive(); received !== null; received = this.inbox.receive()) {
      const files = received.descriptors.map(fd => fs.readlinkSync(`/proc/self/fd/${fd}`))
      for (const fd of received.descriptors) systemCalls().close(fd)
      told.push({ fields: reportedFields(received.payload), files })
    }
    return told
  }

  fields(): Record<string, string>[] { return this.told().map(({ fields }) => fields) }
}

test('systemd: without a service manager everything is silent', () => {
  const log = new WarningLog()
  for (const calls of [loaded.available ? loaded.calls : null, null]) {
    const env = { HOME: '/root' }
    const manager = ServiceManager.fromEnvironment(env, calls, log)
    manager.ready('x')
    manager.reloading()
    manager.stopping()
    manager.status('x')
    manager.store('x', [0])
    manager.remove('x')
    manager.startWatchdog()
    manager.stopWatchdog()
    assert.deepEqual([manager.present, manager.inherited, manager.environmentForExec(), env], [false, [], {}, { HOME: '/root' }])
  }
  assert.deepEqual(log.warnings, [])
})

test('systemd: its variables are taken; those that stay true go to the next image', linux, t => {
  const scene = new Scene(t, {
    WATCHDOG_USEC: '30000000',
    WATCHDOG_PID: PID,
    LISTEN_FDS: '0',
    LISTEN_PID: PID,
    LISTEN_FDNAMES: '',
    LISTEN_PIDFDID: '7',
  })
  assert.deepEqual(Object.keys(scene.env), ['HOME'])
  assert.ok(scene.manager.present)
  const handedOn = scene.manager.environmentForExec()
  assert.deepEqual(Object.keys(handedOn), ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'])
  ServiceManager.fromEnvironment(handedOn, systemCalls(), SILENT_LOG).ready('again')
  assert.deepEqual(handedOn, {})
  assert.deepEqual(scene.fields(), [{ READY: '1', STATUS: 'again' }])
})

test('systemd: it hears of the start, a reload, the end and what we are doing', linux, t => {
  const scene = new Scene(t)
  scene.manager.ready('2 workers')
  const before = monotonicMicroseconds()
  scene.manager.reloading()
  const after = monotonicMicroseconds()
  scene.manager.status('rolling')
  scene.manager.stopping()
  const [ready, reloading, ...others] = scene.fields()
  assert.deepEqual(ready, { READY: '1', STATUS: '2 workers' })
  assert.equal(reloading?.['RELOADING'], '1')
  // The kernel's own CLOCK_MONOTONIC, without what Node.js makes of it.
  const at = BigInt(reloading['MONOTONIC_USEC'] ?? '')
  assert.ok(before <= at && at <= after, `${before} <= ${at} <= ${after}`)
  assert.deepEqual(others, [{ STATUS: 'rolling' }, { STOPPING: '1' }])
})

test('systemd: an abstract socket hears as well', linux, t => {
  const scene = new Scene(t, {}, `@cirque-test-notify-${PID}`)
  scene.manager.ready('')
  assert.deepEqual(scene.fields(), [{ READY: '1', STATUS: '' }])
})

test('systemd: a status is one short line and cannot say anything else', linux, t => {
  const scene = new Scene(t)
  scene.manager.status('one\nREADY=1\r\n\0FDSTORE=1\u2028two')
  scene.manager.ready(`\n${'☂'.repeat(5_000)}\u{1F302}`)
  scene.manager.status(`${'x'.repeat(499)}\u{1F302}`)
  const [first, second, third] = scene.fields()
  assert.deepEqual(first, { STATUS: 'one READY=1 FDSTORE=1 two' })
  assert.deepEqual(second, { READY: '1', STATUS: '☂'.repeat(500) })
  assert.deepEqual(third, { STATUS: `${'x'.repeat(499)}�` })
})

test('systemd: sockets are stored under names that it takes, and removed by the same', linux, t => {
  const scene = new Scene(t)
  const bound = [0, 0].map(port => new net.BoundSocket({ host: '127.0.0.1', port }))
  const files = bound.map(socket => fs.readlinkSync(`/proc/self/fd/${socket.fd()}`))
  const long = `${'ü'.repeat(200)}/a`
  const names = ['http', 'proxy/[::1]:80#v6', 'größe 100%\nFDSTOREREMOVE=1', '', long, `${'ü'.repeat(200)}/b`]
  const stored: string[] = []
  for (const given of names) {
    scene.manager.store(given, bound.map(socket => socket.fd()))
    scene.manager.remove(given)
    const told = scene.told()
    const name = told[0]?.fields['FDNAME'] ?? ''
    assert.deepEqual(told, [
      { fields: { FDSTORE: '1', FDNAME: name, FDPOLL: '0' }, files },
      { fields: { FDSTOREREMOVE: '1', FDNAME: name }, files: [] },
    ])
    // fdname_is_valid of systemd: at most 255 printable bytes without a colon.
    assert.match(name, /^[\x21-\x39\x3b-\x7e]{0,255}$/)
    assert.equal(decodeURIComponent(name), storedName(given))
    stored.push(name)
  }
  assert.equal(new Set(stored).size, names.length)
  assert.deepEqual(stored.slice(0, 3), ['http', 'proxy/[%3A%3A1]%3A80#v6', 'gr%C3%B6%C3%9Fe%20100%25%0AFDSTOREREMOVE=1'])
  assert.equal(storedName('http'), 'http')
  assert.match(storedName(long), /^ü{39}~[0-9a-f]{16}$/)
  for (const socket of bound) socket.close()
})

test('systemd: more sockets than one datagram carries are stored by several', linux, t => {
  const scene = new Scene(t)
  scene.manager.store('many', Array.from({ length: 300 }, () => 2))
  assert.deepEqual(scene.told().map(({ files, fields }) => [files.length, fields['FDNAME']]), [[253, 'many'], [47, 'many']])
  scene.manager.store('none', [])
  assert.deepEqual(scene.told(), [])
})

test('systemd: the watchdog hears of us twice in its time, and only when it is ours', linux, t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const scene = new Scene(t, { WATCHDOG_USEC: '30000000', WATCHDOG_PID: PID })
  scene.manager.startWatchdog()
  scene.manager.startWatchdog()
  assert.deepEqual(scene.fields(), [{ WATCHDOG: '1' }])
  t.mock.timers.tick(14_999)
  assert.deepEqual(scene.fields(), [])
  t.mock.timers.tick(1)
  assert.deepEqual(scene.fields(), [{ WATCHDOG: '1' }])
  scene.manager.stopWatchdog()
  t.mock.timers.tick(60_000)
  assert.deepEqual(scene.fields(), [])
  scene.manager.startWatchdog()
  assert.deepEqual(scene.fields(), [{ WATCHDOG: '1' }])
  scene.manager.stopWatchdog()

  const others = new Scene(t, { WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' })
  others.manager.startWatchdog()
  assert.deepEqual(others.fields(), [])
  const anybody = new Scene(t, { WATCHDOG_USEC: '1' })
  anybody.manager.startWatchdog()
  t.mock.timers.tick(2)
  assert.equal(anybody.fields().length, 3)
  anybody.manager.stopWatchdog()
})

test('systemd: a manager that is gone is one warning until it hears again', linux, t => {
  const folder = temporaryFolder(t)
  const log = new WarningLog()
  const address = path.join(folder, 'notify')
  const manager = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: address }, systemCalls(), log)
  manager.ready('a')
  manager.status('b')
  manager.store('c', [9_999])
  assert.deepEqual(log.warnings, [`systemd could not be told READY=1: sendmsg(${address}): ENOENT (errno 2)`])
  const inbox = systemCalls().openInbox(address)
  manager.status('d')
  assert.equal(inbox.receive()?.payload.toString(), 'STATUS=d')
  manager.store('e', [9_999])
  assert.equal(log.warnings.length, 2)
  assert.match(log.warnings[1]!, /^systemd could not be told FDSTORE=1: .*EBADF/)
  inbox.close()
})

test('systemd: a manager that does not read is waited for, but once and not for long', linux, t => {
  const scene = new Scene(t)
  const started = performance.now()
  // How many fit is up to the kernel (net.unix.max_dgram_qlen).
  for (let count = 0; count < 10_000 && scene.log.warnings.length === 0; count++) scene.manager.status('x')
  assert.equal(scene.log.warnings.length, 1)
  assert.match(scene.log.warnings[0]!, /EAGAIN/)
  for (let count = 0; count < 100; count++) scene.manager.status('x')
  assert.ok(performance.now() - started < 2_000)
  assert.equal(scene.log.warnings.length, 1)
})

test('systemd: variables that cannot be right are ignored, with a warning', linux, () => {
  const log = new WarningLog()
  const env = { NOTIFY_SOCKET: 'vsock:2:1234', WATCHDOG_USEC: 'soon', LISTEN_FDS: '-1', LISTEN_PID: PID }
  const manager = ServiceManager.fromEnvironment(env, systemCalls(), log)
  assert.deepEqual([manager.present, manager.inherited], [false, []])
  ServiceManager.fromEnvironment({ WATCHDOG_USEC: '1e9', LISTEN_FDS: '99999999', LISTEN_PID: PID }, systemCalls(), log)
  assert.deepEqual(log.warnings, [
    'NOTIFY_SOCKET is of a kind that is not supported; the service manager will hear nothing',
    'WATCHDOG_USEC is not a number that can be right; it is ignored',
    'LISTEN_FDS is not a number that can be right; it is ignored',
    'WATCHDOG_USEC is not a number that can be right; it is ignored',
    'LISTEN_FDS is not a number that can be right; it is ignored',
  ])
})

test('systemd: without system calls, whoever waits for us is named in a warning', () => {
  const log = new WarningLog()
  const env = { NOTIFY_SOCKET: '/run/systemd/notify', LISTEN_FDS: '2', LISTEN_PID: PID, LISTEN_FDNAMES: 'a:b' }
  const manager = ServiceManager.fromEnvironment(env, null, log)
  manager.ready('x')
  assert.deepEqual([manager.present, manager.inherited, env], [false, [], {}])
  assert.equal(log.warnings.length, 2)
  assert.match(log.warnings[0]!, /Type=exec/)
  assert.match(log.warnings[1]!, /^2 sockets of systemd cannot be used/)
})

test('systemd: sockets that belong to another process are not taken', linux, () => {
  const log = new WarningLog()
  for (const LISTEN_PID of ['1', '', undefined]) {
    const env: NodeJS.ProcessEnv = { LISTEN_FDS: '3', ...LISTEN_PID === undefined ? {} : { LISTEN_PID } }
    assert.deepEqual(ServiceManager.fromEnvironment(env, systemCalls(), log).inherited, [])
    assert.deepEqual(env, {})
  }
  assert.deepEqual(log.warnings, [])
})

test('systemd: sockets that come with the start have their names and addresses, and stay out of children', linux, async t => {
  const folder = temporaryFolder(t)
  const tcp = new net.BoundSocket({ host: '::1', port: 0 })
  const unix = new net.BoundSocket({ path: path.join(folder, 'listen.sock') } as unknown as net.BoundSocketOptions)
  const file = fs.openSync(path.join(folder, 'file'), 'w')
  const program = `
    import { spawnSync } from 'node:child_process'
    import { loadSystemCalls } from ${JSON.stringify(new URL('../../src/ipc/system-calls.ts', import.meta.url).href)}
    import { ServiceManager } from ${JSON.stringify(new URL('../../supervisor/systemd.ts', import.meta.url).href)}
    const { calls } = await loadSystemCalls({})
    const warnings = []
    const { inherited } = ServiceManager.fromEnvironment(process.env, calls, { warn: message => warnings.push(message) })
    const ours = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' }).stdout.match(/socket:\\[\\d+\\]/g) ?? []
    console.log(JSON.stringify({ inherited, warnings, ours, left: Object.keys(process.env).filter(name => name.startsWith('LISTEN')) }))
  `
  // exec: the id in LISTEN_PID is then that of the program.
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', program]
  const child = spawn('sh', ['-c', 'LISTEN_PID=$$ exec "$0" "$@"', process.execPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit', tcp.fd(), file, unix.fd()],
    env: { ...process.env, LISTEN_FDS: '4', LISTEN_FDNAMES: 'proxy/[%3A%3A1]:cirque.socket' },
  })
  const ended = once(child, 'exit')
  const output = (await child.stdout!.setEncoding('utf8').toArray() as string[]).join('')
  assert.deepEqual(await ended, [0, null])
  const { port } = tcp.address() as net.AddressInfo
  interface Said { inherited: unknown; warnings: string[]; ours: string[]; left: string[] }
  const { inherited, warnings, ours, left } = JSON.parse(output) as Said
  assert.deepEqual(inherited, [
    { fd: 3, name: 'proxy/[::1]', address: { kind: 'tcp', host: '::1', port } },
    { fd: 5, name: '', address: { kind: 'unix', path: path.join(folder, 'listen.sock') } },
  ])
  assert.equal(warnings.length, 2)
  assert.match(warnings[0]!, /^descriptor 4 from systemd is no listening socket/)
  assert.match(warnings[1]!, /^descriptor 6 from systemd/)
  const given = [tcp.fd(), unix.fd()].map(fd => fs.readlinkSync(`/proc/self/fd/${fd}`))
  assert.deepEqual(ours.filter(socket => given.includes(socket)), [])
  assert.deepEqual(left, [])
  tcp.close()
  unix.close()
  fs.closeSync(file)
})

/** struct timespec of CLOCK_MONOTONIC. */
function monotonicMicroseconds(): bigint {
  const CLOCK_MONOTONIC = 1
  const time = Buffer.alloc(16)
  const { functions } = dlopen('libc.so.6', { clock_gettime: { arguments: ['int32', 'buffer'], return: 'int32' } })
  assert.equal(functions.clock_gettime(CLOCK_MONOTONIC, time), 0)
  return time.readBigInt64LE(0) * 1_000_000n + time.readBigInt64LE(8) / 1_000n
}
