/** The application that a command is for: its file, and what it says of itself. */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ResolvedSupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { WorkerSettings } from '../../src/config/worker-settings.ts'
import type { ServerDescription } from '../../src/ipc/server-description.ts'
import { describeApplication, DescribeFailed } from '../describe-application.ts'
import { EXIT } from '../exit-codes.ts'
import { OWN_EXEC_ARGV } from '../generation.ts'
import { resolveIdentity } from '../identities.ts'
import { releaseOf } from '../releases.ts'
import { Failure } from './shared-options.ts'

/** @throws Failure with what could be run instead */
export function existingApplication(application: string | undefined): string {
  if (application === undefined) {
    const runs = exampleNames().map(name => `  cirque run ${name}`).join('\n')
    throw new Failure(EXIT.usage, `which application? cirque init NAME makes one of your own; the examples are\n${runs}`)
  }
  const file = path.resolve(application)
  if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) throw new Failure(EXIT.usage, `there is no file ${file}`)
  return file
}

/**
 * Loads it in a process of its own, with the options of a start. @throws DescribeFailed that names it
 * @param listeners what a start with these overrides would refuse is refused as well; null: it is not looked at
 */
export async function describe(
  application: string, args: readonly string[], options: ResolvedSupervisorOptions, listeners: WorkerSettings['listeners'] | null = null,
): Promise<ServerDescription> {
  try {
    return await describeApplication({
      release: releaseOf(application), args, execArgv: OWN_EXEC_ARGV, ...resolveIdentity(options.user, options.group),
    }, options.describeTimeoutMs, new AbortController().signal, undefined, null, listeners)
  } catch (error) {
    if (error instanceof DescribeFailed) {
      throw new DescribeFailed(`${application} could not be loaded: ${error.message}`, error.applicationStack)
    }
    throw error
  }
}

function exampleNames(): string[] {
  const folder = fileURLToPath(new URL('../../examples', import.meta.url))
  try {
    return fs.readdirSync(folder).filter(name => /\.[jt]s$/.test(name)).map(name => path.join(folder, name))
      .filter(file => fs.readFileSync(file, 'utf8').includes('.runForever(')).map(file => path.relative('', file))
  } catch { return [] }
}
