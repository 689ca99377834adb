/**
 * Entry of an image that supervises what another image of this process has begun: `boot FILE` (see reexec.ts). A
 * trampoline: this file is of the release that was proven, it lets the new release in, and while that has not committed
 * whatever goes wrong leads back.
 *
 *   'forward'   Booting --import, resume()--> commit() --> Committed: files gone, no watchdog
 *                  |
 *                  +-- it throws, rejects, exits, leaves an error uncaught, calls goBack(), is late   this thread
 *                  +-- it is late, and its main thread does not answer                                boot-watchdog.ts
 *                  v
 *               GoingBack --execve--> the image before, 'back'
 *                  +-- that fails --> a line, exit 1
 *
 *   'back'      Booting --import, resume()--> commit() --> Committed
 *                  +-- it throws, rejects, leaves an error uncaught, calls goBack() --> a line, exit 1: workers serve on,
 *                      and are adopted by the next start
 *
 * Invariants: carried descriptors are close-on-exec before any code of the release runs; a signal is lost in neither
 * direction. Only signals of the first milliseconds, before keep-signals.mjs, and a SIGKILL end the process without this
 * file having a word; a signal to an image that hangs in a loop was never delivered.
 *
 * Unlike other entries it imports the runtime check late and not first: a check that fails must lead back, too.
 */
import { signalsWaiting } from './early-signals.ts'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { BootProgress, BootState } from './boot-progress.ts'
import type { WatchdogData } from './boot-watchdog.ts'
import { goBack, isPreloadOption, messageOf, ownEnvironment, readHandover, removeHandover } from './reexec.ts'
import type { BootControl, Handover, ResumeModule, WayBack } from './reexec.ts'
import { SIGNALS } from './signals.ts'
import type { HandledSignal } from './signals.ts'

/** Of `exit-codes.ts`, which is not loaded here: less code, less that can fail. */
const EXIT_FAILED = 1
const EXIT_USAGE = 2
/** How much later than the timer of the main thread the watchdog acts: who has an event loop says more. */
const STUCK_AFTER_MS = 200

class Boot implements BootControl {
  readonly #handover: Handover
  readonly #way: WayBack
  readonly #calls: SystemCalls | null
  readonly #progress = new BootProgress()
  /** Undoes what only an attempt needs. */
  readonly #attempt = new AbortController()
  /** What is under way, for the reason. */
  #step = 'could not begin'

  constructor(way: WayBack, calls: SystemCalls | null) {
    this.#way = way
    this.#handover = way.handover
    this.#calls = calls
  }

  /** Fulfils, or lasts, as the entry's `resume` does. */
  async run(): Promise<void> {
    const { attempt, to, back } = this.#handover
    try {
      this.#watch()
      await import('../src/runtime-check.ts')
      if (this.#calls === null) {
        say('system calls are not available in this image: it cannot give its sockets back, and its children may inherit them')
      }
      this.#takeDescriptors()
      if (attempt === 'forward') await this.#startWatchdog()
      const before = new Map(SIGNALS.map(signal => [signal, process.listeners(signal)]))
      const { entry } = attempt === 'forward' ? to : back
      this.#step = 'could not be loaded'
      const { resume } = await import(pathToFileURL(entry).href) as Partial<ResumeModule>
      if (typeof resume !== 'function') throw new Error(`${entry} exports no resume()`)
      this.#tellSignals(before)
      this.#step = 'failed while it took over'
      await resume(this.#handover, this)
    } catch (error) {
      // The trampoline is over, and what it let in fails as any program does.
      if (this.#progress.state === BootState.Committed) throw error
      this.#fail(error)
    }
  }

  commit(): void {
    if (this.#progress.state === BootState.Committed) return
    if (!this.#progress.moveTo(BootState.Committed)) this.#awaitExec()
    this.#attempt.abort()
    removeHandover(this.#way.folder)
  }

  goBack(reason: string): never {
    if (this.#progress.state === BootState.Committed) throw new Error(`there is no way back after commit(): ${reason}`)
    if (this.#handover.attempt === 'back') return this.#end(reason)
    if (!this.#progress.moveTo(BootState.GoingBack)) this.#awaitExec()
    this.#attempt.abort()
    try {
      return goBack(this.#way, reason, this.#progress.kept(), this.#calls)
    } catch (error) {
      return this.#end(`${reason}; the one before could not be executed: ${messageOf(error)}`)
    }
  }

  #watch(): void {
    const { attempt, bootTimeoutMs, signals = [] } = this.#handover
    for (const signal of SIGNALS) this.#during(signal, () => this.#progress.keep(signal))
    for (const signal of signalsWaiting()) this.#progress.keep(signal)
    // As if they had come now: early-signals.ts keeps them until the supervisor asks.
    for (const signal of signals) if (SIGNALS.includes(signal)) process.emit(signal, signal)
    this.#during('uncaughtException', error => { this.#step = 'left an error uncaught'; this.#fail(error) })
    if (attempt === 'back') return
    this.#during('exit', code => this.goBack(`it called process.exit(${String(code)}) before it had taken over`))
    // Also keeps the process alive while nothing else does.
    const timer = setTimeout(() => this.goBack(`it did not take over within ${bootTimeoutMs} ms`), bootTimeoutMs)
    this.#attempt.signal.addEventListener('abort', () => clearTimeout(timer))
  }

  #during(event: string, listener: (value: unknown) => void): void {
    process.on(event, listener)
    this.#attempt.signal.addEventListener('abort', () => process.off(event, listener))
  }

  /** Node.js marks what it is born with only up to the first gap. */
  #takeDescriptors(): void {
    for (const fd of this.#handover.descriptors) {
      if (!isSocket(fd)) throw new Error(`descriptor ${fd}, which was handed over, is not a socket`)
      this.#calls?.setInheritable(fd, false)
    }
  }

  /** Resolves when the thread watches, or when there can be none; `#watch` sees to it that this does not last. */
  #startWatchdog(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const without = (reason: string): void => {
      say(`no watchdog thread: ${reason}; a new supervisor that hangs in a loop will not be noticed`)
      resolve()
    }
    if (this.#calls === null) {
      without('system calls are not available')
      return promise
    }
    const deadlineMs = Number(process.hrtime.bigint()) / 1e6 + this.#handover.bootTimeoutMs + STUCK_AFTER_MS
    const workerData: WatchdogData = { way: this.#way, memory: this.#progress.memory, deadlineMs }
    // Options of its own: what the application preloads has no business there.
    const program = new URL(`./boot-watchdog${path.extname(import.meta.filename)}`, import.meta.url)
    const thread = new Worker(program, { workerData, execArgv: ['--disable-warning=ExperimentalWarning'] })
    thread.once('message', () => resolve())
    thread.once('error', error => without(messageOf(error)))
    thread.unref()
    return promise
  }

  /**
   * The entry's release may have brought an early-signals.ts of its own, which knows nothing of what came before it. One
   * that came in between may be told twice, none is lost.
   */
  #tellSignals(before: ReadonlyMap<HandledSignal, readonly unknown[]>): void {
    for (const signal of this.#progress.kept()) {
      for (const listener of process.listeners(signal) as ((signal: HandledSignal) => void)[]) {
        if (before.get(signal)?.includes(listener) !== true) listener(signal)
      }
    }
  }

  #fail(error: unknown): never {
    if (error instanceof Error) say(error.stack ?? error.message)
    return this.goBack(`it ${this.#step}: ${messageOf(error)}`)
  }

  /** The watchdog was first: this thread must do nothing more. */
  #awaitExec(): void { for (;;) this.#progress.waitWhile(BootState.GoingBack, Infinity) }

  #end(reason: string): never {
    this.#attempt.abort()
    removeHandover(this.#way.folder)
    const { attempt, reason: before } = this.#handover
    if (attempt === 'back') say(`the supervisor could not be brought back after the new one had failed (${before}): ${reason}`)
    else say(`the new supervisor failed: ${reason}`)
    process.exit(EXIT_FAILED)
  }
}

function isSocket(fd: number): boolean {
  // One that is closed throws.
  try { return fs.fstatSync(fd).isSocket() } catch { return false }
}

/** At once: what follows may be an exec. */
function say(text: string): void {
  try { fs.writeSync(2, `cirque: ${text}\n`) } catch { /* The reader is gone. */ }
}

const file = process.argv[2]
if (file === undefined) {
  say('boot is started by a supervisor that replaces itself; people use `cirque run` and `cirque upgrade`')
  process.exit(EXIT_USAGE)
}
// Neither workers nor the next image are to inherit it.
process.execArgv = process.execArgv.filter(argument => !isPreloadOption(argument))
const env = ownEnvironment()
const loaded = await loadSystemCalls()
let handover: Handover
try {
  handover = readHandover(file)
} catch (error) {
  say(`${file} cannot be read, so the supervisor ends: ${messageOf(error)}`)
  process.exit(EXIT_FAILED)
}
await new Boot({ folder: path.dirname(file), handover, env }, loaded.available ? loaded.calls : null).run()
