/** `cirque tail`, `trace` and `explain` against a real supervisor and its workers. What each says in detail has tests of its own. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { ExplainedByWorker } from '../../src/ipc/explanation.ts'
import type { TraceRecord } from '../../src/ipc/looking.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answerOk, ScriptedOrigin } from '../support/scripted-origin.ts'
import { SupervisedApp, type SupervisedOptions } from '../support/supervised-app.ts'
import { waitFor, within } from '../support/wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')
const DEADLINE_MS = 30_000

/** A command of ours that runs beside the server. */
class Running {
  out = ''
  err = ''
  readonly ended: Promise<number | null>
  readonly #pid: number

  constructor(t: TestContext, app: SupervisedApp, words: readonly string[]) {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, ...words, '--state-dir', app.stateDir], {
      stdio: ['ignore', 'pipe', 'pipe'], cwd: app.folder,
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => { this.out += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { this.err += text })
    this.#pid = child.pid!
    let isOver = false
    this.ended = new Promise(resolve => {
      child.once('close', code => {
        isOver = true
        resolve(code)
      })
    })
    t.after(async () => {
      if (!isOver) child.kill('SIGKILL')
      await this.ended
    })
  }

  get lines(): string[] { return this.out.split('\n').slice(0, -1) }
  interrupt(): void { process.kill(this.#pid, 'SIGINT') }
  end(): Promise<number | null> { return within(`the command to end; it said ${this.out} ${this.err}`, this.ended, DEADLINE_MS) }

  /** Until it has that many lines. @param knock makes one more, in case that the workers were not looked at yet */
  async shows(count: number, knock: () => Promise<unknown>): Promise<string[]> {
    await waitFor(`${count} lines`, async () => {
      await knock()
      return this.lines.length >= count
    }, { deadlineMs: DEADLINE_MS, seen: () => [this.out, this.err] })
    return this.lines
  }
}

interface Examined {
  readonly app: SupervisedApp
  run(...words: string[]): Running
  ask(target: string, ...fields: string[]): Promise<number>
}

async function start(t: TestContext, log: SupervisedOptions['log'] = {}): Promise<Examined> {
  const origin = await ScriptedOrigin.start(answerOk)
  t.after(() => origin.stop())
  const app = await SupervisedApp.start(t, { app: 'examined', log: { access: 'off', ...log }, env: { PROXY_ORIGIN: origin.authority } })
  return {
    app,
    run: (...words) => new Running(t, app, words),
    // A connection each, so that both workers are met.
    async ask(target, ...fields) {
      const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
      try {
        await client.write(get(target, ...fields))
        return (await client.readResponse()).status
      } finally { client.destroy() }
    },
  }
}

test('tail: requests of all workers are shown as they end, though no access log is written, until Ctrl-C', async t => {
  const { app, run, ask } = await start(t, { accessClient: 'masked', redactQueryKeys: ['tenant'] })
  const tail = run('tail', '--json', '--status', '401')
  const workers = (): Set<unknown> => new Set(tail.lines.map(line => (JSON.parse(line) as { worker: string }).worker))
  await waitFor('both workers', async () => {
    await ask('/a')
    await ask('/private?tenant=acme', 'User-Agent: \u009B31m')
    return workers().size === 2
  }, { deadlineMs: DEADLINE_MS, seen: () => [tail.out, tail.err] })
  tail.interrupt()
  assert.equal(await tail.end(), 0)
  assert.equal(tail.err, '')
  assert.match(tail.out, /^[\x20-\x7E\n]*$/)
  for (const line of tail.lines) {
    const { path: asked, query, status, ua, listener, client } = JSON.parse(line) as Record<string, unknown>
    assert.deepEqual([asked, status, ua, listener], ['/private', 401, '\u009B31m', 'edge/127.0.0.1:0'])
    assert.deepEqual([query, client], ['tenant=***', '127.0.0.0'], 'what the log does not show is not shown here')
  }
  assert.equal(app.stdout, '', 'nothing goes to the access log')
})

test('tail: it goes on over workers and a supervisor that are replaced, and ends with as many requests as were wanted', async t => {
  const { app, run, ask } = await start(t)
  const tail = run('tail', '--json')
  await tail.shows(3, () => ask('/old'))
  assert.equal(await run('workers', 'restart').end(), 0)
  await waitFor('a line of a new worker', async () => {
    await ask('/new')
    return /"worker":"1\.\d\.1"/.test(tail.out)
  }, { deadlineMs: DEADLINE_MS, seen: () => tail.out })
  assert.equal(await run('upgrade', '--supervisor', '--soak', '0').end(), 0)
  await waitFor('a line by way of the new supervisor', async () => {
    await ask('/newer')
    return tail.err.includes('was lost for a while') && /"path":"\/newer"/.test(tail.out)
  }, { deadlineMs: DEADLINE_MS, seen: () => [tail.out.slice(-500), tail.err] })
  const few = run('tail', '--count', '2', '--path', '/few*')
  await within('the end of the short one', (async () => {
    for (let isOver = false; !isOver;) {
      isOver = await Promise.race([few.ended.then(() => true), ask('/few?x').then(() => false)])
      await ask('/many')
    }
  })(), DEADLINE_MS)
  assert.equal(await few.end(), 0)
  assert.equal(few.lines.length, 2)
  for (const line of few.lines) assert.match(line, /^[\d:]{8} {2}200 {2}GET {3}\/few\?x +[\d.]+ ms {2}-> 127\.0\.0\.1:\d+$/)
  app.signal('SIGTERM')
  await app.end()
  assert.equal(await tail.end(), 3)
  assert.match(tail.err, /no supervisor is running in/)
})

test('trace: the phases of the next requests that are wanted, drawn and as JSON', async t => {
  const { run, ask } = await start(t)
  const drawn = run('trace', '--next', '2', '--path', '/fault')
  await within('the end of the trace', (async () => {
    for (let isOver = false; !isOver;) isOver = await Promise.race([drawn.ended.then(() => true), ask('/fault').then(() => false)])
  })(), DEADLINE_MS)
  assert.equal(await drawn.end(), 0)
  const drawings = drawn.out.split('\n\n')
  assert.equal(drawings.length, 2)
  for (const drawing of drawings) {
    assert.match(drawing, /^GET \/fault {2}500 FE {2}[\d.]+ ms\n/)
    assert.match(drawing, /\n {2}a\.example, from 127\.0\.0\.1, by edge\/127\.0\.0\.1:0, worker 1\.[01]\.0\n/)
    assert.match(drawing, /\n {2}requestFilter of module auth {2}\| *#+ *\|/)
    assert.match(drawing, /\n {2}requestFilter threw +\|/)
    assert.match(drawing, /\n {2}failed: HOOK_FAILED \(internal\): requestFilter: a planned fault\n/)
    assert.match(drawing.replaceAll(/\n {4}/g, ''), /\n {2}at .*examined\.ts:\d+:\d+/)
    assert.ok(drawing.split('\n').every(line => line.length <= 80))
  }
  const json = run('trace', '--json', '--method', 'GET', '--header', 'x-wanted: yes*')
  await within('the end of the second trace', (async () => {
    for (let isOver = false; !isOver;) {
      await ask('/b')
      isOver = await Promise.race([json.ended.then(() => true), ask('/a?key=secret', 'X-Wanted: yes, please').then(() => false)])
    }
  })(), DEADLINE_MS)
  assert.equal(await json.end(), 0)
  const { target, status, attempts, hooks } = JSON.parse(json.out) as TraceRecord
  assert.deepEqual([target, status, attempts.length, attempts[0]!.status], ['/a?key=***', 200, 1, 200])
  assert.ok(hooks.some(({ hook, waited }) => hook === 'requestFilter' && waited))
})

test('trace: fewer requests than were wanted by the end of its time is a failure, and says so', async t => {
  const { run } = await start(t)
  const trace = run('trace', '--next', '3', '--for', '200ms')
  assert.equal(await trace.end(), 1)
  assert.deepEqual([trace.out, trace.err.split('\n')[1]], ['', 'cirque: 0 of 3 requests came within 200ms'])
})

test('explain: what would happen, by URL and by path, and nothing happens', async t => {
  const { app, run, ask } = await start(t)
  const forwarded = run('explain', `http://127.0.0.1:${app.port}/x`, '-H', 'X-Tenant: acme', '--from', '10.9.8.7', '--json')
  assert.equal(await forwarded.end(), 0)
  const { worker, request, explanation } = JSON.parse(forwarded.out) as ExplainedByWorker
  assert.match(worker, /^1\.[01]\.0$/)
  assert.deepEqual(request.headers, [['Host', `127.0.0.1:${app.port}`], ['X-Tenant', 'acme']])
  const { outcome, choices: [choice], peer } = explanation
  assert.deepEqual([outcome, choice?.balancer, peer?.name], ['forwarded', 'origins', choice?.chosen])
  assert.ok(explanation.upstream!.fields.some(([name, value]) => name === 'X-Forwarded-For' && value === '10.9.8.7'))

  const answered = run('explain', 'POST', '/private')
  assert.equal(await answered.end(), 0)
  assert.match(answered.out, /^POST \/private, from 127\.0\.0\.1, asked in worker 1\.[01]\.0\n/)
  assert.match(answered.out, /\nlistener edge\/127\.0\.0\.1:0 of service edge\n/)
  assert.match(answered.out, /\n {2}requestFilter of module auth +responded {2}[\d.]+ ms\n {2}requestFilter +not reached\n/)
  assert.match(answered.out, /\noutcome: requestFilter of module auth answers with 401\n$/)

  const thrown = run('explain', '/fault')
  assert.equal(await thrown.end(), 1)
  const [, outcomeOfThrow] = /\noutcome: (.*)\n/.exec(thrown.out)!
  assert.match(outcomeOfThrow!, /^it fails in requestFilter: HOOK_FAILED .*a planned fault; the client gets 500$/)
  assert.match(thrown.out, /> \d+ \| .*throw new RangeError\('a planned fault'\)/)
  assert.equal(thrown.err, 'cirque: the request would come to nothing: failed\n')

  const nowhere = run('explain', 'http://127.0.0.1:1/')
  assert.equal(await nowhere.end(), 1)
  const all = 'edge/127.0.0.1:0 (127.0.0.1:'
  assert.ok(nowhere.err.startsWith(`cirque: no listener takes what comes to 127.0.0.1:1; there are: ${all}`), nowhere.err)
  const wrong = run('explain', '/', '--from', 'somewhere')
  assert.deepEqual([await wrong.end(), wrong.err], [2, 'cirque: --from is "somewhere"; use an IP address such as 10.0.0.9\n'])

  const totals = (await app.ask({ tag: 'status' }) as { totals: { exchanges: number } }).totals
  assert.equal(totals.exchanges, 0, 'no request was counted')
  assert.equal(await ask('/x'), 200)
})
