/** What all commands have in common: the options that say which supervisor and for whom, and how a command ends. */
import type { Command } from 'commander'

/** Ends the command with a code and, for people, a sentence. */
export class Failure extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = 'Failure'
    this.code = code
  }
}

export interface Shared { stateDir?: string; json?: boolean }

export function shared(command: Command): Command {
  return command
    .option('--state-dir <folder>', 'folder of the control sockets, when several supervisors run')
    .option('--json', 'for programs')
}

/** The answer: for programs as JSON, for people as text. */
export function say(options: Shared, value: unknown, text: () => string): void {
  process.stdout.write(options.json === true ? `${JSON.stringify(value)}\n` : `${text()}\n`)
}
