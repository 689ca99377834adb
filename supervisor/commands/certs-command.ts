/** `cirque certs`: which certificates are served, how long they are good for, and what became of their files. */
import type { Command } from 'commander'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { CertificatesOfAll } from '../../src/certificates/served-certificates.ts'
import { asciiJson } from '../../src/primitives/ascii-json.ts'
import { EXIT } from '../exit-codes.ts'
import { certificatesText } from './certificates-text.ts'
import { ask } from './chosen-supervisor.ts'
import { Failure, shared, type Shared } from './shared-options.ts'

export function addCertsCommand(program: Command): void {
  const certs = program.command('certs').description('certificates that are served: names, issuer, end, file, last swap')
  shared(certs).action(async (options: Shared) => { await show(options, false) })
  shared(certs.command('reload').description('look at the files of certificates now, and serve what has changed in them'))
    .action(async (_: Shared, command: Command) => {
      const result = await show(command.optsWithGlobals(), true)
      const refused = result.certificates.filter(({ outcome }) => outcome === 'refused').length
      if (refused > 0) throw new Failure(EXIT.failed, `${refused === 1 ? 'a certificate was' : `${refused} certificates were`} refused`)
      const silent = result.silent.map(({ worker }) => worker)
      if (silent.length > 0) throw new Failure(EXIT.failed, `worker ${silent.join(', ')} has not answered`)
    })
}

async function show(options: Shared, reload: boolean): Promise<CertificatesOfAll> {
  const result = await ask(options, { tag: 'certificates', reload }).catch(tellOldBuild) as CertificatesOfAll
  process.stdout.write(`${options.json === true ? asciiJson(result) : certificatesText(result, Date.now())}\n`)
  return result
}

function tellOldBuild(error: unknown): never {
  if (!(error instanceof ChannelError) || error.code !== 'unknown') throw error
  throw new Failure(EXIT.failed, 'the supervisor that runs knows nothing of certificates; `cirque upgrade --supervisor` replaces it')
}
