/**
 * A thread beside boot.ts that goes back for a new image whose main thread never comes back to its event loop. It loads
 * its own system calls, says that it is there, and sleeps until the state changes or time is up.
 *
 *   loading --says so--> asleep --Committed, GoingBack--> ends; the process lives on, or is being replaced
 *      |                    \
 *      |                     +-- time is up --> execve; that fails: a line, SIGKILL
 *      +-- no system calls: 'error', and boot.ts says that there is no watchdog
 *
 * A process that can neither go on nor back is killed, because a service manager can then start it anew.
 */
import fs from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import { BootProgress, BootState } from './boot-progress.ts'
import { goBack, messageOf } from './reexec.ts'
import type { WayBack } from './reexec.ts'

export interface WatchdogData {
  readonly way: WayBack
  readonly memory: Int32Array<SharedArrayBuffer>
  /** On the clock of process.hrtime, which all threads share, in ms. */
  readonly deadlineMs: number
}

const { way, memory, deadlineMs } = workerData as WatchdogData
const progress = new BootProgress(memory)
const loaded = await loadSystemCalls(way.env)
if (!loaded.available) throw new Error(loaded.reason)
parentPort!.postMessage('watching') // oxlint-disable-line unicorn/require-post-message-target-origin -- this is a thread, not a window

const leftMs = deadlineMs - Number(process.hrtime.bigint()) / 1e6
if (!progress.waitWhile(BootState.Booting, Math.max(0, leftMs)) && progress.moveTo(BootState.GoingBack)) {
  try {
    const reason = `it did not take over within ${way.handover.bootTimeoutMs} ms, and its main thread does not answer`
    goBack(way, reason, progress.kept(), loaded.calls)
  } catch (error) {
    fs.writeSync(2, `cirque: the new supervisor hangs, and the one before cannot be executed: ${messageOf(error)}\n`)
    process.kill(process.pid, 'SIGKILL')
  }
}
