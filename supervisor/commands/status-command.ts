/** `cirque status`. */
import type { Command } from 'commander'
import type { SupervisorStatus } from '../operator-desk.ts'
import { ask } from './chosen-supervisor.ts'
import { say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { statusText } from './status-text.ts'

export function addStatusCommand(program: Command): void {
  shared(program.command('status').description('what runs: workers, listeners, what is open'))
    .action(async (options: Shared) => {
      const status = await ask(options, { tag: 'status' }) as SupervisorStatus
      say(options, status, () => statusText(status))
    })
}
