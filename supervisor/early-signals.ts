/**
 * The first import of a process that is, or may become, a supervisor: from its first line on a signal is kept for the
 * supervisor instead of ending the process. Client verbs of the command line keep the usual meaning of Ctrl-C.
 */
import { SIGNALS } from './signals.ts'
import type { HandledSignal } from './signals.ts'

type Handler = (signal: HandledSignal) => void

let handler: Handler | null = null
const waiting: HandledSignal[] = []

const becomesSupervisor = !/[\\/]cli\.[jt]s$|[\\/]cirque$/.test(process.argv[1] ?? '') || process.argv.slice(2).find(argument => !argument.startsWith('-')) === 'run'
if (becomesSupervisor) {
  for (const signal of SIGNALS) process.on(signal, () => { if (handler === null) waiting.push(signal); else handler(signal) })
  // A reader of our output that went away (EPIPE) must not end us.
  process.stdout.on('error', () => {})
  process.stderr.on('error', () => {})
}

/** From now on signals go to `run`; those that came before do at once. */
export function onSignals(run: Handler): void {
  handler = run
  for (const signal of waiting.splice(0)) run(signal)
}
