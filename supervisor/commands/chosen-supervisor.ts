/**
 * Which running supervisor a command is for: the one that was named, else the only one of this user, else the only one
 * that was started from here.
 */
import path from 'node:path'
import { askSupervisor, type AskOptions } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import { Journal, livingWorkers } from '../journal.ts'
import type { SupervisorStatus } from '../operator-desk.ts'
import { candidateFolders, JOURNAL, ownFolder, runningFolders } from '../state-folder.ts'
import { Failure } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { briefText } from './status-text.ts'

/** One that does not say what it is by then is listed without, in ms. */
const INTRODUCTION_MS = 2_000

/** Asks it. */
export async function ask(options: Shared, message: Parameters<typeof askSupervisor>[1], how: AskOptions = {}): Promise<unknown> {
  return askSupervisor(await chosenFolder(options), message, how)
}

/** Its state folder. @throws Failure when there is none, or several of which none or several are from here */
export async function chosenFolder(options: Shared): Promise<string> {
  const stateDir = stateDirOf(options)
  const folders = await runningFolders(stateDir)
  if (folders.length === 1) return folders[0]!
  if (folders.length === 0) {
    const nothing = 'no supervisor of this user is running; `cirque run APP` starts one'
    const lines = [stateDir === '' ? nothing : `no supervisor is running in ${stateDir}`, ...candidateFolders(stateDir).flatMap(orphansIn)]
    throw new Failure(EXIT.running, lines.join('\n'))
  }
  const running = await Promise.all(folders.map(async folder => ({ folder, status: await introduction(folder) })))
  const fromHere = running.filter(({ status }) => status !== null && isFromHere(status))
  if (fromHere.length === 1) return fromHere[0]!.folder
  const lines = running.map(({ folder, status }) => `  --state-dir ${folder}  ${status === null ? 'does not answer' : briefText(status)}`)
  throw new Failure(EXIT.usage, `several supervisors are running; say which:\n${lines.join('\n')}`)
}

/** Workers whose supervisor was killed, in a line. What no journal names is not found. */
function orphansIn(folder: string): string[] {
  const entry = new Journal(path.join(folder, JOURNAL), () => {}).read()
  const pids = entry === null ? [] : livingWorkers(entry).map(({ pid }) => pid)
  if (entry === null || pids.length === 0) return []
  const text = `workers without a supervisor still run ${entry.application} (pid ${pids.join(', ')})`
  return [`${text}: start it again as before, and it takes them over; left alone they drain, unless supervisor.orphanPolicy keeps them`]
}

/** Whether somebody has said which supervisor is meant: the operator, or systemd by its folder. */
export function isNamed(options: Shared): boolean { return !ownFolder(stateDirOf(options)) }

/** Whether it was started in the current folder, or runs a release that the current folder is part of. */
export function isFromHere({ startedIn, release }: Pick<SupervisorStatus, 'startedIn' | 'release'>, here = process.cwd()): boolean {
  if (here === startedIn) return true
  return release !== '' && (here === release || here.startsWith(path.join(release, path.sep)))
}

function stateDirOf({ stateDir }: Shared): string { return stateDir ?? process.env['CIRQUE_SUPERVISOR_STATE_DIR'] ?? '' }

async function introduction(folder: string): Promise<SupervisorStatus | null> {
  try {
    return await askSupervisor(folder, { tag: 'status' }, { timeoutMs: INTRODUCTION_MS }) as SupervisorStatus
  } catch { return null }
}
