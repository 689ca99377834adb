/** Which running supervisor a command is for: the one that was named, else the only one of this user. */
import { askSupervisor } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import { runningFolders } from '../state-folder.ts'
import { Failure } from './shared-options.ts'
import type { Shared } from './shared-options.ts'

/** Asks it. @param untilClosed also wait until it has closed the connection, which is its last act. */
export async function ask(options: Shared, message: Parameters<typeof askSupervisor>[1], untilClosed = false): Promise<unknown> {
  return askSupervisor(await chosenFolder(options), message, untilClosed)
}

/** Its state folder. @throws Failure when there is none, or several */
export async function chosenFolder(options: Shared): Promise<string> {
  const stateDir = options.stateDir ?? process.env['CIRQUE_SUPERVISOR_STATE_DIR'] ?? ''
  const folders = await runningFolders(stateDir)
  if (folders.length === 1) return folders[0]!
  if (folders.length === 0) {
    const nothing = 'no supervisor of this user is running; `cirque run APP` starts one'
    throw new Failure(EXIT.running, stateDir === '' ? nothing : `no supervisor is running in ${stateDir}`)
  }
  const names = folders.map(folder => `  ${folder}`).join('\n')
  throw new Failure(EXIT.usage, `several supervisors are running; say which with --state-dir:\n${names}`)
}
