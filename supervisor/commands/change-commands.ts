/** `cirque upgrade`, `reload` and `rollback`: one operation of the supervisor each, which is watched until it has ended. */
import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { parseDuration } from '../../src/config/units.ts'
import type { FromOperator, OperationOutcome, OperationStarted } from '../../src/ipc/messages.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import { errorText } from '../../src/errors/code-frame.ts'
import { askSupervisor, awaitOutcome } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import { chosenFolder } from './chosen-supervisor.ts'
import { outcomeText } from './outcome-text.ts'
import { ProgressView, type SeenStatus } from './progress-view.ts'
import { Failure, say, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { stderrScreen } from './terminal.ts'

type ChangeFlags = Shared & { wait: boolean; soak?: string; progress?: boolean }

type BeginOperation = Extract<FromOperator, { tag: 'upgrade' | 'reload' | 'rollback' }>

/** How often a step is looked at, in ms. */
const LOOK_MS = 200

const SOAK = ['--soak <duration>', 'how long the first new worker serves alone (default: upgrade.soak, which is 10s)'] as const

export function addChangeCommands(program: Command): void {
  watched(program.command('upgrade')
    .description('replace everything by another release, or by what is in the running one\'s folder now; undone when it does not work'))
    .argument('[folder]', 'the release: a folder like the one that runs')
    .option('--supervisor', 'replace the supervisor in place even when its code is the same')
    .option(...SOAK)
    .action(async (folder: string | undefined, options: ChangeFlags & { supervisor?: boolean }) => {
      await operate(options, {
        tag: 'upgrade',
        folder: folder === undefined ? '' : existingFolder(folder),
        supervisor: options.supervisor === true ? 'always' : 'if-changed',
        ...soakFrom(options),
      })
    })
  watched(program.command('reload')
    .description('read configuration and application again; nothing changes when something is wrong with them'))
    .option(...SOAK)
    .action(async (options: ChangeFlags) => { await operate(options, { tag: 'reload', ...soakFrom(options) }) })
  watched(program.command('rollback').description('upgrade to the release before the last upgrade, at once'))
    .action(async (options: ChangeFlags) => { await operate(options, { tag: 'rollback' }) })
}

function watched(command: Command): Command {
  return shared(command)
    .option('--no-wait', 'print the id of the operation and do not wait for the outcome')
    .option('--progress', 'show the steps on stderr, also when it is no terminal')
    .option('--no-progress', 'show nothing but the outcome')
}

/** Begins an operation and says how it ended, across the replacement of the supervisor that works on it. */
async function operate(options: ChangeFlags, message: BeginOperation): Promise<void> {
  const folder = await chosenFolder(options)
  const { id } = await askSupervisor(folder, message) as OperationStarted
  if (!options.wait) { say(options, { id }, () => id); return }
  const shown = options.progress ?? (process.stderr.isTTY && options.json !== true)
  const outcome = await (shown ? watchOutcome(folder, id) : awaitOutcome(folder, id))
  if (outcome.result === 'committed') { say(options, outcome, () => outcomeText(outcome)); return }
  if (options.json === true) say(options, outcome, () => '')
  const failed = outcome.configuration ? EXIT.usage : EXIT.failed
  const text = errorText(outcomeText(outcome), outcome.applicationStack ?? '')
  throw new Failure(outcome.result === 'superseded' ? EXIT.superseded : failed, text)
}

/** Waits for the end and shows the steps. The operation is the supervisor's: Ctrl-C ends the wait, not the operation. */
async function watchOutcome(folder: string, id: string): Promise<OperationOutcome> {
  const view = new ProgressView(id, stderrScreen())
  const leave = (): void => {
    view.interrupt()
    process.stderr.write(`cirque: ${id} goes on without this command; cirque status says where it is\n`)
    // Ends by the signal, now that nothing takes it any more: the shell then knows that it was interrupted.
    process.kill(process.pid, 'SIGINT')
  }
  process.once('SIGINT', leave)
  const outcome = await awaitOutcome(folder, id, {
    message: { tag: 'status' }, everyMs: LOOK_MS, onAnswer: status => view.see(status as SeenStatus),
  }).finally(() => { process.off('SIGINT', leave); view.interrupt() })
  view.end(outcome)
  return outcome
}

function soakFrom({ soak }: ChangeFlags): { soakMs?: number } {
  if (soak === undefined) return {}
  const soakMs = parseDuration(soak)
  if (soakMs === null) throw OptionError.of('--soak', soak, 'use a duration such as 5s or 500ms')
  return { soakMs }
}

function existingFolder(folder: string): string {
  const full = path.resolve(folder)
  if (!fs.statSync(full, { throwIfNoEntry: false })?.isDirectory()) throw new Failure(EXIT.usage, `there is no folder ${full}`)
  return full
}
