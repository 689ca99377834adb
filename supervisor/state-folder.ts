/**
 * Where a supervisor keeps its control sockets and its journal, and how others find them.
 *
 * Invariant: the folder belongs to our user, and no other user can write to it. The system's temporary folder is shared, so
 * that anybody may have made the one that is usual for us: then it is one with a name that nobody could guess, found again by
 * its owner.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { makeFolder } from '../src/primitives/make-folder.ts'
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

/**
 * The folder of an application. Where somebody else has taken our usual place, another one is made for it.
 * @param stateDir what the operator said; ''. @throws StateFolderError
 */
export function stateFolderOf(application: string, stateDir: string, around: Surroundings = surroundings()): string {
  if (stateDir !== '') return path.resolve(stateDir)
  const runtime = runtimeDirectory(around.env)
  if (runtime !== '') return runtime
  const { env, temporary, uid } = around
  const taken = runtimeOf(env) === '' && otherParents(around).length === 0 && !mayBeOurs(usualParent(around), uid)
  const make = (): string => fs.mkdtempSync(path.join(temporary, `cirque-${uid}-`))
  const parent = taken ? inStateFolder(`no folder can be made in ${temporary}`, make) : parentFolder(around)
  return path.join(parent, applicationName(application))
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
 * through it. @returns what an operator should know of its place; '' for nothing. @throws StateFolderError
 */
export function prepareStateFolder(folder: string, passable: boolean, around: Surroundings = surroundings()): string {
  const mode = passable ? 0o711 : 0o700
  const parent = path.dirname(folder)
  inStateFolder(`the state folder ${folder} cannot be used`, () => {
    if (parent === parentFolder(around)) ensureOwned(parent, mode, around.uid)
    ensureOwned(folder, mode, around.uid)
  })
  const longest = path.join(folder, CONTROL_SOCKET)
  const bytes = Buffer.byteLength(longest)
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const tooLong = `the state folder's path is too long for a socket (${bytes} of ${MAX_SOCKET_PATH_BYTES} bytes)`
    throw new StateFolderError(`${tooLong}: ${longest}; choose a shorter one with --state-dir`)
  }
  const open = openParent(fs.realpathSync(folder))
  if (open === '') return ''
  return `any user can replace the state folder ${folder}, as all can write to ${open}; choose another one with --state-dir`
}

/** The nearest folder above in which others may rename what is not theirs; '': there is none. */
function openParent(folder: string): string {
  const parent = path.dirname(folder)
  if (parent === folder) return ''
  const { mode } = fs.statSync(parent)
  // In a sticky one, such as /tmp, only the owner of a name may change it.
  return (mode & 0o002) !== 0 && (mode & 0o1000) === 0 ? parent : openParent(parent)
}

/** Folders of running supervisors of this user, for a command line that was not told which. */
export async function runningFolders(stateDir: string, around: Surroundings = surroundings()): Promise<string[]> {
  const candidates = candidateFolders(stateDir, around)
  const live = await Promise.all(candidates.map(folder => dialUnix(path.join(folder, CONTROL_SOCKET))))
  return candidates.filter((_, index) => live[index])
}

/** Folders in which a supervisor of this user may run, or may have run. */
export function candidateFolders(stateDir: string, around: Surroundings = surroundings()): string[] {
  if (stateDir !== '') return [path.resolve(stateDir)]
  const runtime = runtimeDirectory(around.env)
  if (runtime !== '') return [runtime]
  const parent = parentFolder(around)
  try {
    return fs.readdirSync(parent).map(name => path.join(parent, name))
  } catch {
    // This user never started one here.
    return []
  }
}

function runtimeDirectory(env: NodeJS.ProcessEnv): string {
  // systemd joins several folders by colons.
  return (env['RUNTIME_DIRECTORY'] ?? '').split(':')[0]!
}

function runtimeOf(env: NodeJS.ProcessEnv): string { return env['XDG_RUNTIME_DIR'] ?? '' }

function parentFolder(around: Surroundings): string {
  const runtime = runtimeOf(around.env)
  if (runtime !== '') return path.join(runtime, 'cirque')
  return otherParents(around)[0] ?? usualParent(around)
}

function usualParent({ temporary, uid }: Surroundings): string { return path.join(temporary, `cirque-${uid}`) }

/** Those that were made because somebody else had the usual one. They stay in use also when that has gone. */
function otherParents({ temporary, uid }: Surroundings): string[] {
  let names: string[]
  try { names = fs.readdirSync(temporary) } catch { return [] }
  const folders = names.filter(name => name.startsWith(`cirque-${uid}-`)).sort().map(name => path.join(temporary, name))
  return folders.filter(folder => isOurs(fs.lstatSync(folder, { throwIfNoEntry: false }), uid))
}

function isOurs(stat: fs.Stats | undefined, uid: number): boolean { return stat?.isDirectory() === true && stat.uid === uid }

/** It is ours, or not there yet. */
function mayBeOurs(folder: string, uid: number): boolean {
  const stat = fs.lstatSync(folder, { throwIfNoEntry: false })
  return stat === undefined || isOurs(stat, uid)
}

/** @throws StateFolderError with what would do, where the system says no. */
export function inStateFolder<T>(what: string, attempt: () => T): T {
  try { return attempt() } catch (error) {
    if (error instanceof StateFolderError) throw error
    // `EROFS: read-only file system, mkdir '/x'`
    const why = error instanceof Error ? error.message.split(', ')[0]! : String(error)
    throw new StateFolderError(`${what} (${why}); choose another state folder with --state-dir`)
  }
}

function ensureOwned(folder: string, mode: number, uid: number): void {
  makeFolder(folder, mode)
  const stat = fs.lstatSync(folder)
  if (!isOurs(stat, uid)) {
    throw new StateFolderError(`the state folder ${folder} does not belong to this user; remove it or choose another one with --state-dir`)
  }
  // It may have been there with other rights; a folder that others can write to would let them replace the sockets.
  if ((stat.mode & 0o777) !== mode) fs.chmodSync(folder, mode)
}
