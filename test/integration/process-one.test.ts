/** The supervisor as process 1 of a container, as far as a namespace of processes makes it one. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { get } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')
const PLAIN = path.resolve(import.meta.dirname, '../support/apps/plain.ts')
const MAKE = ['--pid', '--fork', '--kill-child', '--mount', 'sh', '-c', 'mount -t proc proc /proc && exec "$@"', 'sh']
const mayMake = process.getuid?.() === 0 && spawnSync('unshare', [...MAKE, 'true']).status === 0

interface Container { readonly pid: number; readonly port: number; readonly ended: Promise<unknown[]> }

async function start(t: TestContext): Promise<Container> {
  const folder = temporaryFolder(t)
  const run = [process.execPath, '--disable-warning=ExperimentalWarning', CLI, 'run', PLAIN]
  const outside = spawn('unshare', [...MAKE, ...run], {
    cwd: folder, stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, CIRQUE_SUPERVISOR_WORKERS: '1', CIRQUE_SUPERVISOR_STATE_DIR: path.join(folder, 'state') },
  })
  const ended = once(outside, 'exit')
  t.after(async () => {
    if (outside.exitCode === null && outside.signalCode === null) outside.kill('SIGKILL')
    await ended
  })
  let text = ''
  outside.stderr.setEncoding('utf8').on('data', (chunk: string) => { text += chunk })
  const running = await waitFor('the line that says it runs', () => {
    if (outside.exitCode !== null) throw new Error(text)
    return text.split('\n').find(line => line.includes('"msg":"running"'))
  }, { deadlineMs: 30_000, seen: () => text })
  const [pid] = childrenOf(outside.pid!)
  return { pid: pid!, port: Number(/127\.0\.0\.1:(\d+)/.exec(running)![1]), ended }
}

function childrenOf(pid: number): number[] {
  return fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(one => one.trim() !== '').map(Number)
}

function isZombie(pid: number): boolean {
  try { return /^\d+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')) } catch { return false }
}

const ROOT_ONLY = { skip: mayMake ? false : 'only root may make a namespace' }
test('process 1: it serves, takes the end of orphans, keeps its workers and ends in order', ROOT_ONLY, async t => {
  const { pid, port, ended } = await start(t)
  assert.match(fs.readFileSync(`/proc/${pid}/status`, 'utf8'), /^NSpid:.*\t1$/m)
  const worker = await get(port)
  // Each leaves a child behind that ends later, as `docker exec` does.
  const orphan = ['-t', String(pid), '-p', '-m', 'sh', '-c', '(setsid sh -c "sleep 0.1 & exec true" &)']
  for (let count = 0; count < 3; count++) spawnSync('nsenter', orphan)
  await waitFor('an orphan to have come', () => childrenOf(pid).length > 1 || childrenOf(pid).some(isZombie))
  await waitFor('the ends of all to be taken', () => childrenOf(pid).length === 1, { deadlineMs: 10_000, seen: () => childrenOf(pid) })
  // The end of a worker is heard of: another one comes.
  process.kill(childrenOf(pid)[0]!, 'SIGKILL')
  await waitFor('another worker', async () => /^\d+$/.test(await get(port)) && await get(port) !== worker, { deadlineMs: 20_000 })
  process.kill(pid, 'SIGTERM')
  assert.deepEqual(await within('its end', ended, 20_000), [0, null])
})
