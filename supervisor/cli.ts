/**
 * The command line. `run` and `dev` turn this very process into the supervisor; every other verb asks a running one over its
 * control socket, waits for the outcome and says it by exit code: 0 done, 1 refused or failed, 2 wrong usage or
 * configuration, 3 not running (or already, for `run`), 4 superseded. What people read is never meant for programs: those use --json.
 * The verbs are in commands/.
 */
import '../src/runtime-check.ts'
import './early-signals.ts'
import { Command, CommanderError } from 'commander'
import { ChannelError } from '../src/ipc/channel.ts'
import { addChangeCommands } from './commands/change-commands.ts'
import { addCertsCommand } from './commands/certs-command.ts'
import { addCompletionsCommand } from './commands/completions-command.ts'
import { addExplainCommand } from './commands/explain-command.ts'
import { addInitCommand } from './commands/init-command.ts'
import { addLogLevelCommand } from './commands/log-level-command.ts'
import { addProveCommand } from './commands/prove-command.ts'
import { addRunCommands } from './commands/run-commands.ts'
import { Failure } from './commands/shared-options.ts'
import { addStatusCommand } from './commands/status-command.ts'
import { addStopCommand } from './commands/stop-command.ts'
import { addTailCommand } from './commands/tail-command.ts'
import { addTopCommand } from './commands/top-command.ts'
import { addTraceCommand } from './commands/trace-command.ts'
import { addValidateCommand } from './commands/validate-command.ts'
import { addWorkerCommands } from './commands/worker-commands.ts'
import { errorText } from '../src/errors/code-frame.ts'
import { NotRunning } from './control-client.ts'
import { DescribeFailed } from './describe-application.ts'
import { EXIT } from './exit-codes.ts'
import { packageVersion } from './package-version.ts'
import { isMistake } from './run.ts'

export function createCommandLine(): Command {
  const program = new Command('cirque')
    .description('A programmable edge proxy: runs an application under a supervisor and talks to running ones.')
    .version(packageVersion(), '--version')
    .exitOverride()
    .configureHelp({ sortSubcommands: false })
  program.configureOutput({ outputError: (text, write) => { write(withPlaceOfOptions(text, program)) } })

  addInitCommand(program)
  addRunCommands(program)
  addStatusCommand(program)
  addTopCommand(program)
  addTailCommand(program)
  addTraceCommand(program)
  addExplainCommand(program)
  addStopCommand(program)
  addChangeCommands(program)
  addValidateCommand(program)
  addWorkerCommands(program)
  addCertsCommand(program)
  addLogLevelCommand(program)
  addProveCommand(program)
  addCompletionsCommand(program)
  return program
}

/**
 * Options belong to commands and stand behind them; one that a command has, and that stands before all of them, is told
 * where it goes. @param text what commander says, with its line end
 */
function withPlaceOfOptions(text: string, { args, commands }: Command): string {
  const option = /^error: unknown option '(--?[\w-]+)/.exec(text)?.[1]
  const owners = commands.filter(({ options }) => options.some(({ short, long }) => option === short || option === long))
  if (option === undefined || args[0]?.startsWith('-') !== true || owners.length === 0) return text
  const at = args.findIndex(arg => commands.some(command => command.name() === arg))
  const [before, behind] = at === -1 ? [args, [owners[0]!.name()]] : [args.slice(0, at), args.slice(at)]
  return `${text.trimEnd()} before the command; use cirque ${[...behind, ...before].join(' ')}\n`
}

/** @returns the exit code; `run` does not return. */
export async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json')
  try {
    await createCommandLine().parseAsync(argv, { from: 'user' })
    return EXIT.ok
  } catch (error) {
    // Help and version are no failures; commander has printed its own message.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const { code, message } = outcomeOf(error)
    process.stderr.write(json ? `${JSON.stringify({ ok: false, exitCode: code, error: message })}\n` : `cirque: ${message}\n`)
    return code
  }
}

/** Which exit code and sentence an error becomes. */
export function outcomeOf(error: unknown): { code: number; message: string } {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof Failure) return { code: error.code, message }
  if (isMistake(error)) return { code: EXIT.usage, message }
  if (error instanceof NotRunning) return { code: EXIT.running, message }
  if (error instanceof ChannelError) return { code: error.code === 'superseded' ? EXIT.superseded : EXIT.failed, message }
  if (error instanceof DescribeFailed) return { code: EXIT.failed, message: errorText(message, error.applicationStack) }
  return { code: EXIT.failed, message: error instanceof Error ? error.stack ?? message : message }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
