/** `cirque explain`: what would happen to a request, without sending one. */
import { isIP } from 'node:net'
import type { Command } from 'commander'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ExplainedByWorker } from '../../src/ipc/explanation.ts'
import { asciiJson } from '../../src/primitives/ascii-json.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import { EXIT } from '../exit-codes.ts'
import { ask } from './chosen-supervisor.ts'
import { explanationText } from './explanation-text.ts'
import { collect, fieldOf } from './look-options.ts'
import { Failure, shared, type Shared } from './shared-options.ts'

interface ExplainFlags extends Shared {
  readonly header?: readonly string[]
  readonly from?: string
  readonly listener?: string
  readonly worker?: string
}

const DEFAULT_CLIENT = '127.0.0.1'

export function addExplainCommand(program: Command): void {
  shared(program.command('explain').description('what would happen to a request: its listener, hooks, peer, fields; nothing is sent'))
    .argument('<request...>', "a URL, or a path for the first listener; a method before it: 'POST http://example.com/api'")
    .option('-H, --header <field>', "a field of the request: 'x-tenant: acme'", collect)
    .option('--from <ip>', 'address of the client (default: 127.0.0.1)')
    .option('--listener <name>', 'the listener that it comes in by (default: the one that the URL leads to)')
    .option('--worker <worker>', 'id of the worker that is asked (default: one that accepts)')
    .action(async (words: readonly string[], options: ExplainFlags) => {
      const [method, url] = requestOf(words), { from = DEFAULT_CLIENT, listener = '', worker = '' } = options
      if (isIP(from) === 0) throw OptionError.of('--from', from, 'use an IP address such as 10.0.0.9')
      const headers = (options.header ?? []).map(text => {
        const field = fieldOf(text)
        if (field === null) throw OptionError.of('--header', text, "use a name and a value: 'x-tenant: acme'")
        return field
      })
      const question = { tag: 'explain', url, method, headers, from, listener, worker } as const
      const explained = await ask(options, question).catch(tellOldBuild) as ExplainedByWorker
      process.stdout.write(`${options.json === true ? asciiJson(explained) : explanationText(explained)}\n`)
      const { outcome } = explained.explanation
      if (outcome !== 'forwarded' && outcome !== 'answered') throw new Failure(EXIT.failed, `the request would come to nothing: ${outcome}`)
    })
}

function requestOf(words: readonly string[]): [method: string, url: string] {
  const [first = '', second, ...rest] = words
  if (rest.length > 0) throw OptionError.of('explain', words.join(' '), 'use a URL, or a method and a URL')
  return second === undefined ? ['GET', first] : [first, second]
}

function tellOldBuild(error: unknown): never {
  if (!(error instanceof ChannelError) || error.code !== 'unknown') throw error
  throw new Failure(EXIT.failed, 'the supervisor that runs is of a build that cannot explain; `cirque upgrade --supervisor` replaces it')
}
