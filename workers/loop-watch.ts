/**
 * Tells where a worker's event loop hangs, while it hangs: a thread that is told of every beat, and that asks the main thread's
 * debugger for its stack when none comes for two looks. The supervisor sees the silence as well, and acts on it; it cannot see
 * the place, since a main thread that never returns answers nobody but its own process.
 *
 * **measured** (Node.js 26.10): 6.5 MB of memory and 20 ms of CPU a process, once; the stack 6 to 40 ms after it was asked for.
 * The thread is started by the first connection, before its first byte is read: what has no clients has nothing to hang on.
 * Invariants: it changes nothing about a worker but its memory; a thread that cannot be started, or fails, is a line in the
 * log; it ends with the process.
 */
import tty from 'node:tty'
import { Worker as Thread } from 'node:worker_threads'
import type { ResolvedLogOptions } from '../src/config/log-options.ts'
import { SYSLOG_PREFIX } from '../src/config/syslog-target.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'

const LOOK_MS = 1_500

export class LoopWatch {
  readonly #who: string
  readonly #log: ProcessLog
  readonly #beats = new Int32Array(new SharedArrayBuffer(4))
  #logs: Pick<ResolvedLogOptions, 'process' | 'format'> | null = null
  #started = false

  constructor(who: string, log: ProcessLog) {
    this.#who = who
    this.#log = log
  }

  /** Where the process log writes, and so the watch; where that is syslog, it writes to stderr. */
  configure(logs: Pick<ResolvedLogOptions, 'process' | 'format'>): void { this.#logs = logs }

  /** The event loop turns. */
  beat(): void { Atomics.add(this.#beats, 0, 1) }

  /** There are clients. */
  begin(): void {
    if (this.#started || this.#logs === null) return
    this.#started = true
    this.#start(this.#logs)
  }

  #start({ process: destination, format }: Pick<ResolvedLogOptions, 'process' | 'format'>): void {
    // What is sent to syslog goes through the event loop, which is what hangs.
    const file = destination === 'stderr' || destination.startsWith(SYSLOG_PREFIX) ? '' : destination
    const text = format === 'text' || (format === 'auto' && file === '' && tty.isatty(2))
    const workerData = { beats: this.#beats.buffer, lookMs: LOOK_MS, who: this.#who, file, text }
    try {
      const program = new URL('loop-watch-thread.cjs', import.meta.url)
      const thread = new Thread(program, { workerData, execArgv: [], env: {}, trackUnmanagedFds: false })
      thread.unref()
      thread.on('error', error => this.#onFailed(error))
    } catch (error) {
      this.#onFailed(error)
    }
  }

  #onFailed(error: unknown): void { this.#log.warn('where the event loop hangs will not be told: its watch ended', { error }) }
}
