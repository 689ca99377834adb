/**
 * The command line. `run` turns this very process into the supervisor; every other verb asks a running one over its
 * control socket, waits for the outcome and says it by exit code: 0 done, 1 refused or failed, 2 wrong usage or
 * configuration, 3 not running (or already, for `run`), 4 superseded. What people read is never meant for programs: those use --json.
 */
import '../src/runtime-check.ts'
import './early-signals.ts'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, CommanderError } from 'commander'
import { ChannelError } from '../src/ipc/channel.ts'
import { unknownVariables } from '../src/config/environment.ts'
import { ConfigError } from '../src/config/server-config.ts'
import { proveOptionsFromFlags, type ProveFlags } from '../src/config/prove-options.ts'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { ServerDescription } from '../src/ipc/server-description.ts'
import type { FromOperator, OperationOutcome, OperationStarted } from '../src/ipc/messages.ts'
import { askSupervisor, awaitOutcome, NotRunning } from './control-client.ts'
import { checkListenerNames, describeApplication, DescribeFailed } from './describe-application.ts'
import { EXIT } from './exit-codes.ts'
import { OWN_EXEC_ARGV } from './generation.ts'
import { resolveIdentity } from './identities.ts'
import type { SupervisorStatus } from './operator-desk.ts'
import { packageVersion } from './package-version.ts'
import { listenerUrl, prove, PROVE_ACTIONS, proveText } from './prove.ts'
import { releaseOf } from './releases.ts'
import { passInheritedSockets } from '../src/ipc/inherited-sockets.ts'
import { configFrom, originOf, runSupervisor } from './run.ts'
import { runningFolders, StateFolderError } from './state-folder.ts'

/** Ends the command with a code and, for people, a sentence. */
class Failure extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = 'Failure'
    this.code = code
  }
}

interface Shared { stateDir?: string; json?: boolean }

type RunFlags = Shared & { config?: string; workers?: string; adminAddress?: string }

type BeginOperation = Extract<FromOperator, { tag: 'upgrade' | 'reload' | 'rollback' }>

interface ReplacedWorker { slot: number; from: string; to: string }

export function createCommandLine(): Command {
  const program = new Command('cirque')
    .description('A programmable edge proxy: runs an application under a supervisor and talks to running ones.')
    .version(packageVersion(), '--version')
    .exitOverride()
    .configureHelp({ sortSubcommands: false })

  program.command('run')
    .description('run an application in the foreground; ends with SIGTERM or Ctrl-C')
    .argument('[application]', 'module that calls server.runForever()')
    .argument('[arguments...]', 'passed on to the application (put -- before them)')
    .option('-c, --config <file>', 'configuration file (default: cirque.yaml, if it is there)')
    .option('--workers <n>', "worker processes, or 'auto'")
    .option('--state-dir <folder>', 'folder of the control sockets')
    .option('--admin-address <address>', 'where /livez, /readyz and /startupz answer')
    .option('--json', 'log JSON lines (as always when stderr is no terminal)')
    .action(async (application: string | undefined, args: string[], options: RunFlags) => {
      const file = existingApplication(application)
      const origin = originOf(options.config, {
        'supervisor.workers': options.workers,
        'supervisor.stateDir': options.stateDir,
        'supervisor.adminAddress': options.adminAddress,
        'log.format': options.json === true ? 'json' : undefined,
      })
      const config = configFrom(origin)
      await handOverToOwnInstallation(file)
      await runSupervisor({ application: file, args, config, origin })
    })

  shared(program.command('status').description('what runs: workers, listeners, what is open'))
    .action(async (options: Shared) => {
      const status = await ask(options, { tag: 'status' }) as SupervisorStatus
      say(options, status, () => statusText(status))
    })

  shared(program.command('stop').description('finish what is in flight, then end'))
    .option('--force', 'kill what is left, now')
    .option('--no-wait', 'do not wait for the end')
    .action(async (options: Shared & { force?: boolean; wait: boolean }) => {
      const stop = { tag: 'stop', force: options.force === true, wait: options.wait } as const
      const result = await ask(options, stop, options.wait) as { cut?: number; operation?: string }
      const cut = result.cut === 0 ? '' : `, ${String(result.cut)} requests were cut`
      say(options, result, () => options.wait ? `stopped${cut}` : result.operation ?? '')
    })

  shared(program.command('upgrade')
    .description('replace everything by another release, or by what is in the running one\'s folder now; undone when it does not work'))
    .argument('[folder]', 'the release: a folder like the one that runs')
    .option('--supervisor', 'replace the supervisor in place even when its code is the same')
    .option('--no-wait', 'print the id of the operation and do not wait for the outcome')
    .action(async (folder: string | undefined, options: Shared & { wait: boolean; supervisor?: boolean }) => {
      await operate(options, {
        tag: 'upgrade',
        folder: folder === undefined ? '' : existingFolder(folder),
        supervisor: options.supervisor === true ? 'always' : 'if-changed',
      })
    })
  shared(program.command('reload')
    .description('read configuration and application again; nothing changes when something is wrong with them'))
    .option('--no-wait', 'print the id of the operation and do not wait for the outcome')
    .action(async (options: Shared & { wait: boolean }) => { await operate(options, { tag: 'reload' }) })
  shared(program.command('rollback').description('upgrade to the release before the last upgrade'))
    .option('--no-wait', 'print the id of the operation and do not wait for the outcome')
    .action(async (options: Shared & { wait: boolean }) => { await operate(options, { tag: 'rollback' }) })

  program.command('validate')
    .description('check a configuration file, and load the application that it is for; binds nothing')
    .argument('[application]', 'module that calls server.runForever()')
    .argument('[arguments...]', 'passed on to the application (put -- before them)')
    .option('-c, --config <file>', 'configuration file (default: cirque.yaml, if it is there)')
    .option('--json', 'for programs')
    .action(async (application: string | undefined, args: string[], options: Shared & { config?: string }) => {
      const { supervisor, log, limits, listeners } = configFrom(originOf(options.config))
      for (const name of unknownVariables(process.env)) process.stderr.write(`cirque: the variable ${name} sets nothing\n`)
      if (application === undefined && options.config !== undefined) {
        // Without the application only the names of its listeners stay unchecked.
        const valid = { ok: true, application: null, supervisor, log, limits, listeners, description: null }
        say(options, valid, () => `${options.config} is valid`)
        return
      }
      const file = existingApplication(application)
      const description = await describe(file, args, supervisor)
      checkListenerNames({ listeners }, description)
      const valid = { ok: true, application: file, supervisor, log, limits, listeners, description }
      say(options, valid, () => descriptionText(file, description))
    })

  const workers = program.command('workers').description('look at workers and replace them')
  shared(workers.command('ls').description('list workers'))
    .action(async (options: Shared) => {
      const status = await ask(options, { tag: 'status' }) as SupervisorStatus
      say(options, status.slots, () => workersText(status))
    })
  shared(workers.command('restart').description('replace workers one slot at a time, without losing a request'))
    .argument('[worker]', 'id or slot number; all when left out')
    .option('--no-wait', 'do not wait for the outcome')
    .action(async (worker: string | undefined, options: Shared & { wait: boolean }) => {
      const restart = { tag: 'restart-workers', worker: worker ?? '', wait: options.wait } as const
      const result = await ask(options, restart) as { replaced?: ReplacedWorker[]; operation?: string }
      const replaced = result.replaced?.map(({ slot, from, to }) => `slot ${slot}: ${from} -> ${to}`)
      say(options, result, () => replaced?.join('\n') ?? result.operation ?? '')
    })

  shared(program.command('prove').description('count, with clients that never retry, what an action loses'))
    .argument('<action>', 'upgrade: replace workers and supervisor; reload: workers and configuration; '
      + 'crash: kill -9 a worker; watch: only look')
    .option('--url <url>', 'where the proxy listens (default: its first TCP listener)')
    .option('--path <path>', 'what fresh and keep-alive connections ask for (default: /)')
    .option('--ws <path>', 'a WebSocket that sends everything back')
    .option('--download <path>', 'a long answer that is always the same')
    .option('--upload <path>', 'takes a long POST')
    .option('--for <duration>', 'how long to watch after the action, and at most 2s before (default: 3s)')
    .option('--rate <n>', 'requests a second of each kind of client (default: 100)')
    .option('--connections <n>', 'keep-alive connections (default: 20)')
    .action(async (name: string, options: Shared & ProveFlags) => {
      const action = PROVE_ACTIONS.find(each => each === name)
      if (action === undefined) throw new Failure(EXIT.usage, `prove ${name}? use one of ${PROVE_ACTIONS.join(', ')}`)
      const folder = action === 'watch' && options.url !== undefined ? '' : await theFolder(chosenFolder(options))
      const url = options.url ?? await listenerUrl(folder)
      if (url === '') throw new Failure(EXIT.usage, 'there is no TCP listener; say where to look with --url')
      const outcome = await prove(action, folder, proveOptionsFromFlags(url, options))
      say(options, outcome, () => proveText(outcome))
      if (outcome.verdict !== '') throw new Failure(EXIT.failed, outcome.verdict)
    })
  return program
}

/** @returns the exit code; `run` does not return. */
export async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json')
  try {
    await createCommandLine().parseAsync(argv, { from: 'user' })
    return EXIT.ok
  } catch (error) {
    // Help and version are no failures; commander has printed its own message.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const { code, message } = outcomeOf(error)
    process.stderr.write(json ? `${JSON.stringify({ ok: false, exitCode: code, error: message })}\n` : `cirque: ${message}\n`)
    return code
  }
}

/** Which exit code and sentence an error becomes. */
export function outcomeOf(error: unknown): { code: number; message: string } {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof Failure) return { code: error.code, message }
  const isOption = error instanceof Error && error.name === 'OptionError'
  if (isOption || error instanceof ConfigError || error instanceof StateFolderError) return { code: EXIT.usage, message }
  if (error instanceof NotRunning) return { code: EXIT.running, message }
  if (error instanceof ChannelError) return { code: error.code === 'superseded' ? EXIT.superseded : EXIT.failed, message }
  if (error instanceof DescribeFailed) {
    return { code: EXIT.failed, message: withStack(message, error.applicationStack) }
  }
  return { code: EXIT.failed, message: error instanceof Error ? error.stack ?? message : message }
}

/** A stack repeats the message that it belongs to, which may be many lines: what `message` ends with is not printed again. */
function withStack(message: string, stack: string): string {
  const frames = stack.search(/^ {4}at /m)
  const head = frames === -1 ? stack : stack.slice(0, frames)
  const said = head.slice(head.indexOf(': ') + 2).trimEnd()
  const rest = said !== '' && message.endsWith(said) ? stack.slice(head.length) : stack
  return rest === '' ? message : `${message}\n${rest}`
}

function shared(command: Command): Command {
  return command
    .option('--state-dir <folder>', 'folder of the control sockets, when several supervisors run')
    .option('--json', 'for programs')
}

function say(options: Shared, value: unknown, text: () => string): void {
  process.stdout.write(options.json === true ? `${JSON.stringify(value)}\n` : `${text()}\n`)
}

async function ask(options: Shared, message: Parameters<typeof askSupervisor>[1], untilClosed = false): Promise<unknown> {
  return askSupervisor(await theFolder(chosenFolder(options)), message, untilClosed)
}

/** Begins an operation and says how it ended, across the replacement of the supervisor that works on it. */
async function operate(options: Shared & { wait: boolean }, message: BeginOperation): Promise<void> {
  const folder = await theFolder(chosenFolder(options))
  const { id } = await askSupervisor(folder, message) as OperationStarted
  if (!options.wait) { say(options, { id }, () => id); return }
  const outcome = await awaitOutcome(folder, id)
  if (outcome.result === 'committed') { say(options, outcome, () => outcomeText(outcome)); return }
  if (options.json === true) say(options, outcome, () => '')
  const failed = outcome.configuration ? EXIT.usage : EXIT.failed
  throw new Failure(outcome.result === 'superseded' ? EXIT.superseded : failed, outcomeText(outcome))
}

function outcomeText({ id, result, reason, generation, to, supervisorReplaced, steps }: OperationOutcome): string {
  const took = duration(steps.reduce((sum, { ms }) => sum + ms, 0))
  switch (result) {
    case 'committed': return `${id}: done in ${took}, generation ${generation}, ${to}${supervisorReplaced ? ', with a new supervisor' : ''}`
    case 'refused': return `${id}: refused, nothing was changed: ${reason}`
    case 'rolled-back': return `${id}: rolled back, everything is as it was: ${reason}`
    case 'superseded': return `${id}: ${reason}`
    default: return result satisfies never
  }
}

function existingFolder(folder: string): string {
  const full = path.resolve(folder)
  if (!fs.statSync(full, { throwIfNoEntry: false })?.isDirectory()) throw new Failure(EXIT.usage, `there is no folder ${full}`)
  return full
}

function chosenFolder(options: Shared): string { return options.stateDir ?? process.env['CIRQUE_SUPERVISOR_STATE_DIR'] ?? '' }

/** The one supervisor that is meant. */
async function theFolder(stateDir: string): Promise<string> {
  const folders = await runningFolders(stateDir)
  if (folders.length === 1) return folders[0]!
  if (folders.length === 0) {
    const nothing = 'no supervisor of this user is running; `cirque run APP` starts one'
    throw new Failure(EXIT.running, stateDir === '' ? nothing : `no supervisor is running in ${stateDir}`)
  }
  const names = folders.map(folder => `  ${folder}`).join('\n')
  throw new Failure(EXIT.usage, `several supervisors are running; say which with --state-dir:\n${names}`)
}

function existingApplication(application: string | undefined): string {
  if (application === undefined) {
    const runs = exampleNames().map(name => `  cirque run ${name}`).join('\n')
    throw new Failure(EXIT.usage, `which application? Declarative configuration does not exist yet; try one of the examples:\n${runs}`)
  }
  const file = path.resolve(application)
  if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) throw new Failure(EXIT.usage, `there is no file ${file}`)
  return file
}

async function describe(application: string, args: readonly string[], options: ResolvedSupervisorOptions): Promise<ServerDescription> {
  try {
    return await describeApplication({
      release: releaseOf(application), args, execArgv: OWN_EXEC_ARGV, ...resolveIdentity(options.user, options.group),
    }, options.describeTimeoutMs, new AbortController().signal)
  } catch (error) {
    if (error instanceof DescribeFailed) {
      throw new DescribeFailed(`${application} could not be loaded: ${error.message}`, error.applicationStack)
    }
    throw error
  }
}

/** The installation of Cirque that an application finds is the one that runs it: its core and its supervisor belong together. */
async function handOverToOwnInstallation(application: string): Promise<void> {
  let theirs: string
  try { theirs = path.dirname(fs.realpathSync(createRequire(application).resolve('cirque/package.json'))) } catch { return }
  const here = fs.realpathSync(import.meta.filename)
  if (!path.relative(theirs, here).startsWith('..')) return
  const entry = ['supervisor/cli.ts', 'dist/supervisor/cli.js'].map(name => path.join(theirs, name)).find(name => fs.existsSync(name))
  if (entry === undefined || process.execve === undefined) return
  await passInheritedSockets()
  const argv = [process.execPath, ...process.execArgv, entry, ...process.argv.slice(2)]
  process.execve(process.execPath, argv, process.env as Record<string, string>)
}

function exampleNames(): string[] {
  const folder = fileURLToPath(new URL('../examples', import.meta.url))
  try {
    return fs.readdirSync(folder).filter(name => /\.[jt]s$/.test(name)).map(name => path.join(folder, name))
      .filter(file => fs.readFileSync(file, 'utf8').includes('.runForever(')).map(file => path.relative('', file))
  } catch { return [] }
}

interface ShownWorker {
  id: string
  pid: number
  state: string
  silent: boolean
  ageMs: number
  drainingMs: number | null
  drainEndsInMs: number | null
  loopLagMs: number | null
  rssBytes: number | null
  open: { connections: number; activeExchanges: number; exchanges: number; upgraded: number }
  /** Left out by a supervisor of an older build. */
  notices?: readonly string[]
}

interface ShownSlot {
  slot: number
  state: string
  restarts: number
  standIn: string | null
  worker: ShownWorker | null
  incoming: ShownWorker | null
  previous: ShownWorker | null
  /** Left out by a supervisor of an older build. */
  spare?: ShownWorker | null
  draining: ShownWorker[]
}

interface ShownTotals {
  connections?: number
  activeExchanges?: number
  exchanges?: number
  upgraded?: number
  webSockets?: number
  oldestUpgradedMs?: number
}

function statusText(status: SupervisorStatus): string {
  const { connections, activeExchanges, exchanges, upgraded, webSockets, oldestUpgradedMs } = status.totals as ShownTotals
  const webSocketsText = `${webSockets ?? 0} WebSockets, the oldest for ${duration(oldestUpgradedMs ?? 0)}`
  const upgradedText = (upgraded ?? 0) === 0 ? '' : `, ${upgraded} upgraded (${webSocketsText})`
  const state = `${status.state}${status.operation === '' ? '' : ` (${status.operation})`}`
  return [
    `cirque ${status.version}  ${state}  pid ${status.pid}  up ${duration(status.uptimeMs)}`,
    `application   ${status.application}`,
    `release       ${status.release}${status.previousRelease === '' ? '' : `  (rollback: ${status.previousRelease})`}`,
    `generation    ${status.generation}`,
    ...status.outcomes.slice(-1).map(outcome => `last change   ${outcomeText(outcome)}`),
    ...status.listeners.map(listener => `listener      ${listener.bound}  ${listener.service}`),
    ...(status.admin === '' ? [] : [`admin         ${status.admin}`]),
    `control       ${status.controlSocket}`,
    ...(status.systemCalls === 'available' ? [] : [`system calls  ${status.systemCalls}: no replacement of the supervisor in place`]),
    `open          ${connections ?? 0} connections, ${activeExchanges ?? 0} requests${upgradedText}; ${exchanges ?? 0} requests so far`,
    ...noticesText(status.slots as ShownSlot[]),
    '',
    workersText(status),
  ].join('\n')
}

/** What workers want to have known, each once, with those who say so. */
function noticesText(slots: readonly ShownSlot[]): string[] {
  const saidBy = new Map<string, string[]>()
  for (const { worker } of slots) {
    for (const notice of worker?.notices ?? []) saidBy.set(notice, [...saidBy.get(notice) ?? [], worker!.id])
  }
  return [...saidBy].map(([notice, workers]) => `notice        ${notice} (worker ${workers.join(', ')})`)
}

function workersText(status: SupervisorStatus): string {
  const rows: string[][] = [['WORKER', 'PID', 'STATE', 'AGE', 'CONNECTIONS', 'REQUESTS', 'LAG', 'MEMORY', 'RESTARTS']]
  for (const slot of status.slots as ShownSlot[]) {
    const row = (worker: ShownWorker, restarts: string): string[] => [
      worker.id,
      String(worker.pid),
      stateText(worker),
      duration(worker.ageMs),
      String(worker.open.connections),
      String(worker.open.exchanges),
      worker.loopLagMs === null ? '-' : `${worker.loopLagMs} ms`,
      worker.rssBytes === null ? '-' : `${Math.round(worker.rssBytes / 1_048_576)} MiB`,
      restarts,
    ]
    if (slot.worker !== null) rows.push(row(slot.worker, String(slot.restarts)))
    else {
      const state = slot.standIn === null ? slot.state : `${slot.state}, served by ${slot.standIn}`
      rows.push([`slot ${slot.slot}`, '-', state, '-', '-', '-', '-', '-', String(slot.restarts)])
    }
    for (const worker of [slot.incoming, slot.previous]) if (worker !== null) rows.push(row(worker, ''))
    if (slot.spare !== undefined && slot.spare !== null) rows.push(row(slot.spare, '').with(2, spareText(slot.spare)))
    for (const worker of slot.draining) rows.push(row(worker, ''))
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
}

/** It waits to take the slot's worker's place. */
function spareText(spare: ShownWorker): string { return spare.state === 'ready' ? 'spare' : `spare, ${stateText(spare)}` }

/** A worker that drains says what it waits for and how long it may. */
function stateText(worker: ShownWorker): string {
  if (worker.silent) return `${worker.state}, silent`
  if (worker.drainingMs === null || worker.drainEndsInMs === null) return worker.state
  const { activeExchanges, upgraded } = worker.open
  const open = `${activeExchanges} requests, ${upgraded} upgraded`
  return `${worker.state} for ${duration(worker.drainingMs)}: ${open}; ends in ${duration(worker.drainEndsInMs)}`
}

function descriptionText(application: string, description: ServerDescription): string {
  return [
    `${path.relative('', application)} is fine`,
    ...description.services.map(({ name, kind, dependsOn }) => {
      const order = dependsOn.length === 0 ? '' : `, after ${dependsOn.join(', ')}`
      return `  ${name}: ${kind}${order}`
    }),
    ...description.listeners.map(listener => `  ${listener.service} listens on ${listener.canonical}`),
  ].join('\n')
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`
  return `${Math.floor(seconds / 3_600)}h${Math.floor(seconds % 3_600 / 60)}m`
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
