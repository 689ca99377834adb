/**
 * This process becomes the supervisor of an application and ends with it: signals, logs, first screen, exit code. Used
 * by the entry that `runForever()` executes (main.ts) and by `cirque run` (cli.ts).
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { unknownVariables } from '../src/config/environment.ts'
import { OWN_AUTHORITY_FOLDER, ownAuthorityFiles } from '../src/certificates/own-authority.ts'
import { loadConfig } from '../src/config/load-config.ts'
import type { LogLevel } from '../src/config/log-options.ts'
import { SENTRY_DEFAULTS } from '../src/config/sentry-options.ts'
import { ConfigError } from '../src/config/server-config.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import { openLogs, type ConfiguredLogs } from '../src/telemetry/exporters/configured-logs.ts'
import { keepCompiled } from '../src/ipc/compile-cache.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { watchIdleMemory } from '../src/primitives/idle-memory.ts'
import { onSignals } from './early-signals.ts'
import { EXIT } from './exit-codes.ts'
import type { ConfigOrigin } from './journal.ts'
import type { SupervisorStatus } from './operator-desk.ts'
import type { BootControl, Handover } from './reexec.ts'
import { checkLogFiles } from './log-files.ts'
import { SYSTEM_RELEASES } from './releases.ts'
import { readResumption } from './resumption.ts'
import type { ResumedLife } from './resumption.ts'
import { ownFolder, stateFolderOf, StateFolderError } from './state-folder.ts'
import { Supervisor } from './supervisor.ts'
import type { SupervisorWorld } from './supervisor-world.ts'
import { systemWorld } from './system-world.ts'

export interface RunRequest {
  /** Path of the application's module. */
  readonly application: string
  /** What follows it on its command line. */
  readonly args: readonly string[]
  readonly config: ServerConfig
  /** Where `config` came from. */
  readonly origin: ConfigOrigin
}

/**
 * Reads the configuration, at the start and again for every operation. @param readAt as in ConfigSources. @throws ConfigError,
 * or OptionError
 */
export function configFrom({ file, folder, flags }: ConfigOrigin, readAt?: (file: string) => string): ServerConfig {
  const config = loadConfig({ file, folder, flags, ...readAt === undefined ? {} : { readAt } })
  checkLogFiles(config)
  return config
}

export function originOf(file: string | undefined, flags: Readonly<Record<string, string | undefined>> = {}): ConfigOrigin {
  const given = Object.entries(flags).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return { file: file ?? '', folder: process.cwd(), flags: Object.fromEntries(given) }
}

/** Who watches a life, and shows it to a person instead of the first screen. */
export interface LifeWatcher {
  /** Files that the application was loaded from; `complete` when it could be loaded. */
  onFiles(files: readonly string[], complete: boolean): void
  /** What a supervisor says of itself. */
  readonly log: ProcessLog
  /** Once, when every slot accepts. */
  onServing(status: SupervisorStatus, config: ServerConfig): void
}

/** Something that whoever wrote the configuration can mend: its message says where and how. */
export function isMistake(error: unknown): error is Error {
  const isOption = error instanceof Error && error.name === 'OptionError'
  return isOption || error instanceof ConfigError || error instanceof StateFolderError
}

export async function runSupervisor(request: RunRequest): Promise<never> {
  const { config } = request
  const { supervisor, log, closeLogs } = createSupervisor({ ...request, application: path.resolve(request.application) })
  const code = supervisor.run()
  onSignals(signal => supervisor.onSignal(signal))
  warnOfVariables(log)
  return end(await code, closeLogs, config)
}

/** Goes on with what the image before this one has handed over. */
export async function resumeSupervisor(handover: Handover, boot: BootControl): Promise<void> {
  const life = readResumption(handover)
  const { sentry, problem } = readSentry(life)
  const { supervisor, log, closeLogs } = createSupervisor({ ...life, config: { ...life.config, sentry } })
  if (problem !== '') log.warn('errors are not reported until the next reload: the configuration cannot be read', { reason: problem })
  let takenOver = false
  const resumed = supervisor.resume(life.entry, life.resumption, () => {
    takenOver = true
    boot.commit()
  })
  // Not before: a stop that came on the way must find a supervisor that knows of the workers.
  onSignals(signal => supervisor.onSignal(signal))
  const code = await resumed.catch((error: unknown) => {
    if (takenOver) throw error
    return boot.goBack(error instanceof Error ? error.message : String(error))
  })
  return end(code, closeLogs, life.config)
}

/** No image leaves to the next one where errors are reported to: that is a secret. @returns `problem` '' when it could be read */
function readSentry({ application, origin: { file, folder, flags }, releaseFolder }: ResumedLife): {
  readonly sentry: ServerConfig['sentry']
  readonly problem: string
} {
  const readAt = (named: string): string => SYSTEM_RELEASES.fileOnceCurrent(application, named, releaseFolder)
  try {
    return { sentry: loadConfig({ file, folder, flags, readAt }).sentry, problem: '' }
  } catch (error) {
    return { sentry: SENTRY_DEFAULTS, problem: error instanceof Error ? error.message : String(error) }
  }
}

/** A supervisor in the real world. @param watcher null: nobody watches. */
export function createSupervisor(
  request: RunRequest, watcher: LifeWatcher | null = null,
): { supervisor: Supervisor; log: ProcessLog; closeLogs: () => Promise<void> } {
  const { application, args, origin } = request
  // What a developer breaks while he writes is nobody else's to mend.
  const reporting = (config: ServerConfig): ServerConfig => watcher === null ? config : { ...config, sentry: SENTRY_DEFAULTS }
  const config = reporting(request.config)
  let logs: ConfiguredLogs
  try {
    logs = openLogs(config.log, 'supervisor', null)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    process.stderr.write(`cirque: log.process is ${config.log.process}, which cannot be opened: ${why}\n`)
    process.exit(EXIT.usage)
  }
  const log: ProcessLog = watcher?.log ?? {
    get debug() { return logs.log.debug ?? null },
    info: (message, fields) => logs.log.info(message, fields),
    warn: (message, fields) => logs.log.warn(message, fields),
    error: (message, fields) => logs.log.error(message, fields),
  }
  let opened = config.log
  /** What an operator wants for a while; null: nothing else than is configured. */
  let level: LogLevel | null = null
  const stateFolder = { path: stateFolderOf(application, config.supervisor.stateDir), ours: ownFolder(config.supervisor.stateDir) }
  const supervisor = new Supervisor({
    application, args, config, origin, readConfig: readAt => reporting(configFrom(origin, readAt)), log,
    stateFolder,
    flushLogs: () => logs.log.flush(),
    onConfigured: ({ log: wanted }) => {
      if (isDeepStrictEqual(wanted, opened)) return
      const before = logs
      try {
        logs = openLogs(wanted, 'supervisor', null)
        logs.setLevel(level)
        opened = wanted
        void before.close()
      } catch (error) {
        log.error(`log.process is ${wanted.process}, which cannot be opened; the supervisor goes on where it wrote before`, { error })
      }
    },
    onReopenLogs: () => logs.reopen(),
    onLogLevel: wanted => {
      level = wanted
      logs.setLevel(level)
    },
    onRunning: status => {
      keepCompiled()
      watchIdleMemory()
      if (watcher !== null) { watcher.onServing(status, config); return }
      const toTerminal = config.log.process === 'stderr' && config.log.format !== 'json' && process.stderr.isTTY === true
      if (toTerminal) { process.stderr.write(firstScreen(status, config)); return }
      const addresses = status.listeners.map(listener => listener.bound)
      const { application: file, slots, controlSocket: control } = status
      const admin = status.admin === '' ? {} : { admin: status.admin }
      const authority = ownAuthority(status)
      const own = authority === '' ? {} : { authority }
      log.info('running', { application: file, workers: slots.length, listeners: addresses, control, ...admin, ...own })
    },
  }, watcher === null ? systemWorld(stateFolder.path) : watchedWorld(stateFolder.path, watcher))
  return { supervisor, log, closeLogs: () => logs.close() }
}

/** The real world, and somebody who is told what is loaded in it. */
function watchedWorld(stateFolder: string, watcher: LifeWatcher): SupervisorWorld {
  let files: readonly string[] = []
  const world = systemWorld(stateFolder, loaded => { files = loaded })
  return {
    ...world,
    async describe(of, timeoutMs, signal) {
      files = []
      try {
        const description = await world.describe(of, timeoutMs, signal)
        watcher.onFiles(files, true)
        return description
      } catch (error) {
        watcher.onFiles(files, false)
        throw error
      }
    },
  }
}

/** They may be another program's; one that was meant for us would else be ignored in silence. */
export function warnOfVariables(log: ProcessLog): void {
  const variables = unknownVariables(process.env)
  if (variables.length > 0) log.warn('variables that begin with CIRQUE_ and set nothing', { variables })
}

export async function end(code: number, closeLogs: () => Promise<void>, config: Pick<ServerConfig, 'log'>): Promise<never> {
  await closeLogs()
  // A person at the terminal would otherwise see nothing but the prompt.
  const elsewhere = config.log.process !== 'stderr'
  if (code !== EXIT.ok && elsewhere) process.stderr.write(`cirque: ended with code ${code}; the reason is in ${config.log.process}\n`)
  process.exit(code)
}

/** For a person at a terminal: where to look, how to change it, how to end it. @param change how; '': by a reload */
export function firstScreen(status: SupervisorStatus, config: Pick<ServerConfig, 'log'>, change = ''): string {
  const file = path.relative('', status.application)
  const command = ownCommand()
  const slots = status.slots as readonly { readonly worker: { readonly pid: number } | null }[]
  const pids = slots.flatMap(({ worker }) => worker === null ? [] : [worker.pid])
  // `:port` is two listeners and one thing to look at.
  const open = [...new Map(status.listeners.map(listener => [browsable(listener), listener.service]))], trust = trustText(status)
  const { access, accessFormat } = config.log
  const form = accessFormat === 'json' ? 'one JSON line each' : 'one line each'
  const toStdout = process.stdout.isTTY === true ? `${form}, below` : `${form}, on stdout`
  const requests = access === 'off' ? '' : access === 'stdout' ? toStdout : access
  const rows: readonly (readonly [string, string])[] = [
    ...open.map(([address, service]) => ['open', open.length === 1 ? address : `${address}  ${service}`] as const),
    ...(trust === '' ? [] : [['trust', trust] as const]),
    ...(status.admin === '' ? [] : [['health', `http://${status.admin}/readyz`] as const]),
    ['change', change === '' ? `edit ${file}, then \`${command} reload\` elsewhere` : change],
    ['look', `\`${command} status\``],
    ...(requests === '' ? [] : [['requests', requests] as const]),
    ['stop', 'Ctrl-C'],
  ]
  return [
    `Cirque ${status.version} runs ${file}: supervisor ${status.pid}, worker${pids.length === 1 ? '' : 's'} ${pids.join(' ')}`,
    '',
    ...rows.map(([name, text]) => `  ${name.padEnd(9)} ${text}`),
    '',
    '',
  ].join('\n')
}

/** Of the certificate that the server has made itself; '': it has not. */
function ownAuthority({ stateDir, listeners }: SupervisorStatus): string {
  const { caFile } = ownAuthorityFiles(path.join(stateDir, OWN_AUTHORITY_FOLDER))
  return listeners.some(({ tls }) => tls === true) && fs.existsSync(caFile) ? caFile : ''
}

/** How to ask a server whose certificate nobody else has signed. */
function trustText(status: SupervisorStatus): string {
  const authority = ownAuthority(status), port = status.listeners.find(({ tls }) => tls === true)?.bound.split(':').at(-1)
  return authority === '' ? '' : `\`curl --cacert ${path.relative('', authority)} https://localhost:${port}/\``
}

/** What to type for the command line of this installation, from the folder that we are in. */
export function ownCommand(): string {
  if (import.meta.filename.includes(`${path.sep}node_modules${path.sep}`)) return 'npx cirque'
  const candidates = ['../bin/cirque', '../../bin/cirque'].map(name => fileURLToPath(new URL(name, import.meta.url)))
  const found = candidates.find(name => fs.existsSync(name))
  return found === undefined ? 'cirque' : path.relative('', found)
}

/** Something to point a browser at; all addresses of a machine include this one. */
export function browsable({ bound, tls }: Pick<SupervisorStatus['listeners'][number], 'bound' | 'tls'>): string {
  if (bound.startsWith('unix:')) return bound
  return `http${tls === true ? 's' : ''}://${bound.replace(/^0\.0\.0\.0:/, 'localhost:').replace(/^\[::\]:/, 'localhost:')}`
}
