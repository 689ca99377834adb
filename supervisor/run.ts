/**
 * This process becomes the supervisor of an application and ends with it: signals, logs, first screen, exit code. Used
 * by the entry that `runForever()` executes (main.ts) and by `cirque run` (cli.ts).
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ServerConfig } from '../src/config/server-config.ts'
import { openLogs, type ConfiguredLogs } from '../src/telemetry/exporters/configured-logs.ts'
import { onSignals } from './early-signals.ts'
import { EXIT, Supervisor } from './supervisor.ts'
import type { SupervisorStatus } from './supervisor.ts'

export interface RunRequest {
  /** Path of the application's module. */
  readonly application: string
  /** What follows it on its command line. */
  readonly args: readonly string[]
  readonly config: ServerConfig
}

export async function runSupervisor(request: RunRequest): Promise<never> {
  const { application, args, config } = request
  let logs: ConfiguredLogs
  try {
    logs = openLogs(config.log, 'supervisor', null)
  } catch (error) {
    process.stderr.write(`cirque: log.process is ${config.log.process}, which cannot be opened: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(EXIT.usage)
  }
  const { log } = logs
  const { supervisor: options, limits, listeners } = config
  const supervisor = new Supervisor({
    application: path.resolve(application), args, options, log, settings: { log: config.log, limits, listeners },
    onReopenLogs: () => logs.reopen(),
    onRunning: status => {
      if (config.log.process === 'stderr' && config.log.format !== 'json' && process.stderr.isTTY === true) { process.stderr.write(firstScreen(status, config)); return }
      const addresses = status.listeners.map(listener => listener.bound)
      log.info('running', { application: status.application, workers: status.slots.length, listeners: addresses, control: status.controlSocket, ...(status.admin === '' ? {} : { admin: status.admin }) })
    },
  })
  onSignals(signal => supervisor.onSignal(signal))
  const code = await supervisor.run()
  await logs.close()
  // Whoever watches the terminal would otherwise see nothing but the prompt.
  if (code !== EXIT.ok && config.log.process !== 'stderr') process.stderr.write(`cirque: ended with code ${code}; the reason is in ${config.log.process}\n`)
  process.exit(code)
}

/** For a person at a terminal: where to look, how to change it, how to end it. */
export function firstScreen(status: SupervisorStatus, config: Pick<ServerConfig, 'log'>): string {
  const file = path.relative('', status.application)
  const command = ownCommand()
  const pids = (status.slots as readonly { readonly worker: { readonly pid: number } | null }[]).flatMap(({ worker }) => worker === null ? [] : [worker.pid])
  // `:port` is two listeners and one thing to look at.
  const open = [...new Map(status.listeners.map(({ bound, service }) => [browsable(bound), service]))]
  const { access } = config.log
  const requests = access === 'off' ? '' : access !== 'stdout' ? access : process.stdout.isTTY === true ? 'one JSON line each, below' : 'one JSON line each, on stdout'
  const rows: readonly (readonly [string, string])[] = [
    ...open.map(([address, service]) => ['open', open.length === 1 ? address : `${address}  ${service}`] as const),
    ...(status.admin === '' ? [] : [['health', `http://${status.admin}/readyz`] as const]),
    ['change', `edit ${file}, then \`${command} workers restart\` elsewhere`],
    ['look', `\`${command} status\``],
    ...(requests === '' ? [] : [['requests', requests] as const]),
    ['stop', 'Ctrl-C'],
  ]
  return [
    `Cirque ${status.version} runs ${file}: supervisor ${status.pid}, worker${pids.length === 1 ? '' : 's'} ${pids.join(' ')}`,
    '',
    ...rows.map(([name, text]) => `  ${name.padEnd(9)} ${text}`),
    '',
    '',
  ].join('\n')
}

/** What to type for the command line of this installation, from the folder that we are in. */
function ownCommand(): string {
  if (import.meta.filename.includes(`${path.sep}node_modules${path.sep}`)) return 'npx cirque'
  const found = ['../bin/cirque', '../../bin/cirque'].map(name => fileURLToPath(new URL(name, import.meta.url))).find(name => fs.existsSync(name))
  return found === undefined ? 'cirque' : path.relative('', found)
}

/** Something to point a browser at; all addresses of a machine include this one. */
function browsable(bound: string): string {
  if (bound.startsWith('unix:')) return bound
  return `http://${bound.replace(/^0\.0\.0\.0:/, 'localhost:').replace(/^\[::\]:/, 'localhost:')}`
}
