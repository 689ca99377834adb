/**
 * `cirque stop`: says what it stops. It asks before when that was neither named nor started from here: a user who has one
 * supervisor only may have forgotten which one that is.
 */
import type { Command } from 'commander'
import { askSupervisor } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import type { SupervisorStatus } from '../operator-desk.ts'
import { chosenFolder, isFromHere, isNamed } from './chosen-supervisor.ts'
import { Failure, say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { briefText, openText } from './status-text.ts'
import { agrees, canAsk, stderrScreen } from './terminal.ts'

type StopFlags = Shared & { force?: boolean; wait: boolean; yes?: boolean }

/** How often what is still open is looked at, in ms. */
const LOOK_MS = 500

export function addStopCommand(program: Command): void {
  shared(program.command('stop').description('finish what is in flight, then end'))
    .option('--force', 'kill what is left, now')
    .option('-y, --yes', 'do not ask, wherever it was started')
    .option('--no-wait', 'do not wait for the end')
    .action(async (options: StopFlags) => {
      const folder = await chosenFolder(options)
      const status = await askSupervisor(folder, { tag: 'status' }) as SupervisorStatus
      const what = briefText(status)
      if (options.yes !== true && !isNamed(options) && !isFromHere(status)) await confirm(what, folder)
      const { application, pid, stateDir } = status
      const result = await stop(folder, options) as { cut?: number; operation?: string }
      const cut = result.cut === 0 ? '' : `; ${String(result.cut)} requests were cut`
      const text = options.wait ? `stopped ${what}${cut}` : `stopping ${what}`
      say(options, { ...result, application, pid, stateDir }, () => text)
    })
}

/** @throws Failure unless the operator agrees, also where nobody can be asked. */
async function confirm(what: string, folder: string): Promise<void> {
  const elsewhere = `the only supervisor of this user was not started from here: ${what}`
  const how = `cirque stop --state-dir ${folder}, or cirque stop --yes`
  if (!canAsk()) throw new Failure(EXIT.usage, `${elsewhere}; to stop it use ${how}`)
  if (!await agrees(`${elsewhere}\nstop it?`)) throw new Failure(EXIT.failed, `it was not stopped; ${how} stops it`)
}

/** On a terminal what is waited for is shown meanwhile. */
async function stop(folder: string, { force, wait, json }: StopFlags): Promise<unknown> {
  const screen = stderrScreen()
  const shown = wait && json !== true && screen.rewritable
  const onAnswer = (status: unknown): void => screen.rewrite(`stopping: ${openText(status as SupervisorStatus)}`)
  try {
    return await askSupervisor(folder, { tag: 'stop', force: force === true, wait }, {
      untilClosed: wait,
      watch: shown ? { message: { tag: 'status' }, everyMs: LOOK_MS, onAnswer } : null,
    })
  } finally {
    if (shown) screen.rewrite('')
  }
}
