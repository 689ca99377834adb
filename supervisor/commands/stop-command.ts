/** `cirque stop`. */
import type { Command } from 'commander'
import { ask } from './chosen-supervisor.ts'
import { say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'

export function addStopCommand(program: Command): void {
  shared(program.command('stop').description('finish what is in flight, then end'))
    .option('--force', 'kill what is left, now')
    .option('--no-wait', 'do not wait for the end')
    .action(async (options: Shared & { force?: boolean; wait: boolean }) => {
      const stop = { tag: 'stop', force: options.force === true, wait: options.wait } as const
      const result = await ask(options, stop, options.wait) as { cut?: number; operation?: string }
      const cut = result.cut === 0 ? '' : `, ${String(result.cut)} requests were cut`
      say(options, result, () => options.wait ? `stopped${cut}` : result.operation ?? '')
    })
}
