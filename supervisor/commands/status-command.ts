/** `cirque status`, once or again and again. */
import type { Command } from 'commander'
import { askSupervisor } from '../control-client.ts'
import type { SupervisorStatus } from '../operator-desk.ts'
import { ask, chosenFolder } from './chosen-supervisor.ts'
import { say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { statusText } from './status-text.ts'
import { intervalOf, watch } from './watch.ts'

/** A supervisor that has not answered by then is shown as one that does not, in ms. */
const ANSWER_MAX_MS = 2_000

export function addStatusCommand(program: Command): void {
  shared(program.command('status').description('what runs: workers, listeners, what is open'))
    .option('-w, --watch [interval]', 'show it again and again, until Ctrl-C (default: each 2s)')
    .action(async (options: Shared & { watch?: true | string }) => {
      if (options.watch === undefined) {
        const status = await ask(options, { tag: 'status' }) as SupervisorStatus
        say(options, status, () => statusText(status))
        return
      }
      const everyMs = intervalOf('--watch', options.watch === true ? '2s' : options.watch)
      const folder = await chosenFolder(options)
      await watch(everyMs, async () => {
        const status = await askSupervisor(folder, { tag: 'status' }, { timeoutMs: ANSWER_MAX_MS }) as SupervisorStatus
        return options.json === true ? JSON.stringify(status) : statusText(status)
      }, options.json === true)
    })
}
