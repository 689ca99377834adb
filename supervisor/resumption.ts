/** What the state that one image hands to the next means to that next image. Pure: run.ts does what it says. */
import { SENTRY_DEFAULTS } from '../src/config/sentry-options.ts'
import { TLS_DEFAULTS } from '../src/config/tls-options.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import { readEntry } from './journal.ts'
import type { JournalEntry } from './journal.ts'
import type { Handover } from './reexec.ts'
import type { SupervisorSetup } from './supervisor-world.ts'
import type { Resumption } from './upgrade.ts'

export interface ResumedLife extends Pick<SupervisorSetup, 'application' | 'args' | 'config' | 'origin'> {
  readonly entry: JournalEntry
  readonly resumption: Resumption
  /** Of the release that the configuration belongs to. */
  readonly releaseFolder: string
}

/** Forward into the generation that is on trial, or back into the one that is committed. @throws when the state cannot be used. */
export function readResumption({ state, attempt, reason }: Pick<Handover, 'state' | 'attempt' | 'reason'>): ResumedLife {
  const entry = readEntry(state)
  if (entry === null) throw new Error('the state that was handed over is of a format that this release does not read')
  const forward = attempt === 'forward'
  const plan = entry.upgrades?.running?.plan ?? null
  const committed = entry.fleet?.generations.find(({ number }) => number === entry.fleet?.committed)
  const generation = forward ? plan?.generation : committed
  if (generation === undefined) throw new Error('the state that was handed over names no generation')
  const { application, args, origin } = entry
  // An image of an older release knew nothing of traces and of TLS.
  const { log, traces = {}, tls = TLS_DEFAULTS, limits, listeners } = generation.settings
  const options = forward ? plan!.options : entry.options
  // Where errors are reported to is a secret, which no file of ours holds: run.ts reads it again.
  const config: ServerConfig = { file: origin.file, supervisor: options, log, traces, tls, limits, listeners, sentry: SENTRY_DEFAULTS }
  const resumption: Resumption = forward ? { how: 'forward' } : { how: 'back', reason }
  return { application, args, origin, config, entry, resumption, releaseFolder: generation.release.folder }
}
