import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import { HANDOVER_FILES, readHandover, ReexecFailed, replaceSupervisor } from '../../supervisor/reexec.ts'
import type { Handover } from '../../supervisor/reexec.ts'
import type { Behaviour, Command, ImageStatus } from '../support/handover-image.ts'
import '../support/no-process-left.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const linux = { skip: process.platform !== 'linux' }
const ROOT = path.join(import.meta.dirname, '../..')
const IMAGE = path.join(ROOT, 'test/support/handover-image.ts')
const BOOT = path.join(ROOT, 'supervisor/boot.ts')
/** For attempts that are ended by time. Shorter, and a busy machine might not get as far as the fault. */
const SHORT_MS = 1_000
/** Every image between two answers starts a Node.js, on a busy machine. */
const ANSWER_MS = 15_000

/** A process that was started once and became many images. */
class Life {
  readonly process: ChildProcess
  readonly folder: string
  port = 0
  child = 0
  stdout = ''
  stderr = ''
  readonly ended: Promise<{ code: number | null; signal: string | null }>

  private constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.folder = folder
    this.process = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', IMAGE, folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    })
    this.process.stdout!.setEncoding('utf8').on('data', text => { this.stdout += String(text) })
    this.process.stderr!.setEncoding('utf8').on('data', text => { this.stderr += String(text) })
    this.ended = once(this.process, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null }))
  }

  static async start(t: TestContext, env: Readonly<Record<string, string>> = {}): Promise<Life> {
    const life = new Life(temporaryFolder(t), env)
    t.after(() => {
      for (const pid of [life.process.pid!, life.child]) {
        if (pid > 0) try { process.kill(pid, 'SIGKILL') } catch { /* It has ended. */ }
      }
    })
    await waitFor('the first image to serve', () => life.stdout.includes('\n'), { deadlineMs: ANSWER_MS, seen: () => life.stderr })
    const { port, child } = JSON.parse(life.stdout) as { port: number; child: number }
    life.port = port
    life.child = child
    return life
  }

  status(): Promise<ImageStatus> { return this.ask({ do: 'status' }) as Promise<ImageStatus> }

  /** Becomes another image, which closes the connection on which it was asked. */
  async replace(behaviour: Behaviour, rest: Partial<Extract<Command, { do: 'replace' }>> = {}): Promise<void> {
    assert.equal(await this.ask({ ...rest, do: 'replace', behaviour }), null)
  }

  /** The child is still ours to take, and all that is left goes. */
  async end(): Promise<void> {
    const { childEnd } = await this.ask({ do: 'end' }) as ImageStatus
    assert.deepEqual(childEnd, { code: null, signal: 'SIGTERM' })
    assert.deepEqual(await this.ended, { code: 0, signal: null })
  }

  async importing(): Promise<void> {
    const imports = (): boolean => this.stdout.includes('importing')
    await waitFor('the new image to be imported', imports, { deadlineMs: ANSWER_MS, seen: () => this.stderr })
  }

  /** A dial waits in the queue of the socket until some image accepts. */
  private async ask(command: Command): Promise<ImageStatus | null> {
    const socket = net.connect(this.port, '127.0.0.1').setEncoding('utf8')
    socket.write(JSON.stringify(command))
    const received = (socket.toArray() as Promise<string[]>).catch((error: NodeJS.ErrnoException) => {
      // What was not read yet when the image went.
      if (error.code === 'ECONNRESET') return []
      throw error
    })
    const answer = await within(`an answer to ${command.do}; stderr: ${this.stderr}`, received, ANSWER_MS)
    return answer.length === 0 ? null : JSON.parse(answer.join('')) as ImageStatus
  }
}

/** Everything that a life keeps whatever image it is. */
function identity({ pid, socket, childEnd, closeOnExec, files }: ImageStatus): object {
  return { pid, socket, childEnd, closeOnExec, files }
}

test('boot: five images in a row commit; pid, socket and child stay, descriptors do not grow', linux, async t => {
  const life = await Life.start(t)
  const first = await life.status()
  assert.deepEqual(identity(first), { pid: life.process.pid, socket: first.socket, childEnd: null, closeOnExec: true, files: [] })
  for (let round = 1; round <= 5; round++) {
    await life.replace('commit')
    const status = await life.status()
    assert.deepEqual(identity(status), identity(first))
    assert.deepEqual([status.round, status.attempt, status.reason, status.fileMode], [round, 'forward', '', 0o600])
    // The watchdog thread takes a moment to end.
    let { descriptors } = status
    await waitFor(`descriptors to be no more than in the first image, in round ${round}`, async () => {
      ({ descriptors } = await life.status())
      return descriptors.length <= first.descriptors.length
    }, { seen: () => [first.descriptors, descriptors] })
  }
  assert.equal(life.stderr, '')
  await life.end()
})

const FAULTS: readonly (readonly [Behaviour, RegExp])[] = [
  ['throw-at-import', /^it could not be loaded: thrown at import$/],
  ['exit-at-import', /^it called process\.exit\(0\) before it had taken over$/],
  ['loop-at-import', /^it did not take over within \d+ ms, and its main thread does not answer$/],
  ['never-load', /^it did not take over within \d+ ms$/],
  ['no-resume', /^it could not be loaded: \/.*handover-image\.ts exports no resume\(\)$/],
  ['reject', /^it failed while it took over: rejected later$/],
  ['exit-later', /^it called process\.exit\(0\) before it had taken over$/],
  ['crash', /^it left an error uncaught: thrown in a timer$/],
  ['unhandled', /^it left an error uncaught: rejected in a timer$/],
  ['late', /^it did not take over within \d+ ms$/],
  ['loop-later', /^it did not take over within \d+ ms, and its main thread does not answer$/],
  ['go-back', /^workers did not come back$/],
]

for (const [behaviour, reason] of FAULTS) {
  test(`boot: the image before comes back with the reason, pid, socket and child: ${behaviour}`, linux, async t => {
    const life = await Life.start(t)
    const first = await life.status()
    const timed = reason.source.includes('within')
    await life.replace(behaviour, timed ? { bootTimeoutMs: SHORT_MS } : {})
    const status = await life.status()
    assert.match(status.reason, reason)
    assert.deepEqual([status.attempt, status.fileMode], ['back', 0o600])
    assert.deepEqual(identity(status), identity(first))
    // Masks and handlers are those of any other image, also when a thread has executed it.
    process.kill(status.pid, 'SIGHUP')
    await waitFor('the signal', async () => (await life.status()).signals.includes('SIGHUP'))
    // And it can try again.
    await life.replace('commit')
    assert.equal((await life.status()).attempt, 'forward')
    await life.end()
  })
}

test('boot: a signal that comes while the new release is loaded reaches its supervisor, once it listens', linux, async t => {
  const life = await Life.start(t)
  await life.replace('wait-for-signal')
  await life.importing()
  process.kill(life.process.pid!, 'SIGTERM')
  const { attempt, signals } = await life.status()
  assert.equal(attempt, 'forward')
  assert.deepEqual([...new Set(signals)], ['SIGTERM'])
  await life.end()
})

test('boot: a signal that comes before an image goes back reaches the one before', linux, async t => {
  const life = await Life.start(t)
  await life.replace('late', { bootTimeoutMs: SHORT_MS })
  await life.importing()
  process.kill(life.process.pid!, 'SIGTERM')
  process.kill(life.process.pid!, 'SIGUSR2')
  const { attempt, signals } = await life.status()
  assert.equal(attempt, 'back')
  assert.deepEqual(signals.toSorted(), ['SIGTERM', 'SIGUSR2'])
  await life.end()
})

test('boot: a Node.js that is too old for the release that was proven leads back', linux, async t => {
  const life = await Life.start(t)
  const copy = temporaryFolder(t)
  for (const name of ['supervisor', 'src', 'package.json']) fs.cpSync(path.join(ROOT, name), path.join(copy, name), { recursive: true })
  fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(copy, 'node_modules'))
  fs.writeFileSync(path.join(copy, 'src/runtime-check.ts'), `if (process.execArgv.includes('--no-deprecation')) process.exit(2)\n`)
  await life.replace('commit', { boot: path.join(copy, 'supervisor/boot.ts'), execArgv: ['--no-deprecation'] })
  const { attempt, reason } = await life.status()
  assert.deepEqual([attempt, reason], ['back', 'it called process.exit(2) before it had taken over'])
  await life.end()
})

test('boot: without system calls in the new image it says what is missing, and goes on', linux, async t => {
  const life = await Life.start(t)
  await life.replace('commit', { execArgv: ['--no-experimental-ffi'] })
  const { attempt, pid } = await life.status()
  assert.deepEqual([attempt, pid], ['forward', life.process.pid])
  assert.match(life.stderr, /^cirque: system calls are not available in this image: it cannot give its sockets back/m)
  const unnoticed = 'a new supervisor that hangs in a loop will not be noticed'
  assert.match(life.stderr, new RegExp(`^cirque: no watchdog thread: system calls are not available; ${unnoticed}$`, 'm'))
})

test('boot: when the image before fails as well, the process ends with both reasons', linux, async t => {
  const life = await Life.start(t)
  await life.replace('throw-at-import', { backThrows: true })
  assert.deepEqual(await within('the end', life.ended, ANSWER_MS), { code: 1, signal: null })
  const failed = 'it could not be loaded: thrown at import'
  const broken = 'it could not be loaded: the old one is broken, too'
  const line = `cirque: the supervisor could not be brought back after the new one had failed (${failed}): ${broken}`
  assert.ok(life.stderr.split('\n').includes(line), life.stderr)
  assert.deepEqual(fs.readdirSync(life.folder), [])
})

test('boot: a socket that the new image has closed cannot be given back', linux, async t => {
  const life = await Life.start(t)
  await life.replace('close-socket')
  assert.deepEqual(await within('the end', life.ended, ANSWER_MS), { code: 1, signal: null })
  assert.match(life.stderr, /closed what it was given\): it could not begin: descriptor \d+, which was handed over, is not a socket$/m)
})

for (const [behaviour, outcome] of [
  ['remove-way-back', { code: 1, signal: null }],
  ['remove-way-back-and-loop', { code: null, signal: 'SIGKILL' }],
] as const) {
  test(`boot: a process that can go neither on nor back ends: ${behaviour}`, linux, async t => {
    const life = await Life.start(t)
    const backNode = path.join(temporaryFolder(t), 'node')
    fs.symlinkSync(process.execPath, backNode)
    await life.replace(behaviour, { backNode, bootTimeoutMs: SHORT_MS })
    assert.deepEqual(await within('the end', life.ended, ANSWER_MS), outcome)
    assert.match(life.stderr, /^cirque: the new supervisor .*the one before (could not|cannot) be executed: execve\(.*\): ENOENT/m)
  })
}

test('boot: what is no hand-over is refused in one line', linux, async t => {
  const folder = temporaryFolder(t)
  const other = path.join(folder, 'other.json')
  fs.writeFileSync(other, '{"format":2}')
  for (const [args, code, line] of [
    [[], 2, /^cirque: boot is started by a supervisor that replaces itself/],
    [[path.join(folder, 'none.json')], 1, /^cirque: .*none\.json cannot be read, so the supervisor ends: ENOENT/],
    [[other], 1, /^cirque: .*other\.json cannot be read, so the supervisor ends: it is of format 2, not 1/],
  ] as const) {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', BOOT, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    const [text, [seen]] = await Promise.all([child.stderr.setEncoding('utf8').toArray() as Promise<string[]>, once(child, 'exit')])
    assert.equal(seen, code)
    assert.match(text.join(''), line)
    assert.equal(text.join('').trimEnd().split('\n').length, 1)
  }
})

test('replaceSupervisor: what cannot be executed changes nothing, and says why', linux, async t => {
  const loaded = await loadSystemCalls({})
  assert.ok(loaded.available)
  const { calls } = loaded
  const folder = temporaryFolder(t)
  const socket = new net.BoundSocket({ host: '127.0.0.1', port: 0 })
  t.after(() => socket.close())
  const other = calls.dup(socket.fd())
  t.after(() => calls.close(other))
  const noImage = path.join(temporaryFolder(t), 'node')
  fs.writeFileSync(noImage, 'no image', { mode: 0o700 })
  const missing = path.join(path.dirname(noImage), 'missing')
  const image = { node: process.execPath, execArgv: [], entry: IMAGE, boot: BOOT }
  const handover: Handover = {
    format: 1,
    attempt: 'forward',
    reason: '',
    to: image,
    back: image,
    descriptors: [socket.fd(), other],
    bootTimeoutMs: SHORT_MS,
    state: null,
  }
  const faults: readonly (readonly [string, Partial<Handover>, RegExp])[] = [
    [
      'a runtime that is not there', { to: { ...image, node: missing } },
      /^the next image could not be executed: execve\(.*\/missing\): ENOENT/,
    ],
    ['a file that is no image', { to: { ...image, node: noImage } }, /ENOEXEC/],
    ['an entry that is not there', { to: { ...image, entry: `${missing}.ts` } }, /ENOENT.*\/missing\.ts/],
    ['a way back that is not there', { back: { ...image, node: missing } }, /ENOENT.*\/missing/],
    ['a descriptor that is not open', { descriptors: [socket.fd(), 999_999, other] }, /fcntl\(999999\): EBADF/],
  ]
  for (const [what, part, message] of faults) {
    const isTold = (error: unknown): boolean => error instanceof ReexecFailed && message.test(error.message)
    assert.throws(() => replaceSupervisor(folder, { ...handover, ...part }, calls), isTold, what)
    for (const fd of [socket.fd(), other]) assert.match(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'), /flags:\s+02\d{6}\n/, what)
    assert.deepEqual(fs.readdirSync(folder), [], what)
  }
  // No place for the files.
  const noPlace = path.join(folder, 'none')
  assert.throws(() => replaceSupervisor(noPlace, handover, calls), /^ReexecFailed: the next image could not be executed: ENOENT/)
})

test('replaceSupervisor: the way back is on the disk before the exec', linux, async t => {
  const folder = temporaryFolder(t)
  const image = { node: process.execPath, execArgv: [], entry: IMAGE, boot: BOOT }
  const loaded = await loadSystemCalls({})
  assert.ok(loaded.available)
  const seen: unknown[] = []
  const calls = {
    ...loaded.calls,
    execve(_: string, argv: readonly string[]): never {
      const files = Object.values(HANDOVER_FILES).map(name => path.join(folder, name))
      seen.push(argv, files.map(file => fs.statSync(file).mode & 0o777), files.map(file => readHandover(file).attempt))
      throw new Error('not now')
    },
  }
  const handover: Handover = {
    format: 1,
    attempt: 'forward',
    reason: '',
    to: { ...image, node: '/new/node', execArgv: ['--x'], boot: '/new/boot.ts' },
    back: image,
    descriptors: [],
    bootTimeoutMs: 1,
    state: { secret: 'x' },
  }
  assert.throws(() => replaceSupervisor(folder, handover, calls), ReexecFailed)
  const preload = `--import=${new URL('keep-signals.mjs', pathToFileURL(BOOT)).href}`
  const argv = ['/new/node', preload, '--x', BOOT, path.join(folder, HANDOVER_FILES.forward)]
  assert.deepEqual(seen, [argv, [0o600, 0o600], ['forward', 'back']])
})

test('boot: neither the new image nor what it starts has what was preloaded for it', linux, async t => {
  const life = await Life.start(t)
  await life.replace('commit')
  assert.deepEqual((await life.status()).execArgv, ['--disable-warning=ExperimentalWarning'])
})

for (const behaviour of ['own-signals', 'go-back'] as const) {
  test(`boot: a signal that comes before the trampoline listens is told: ${behaviour}`, linux, async t => {
    const preload = new URL('../support/signal-at-boot.mjs', import.meta.url).href
    const life = await Life.start(t, {
      NODE_OPTIONS: `--import=${preload}`,
      SIGNALS_AT_BOOT_OF: HANDOVER_FILES.forward,
      SIGNALS_AT_BOOT: 'SIGTERM',
    })
    await life.replace(behaviour)
    const { attempt, signals } = await life.status()
    assert.equal(attempt, behaviour === 'go-back' ? 'back' : 'forward')
    assert.ok(signals.includes('SIGTERM'), JSON.stringify(signals))
  })
}
