/**
 * The supervisor turns itself into that of another release, or back into what it was: same pid, same children, same
 * sockets, another image. Here is what crosses, and the exec itself; what the new image does with it is in boot.ts.
 *
 *   replaceSupervisor --write the files--> --let descriptors pass--> execve --> boot.ts, 'forward'
 *          |                  |                       |                 |
 *          +<-----------------+-----------------------+-----------------+  a step fails: all of it is undone, ReexecFailed,
 *          |                                                               and this image goes on
 *   goBack (boot.ts or its watchdog) --write the reason--> --let descriptors pass--> execve --> boot.ts, 'back'
 *                                            |                      |                   |
 *                      the reason is lost <--+   it is missing <----+   throws <--------+  there is no image to go back to
 *
 * Invariants: nothing here waits, so nothing is spawned while descriptors may pass to children. Both attempts run the
 * boot.ts of the release that was proven, so going back needs nothing of the new one but its Node.js. Both files are on
 * the disk before the exec: a disk that is full later cannot turn the way back into another way forward.
 */
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import type { HandledSignal } from './signals.ts'

/** What is executed: a release's supervisor with the Node.js that runs it. */
export interface Image {
  /** Absolute path of the Node.js. */
  readonly node: string
  readonly execArgv: readonly string[]
  /** Absolute path of the installation's supervisor/resume, source or built. */
  readonly entry: string
  /** Absolute path of the installation's supervisor/boot. */
  readonly boot: string
}

/** A contract between releases: fields are only added, and what is added is optional. */
export interface Handover {
  readonly format: 1
  readonly attempt: 'forward' | 'back'
  /** Why the attempt before this one went back; '' for 'forward'. */
  readonly reason: string
  readonly to: Image
  readonly back: Image
  /** Sockets that must survive. The new image leaves them open until it has committed; closed ones cannot be given back. */
  readonly descriptors: readonly number[]
  /** From the first line of boot.ts to `commit()`. */
  readonly bootTimeoutMs: number
  /** The supervisor's own; boot.ts and its watchdog do not look into it. */
  readonly state: unknown
  /** What arrived while the attempt before this one lasted: it may not have acted on it. */
  readonly signals?: readonly HandledSignal[]
}

/** What the entry of an image is given: the two ways in which its attempt can end. */
export interface BootControl {
  /** From now on there is no way back. Before, nothing may be started that the image before would not know. */
  commit(): void
  /** Becomes the image before again. In attempt 'back' there is none: the process ends with exit code 1. */
  goBack(reason: string): never
}

/** What the module at `Image.entry` exports. */
export interface ResumeModule {
  /** May last as long as the process. A rejection before `commit()` goes back. */
  resume(handover: Handover, boot: BootControl): Promise<void> | void
}

export class ReexecFailed extends Error {
  constructor(cause: unknown) {
    super(`the next image could not be executed: ${messageOf(cause)}`, { cause })
    this.name = 'ReexecFailed'
  }
}

/** In the state folder, readable by its owner only: the state holds the workers' tokens. The name says which attempt reads it. */
export const HANDOVER_FILES = { forward: 'handover.json', back: 'handover-back.json' } as const

const PRELOAD = 'keep-signals.mjs'
const PRELOAD_OPTION = '--import='

/** Stands in the file of the way back until a better one is known. */
const REASON_UNKNOWN = 'the new supervisor went back, and its reason could not be written down'

/**
 * The last thing that this image does. @param folder the state folder. @throws ReexecFailed when there is no next image;
 * then every descriptor is close-on-exec again, the files are gone, and nothing else has changed.
 */
export function replaceSupervisor(folder: string, handover: Handover, calls: SystemCalls): never {
  const forward: Handover = { ...handover, attempt: 'forward', reason: '' }
  try {
    // An exec succeeds whether or not Node.js then finds the module; what it does not find ends the process.
    const needed = [handover.back.boot, preloadOf(handover), handover.back.entry, handover.to.entry]
    for (const file of needed) fs.accessSync(file, fs.constants.R_OK)
    fs.accessSync(handover.back.node, fs.constants.X_OK)
    write(folder, forward)
    write(folder, { ...forward, attempt: 'back', reason: REASON_UNKNOWN })
    for (const fd of handover.descriptors) calls.setInheritable(fd, true)
    return execute(folder, forward, ownEnvironment(), calls)
  } catch (error) {
    for (const fd of handover.descriptors) {
      try { calls.setInheritable(fd, false) } catch { /* It is not open, which may be why we are here. */ }
    }
    removeHandover(folder)
    throw new ReexecFailed(error)
  }
}

export interface WayBack {
  readonly folder: string
  readonly handover: Handover
  /** As this image was given it: what the new release did to its own is not wanted back. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * From any thread. @param calls null: descriptors that Node.js has marked at its start are lost.
 * @throws when the image before cannot be executed.
 */
export function goBack(
  { folder, handover, env }: WayBack, reason: string, signals: readonly HandledSignal[], calls: SystemCalls | null,
): never {
  const back: Handover = { ...handover, attempt: 'back', reason, signals }
  // The file that was written before the exec says the same without the reason.
  try { write(folder, back) } catch { /* A full disk, or a folder that was removed. */ }
  for (const fd of handover.descriptors) {
    try { calls?.setInheritable(fd, true) } catch { /* The new image has closed it; the one before says that it is missing. */ }
  }
  return execute(folder, back, env, calls)
}

/** @throws with plain words when it is not there or not of this format. */
export function readHandover(file: string): Handover {
  const read = JSON.parse(fs.readFileSync(file, 'utf8')) as Partial<Handover> | null
  if (read?.format !== 1) throw new Error(`it is of format ${JSON.stringify(read?.format)}, not 1`)
  const complete = (read.attempt === 'forward' || read.attempt === 'back') && isImage(read.to) && isImage(read.back)
    && Array.isArray(read.descriptors) && read.descriptors.every(Number.isInteger) && Number.isInteger(read.bootTimeoutMs)
  if (!complete) throw new Error('it is not complete')
  return read as Handover
}

export function removeHandover(folder: string): void {
  // One that stays is overwritten by the next; it is read only by a process that is told its name.
  for (const name of Object.values(HANDOVER_FILES)) {
    try { fs.rmSync(path.join(folder, name), { force: true }) } catch { /* The folder cannot be written to any more. */ }
  }
}

export function ownEnvironment(): Record<string, string> { return { ...process.env } as Record<string, string> }

export function messageOf(error: unknown): string { return error instanceof Error ? error.message : String(error) }

/** What an image was executed with for its own sake, and what it starts need not have. */
export function isPreloadOption(argument: string): boolean {
  return argument.startsWith(PRELOAD_OPTION) && argument.endsWith(`/${PRELOAD}`)
}

/** It lies beside the boot.ts that it prepares for. */
function preloadOf(handover: Handover): string { return path.join(path.dirname(handover.back.boot), PRELOAD) }

function execute(folder: string, handover: Handover, env: Readonly<Record<string, string>>, calls: SystemCalls | null): never {
  const { node, execArgv } = handover.attempt === 'forward' ? handover.to : handover.back
  const preload = `${PRELOAD_OPTION}${pathToFileURL(preloadOf(handover)).href}`
  const argv = [node, preload, ...execArgv, handover.back.boot, path.join(folder, HANDOVER_FILES[handover.attempt])]
  if (calls !== null) return calls.execve(node, argv, env)
  if (process.execve === undefined) throw new Error(`process.execve does not exist on ${process.platform}`)
  return process.execve(node, argv, env)
}

/** Whole, by rename: a reader sees one of the two or neither. */
function write(folder: string, handover: Handover): void {
  const file = path.join(folder, HANDOVER_FILES[handover.attempt])
  const next = `${file}.next`
  // One that is left of a crash could have another mode.
  fs.rmSync(next, { force: true })
  try {
    fs.writeFileSync(next, JSON.stringify(handover), { mode: 0o600, flag: 'wx' })
    fs.renameSync(next, file)
  } catch (error) {
    fs.rmSync(next, { force: true })
    throw error
  }
}

function isImage(image: Partial<Image> | undefined): boolean {
  if (image === undefined || !Array.isArray(image.execArgv)) return false
  return [image.node, image.entry, image.boot].every(text => typeof text === 'string' && path.isAbsolute(text))
}
