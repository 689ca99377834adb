/** How a process of ours ended, as a number for scripts and as one clear sentence in the log. */
import path from 'node:path'
import { ConfigError, formatMistake } from '../src/config/server-config.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { DescribeFailed } from './describe-application.ts'
import { BindError } from './listener-table.ts'
import { StartFailed } from './refusals.ts'
import { ReleaseError } from './releases.ts'
import { StateFolderError } from './state-folder.ts'

/** Of a process of ours that ended; the command line uses the same. */
export const EXIT = { ok: 0, failed: 1, usage: 2, running: 3, superseded: 4 } as const

/** Says once, clearly, why an application has no server. @param application absolute path of its module. @returns the exit code. */
export function explainEnd(error: unknown, application: string, log: ProcessLog): number {
  const file = path.relative('', application)
  if (error instanceof ConfigError) {
    for (const mistake of error.mistakes) log.error(formatMistake(mistake))
    return EXIT.usage
  }
  if (error instanceof StateFolderError || error instanceof ReleaseError || (error instanceof Error && error.name === 'OptionError')) {
    log.error(error.message)
    return EXIT.usage
  }
  if (error instanceof BindError) log.error(error.message)
  else if (error instanceof DescribeFailed) {
    log.error(`${file} could not be loaded: ${error.message}`, { stack: error.applicationStack })
  } else if (error instanceof StartFailed) {
    log.error(`${file} could not be started: no worker became ready: ${error.message}`, { stack: error.applicationStack })
  } else if (error instanceof Error) log.error(`the supervisor failed: ${error.message}`, { stack: error.stack })
  else log.error(`the supervisor failed: ${String(error)}`)
  return EXIT.failed
}
