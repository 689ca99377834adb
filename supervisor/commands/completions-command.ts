/** `cirque completions`. */
import { Argument, type Command } from 'commander'
import { completedCommands } from './completed-commands.ts'
import { completionScript, SHELLS, type Shell } from './completion-scripts.ts'

export function addCompletionsCommand(program: Command): void {
  program.command('completions')
    .description('print a script that lets a shell complete commands: source <(cirque completions bash)')
    .addArgument(new Argument('<shell>', 'in fish: cirque completions fish | source').choices(SHELLS))
    .action((shell: Shell) => { process.stdout.write(completionScript(shell, completedCommands(program))) })
}
