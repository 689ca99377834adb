/**
 * Whether the processes of a configuration could write their logs, found out without making a file: a path in a missing folder, one
 * that the workers' user may not write to, or a syslog that this machine cannot reach, is a mistake that is told before anything starts.
 * What happens to files later (a full disk, a folder that goes) is the sink's affair (src/telemetry/exporters/line-sink.ts).
 */
import fs from 'node:fs'
import path from 'node:path'
import { ConfigError, type ConfigMistake, type ServerConfig } from '../src/config/server-config.ts'
import { parseSyslogTarget, SYSLOG_PREFIX } from '../src/config/syslog-target.ts'
import { loadSystemCallsNow } from '../src/ipc/system-calls.ts'
import { resolveIdentity, type Identity } from './identities.ts'

const OURSELVES: Identity = { uid: null, gid: null }

/** @throws ConfigError with every log that could not be written. @throws OptionError for a user that does not exist */
export function checkLogFiles({ log, logAt, supervisor }: Pick<ServerConfig, 'log' | 'logAt' | 'supervisor'>): void {
  const workers = resolveIdentity(supervisor.user, supervisor.group)
  const of = workers.uid === null && workers.gid === null ? '' : ' for the user of the workers'
  const mistakes: ConfigMistake[] = []
  const refuse = (key: string, found: string, expected: string): void => {
    mistakes.push({ path: key, found, expected, where: logAt?.[key] ?? 'configuration' })
  }
  const check = (key: string, written: string, identity: Identity, whose: string): boolean => {
    if (WORDS.has(written)) return true
    if (written.startsWith(SYSLOG_PREFIX)) {
      const problem = syslogProblem(written)
      if (problem !== '') refuse(key, `${written}, ${problem}`, SYSLOG_REMEDY)
      return problem === ''
    }
    const problem = fileProblem(written, identity)
    if (problem !== '') refuse(key, `${written}, ${problem}${whose}`, REMEDY)
    return problem === ''
  }
  if (check('log.process', log.process, OURSELVES, '') && of !== '') check('log.process', log.process, workers, of)
  check('log.access', log.access, workers, of)
  if (mistakes.length > 0) throw new ConfigError(mistakes)
}

const WORDS: ReadonlySet<string> = new Set(['stdout', 'stderr', 'off'])
const SYSLOG_REMEDY = 'syslog:udp:HOST:PORT, syslog:tcp:HOST:PORT, or a file'

/**
 * What keeps every process from sending there; '' when nothing is seen. A receiver that is not there may come later, as it may go:
 * its messages wait. Only what no receiver could mend is a mistake.
 */
export function syslogProblem(address: string, env: NodeJS.ProcessEnv = process.env): string {
  const target = parseSyslogTarget(address)
  if (typeof target === 'string' || target.transport !== 'unix') return ''
  const loaded = loadSystemCallsNow(env)
  if (!loaded.available) return `which needs system calls, and they are not available (${loaded.reason})`
  const stat = statOf(target.path)
  if (typeof stat === 'string') return stat
  if (stat !== null) return stat.isSocket() ? '' : 'which is no socket'
  const above = statOf(path.dirname(target.path))
  return above === null || (typeof above !== 'string' && !above.isDirectory()) ? 'whose folder does not exist' : ''
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
