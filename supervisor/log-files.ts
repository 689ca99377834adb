/**
 * Whether the processes of a configuration could write to its log files, found out without making any: a path in a missing folder,
 * or one that the workers' user may not write to, is a mistake that is told before anything starts.
 * What happens to files later (a full disk, a folder that goes) is the sink's affair (src/telemetry/exporters/line-sink.ts).
 */
import fs from 'node:fs'
import path from 'node:path'
import { ConfigError, type ConfigMistake, type ServerConfig } from '../src/config/server-config.ts'
import { resolveIdentity, type Identity } from './identities.ts'

const OURSELVES: Identity = { uid: null, gid: null }

/** @throws ConfigError with every log that could not be written. @throws OptionError for a user that does not exist */
export function checkLogFiles({ log, logAt, supervisor }: Pick<ServerConfig, 'log' | 'logAt' | 'supervisor'>): void {
  const workers = resolveIdentity(supervisor.user, supervisor.group)
  const of = workers.uid === null && workers.gid === null ? '' : ' for the user of the workers'
  const mistakes: ConfigMistake[] = []
  const check = (key: string, file: string, identity: Identity, whose: string): boolean => {
    const problem = fileProblem(file, identity), found = `${file}, ${problem}${whose}`
    if (problem !== '') mistakes.push({ path: key, found, expected: REMEDY, where: logAt?.[key] ?? 'configuration' })
    return problem === ''
  }
  const processFits = log.process === 'stderr' || check('log.process', log.process, OURSELVES, '')
  if (processFits && log.process !== 'stderr' && of !== '') check('log.process', log.process, workers, of)
  if (log.access !== 'stdout' && log.access !== 'off') check('log.access', log.access, workers, of)
  if (mistakes.length > 0) throw new ConfigError(mistakes)
}

const REMEDY = 'a file in a folder that is there, which can be written to'

/** What keeps this user from writing to the file; '' when nothing is seen. */
export function fileProblem(file: string, identity: Identity): string {
  const stat = statOf(file)
  if (typeof stat === 'string') return stat
  if (stat !== null) return stat.isDirectory() ? 'which is a folder' : mayWrite(file, stat, identity) ? '' : 'which cannot be written to'
  const folder = path.dirname(file), above = statOf(folder)
  if (typeof above === 'string') return above
  if (above === null) return 'whose folder does not exist'
  if (!above.isDirectory()) return 'whose folder is no folder'
  return mayWrite(folder, above, identity) ? '' : 'which cannot be made in its folder'
}

/** @returns null when there is nothing; a text when that cannot be known. */
function statOf(file: string): fs.Stats | string | null {
  try {
    return fs.statSync(file, { throwIfNoEntry: false }) ?? null
  } catch (error) {
    return `which cannot be looked at (${(error as NodeJS.ErrnoException).code ?? String(error)})`
  }
}

/** For another user only what the mode says: lists of access rights are theirs to know. */
function mayWrite(name: string, stat: fs.Stats, { uid, gid }: Identity): boolean {
  const other = (uid !== null && uid !== process.geteuid?.()) || (gid !== null && gid !== process.getegid?.())
  try {
    fs.accessSync(name, fs.constants.W_OK)
  } catch (error) {
    // What nobody may is a file system's word, and holds for others as well.
    if (!other || (error as NodeJS.ErrnoException).code === 'EROFS') return false
  }
  const user = uid ?? process.geteuid?.() ?? 0
  if (!other || user === 0) return true
  if (stat.uid === user) return (stat.mode & 0o200) !== 0
  return (stat.mode & (stat.gid === (gid ?? process.getegid?.()) ? 0o020 : 0o002)) !== 0
}
