/**
 * Everything that workers of one release and configuration have in common. Workers of two generations may live side by
 * side; a worker is named `<generation>.<slot>.<n>`.
 */
import type { ServerDescription } from '../src/ipc/server-description.ts'

export interface Generation {
  readonly number: number
  /** Absolute path of the application's module, and what follows it on its command line. */
  readonly application: string
  readonly args: readonly string[]
  /** Options of Node.js for its workers. */
  readonly execArgv: readonly string[]
  /** Entry modules of the workers' side. */
  readonly workerEntry: string
  readonly describeEntry: string
  readonly uid: number | null
  readonly gid: number | null
  readonly description: ServerDescription
}

/** What every process of ours that runs application code gets: no inspector by signal, no warnings about what we chose knowingly. */
export const OWN_EXEC_ARGV: readonly string[] = ['--disable-sigusr1', '--disable-warning=ExperimentalWarning']
