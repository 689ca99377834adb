/**
 * Everything that workers of one release and one configuration have in common, as plain JSON: it travels in the journal
 * and across the supervisor's own replacement. Workers of several generations may live side by side; a worker is named
 * `<generation>.<slot>.<n>`.
 */
import type { WorkerSettings } from '../src/config/worker-settings.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import type { ServerDescription } from '../src/ipc/server-description.ts'
import { SUPERVISOR_FLAGS } from '../src/ipc/supervisor-flags.ts'
import type { Release } from './releases.ts'

/** How processes of a generation are started. */
export interface Blueprint {
  readonly release: Release
  /** What follows the application on its command line. */
  readonly args: readonly string[]
  /** Options of Node.js for its workers. */
  readonly execArgv: readonly string[]
  readonly uid: number | null
  readonly gid: number | null
}

export interface Generation extends Blueprint {
  readonly number: number
  /** When application and configuration were read, in ms since 1970. */
  readonly readAt: number
  readonly description: ServerDescription
  readonly settings: WorkerSettings
  /** Workers that it wants. Slots beyond them are surplus: they keep their sockets, and siblings stand in. */
  readonly workers: number
  /** Which sockets its workers inherit. */
  readonly layout: DescriptorLayout
}

/** What every process of ours that runs application code gets: no inspector by signal, no warnings about what we chose knowingly. */
export const OWN_EXEC_ARGV: readonly string[] = ['--disable-sigusr1', '--disable-warning=ExperimentalWarning']

/** What the process that we are was started with, for the processes that we start. */
export function workerExecArgv(own: readonly string[] = process.execArgv): string[] {
  return [...own.filter(argument => !OWN_EXEC_ARGV.includes(argument) && !SUPERVISOR_FLAGS.includes(argument)), ...OWN_EXEC_ARGV]
}

/** Names of listeners whose address another generation does not have; what it calls them does not matter. */
export function goneListeners(of: Generation, inOther: Generation): string[] {
  const there = new Set(inOther.description.listeners.map(listener => listener.canonical))
  return of.description.listeners.flatMap(({ name, canonical }) => there.has(canonical) ? [] : [name])
}
