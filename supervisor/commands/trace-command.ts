/** `cirque trace`: the next requests of a kind, each with the times of its phases, without any tracing backend. */
import type { Command } from 'commander'
import type { TraceRecord } from '../../src/ipc/looking.ts'
import { asciiJson } from '../../src/primitives/ascii-json.ts'
import { EXIT } from '../exit-codes.ts'
import { chosenFolder } from './chosen-supervisor.ts'
import { look } from './look.ts'
import { countOf, durationOf, lookOptions, matchOf, type LookFlags } from './look-options.ts'
import { Failure } from './shared-options.ts'
import { waterfall } from './waterfall.ts'

export function addTraceCommand(program: Command): void {
  lookOptions(program.command('trace').description('the phases of the next requests, drawn: hooks, attempts, what took how long'))
    .option('--next <n>', 'so many requests', '1')
    .action(async (options: LookFlags & { readonly next: string }) => {
      const match = matchOf(options), forMs = durationOf(options.for), count = countOf('--next', options.next)
      const { stdout, stderr } = process, json = options.json === true, folder = await chosenFolder(options)
      let seen = 0
      if (!json) stderr.write(`waiting for ${count === 1 ? 'a request' : `${count} requests`}; Ctrl-C ends it\n`)
      const end = await look(folder, { kind: 'trace', match, count }, forMs, {
        onEntry(entry) {
          const isFurther = seen++ > 0
          stdout.write(`${isFurther && !json ? '\n' : ''}${textOfTrace(entry, json)}\n`)
        },
        onDropped(dropped) {
          if (json) stdout.write(`${JSON.stringify({ dropped })}\n`)
          else stderr.write(`-- ${dropped} requests could not be recorded: there were too many at a time\n`)
        },
        onNote(text) { stderr.write(`-- ${text}\n`) },
      })
      if (end === 'time') throw new Failure(EXIT.failed, `${seen} of ${count} requests came within ${options.for!}`)
    })
}

/** @param entry as a worker made it, perhaps of another build */
function textOfTrace(entry: string, json: boolean): string {
  const record = JSON.parse(entry) as TraceRecord
  return json ? asciiJson(record) : waterfall(record)
}
