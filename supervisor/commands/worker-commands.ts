/** `cirque workers ls` and `workers restart`. */
import type { Command } from 'commander'
import type { SupervisorStatus } from '../operator-desk.ts'
import { ask } from './chosen-supervisor.ts'
import { say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { workerIds, workersText } from './status-text.ts'

interface ReplacedWorker { slot: number; from: string; to: string }

export function addWorkerCommands(program: Command): void {
  const workers = program.command('workers').description('look at workers and replace them')
  shared(workers.command('ls').description('list workers'))
    .option('-q, --quiet', 'only the ids of those that serve')
    .action(async (options: Shared & { quiet?: boolean }) => {
      const status = await ask(options, { tag: 'status' }) as SupervisorStatus
      say(options, status.slots, () => options.quiet === true ? workerIds(status).join('\n') : workersText(status))
    })
  shared(workers.command('restart').description('replace workers one slot at a time, without losing a request'))
    .argument('[worker]', 'id or slot number; all when left out')
    .option('--no-wait', 'do not wait for the outcome')
    .action(async (worker: string | undefined, options: Shared & { wait: boolean }) => {
      const restart = { tag: 'restart-workers', worker: worker ?? '', wait: options.wait } as const
      const result = await ask(options, restart) as { replaced?: ReplacedWorker[]; operation?: string }
      const replaced = result.replaced?.map(({ slot, from, to }) => `slot ${slot}: ${from} -> ${to}`)
      say(options, result, () => replaced?.join('\n') ?? result.operation ?? '')
    })
}
