/** Processes that were not forked here: how their end is noticed. Forks are in the tests of the supervisor. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import { OomKills } from '../../supervisor/oom-kills.ts'
import type { ExitReport } from '../../supervisor/process-host.ts'
import { processStartTime, SystemProcessHost } from '../../supervisor/process-host.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

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

test('process host: a child that ends by SIGKILL is told to have had no memory when the kernel has just said so', async t => {
  const file = path.join(temporaryFolder(t), 'memory.events')
  fs.writeFileSync(file, 'oom_kill 0\n')
  const ended: { code: number | null; signal: string | null }[] = []
  const calls = { reap: () => ended.shift() ?? null } as unknown as SystemCalls
  const host = new SystemProcessHost(() => calls, null, new OomKills(file))
  const startTime = processStartTime(process.pid)
  t.mock.timers.enable({ apis: ['setInterval'] })
  const reports: ExitReport[] = []
  const end = (signal: string, kills: number): void => {
    fs.writeFileSync(file, `oom_kill ${kills}\n`)
    host.adopt(process.pid, startTime, report => { reports.push(report) })
    ended.push({ code: null, signal })
    t.mock.timers.tick(200)
  }
  end('SIGKILL', 1)
  end('SIGKILL', 1)
  end('SIGSEGV', 2)
  assert.deepEqual(reports.map(({ signal, outOfMemory }) => [signal, outOfMemory]), [
    ['SIGKILL', true], ['SIGKILL', undefined], ['SIGSEGV', undefined],
  ])
})
