/**
 * `cirque dev`: a supervisor as `cirque run` makes one, and in the same process an operator who asks it to reload whenever a file
 * is saved that the application was loaded from. There is no second mechanism: the new worker is tried out beside the old one and
 * takes over on the same socket, and one that is no good changes nothing, so what worked last serves on.
 *
 *   loading --serves--> serving --save--> reloading --> serving
 *      |  ^
 *      |  +-- save --+
 *      +-- no good --+    before anything has served there is nothing to go back to: the next save starts anew
 */
import fs from 'node:fs'
import path from 'node:path'
import { styleText } from 'node:util'
import { CONFIG_FILE } from '../src/config/server-config.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import type { OperationOutcome, OperationStarted } from '../src/ipc/messages.ts'
import { createProcessLog } from '../src/ipc/process-log.ts'
import type { LogFields, ProcessLog } from '../src/ipc/process-log.ts'
import { errorText } from '../src/errors/code-frame.ts'
import { askSupervisor, awaitOutcome } from './control-client.ts'
import { onSignals } from './early-signals.ts'
import { EXIT } from './exit-codes.ts'
import { FileWatch } from './file-watch.ts'
import type { ConfigOrigin } from './journal.ts'
import type { SupervisorStatus } from './operator-desk.ts'
import { browsable, configFrom, createSupervisor, end, firstScreen, isMistake, ownCommand, warnOfVariables } from './run.ts'
import type { LifeWatcher, RunRequest } from './run.ts'
import { STOP_SIGNALS } from './signals.ts'
import type { HandledSignal } from './signals.ts'

/**
 * What is set for development, over everything else: one worker, a save that shows at once, and requests that can be read. Old
 * connections end with the old worker, or a browser would be answered by it once more.
 */
export const DEV_FLAGS: Readonly<Record<string, string>> = {
  'supervisor.workers': '1',
  'supervisor.spareWorkers': '0',
  'supervisor.heartbeat': '100ms',
  'upgrade.soak': '0',
  'drain.idleDrain': '0',
  'drain.closeSpread': '0',
  'drain.webSocketDrain': '0',
  'drain.tunnelDrain': '0',
  'drain.softDrain': '0',
  // Event streams are cut as well, if not at once: a slow request may want its answer.
  'drain.hardDrain': '5s',
  'drain.interruptTimeout': '0',
  'drain.lameDuck': '0',
  'log.level': 'warn',
  'log.format': 'text',
  'log.process': 'stderr',
  'log.access': 'stdout',
  'log.accessFormat': 'text',
  // Whoever has made a request looks for its line.
  'log.accessSample': '1',
}

/** Runs until a signal ends it, or another supervisor has the folder. */
export async function runDev(request: Omit<RunRequest, 'config'>): Promise<never> {
  const session = new DevSession(request)
  let stopping = false
  for (let first = true; ; first = false) {
    session.begin()
    let config: ServerConfig
    try {
      config = configFrom(request.origin)
    } catch (error) {
      if (!isMistake(error)) throw error
      say(error.message)
      onSignals(exitAtStop)
      await session.nextSave()
      continue
    }
    const { supervisor, log, closeLogs } = createSupervisor({ ...request, config }, session)
    const life = supervisor.run()
    onSignals(received => {
      // The terminal was closed. Nothing has to be told to reload here.
      const signal = received === 'SIGHUP' ? 'SIGINT' : received
      if (STOP_SIGNALS.some(stop => stop === signal)) stopping = true
      supervisor.onSignal(signal)
    })
    if (first) warnOfVariables(log)
    const code = await life
    if (code === EXIT.running) say(`\`${ownCommand()} stop\` ends the one that runs`)
    const anew = !session.served && !stopping && (code === EXIT.failed || code === EXIT.usage)
    if (!anew) return end(code, closeLogs, config)
    await closeLogs()
    onSignals(exitAtStop)
    await session.nextSave()
  }
}

/** Nothing runs then. */
function exitAtStop(signal: HandledSignal): void {
  if (signal === 'SIGHUP' || STOP_SIGNALS.some(stop => stop === signal)) process.exit(EXIT.ok)
}

/** Lines about a reload: the session says itself how one has ended. */
const ABOUT_A_RELOAD = /^reload-\d+: /
/** Fields that tell a person nothing that the message has not told. */
const FOR_PROGRAMS = new Set(['workerPid', 'code', 'signal', 'endsInMs', 'stateDir'])
/** An application that takes this long to load, in ms, perhaps never comes to its end. */
const PATIENCE_MS = 3000
/** More names make no sentence. */
const MAX_NAMES = 4

class DevSession implements LifeWatcher {
  readonly #application: string
  readonly #origin: ConfigOrigin
  readonly #watch: FileWatch
  /** What the application was loaded from; it begins with the application. */
  #files: readonly string[]
  /** Saved, and not read since. */
  #saved: readonly string[] = []
  /** Saved, and read by a reload that a later one has superseded. */
  readonly #overtaken: string[] = []
  #onSave: () => void = () => {}
  /** Of the supervisor that serves; '': none does. */
  #stateDir = ''
  /** Where it listens, as a browser wants it. */
  #open: readonly string[] = []
  #impatient: NodeJS.Timeout | null = null
  readonly log: ProcessLog

  constructor({ application, origin }: Omit<RunRequest, 'config'>) {
    this.#application = path.resolve(application)
    this.#origin = origin
    this.#files = [this.#application]
    this.#watch = new FileWatch(files => { this.#onSaved(files) })
    this.#watchFiles()
    const { warn, error } = createProcessLog({ who: 'cirque', write: line => { process.stderr.write(line) }, text: true })
    const shown = (log: ProcessLog['warn']) => (message: string, fields: LogFields = {}): void => {
      if (ABOUT_A_RELOAD.test(message)) return
      log(message, Object.fromEntries(Object.entries(fields).filter(([name]) => !FOR_PROGRAMS.has(name))))
    }
    this.log = { info() {}, warn: shown(warn), error: shown(error) }
  }

  get served(): boolean { return this.#stateDir !== '' }

  /** A life begins: what was saved until now is read by it. */
  begin(): void {
    this.#saved = []
    this.#beginPatience()
  }

  /** Resolves when something was saved since the life began. */
  async nextSave(): Promise<void> {
    this.#endPatience()
    say(`waiting for the next save of ${this.#watched()}`)
    if (this.#saved.length > 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onSave = resolve
    await promise
  }

  onFiles(files: readonly string[], complete: boolean): void {
    // It came no further than where it failed; what it was loaded from before may hold the fault, and what is behind it.
    this.#files = complete ? files : [...new Set([...this.#files, ...files])]
    this.#watchFiles()
  }

  onServing(status: SupervisorStatus, config: ServerConfig): void {
    this.#endPatience()
    this.#stateDir = status.stateDir
    this.#open = openOf(status)
    process.stderr.write(firstScreen(status, config, `save ${this.#watched()}`))
    if (this.#saved.length > 0) void this.#reload()
  }

  #watchFiles(): void {
    const { file, folder } = this.#origin
    this.#watch.watch(new Set([this.#application, path.resolve(folder, file === '' ? CONFIG_FILE : file), ...this.#files]))
  }

  #watched(): string {
    const names = [...this.#watch.files].filter(file => fs.existsSync(file)).map(file => path.relative('', file))
    const [application = '', ...others] = names
    if (names.length > MAX_NAMES) return `${application}, or one of ${others.length} files that it is made of`
    return names.length < 2 ? application : `${names.slice(0, -1).join(', ')} or ${names.at(-1)!}`
  }

  #beginPatience(): void {
    this.#endPatience()
    const application = path.relative('', this.#application)
    this.#impatient = setTimeout(() => { say(`${application} is being loaded, and has not come to server.runForever() yet`) }, PATIENCE_MS)
  }
  #endPatience(): void {
    if (this.#impatient !== null) clearTimeout(this.#impatient)
    this.#impatient = null
  }

  #onSaved(files: readonly string[]): void {
    this.#saved = [...new Set([...this.#saved, ...files])]
    if (this.served) void this.#reload()
    else this.#onSave()
  }

  /** Never rejects. A save while a reload is under way begins another one, which supersedes it or waits for it. */
  async #reload(): Promise<void> {
    const saved = this.#saved
    this.#saved = []
    const sinceMs = performance.now()
    this.#beginPatience()
    try {
      const { id } = await askSupervisor(this.#stateDir, { tag: 'reload', soakMs: 0 }) as OperationStarted
      const outcome = await awaitOutcome(this.#stateDir, id)
      // Another save came meanwhile, and says how it ended for both.
      if (outcome.result === 'superseded') {
        this.#overtaken.push(...saved)
        return
      }
      this.#endPatience()
      const files = [...new Set([...this.#overtaken.splice(0), ...saved])].map(file => path.relative('', file)).join(', ')
      if (outcome.result === 'committed') await this.#reloaded(files, performance.now() - sinceMs)
      else sayRefused(outcome)
    } catch (error) {
      say(error instanceof Error ? error.message : String(error))
    }
  }

  async #reloaded(files: string, tookMs: number): Promise<void> {
    say(styleText('green', `reloaded in ${(tookMs / 1000).toFixed(1)} s: ${files}`, TO_STDERR))
    const open = openOf(await askSupervisor(this.#stateDir, { tag: 'status' }) as SupervisorStatus)
    if (open.join() !== this.#open.join()) say(`open now: ${open.join('  ')}`)
    this.#open = open
  }
}

function openOf({ listeners }: SupervisorStatus): readonly string[] { return [...new Set(listeners.map(browsable))] }

function sayRefused({ reason, applicationStack = '' }: OperationOutcome): void {
  const [first = '', ...rest] = errorText(reason, applicationStack).split('\n')
  say([styleText('red', `not reloaded, the version before serves on: ${first}`, TO_STDERR), ...rest].join('\n'))
}

/** Colours where stderr is a terminal, and NO_COLOR is not set. */
const TO_STDERR = { stream: process.stderr } as const

function say(text: string): void { process.stderr.write(`cirque: ${text}\n`) }
