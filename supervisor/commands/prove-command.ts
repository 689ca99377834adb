/** `cirque prove`. */
import { Argument, type Command } from 'commander'
import { PROVE_DEFAULTS, proveOptionsFromFlags, type ProveFlags } from '../../src/config/prove-options.ts'
import { EXIT } from '../exit-codes.ts'
import { columnsText, listenerUrl, prove, PROVE_ACTIONS, proveText, type ProveAction } from '../prove.ts'
import { chosenFolder } from './chosen-supervisor.ts'
import { Failure, say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'

export function addProveCommand(program: Command): void {
  shared(program.command('prove').description('count, with clients that never retry, what an action loses'))
    .addArgument(new Argument('<action>', 'upgrade: replace workers and supervisor; reload: workers and configuration; '
      + 'crash: kill -9 a worker; watch: only look').choices(PROVE_ACTIONS))
    .option('--url <url>', 'where the proxy listens (default: its first TCP listener)')
    .option('--tls', 'its first listener that speaks TLS instead')
    .option('--path <path>', 'what fresh and keep-alive connections ask for (default: /)')
    .option('--ws <path>', 'a WebSocket that sends everything back')
    .option('--download <path>', 'a long answer that is always the same')
    .option('--upload <path>', 'takes a long POST')
    .option('--http2', 'clients of HTTP/2 as well')
    .option('--messages <path>', 'over HTTP/2 sends back each message of a stream, and ends it with grpc-status: 0')
    .option('--for <duration>', 'how long to watch after the action, and at most 2s before (default: 3s)')
    .option('--rate <n>', 'requests a second of each kind of client (default: 100)')
    .option('--connections <n>', 'keep-alive connections (default: 20)')
    .addHelpText('after', `\nColumns of the table:\n${columnsText(PROVE_DEFAULTS.delayMs, null).map(line => `  ${line}`).join('\n')}`)
    .action(async (action: ProveAction, options: Shared & ProveFlags & { tls?: boolean }) => {
      const folder = action === 'watch' && options.url !== undefined ? '' : await chosenFolder(options)
      const overTls = options.tls === true
      if (overTls && options.url !== undefined) throw new Failure(EXIT.usage, '--tls looks for a listener; with --url say https:// there')
      const url = options.url ?? await listenerUrl(folder, overTls)
      const missing = overTls ? 'TCP listener that speaks TLS' : 'TCP listener'
      if (url === '') throw new Failure(EXIT.usage, `there is no ${missing}; say where to look with --url`)
      const outcome = await prove(action, folder, proveOptionsFromFlags(url, options))
      say(options, outcome, () => proveText(outcome))
      if (outcome.verdict !== '') throw new Failure(EXIT.failed, outcome.verdict)
    })
}
