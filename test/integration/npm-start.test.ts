/** `npm start` as a newcomer meets it: in a terminal, with the example as it is, on a port of its own. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { cleanClone, olderNode } from '../support/clean-clone.ts'
import { requireProgram } from '../support/programs.ts'
import { RawClient, type RawResponse } from '../support/raw-client.ts'
import { chunk } from '../support/scripted-origin.ts'
import { isAlive } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const SCREEN = new RegExp([
  String.raw`Cirque \S+ runs examples\/load-balancer\.ts: supervisor (\d+), workers (\d+) (\d+)\s+`,
  String.raw`open +(http:\/\/127\.0\.0\.1:\d+)\s[^]*stop +Ctrl-C`,
].join(''))

interface Session {
  readonly terminal: ChildProcess
  /** The process that a shell would call its job. */
  readonly npmPid: number
  /** Supervisor first, then its workers. */
  readonly pids: readonly number[]
  readonly url: string
  readonly code: Promise<number | null>
  shown(): string
}

const DEADLINE_MS = 30_000

interface Place {
  /** @default this checkout */
  readonly cwd?: string
  /** @default ours */
  readonly env?: NodeJS.ProcessEnv
}

/** Null after the test was marked as skipped. */
async function npmStart(t: TestContext, { cwd = ROOT, env = process.env }: Place = {}): Promise<Session | null> {
  const python = requireProgram(t, 'python3')
  if (python === null) return null
  const folder = temporaryFolder(t)
  const terminal = spawn(python, [path.join(import.meta.dirname, '../support/in-terminal.py'), 'npm', 'start', '--', '127.0.0.1:0'], {
    cwd, stdio: 'pipe',
    env: {
      ...env, CIRQUE_SUPERVISOR_STATE_DIR: path.join(folder, 'state'), CIRQUE_SUPERVISOR_WORKERS: '2',
      npm_config_update_notifier: 'false',
    },
  })
  t.after(() => { terminal.kill('SIGTERM') })
  let text = ''
  let said = ''
  terminal.stdout.setEncoding('utf8').on('data', (more: string) => { text += more })
  terminal.stderr.setEncoding('utf8').on('data', (more: string) => { said += more })
  const code = new Promise<number | null>(resolve => terminal.once('exit', resolve))
  const [, supervisor, first, second, url] = await waitFor('the first screen', () => SCREEN.exec(text), {
    deadlineMs: DEADLINE_MS, seen: () => [text, said],
  })
  return { terminal, npmPid: Number.parseInt(said, 10), pids: [supervisor, first, second].map(Number), url: url!, code, shown: () => text }
}

async function assertEnded({ npmPid, pids, url, shown }: Session): Promise<void> {
  await waitFor('every process to be gone', () => [npmPid, ...pids].every(pid => !isAlive(pid)), { seen: shown })
  assert.equal(await refusal(url), 'ECONNREFUSED')
  assert.match(shown(), /supervisor: stopped/)
}

/** How a dial and a request fail; '' when they do not. */
async function refusal(url: string): Promise<string> {
  try {
    await (await fetch(url, { headers: { connection: 'close' } })).text()
    return ''
  } catch (error) {
    return ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code ?? String(error)
  }
}

test('npm start: the first screen says where to look, both origins answer, and Ctrl-C ends all of it', async t => {
  const session = await npmStart(t)
  if (session === null) return
  const origins = new Set<string>()
  await waitFor('answers of both origins', async () => {
    origins.add(/^Hello from origin (\w+), in process (\d+), through Cirque\.\n/.exec(await (await fetch(session.url)).text())![1]!)
    return origins.size === 2
  })
  assert.deepEqual([...origins].sort(), ['left', 'right'])
  session.terminal.stdin!.write('\x03')
  assert.equal(await within('the end', session.code, 10_000), 0, session.shown())
  await assertEnded(session)
})

/** A request that is under way, and how its client comes to the whole answer, whatever is stopped meanwhile. */
interface InFlight { finish(): Promise<void> }

const HALF = randomBytes(100_000)
/** More than the kernel holds between origin and client; the origin sends it in pieces. */
const DOWNLOAD = Buffer.alloc(20 * 1024 * 1024, Buffer.alloc(65_536, 'cirque '))

const IN_FLIGHT: Readonly<Record<string, (client: RawClient) => Promise<InFlight>>> = {
  async 'an upload, answered as it comes'(client) {
    await client.write(`POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: ${2 * HALF.length}\r\n\r\n`)
    await client.write(HALF)
    await waitFor('the first half to come back', () => client.unread.length > HALF.length, { deadlineMs: DEADLINE_MS })
    return {
      async finish() {
        await client.write(HALF)
        assertWhole(await client.readResponse({ deadlineMs: DEADLINE_MS }), Buffer.concat([HALF, HALF]))
      },
    }
  },
  async 'an upload, answered at its end'(client) {
    await client.write('POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n')
    assert.equal((await client.readHead()).status, 100)
    await client.write(chunk(HALF))
    return {
      async finish() {
        await client.write(Buffer.concat([chunk(HALF), Buffer.from('0\r\n\r\n')]))
        const { status, complete, body } = await client.readResponse({ deadlineMs: DEADLINE_MS })
        assert.deepEqual([status, complete], [200, true], String(body))
        const { bytes, sha256 } = JSON.parse(String(body)) as { bytes: number; sha256: string }
        const expected = createHash('sha256').update(HALF).update(HALF).digest('hex')
        assert.deepEqual([bytes, sha256], [2 * HALF.length, expected])
      },
    }
  },
  async 'a download to a client that does not read for a while'(client) {
    await client.write(`GET /download?bytes=${DOWNLOAD.length} HTTP/1.1\r\nHost: test\r\n\r\n`)
    await waitFor('the first bytes', () => client.unread.length > 0, { deadlineMs: DEADLINE_MS })
    client.pause()
    return {
      async finish() {
        client.resume()
        assertWhole(await client.readResponse({ deadlineMs: DEADLINE_MS }), DOWNLOAD)
      },
    }
  },
  async 'the second request of a connection'(client) {
    await client.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
    assert.equal((await client.readResponse()).status, 200)
    return IN_FLIGHT['an upload, answered as it comes']!(client)
  },
}

function assertWhole({ status, complete, body }: RawResponse, expected: Buffer): void {
  assert.deepEqual([status, complete, body.length, body.equals(expected)], [200, true, expected.length, true])
}

test('npm start: in a clean clone, below an older Node.js, Ctrl-C ends all of it behind the last answer', async t => {
  const cwd = cleanClone(t), older = cwd === null ? null : olderNode(t)
  if (cwd === null || older === null) return
  // Time enough on any machine: what is not finished by then is cut, which is not what this is about.
  const env = { ...older, HOME: path.dirname(cwd), CIRQUE_DRAIN_INTERRUPT_TIMEOUT: '60s' }
  const session = await npmStart(t, { cwd, env })
  if (session === null) return
  const { hostname: host, port } = new URL(session.url)
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ host, port: Number(port) })
    t.after(() => client.destroy())
    client.socket.once('end', () => client.end())
    return client
  }
  const idle = await connect()
  // Of each kind enough for both workers.
  const begun = await Promise.all(Object.values(IN_FLIGHT).flatMap(begin => Array.from({ length: 4 }, async () => begin(await connect()))))
  session.terminal.stdin!.write('\x03')
  await waitFor('the stop', () => session.shown().includes('SIGINT: stopping within seconds'), { seen: session.shown })
  await waitFor('dials to be refused', async () => (await refusal(session.url)) === 'ECONNREFUSED')
  assert.ok([session.npmPid, session.pids[0]!].every(isAlive))
  await Promise.all(begun.map(request => request.finish()))
  assert.equal(await within('the end', session.code, DEADLINE_MS), 0, session.shown())
  assert.ok(await idle.closes())
  await assertEnded(session)
})

test('npm start: SIGTERM to npm ends all of it', async t => {
  const session = await npmStart(t)
  if (session === null) return
  process.kill(session.npmPid, 'SIGTERM')
  await within('the end', session.code, 10_000)
  await assertEnded(session)
})

test('npm start: without requests the workers take next to no time of the processor', { skip: process.platform !== 'linux' }, async t => {
  const session = await npmStart(t)
  if (session === null) return
  const [, ...workers] = session.pids
  assert.equal((await fetch(session.url)).status, 200)
  const spentBy = (pid: string | number): number => Number(fs.readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
  const spentMs = (): number => workers.reduce((sum, pid) => sum + spentBy(pid), 0)
  // The collector and the compiler have work left after a start; two quiet seconds in a row must come.
  let startMs = performance.now()
  let startSpentMs = spentMs()
  const perSecond = await waitFor('two quiet seconds', () => {
    const elapsedMs = performance.now() - startMs
    if (elapsedMs < 2_000) return null
    const rate = (spentMs() - startSpentMs) / elapsedMs * 1_000 / workers.length
    startMs = performance.now()
    startSpentMs = spentMs()
    return rate < 5 ? rate : null
  }, { deadlineMs: 15_000, seen: spentMs })
  t.diagnostic(`${perSecond.toFixed(2)} ms a second and worker`)
  session.terminal.stdin!.write('\x03')
  assert.equal(await within('the end', session.code, 10_000), 0)
  await assertEnded(session)
})
