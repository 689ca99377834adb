import assert from 'node:assert/strict'
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import dgram from 'node:dgram'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test from 'node:test'
import { loadSystemCalls, MAX_DATAGRAM_BYTES, MAX_DATAGRAM_DESCRIPTORS } from '../../src/ipc/system-calls.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import { handleOf } from '../../src/protocols/tcp/stream-handle.ts'
import '../support/no-process-left.ts'
import { requireProgram } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const loaded = await loadSystemCalls({})
const linux = { skip: process.platform !== 'linux' }

function systemCalls(): SystemCalls {
  assert.ok(loaded.available, loaded.available ? '' : loaded.reason)
  return loaded.calls
}

const MODULE = JSON.stringify(new URL('../../src/ipc/system-calls.ts', import.meta.url).href)

/** Begins every program below: `calls` is there. */
const LOADED = `const loaded = await (await import(${MODULE})).loadSystemCalls({})
if (!loaded.available) throw new Error(loaded.reason)
const { calls } = loaded
`

interface Program {
  readonly child: ChildProcessWithoutNullStreams
  readonly lines: AsyncIterator<string>
  readonly ended: Promise<number | null>
}

/** Runs JavaScript in a process of its own; `lines` is what it prints. */
function runProgram(text: string, args: readonly string[] = [], command: readonly [string, ...string[]] = [process.execPath]): Program {
  const [file, ...before] = command
  const child = spawn(
    file,
    [...before, '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', LOADED + text, ...args],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  )
  child.stderr.pipe(process.stderr)
  const ended = once(child, 'exit').then(([code]) => code as number | null)
  return { child, lines: linesOf(child.stdout), ended }
}

async function* linesOf(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + String(chunk)).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
}

async function nextLine<T>(program: Program): Promise<T> {
  const { value, done } = await within('a line of the program', program.lines.next(), 10_000)
  assert.ok(done !== true, 'the program ended without a word')
  return JSON.parse(value) as T
}

/** What the kernel calls a descriptor: `socket:[123]`. */
function fileOf(fd: number): string { return fs.readlinkSync(`/proc/self/fd/${fd}`) }

function isCloseOnExec(fd: number): boolean {
  return (Number.parseInt(/flags:\s+(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8) & 0o2000000) !== 0
}

function openDescriptors(): string[] { return fs.readdirSync('/proc/self/fd').toSorted() }

test('system calls: they are there on Linux, and can be turned off', async () => {
  assert.deepEqual(await loadSystemCalls({ CIRQUE_SYSTEM_CALLS: 'off' }), { available: false, reason: 'CIRQUE_SYSTEM_CALLS=off' })
  if (process.platform === 'linux') assert.equal((await loadSystemCalls({})).available, true)
})

test('system calls: loading them leaves no descriptor behind', linux, async () => {
  const before = openDescriptors()
  await loadSystemCalls({})
  assert.deepEqual(openDescriptors(), before)
})

test('lock: a folder is locked by one descriptor at a time, until that is closed', linux, t => {
  const { lock } = systemCalls()
  const folder = temporaryFolder(t)
  const open = (): number => fs.openSync(folder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  const [first, second] = [open(), open()]
  try {
    assert.deepEqual([lock(first), lock(second), lock(first)], [true, false, true])
    fs.closeSync(first)
    assert.equal(lock(second), true)
  } finally { fs.closeSync(second) }
  assert.throws(() => lock(999_999), { code: 'EBADF' })
})

for (const host of ['127.0.0.1', '::1']) {
  const title = 'ignoreDials: what is connected, or in the queue, goes on; who dials then is refused when the socket is gone'
  test(`${title}: ${host}`, linux, async t => {
    const calls = systemCalls()
    const socket = new net.BoundSocket({ host, port: 0 })
    const { port } = socket.address() as net.AddressInfo
    // Ours stays when the server has closed its own.
    const fd = calls.dup(socket.fd())
    const server = net.createServer(connection => { connection.on('error', () => {}).pipe(connection) })
    server.listen(socket)
    await once(server, 'listening')
    const echo = async (client: net.Socket): Promise<string> => {
      client.write('to and fro')
      const [answer] = await within('an echo', once(client, 'data'), 10_000) as [Buffer]
      return answer.toString()
    }
    const before = net.connect(port, host)
    t.after(() => { before.destroy(); server.close() })
    await once(before, 'connect')
    calls.ignoreDials(fd)
    assert.equal(await echo(before), 'to and fro')
    const table = host === '::1' ? '/proc/net/tcp6' : '/proc/net/tcp'
    const late = net.connect(port, host)
    const end = new Promise(resolve => {
      late.once('connect', () => resolve('connected')).once('error', error => resolve((error as NodeJS.ErrnoException).code))
    })
    // 02: it has sent a SYN and waits.
    await waitFor(
      'the dial',
      () => fs.readFileSync(table, 'utf8').split('\n')
        .some(line => new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')} 02 `).test(line)),
    )
    assert.equal(await echo(before), 'to and fro')
    assert.equal(calls.hasQueued(fd), false)
    calls.shutdown(fd)
    calls.close(fd)
    assert.equal(await within('the refusal', end, 20_000), 'ECONNREFUSED')
    assert.throws(() => calls.ignoreDials(999_999), { code: 'EBADF' })
  })
}

test('system calls: what a connection has sent is seen before it is read, and so is its end', linux, async t => {
  const calls = systemCalls()
  const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  t.after(() => { server.close() })
  await once(server, 'listening')
  const sayings: ((client: net.Socket) => void)[] = [client => { client.write('x') }, client => { client.end() }]
  for (const says of sayings) {
    const accepted = once(server, 'connection')
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
    const [connection] = await accepted as [net.Socket]
    t.after(() => {
      client.destroy()
      connection.destroy()
    })
    const { fd } = handleOf(connection)!
    assert.equal(calls.hasUnread(fd), false)
    says(client)
    await waitFor('what it said', () => calls.hasUnread(fd))
  }
})

test('system calls: a bound socket queues from the moment at which it is told to listen', linux, async t => {
  const calls = systemCalls()
  const file = path.join(temporaryFolder(t), 's')
  const bound = new net.BoundSocket({ path: file } as unknown as net.BoundSocketOptions)
  t.after(() => bound.close())
  const [refusal] = await once(net.connect(file), 'error') as [NodeJS.ErrnoException]
  assert.equal(refusal.code, 'ECONNREFUSED')
  calls.listen(bound.fd(), 8)
  const waiting = net.connect(file)
  t.after(() => waiting.destroy())
  await once(waiting, 'connect')
  assert.equal(calls.hasQueued(bound.fd()), true)
  assert.throws(() => calls.listen(999_999, 8), { code: 'EBADF' })
})

test('system calls: a copy is another descriptor of the same socket; a queue is seen; shutdown refuses', linux, async () => {
  const calls = systemCalls()
  const bound = new net.BoundSocket({ host: '127.0.0.1', port: 0 })
  const { port } = bound.address() as net.AddressInfo
  const fd = bound.fd()
  const copy = calls.dup(fd)
  assert.equal(fileOf(copy), fileOf(fd))
  // Closing the server closes its copy only: the socket goes on listening.
  const server = net.createServer().listen(new net.Socket({ fd: copy, readable: false, writable: false }), 16)
  await once(server, 'listening')
  server.close()
  assert.equal(calls.hasQueued(fd), false)
  const waiting = net.connect(port, '127.0.0.1')
  await once(waiting, 'connect')
  assert.equal(calls.hasQueued(fd), true)
  const taken = calls.accept(fd)
  assert.deepEqual([fs.fstatSync(taken).isSocket(), calls.accept(fd)], [true, -1])
  calls.close(taken)
  calls.shutdown(fd)
  waiting.destroy()
  const refused = net.connect(port, '127.0.0.1')
  const [error] = await once(refused, 'error') as [NodeJS.ErrnoException]
  assert.equal(error.code, 'ECONNREFUSED')
  // Again, and on one that never listened: no fault.
  calls.shutdown(fd)
  bound.close()
  assert.throws(() => calls.dup(9_999), { code: 'EBADF', message: 'dup(9999): EBADF (errno 9)' })
})

test('system calls: close closes, and says so when there is nothing to close', linux, () => {
  const calls = systemCalls()
  const copy = calls.dup(2)
  assert.ok(isCloseOnExec(copy))
  calls.close(copy)
  assert.throws(() => fs.fstatSync(copy), { code: 'EBADF' })
  assert.throws(() => calls.close(copy), { code: 'EBADF' })
})

test('system calls: the address of a socket is spelt as Node.js spells it', linux, async t => {
  const calls = systemCalls()
  const folder = temporaryFolder(t)
  for (const host of ['127.0.0.1', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1']) {
    const bound = new net.BoundSocket({ host, port: 0 })
    const { address, port } = bound.address() as net.AddressInfo
    assert.deepEqual(calls.socketAddress(bound.fd()), { kind: 'tcp', host: address, port })
    assert.equal(address, host)
    bound.close()
  }
  const longest = path.join(folder, 'x'.repeat(107)).slice(0, 107)
  for (const file of [path.join(folder, 'plain.sock'), path.join(folder, 'größe ☂.sock'), longest, '\0cirque-test-abstract']) {
    const bound = new net.BoundSocket({ path: file } as unknown as net.BoundSocketOptions)
    assert.deepEqual(calls.socketAddress(bound.fd()), { kind: 'unix', path: file })
    bound.close()
  }
})

test('system calls: what is bound to no address that we know has none', linux, async t => {
  const calls = systemCalls()
  const folder = temporaryFolder(t)
  // One end of a nameless pair, a datagram socket and a file.
  const child = spawn('sh', ['-c', 'read nothing'], { stdio: ['pipe', 'ignore', 'ignore'] })
  const pairEnd = fs.readdirSync('/proc/self/fd').map(Number)
    .find(fd => { try { return fs.fstatSync(fd).isSocket() && calls.socketAddress(fd) === null } catch { return false } })
  assert.notEqual(pairEnd, undefined)
  child.stdin.end()
  await once(child, 'exit')
  const udp = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(udp, 'listening')
  const udpFd = fs.readdirSync('/proc/self/fd').map(Number)
    .filter(fd => { try { return fs.fstatSync(fd).isSocket() } catch { return false } })
  for (const fd of udpFd) assert.notDeepEqual(calls.socketAddress(fd), { kind: 'tcp', host: '127.0.0.1', port: udp.address().port })
  udp.close()
  const file = fs.openSync(path.join(folder, 'file'), 'w')
  assert.equal(calls.socketAddress(file), null)
  fs.closeSync(file)
  assert.throws(() => calls.socketAddress(file), { code: 'EBADF' })
  assert.throws(() => calls.socketAddress(-1), { code: 'EBADF' })
})

test('system calls: a socket is marked by family, and what is no DSCP or no socket is refused', linux, async t => {
  const calls = systemCalls()
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => { server.close() })
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle
  calls.setDscp(fd, 4, 46)
  calls.setUserTimeout(fd, 1500.5)
  for (const dscp of [-1, 64, 1.5]) assert.throws(() => calls.setDscp(fd, 4, dscp), RangeError)
  assert.throws(() => calls.setDscp(-1, 4, 1), { code: 'EBADF' })
  assert.throws(() => calls.setDscp(fd, 6, 1), { name: 'SystemCallError' })
  assert.throws(() => calls.setUserTimeout(fd, -5), { code: 'EINVAL' })
})

test('system calls: a datagram brings copies of descriptors, closed on exec, in their order', linux, t => {
  const calls = systemCalls()
  const folder = temporaryFolder(t)
  const inboxPath = path.join(folder, 'inbox')
  const inbox = calls.openInbox(inboxPath)
  t.after(() => inbox.close())
  assert.equal(fs.lstatSync(inboxPath).mode & 0o777, 0o600)
  assert.equal(inbox.receive(), null)

  const files = Array.from({ length: MAX_DATAGRAM_DESCRIPTORS }, (_, index) => fs.openSync(path.join(folder, String(index)), 'w'))
  const before = openDescriptors()
  // An odd and an even count end differently in memory; none is a datagram all the same, and so is an empty payload.
  for (const count of [0, 1, 2, MAX_DATAGRAM_DESCRIPTORS]) {
    const payload = Buffer.alloc(count * 100, count)
    calls.sendDatagram(inboxPath, payload, files.slice(0, count))
    const received = inbox.receive()
    assert.ok(received !== null && received.payload.equals(payload))
    assert.deepEqual(received.descriptors.map(fileOf), files.slice(0, count).map(fileOf))
    assert.ok(received.descriptors.every(isCloseOnExec))
    for (const fd of received.descriptors) calls.close(fd)
  }
  assert.deepEqual(openDescriptors(), before)

  // The payload is the caller's own, not a view of what the next datagram overwrites.
  calls.sendDatagram(inboxPath, Buffer.from('first'), [])
  calls.sendDatagram(inboxPath, Buffer.from('later'), [])
  const [first, later] = [inbox.receive(), inbox.receive()]
  assert.deepEqual([first?.payload.toString(), later?.payload.toString()], ['first', 'later'])
  calls.sendDatagram(inboxPath, Buffer.alloc(MAX_DATAGRAM_BYTES, 1), [])
  assert.equal(inbox.receive()?.payload.length, MAX_DATAGRAM_BYTES)
  for (const fd of files) fs.closeSync(fd)
})

test('system calls: a datagram that cannot be sent throws, and leaves no descriptor behind', linux, t => {
  const calls = systemCalls()
  const folder = temporaryFolder(t)
  const inboxPath = path.join(folder, 'inbox')
  const inbox = calls.openInbox(inboxPath)
  const before = openDescriptors()
  const send = (to: string, descriptors: readonly number[] = [], payload = Buffer.from('x')) =>
    () => calls.sendDatagram(to, payload, descriptors)
  assert.throws(send(path.join(folder, 'nobody')), { code: 'ENOENT' })
  assert.throws(send('@cirque-test-nobody'), { code: 'ECONNREFUSED', message: 'sendmsg(@cirque-test-nobody): ECONNREFUSED (errno 111)' })
  assert.throws(send(inboxPath, [9_999]), { code: 'EBADF' })
  assert.throws(send(inboxPath, Array.from({ length: MAX_DATAGRAM_DESCRIPTORS + 1 }, () => 2)), RangeError)
  assert.throws(send(inboxPath, [], Buffer.alloc(MAX_DATAGRAM_BYTES + 1)), RangeError)
  for (const to of ['', '@', '\0', `/${'x'.repeat(107)}`, `@${'x'.repeat(108)}`, '/a\0b']) {
    assert.throws(send(to), /cannot be the address of a Unix socket/)
  }
  assert.throws(() => calls.openInbox(inboxPath), { code: 'EADDRINUSE' })
  assert.throws(() => calls.openInbox(path.join(folder, 'no', 'folder')), { code: 'ENOENT' })
  // Nobody reads: at some point there is no room, and a sender that waits would wait for ever.
  assert.throws(() => { for (;;) calls.sendDatagram(inboxPath, Buffer.from('x'), []) }, { code: 'EAGAIN' })
  assert.deepEqual(openDescriptors(), before)
  inbox.close()
  inbox.close()
  assert.equal(fs.existsSync(inboxPath), false)
  assert.throws(() => inbox.receive(), /the inbox is closed/)
  assert.throws(send(inboxPath), { code: 'ENOENT' })
})

test('system calls: an abstract name takes datagrams, in both spellings', linux, t => {
  const calls = systemCalls()
  const inbox = calls.openInbox(`@cirque-test-${process.pid}`)
  t.after(() => inbox.close())
  calls.sendDatagram(`@cirque-test-${process.pid}`, Buffer.from('a'), [])
  calls.sendDatagram(`\0cirque-test-${process.pid}`, Buffer.from('b'), [])
  assert.deepEqual([inbox.receive()?.payload.toString(), inbox.receive()?.payload.toString(), inbox.receive()], ['a', 'b', null])
})

test('system calls: a datagram whose descriptors do not all fit is dropped with those that came', linux, async t => {
  const inboxPath = path.join(temporaryFolder(t), 'inbox')
  const program = runProgram(`
    const fs = await import('node:fs')
    const inbox = calls.openInbox(process.argv[1])
    const open = () => fs.readdirSync('/proc/self/fd').length
    const before = open()
    calls.sendDatagram(process.argv[1], Buffer.from('many'), Array(200).fill(2))
    let message = ''
    try { inbox.receive() } catch (error) { message = error.message }
    calls.sendDatagram(process.argv[1], Buffer.from('next'), [])
    console.log(JSON.stringify({ message, left: open() - before, next: inbox.receive().payload.toString() }))
    inbox.close()
  `, [inboxPath], ['sh', '-c', 'ulimit -n 100 && exec "$0" "$@"', process.execPath])
  assert.deepEqual(await nextLine(program), {
    message: 'a datagram was dropped: not all of its descriptors could be taken; raise the limit of open files',
    left: 0, next: 'next',
  })
  assert.equal(await program.ended, 0)
})

test('system calls: a datagram that is too long is dropped', linux, async t => {
  // We refuse to send one.
  const python = requireProgram(t, 'python3')
  if (python === null) return
  const calls = systemCalls()
  const inboxPath = path.join(temporaryFolder(t), 'inbox')
  const inbox = calls.openInbox(inboxPath)
  t.after(() => inbox.close())
  const sender = spawn(
    python,
    [
      '-c',
      'import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b"x"*int(sys.argv[2]),sys.argv[1])',
      inboxPath, String(MAX_DATAGRAM_BYTES + 1),
    ],
    { stdio: 'inherit' },
  )
  assert.deepEqual((await once(sender, 'exit'))[0], 0)
  assert.throws(() => inbox.receive(), /longer than 65536 bytes/)
  assert.equal(inbox.receive(), null)
})

test('system calls: listening sockets go to another process, which serves on them when ours are gone', linux, async t => {
  const calls = systemCalls()
  const folder = temporaryFolder(t)
  const inboxPath = path.join(folder, 'inbox')
  const unixPath = path.join(folder, 'listen.sock')
  const program = runProgram(`
    const net = await import('node:net')
    const inbox = calls.openInbox(process.argv[1])
    console.log('"open"')
    let received
    while ((received = inbox.receive()) === null) await new Promise(resolve => setTimeout(resolve, 2))
    inbox.close()
    const addresses = received.descriptors.map(fd => calls.socketAddress(fd))
    const servers = received.descriptors.map(fd => net.createServer(socket => socket.end('from ' + process.pid)).listen({ fd }))
    await Promise.all(servers.map(server => new Promise(resolve => server.once('listening', resolve))))
    console.log(JSON.stringify({ payload: received.payload.toString(), addresses }))
    process.stdin.resume().once('end', () => process.exit())
  `, [inboxPath])
  assert.equal(await nextLine(program), 'open')
  const tcp = new net.BoundSocket({ host: '127.0.0.1', port: 0 })
  const unix = new net.BoundSocket({ path: unixPath } as unknown as net.BoundSocketOptions)
  const { port } = tcp.address() as net.AddressInfo
  calls.sendDatagram(inboxPath, Buffer.from('layout'), [tcp.fd(), unix.fd()])
  tcp.close()
  assert.deepEqual(await nextLine(program), {
    payload: 'layout', addresses: [{ kind: 'tcp', host: '127.0.0.1', port }, { kind: 'unix', path: unixPath }],
  })
  for (const to of [{ port, host: '127.0.0.1' }, { path: unixPath }]) {
    const chunks = await net.connect(to).setEncoding('utf8').toArray() as string[]
    assert.equal(chunks.join(''), `from ${program.child.pid}`)
  }
  unix.close()
  program.child.stdin.end()
  await program.ended
})

test('system calls: reap tells a child that runs from one that is none of ours, and refuses groups', linux, async () => {
  const calls = systemCalls()
  assert.equal(calls.reap(process.pid), 'not-a-child')
  assert.equal(calls.reap(process.ppid), 'not-a-child')
  const child = spawn('sh', ['-c', 'read nothing; exit 3'], { stdio: ['pipe', 'ignore', 'ignore'] })
  assert.equal(calls.reap(child.pid!), null)
  child.stdin.end()
  assert.deepEqual(await once(child, 'exit'), [3, null])
  assert.equal(calls.reap(child.pid!), 'not-a-child')
  for (const pid of [0, -1, -child.pid!, 1.5, NaN]) assert.throws(() => calls.reap(pid), RangeError)
})

test('system calls: the ends of children that were there before an exec in place are taken, once each', linux, async () => {
  // The second image inherits children that its Node.js knows nothing of; they end when it closes what they read.
  const second = `${LOADED}
    const ends = {}
    const kill = process.argv[3]
    const running = calls.reap(Number(kill))
    process.kill(Number(kill), 'SIGKILL')
    const waiting = new Set(process.argv.slice(1))
    while (waiting.size > 0) {
      for (const pid of waiting) {
        const end = calls.reap(Number(pid))
        if (end !== null) { ends[pid] = [end, calls.reap(Number(pid))]; waiting.delete(pid) }
      }
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    console.log(JSON.stringify({ pid: process.pid, running, ends: process.argv.slice(1).map(pid => ends[pid]) }))
  `
  const program = runProgram(`
    const { spawn } = await import('node:child_process')
    const scripts = ['read nothing; exit 7', 'read nothing; kill -TERM $$', 'exec sleep 60']
    const children = scripts.map(text => spawn('sh', ['-c', text], { stdio: ['pipe', 'ignore', 'ignore'] }))
    calls.execve(
      process.execPath,
      [
        process.execPath, '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval',
        ${JSON.stringify(second)}, ...children.map(child => String(child.pid)),
      ],
      process.env,
    )
  `)
  const { pid, running, ends } = await nextLine<{ pid: number; running: unknown; ends: unknown[] }>(program)
  assert.equal(pid, program.child.pid)
  assert.equal(running, null)
  assert.deepEqual(ends, [
    [{ code: 7, signal: null }, 'not-a-child'],
    [{ code: null, signal: 'SIGTERM' }, 'not-a-child'],
    [{ code: null, signal: 'SIGKILL' }, 'not-a-child'],
  ])
  assert.equal(await program.ended, 0)
})

test('system calls: execve from a worker thread keeps the process, while the main thread is busy', linux, async t => {
  const inThread = `
    const { workerData } = require('node:worker_threads')
    import(workerData.module).then(async ({ loadSystemCalls }) => {
      const { calls } = await loadSystemCalls({})
      let failed = ''
      try { calls.execve(workerData.missing, ['x'], {}) } catch (error) { failed = error.code }
      calls.setInheritable(workerData.fd, true)
      const text = \`
        const file = require("node:fs").readlinkSync("/proc/self/fd/" + process.argv[1])
        console.log(JSON.stringify({ pid: process.pid, argv: process.argv.slice(1), env: process.env, file }))\`
      calls.execve(process.execPath, [process.execPath, '--eval', text, String(workerData.fd), failed, 'ü ☂', ''], {
        GIVEN: 'a=b', EMPTY: '', TEST_FILE_PID: process.env.TEST_FILE_PID,
      })
    })
  `
  const program = runProgram(`
    const { Worker } = await import('node:worker_threads')
    const fd = calls.dup(0)
    console.log(JSON.stringify((await import('node:fs')).readlinkSync('/proc/self/fd/' + fd)))
    new Worker(${JSON.stringify(inThread)}, {
      eval: true, execArgv: [],
      workerData: { fd, missing: ${JSON.stringify(path.join(temporaryFolder(t), 'missing'))}, module: ${MODULE} },
    })
      .once('online', () => { for (;;); })
  `)
  const file = await nextLine<string>(program)
  const seen = await nextLine<{ pid: number; argv: string[]; env: Record<string, string>; file: string }>(program)
  assert.equal(seen.pid, program.child.pid)
  assert.deepEqual(seen.argv.slice(1), ['ENOENT', 'ü ☂', ''])
  assert.deepEqual(seen.env, { GIVEN: 'a=b', EMPTY: '', TEST_FILE_PID: process.env['TEST_FILE_PID'] })
  assert.equal(seen.file, file)
  assert.equal(await program.ended, 0)
})

test('system calls: an execve that fails changes nothing', linux, t => {
  const calls = systemCalls()
  const marks = (): boolean[] => [0, 1, 2].map(isCloseOnExec)
  const before = marks()
  const missing = path.join(temporaryFolder(t), 'missing')
  assert.throws(() => calls.execve(missing, ['x'], {}), { code: 'ENOENT', message: `execve(${missing}): ENOENT (errno 2)` })
  assert.throws(() => calls.execve('/', ['x'], {}), { code: 'EACCES' })
  assert.throws(() => calls.execve(process.execPath, ['x'.repeat(200_000)], {}), { code: 'E2BIG' })
  assert.throws(() => calls.execve(process.execPath, ['a\0b'], {}), /holds a zero byte/)
  assert.throws(() => calls.execve(process.execPath, ['a'], { 'A=B': 'c' }), /cannot be the name of a variable/)
  assert.throws(() => calls.execve(process.execPath, ['a'], { A: 'c\0d' }), /holds a zero byte/)
  assert.deepEqual(marks(), before)
})

test('system calls: structures survive the collector', linux, async t => {
  const calls = systemCalls()
  const inboxPath = path.join(temporaryFolder(t), 'inbox')
  const inbox = calls.openInbox(inboxPath)
  t.after(() => inbox.close())
  // Enough garbage to move everything that can be moved, several times.
  let kept: unknown[] = []
  for (let round = 0; round < 200; round++) {
    kept = Array.from({ length: 2_000 }, (_, index) => ({ index, text: `${round} ${index}` }))
    calls.sendDatagram(inboxPath, Buffer.from(`round ${round}`), [2])
    const received = inbox.receive()
    assert.equal(received?.payload.toString(), `round ${round}`)
    for (const fd of received.descriptors) calls.close(fd)
  }
  assert.equal(kept.length, 2_000)
  await waitFor('the inbox to be empty', () => inbox.receive() === null)
})

test('connectDatagram: what is sent arrives whole, and a full queue, a receiver that is gone and one too long are told apart', linux, t => {
  const { connectDatagram, openInbox } = systemCalls()
  const file = path.join(temporaryFolder(t), 'inbox'), before = openDescriptors()
  assert.throws(() => connectDatagram(file), { code: 'ENOENT' })
  const inbox = openInbox(file)
  const outlet = connectDatagram(file)
  // Small buffers share their memory with others.
  for (const text of ['a', 'b'.repeat(8000), '', '\u00E9']) {
    assert.equal(outlet.send(Buffer.from(text)), '')
    assert.equal(inbox.receive()!.payload.toString(), text)
  }
  assert.equal(outlet.send(Buffer.alloc(64 * 1024 * 1024)), 'EMSGSIZE')
  let taken = 0
  while (outlet.send(Buffer.from('x')) === '' && taken < 1_000_000) taken++
  assert.equal(outlet.send(Buffer.from('x')), 'EAGAIN')
  inbox.receive()
  assert.equal(outlet.send(Buffer.from('x')), '')
  inbox.close()
  assert.equal(outlet.send(Buffer.from('x')), 'ECONNREFUSED')
  assert.throws(() => connectDatagram(file), { code: 'ENOENT' })
  outlet.close()
  outlet.close()
  assert.throws(() => outlet.send(Buffer.from('x')), /the outlet is closed/)
  assert.deepEqual(openDescriptors(), before)
})
