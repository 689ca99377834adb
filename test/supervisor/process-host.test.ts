/** Processes that were not forked here: how their end is noticed. Forks are in the tests of the supervisor. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test from 'node:test'
import { processStartTime, SystemProcessHost } from '../../supervisor/process-host.ts'

const LINUX_ONLY = { skip: process.platform === 'linux' ? false : 'needs /proc' }

/** The first look, at what has ended before it was watched, is over after one. */
function turn(): Promise<void> { return new Promise(resolve => { setImmediate(resolve) }) }

test('process host: the end of a process that is killed here is noticed before the next sweep', LINUX_ONLY, async t => {
  // Not our child: no SIGCHLD tells of its end.
  const { stdout } = spawnSync('sh', ['-c', 'sleep 600 >&- 2>&- & echo $!'], { encoding: 'utf8' })
  const pid = Number(stdout)
  t.after(() => { try { process.kill(pid, 'SIGKILL') } catch { /* It is gone. */ } })
  const startTime = processStartTime(pid)
  assert.notEqual(startTime, '')
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const host = new SystemProcessHost()
  let ends = 0
  host.adopt(pid, startTime, () => { ends++ })
  await turn()
  assert.equal(host.kill(pid, 'SIGKILL'), true)
  while (processStartTime(pid) === startTime) await turn()
  assert.equal(ends, 0)
  t.mock.timers.tick(10)
  assert.equal(ends, 1)
  t.mock.timers.tick(200)
  assert.equal(ends, 1)
})
