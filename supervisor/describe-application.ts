/** Learns what an application is made of from a short-lived process, so that none of its code runs in the supervisor. */
import { ConfigError } from '../src/config/server-config.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import { unknownListeners, type WorkerSettings } from '../src/config/worker-settings.ts'
import { ROLE_VARIABLE } from '../src/ipc/worker-role.ts'
import type { DescribeRole } from '../src/ipc/worker-role.ts'
import { readDescription } from '../src/ipc/server-description.ts'
import type { DescribeOutcome, ServerDescription } from '../src/ipc/server-description.ts'
import type { Blueprint } from './generation.ts'
import { runDescribe } from './process-host.ts'
import type { DescribeResult, DescribeRun } from './process-host.ts'

/** The application could not be loaded. `applicationStack` is its own error's, else the end of what it wrote to stderr, or ''. */
export class DescribeFailed extends Error {
  readonly applicationStack: string
  constructor(message: string, applicationStack: string) {
    super(message)
    this.name = 'DescribeFailed'
    this.applicationStack = applicationStack
  }
}

/**
 * @param onFiles told which files it was loaded from, or as far as it came; null: nobody wants to know
 * @param listeners what a start with these overrides would refuse is refused as well; null: it is not looked at
 */
export async function describeApplication(
  of: Blueprint, timeoutMs: number, signal: AbortSignal, run: (run: DescribeRun) => Promise<DescribeResult> = runDescribe,
  onFiles: ((files: readonly string[]) => void) | null = null, listeners: WorkerSettings['listeners'] | null = null,
): Promise<ServerDescription> {
  const { release } = of
  const role: DescribeRole = {
    role: 'describe', application: release.application,
    ...onFiles === null ? {} : { listFiles: true }, ...listeners === null ? {} : { listeners },
  }
  const result = await run({
    node: release.node, exec: release.entries.describe, args: [release.application, ...of.args], execArgv: of.execArgv,
    env: { ...process.env, [ROLE_VARIABLE]: JSON.stringify(role) }, uid: of.uid, gid: of.gid, timeoutMs, signal,
  })
  const outcome = readOutcome(result.output)
  if (outcome?.files !== undefined) onFiles?.(outcome.files)
  if (outcome !== null && !outcome.ok) throw new DescribeFailed(outcome.message, outcome.stack)
  if (outcome !== null) {
    const read = readDescription(outcome.description)
    if ('description' in read) return read.description
    throw new DescribeFailed(`its description cannot be used: ${read.problem}`, '')
  }
  // Nothing came: whatever it wrote to stderr is the best there is.
  if (result.timedOut) {
    const why = 'it may await what never comes, or call server.start(), which is for programs and tests of your own'
    throw new DescribeFailed(`it did not reach server.runForever() within ${timeoutMs} ms; ${why}`, result.stderr)
  }
  if (result.problem !== '') {
    const remedy = /\bE[MN]FILE$/.test(result.problem) ? '; raise the limit of open files (ulimit -n, LimitNOFILE=)' : ''
    throw new DescribeFailed(result.problem + remedy, '')
  }
  const how = result.signal === null ? `it ended with code ${String(result.code)}` : `it was ended by ${result.signal}`
  throw new DescribeFailed(how, result.stderr)
}

/** An override for a listener that does not exist, or has no such options, would be ignored in silence. @throws ConfigError */
export function checkListenerNames(
  { listeners, listenersAt = {} }: Pick<ServerConfig, 'listeners' | 'listenersAt'>, description: Pick<ServerDescription, 'listeners'>,
): void {
  const names = description.listeners.map(listener => listener.name)
  const plain = new Set(description.listeners.filter(({ tls }) => tls === undefined).map(({ name }) => name))
  const whereOf = (name: string): string => listenersAt[name] ?? 'configuration'
  const unknown = unknownListeners(listeners, names).map(name => ({
    path: `listeners.${name}`, found: 'the name of no listener', expected: `one of *, ${names.join(', ')}`, where: whereOf(name),
  }))
  const insecure = Object.entries(listeners).filter(([name, { tls }]) => tls !== undefined && plain.has(name)).map(([name]) => ({
    path: `listeners.${name}.tls`, found: 'options of TLS', expected: 'a listener that speaks it (addTls)', where: whereOf(name),
  }))
  if (unknown.length + insecure.length > 0) throw new ConfigError([...unknown, ...insecure])
}

function readOutcome(output: string): DescribeOutcome | null {
  const end = output.indexOf('\n')
  if (end === -1) return null
  try { return JSON.parse(output.slice(0, end)) as DescribeOutcome } catch { return null }
}
