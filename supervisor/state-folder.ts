/**
 * Where a supervisor keeps its control sockets and its journal, and how others find them.
 * Invariant: the folder belongs to our user, and no other user can write to it (the system's temporary folder is shared).
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { dialUnix } from './listener-table.ts'

export const CONTROL_SOCKET = 'control.sock'
export const WORKER_SOCKET = 'worker.sock'
export const JOURNAL = 'journal.json'
/** While sockets of workers are taken back. */
export const HANDOFF_SOCKET = 'handoff.sock'

/** sun_path of Linux, without the final zero. */
const MAX_SOCKET_PATH_BYTES = 107

export class StateFolderError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'StateFolderError'
  }
}

interface Surroundings {
  readonly env: NodeJS.ProcessEnv
  readonly uid: number
  readonly temporary: string
}

export function surroundings(): Surroundings {
  return { env: process.env, uid: process.getuid?.() ?? 0, temporary: os.tmpdir() }
}

/** The folder of an application. @param stateDir what the operator said; ''. */
export function stateFolderOf(application: string, stateDir: string, around: Surroundings = surroundings()): string {
  if (stateDir !== '') return path.resolve(stateDir)
  const runtime = runtimeDirectory(around.env)
  if (runtime !== '') return runtime
  return path.join(parentFolder(around), applicationName(application))
}

/** Whether neither an operator nor systemd chose the folder's place. */
export function ownFolder(stateDir: string, around: Surroundings = surroundings()): boolean {
  return stateDir === '' && runtimeDirectory(around.env) === ''
}

/** Readable, and different for different files. */
export function applicationName(application: string): string {
  const base = path.basename(application, path.extname(application)).replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 40)
  return `${base}-${createHash('sha256').update(path.resolve(application)).digest('hex').slice(0, 8)}`
}

/**
 * Makes the folder, or checks the one that is there. @param passable workers of another user must reach their socket
 * through it. @throws StateFolderError
 */
export function prepareStateFolder(folder: string, passable: boolean, around: Surroundings = surroundings()): void {
  const mode = passable ? 0o711 : 0o700
  const parent = path.dirname(folder)
  if (parent === parentFolder(around)) ensureOwned(parent, mode, around.uid)
  ensureOwned(folder, mode, around.uid)
  const longest = path.join(folder, CONTROL_SOCKET)
  const bytes = Buffer.byteLength(longest)
  if (bytes <= MAX_SOCKET_PATH_BYTES) return
  const tooLong = `the state folder's path is too long for a socket (${bytes} of ${MAX_SOCKET_PATH_BYTES} bytes)`
  throw new StateFolderError(`${tooLong}: ${longest}; choose a shorter one with --state-dir`)
}

/** Folders of running supervisors of this user, for a command line that was not told which. */
export async function runningFolders(stateDir: string, around: Surroundings = surroundings()): Promise<string[]> {
  const candidates: string[] = []
  if (stateDir !== '') candidates.push(path.resolve(stateDir))
  else if (runtimeDirectory(around.env) !== '') candidates.push(runtimeDirectory(around.env))
  else {
    const parent = parentFolder(around)
    try {
      candidates.push(...fs.readdirSync(parent).map(name => path.join(parent, name)))
    } catch { /* This user never started one here. */ }
  }
  const live = await Promise.all(candidates.map(folder => dialUnix(path.join(folder, CONTROL_SOCKET))))
  return candidates.filter((_, index) => live[index])
}

function runtimeDirectory(env: NodeJS.ProcessEnv): string {
  // systemd joins several folders by colons.
  return (env['RUNTIME_DIRECTORY'] ?? '').split(':')[0]!
}

function parentFolder(around: Surroundings): string {
  const runtime = around.env['XDG_RUNTIME_DIR'] ?? ''
  return runtime !== '' ? path.join(runtime, 'cirque') : path.join(around.temporary, `cirque-${around.uid}`)
}

function ensureOwned(folder: string, mode: number, uid: number): void {
  try {
    fs.mkdirSync(folder, { recursive: true, mode })
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    throw new StateFolderError(`the state folder ${folder} cannot be made (${code}); choose another one with --state-dir`)
  }
  const stat = fs.lstatSync(folder)
  if (!stat.isDirectory() || stat.uid !== uid) {
    throw new StateFolderError(`the state folder ${folder} does not belong to this user; remove it or choose another one with --state-dir`)
  }
  // It may have been there with other rights; a folder that others can write to would let them replace the sockets.
  if ((stat.mode & 0o777) !== mode) fs.chmodSync(folder, mode)
}
