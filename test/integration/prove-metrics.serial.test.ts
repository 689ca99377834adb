/** The proof of scripts/observability in short: a real Prometheus scrapes while a worker is killed and everything is replaced. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { requireProgram } from '../support/programs.ts'
import { within } from '../support/wait-for.ts'

const SCRIPT = path.resolve(import.meta.dirname, '../../scripts/observability/prove-metrics.ts')

function prove(t: TestContext, env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env })
  // It ends what it has started itself, when it is told to.
  t.after(() => { child.kill('SIGTERM') })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text })
  const ended = new Promise<{ code: number | null; output: string }>(resolve => {
    child.once('close', code => { resolve({ code, output }) })
  })
  return within('the proof to end', ended, 150_000)
}

test('prove:metrics: Prometheus sees no total go back, and counts what clients counted', async t => {
  if (requireProgram(t, 'prometheus') === null) return
  const { code, output } = await prove(t, process.env, '--seconds', '10')
  assert.equal(code, 0, output)
  assert.match(output, /^PASS counters that were reset: none$/m)
  assert.match(output, /^cirque_requests_total +\d+ +0 +0 /m)
})

test('prove:metrics: what cannot be done is said in a line', async t => {
  const wrong = await prove(t, process.env, '--seconds', '1')
  assert.deepEqual(wrong, { code: 2, output: 'prove:metrics: --seconds is 1; use a number of at least 5\n' })
})
