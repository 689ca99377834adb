/**
 * Where processes of ours keep compiled code: TypeScript stripped of its types once, not by every process (**measured**: 206 ms
 * and 48 MB for our own modules without, 53 ms and 22 MB with it). Node.js does the work, told by one variable at its start; this
 * file says which folder, and who may be told.
 *
 * What stands in such a folder is run as code. So it lies where only those can write who can write the code itself, or the
 * state folder: beside the code (bin/cirque) or in the state folder, 0700. Workers that run as another user have one of
 * their own, which no process of the supervisor's user reads. A folder that cannot be written is no fault: there is no cache then.
 * A variable that the user has set is left alone, and NODE_DISABLE_COMPILE_CACHE turns everything off.
 */
import fs from 'node:fs'
import module from 'node:module'
import path from 'node:path'

const VARIABLE = 'NODE_COMPILE_CACHE'
/** As in bin/cirque. */
const FOLDER = 'cirque-compile-cache'

interface Owner { readonly uid: number | null; readonly gid: number | null }

export class CompileCache {
  readonly #env: NodeJS.ProcessEnv
  readonly #uid: number | undefined
  readonly #stateFolder: string

  /** From now on every process that is started with `env` has a cache, the next image of ours as well. */
  constructor(env: NodeJS.ProcessEnv, stateFolder: string, uid = process.getuid?.()) {
    this.#env = env
    this.#uid = uid
    this.#stateFolder = stateFolder
    if (isWanted(env)) env[VARIABLE] = path.join(stateFolder, FOLDER)
  }

  /** What a process that runs as somebody else is told instead of what it inherits. */
  environmentFor({ uid, gid }: Owner): Record<string, string> {
    const inherited = this.#env[VARIABLE] ?? ''
    if (uid === null || uid === this.#uid || !isOurs(inherited)) return {}
    const folder = path.join(this.#stateFolder, `${FOLDER}-${uid}`)
    try {
      fs.mkdirSync(folder, { mode: 0o700 })
      fs.chownSync(folder, uid, gid ?? process.getgid!())
    } catch (error) {
      // '' turns it off: what we use ourselves is not theirs to write.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return { [VARIABLE]: '' }
    }
    return { [VARIABLE]: folder }
  }
}

/** For an image of ours that is about to be executed from source. @param installation the folder that our source is in */
export function withCompileCache(env: NodeJS.ProcessEnv, installation: string): Record<string, string> {
  const same = env as Record<string, string>
  if (!isWanted(env)) return same
  try { fs.accessSync(installation, fs.constants.W_OK) } catch { return same }
  return { ...same, [VARIABLE]: path.join(installation, 'build', FOLDER) }
}

/** Takes a folder of ours out of the environment of a process that was started with it: children of an application have no part in it. */
export function forgetCompileCache(env: NodeJS.ProcessEnv): void { if (isOurs(env[VARIABLE] ?? '')) delete env[VARIABLE] }

/** Writes what was compiled since the start: a process that is killed would not. Costs nothing when all was read from there. */
export function keepCompiled(): void { module.flushCompileCache() }

function isWanted(env: NodeJS.ProcessEnv): boolean {
  return [env[VARIABLE], env['NODE_DISABLE_COMPILE_CACHE']].every(value => (value ?? '') === '')
}
function isOurs(folder: string): boolean { return path.basename(folder).startsWith(FOLDER) }
