/**
 * This process becomes the supervisor of an application and ends with it: signals, first screen, exit code. Used by the
 * entry that `runForever()` executes (main.ts) and by `cirque run` (cli.ts).
 */
import path from 'node:path'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { stderrLog } from '../src/ipc/process-log.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { onSignals } from './early-signals.ts'
import { Supervisor } from './supervisor.ts'
import type { SupervisorStatus } from './supervisor.ts'

export interface RunRequest {
  /** Path of the application's module. */
  readonly application: string
  /** What follows it on its command line. */
  readonly args: readonly string[]
  readonly options: ResolvedSupervisorOptions
  readonly log?: ProcessLog
  /** JSON lines even on a terminal. @default false */
  readonly json?: boolean
}

export async function runSupervisor(request: RunRequest): Promise<never> {
  const json = request.json ?? false
  const log = request.log ?? stderrLog('supervisor', json)
  const supervisor = new Supervisor({
    application: path.resolve(request.application), args: request.args, options: request.options, log,
    onRunning: status => sayRunning(status, log, json),
  })
  onSignals(signal => supervisor.onSignal(signal))
  process.exit(await supervisor.run())
}

/** On a terminal: what runs, where to look at it, how to end it. Otherwise one line of the log. */
function sayRunning(status: SupervisorStatus, log: ProcessLog, json: boolean): void {
  const addresses = status.listeners.map(listener => listener.bound)
  if (json || process.stderr.isTTY !== true) {
    log.info('running', { application: status.application, workers: status.slots.length, listeners: addresses, control: status.controlSocket, ...(status.admin === '' ? {} : { admin: status.admin }) })
    return
  }
  process.stderr.write(firstScreen(status))
}

export function firstScreen(status: SupervisorStatus): string {
  // `:port` is two listeners and one thing to look at.
  const rows = [...new Map(status.listeners.map(({ bound, service }) => [browsable(bound), service]))]
  const width = Math.max(0, ...rows.map(([address]) => address.length))
  const workers = `${status.slots.length} worker${status.slots.length === 1 ? '' : 's'}`
  return [
    `cirque ${status.version}  ${path.relative('', status.application)}  ${workers}, pid ${status.pid}`,
    '',
    ...rows.map(([address, service]) => `  ${address.padEnd(width)}  ${service}`),
    ...(status.admin === '' ? [] : [`  ${`http://${status.admin}/readyz`.padEnd(width)}  health`]),
    '',
    `  control  ${status.controlSocket}`,
    '  stop     Ctrl-C, or `cirque stop`',
    '',
  ].join('\n')
}

/** Something to point a browser at; all addresses of a machine include this one. */
function browsable(bound: string): string {
  if (bound.startsWith('unix:')) return bound
  return `http://${bound.replace(/^0\.0\.0\.0:/, 'localhost:').replace(/^\[::\]:/, 'localhost:')}`
}
