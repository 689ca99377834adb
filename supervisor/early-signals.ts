/**
 * The first import of a process that is, or may become, a supervisor: from its first line on a signal is kept for the
 * supervisor instead of ending the process; in an image that was executed in place, keep-signals.mjs has done so before.
 * Client verbs of the command line keep the usual meaning of Ctrl-C.
 */
import { SIGNALS, STOP_SIGNALS } from './signals.ts'
import type { HandledSignal } from './signals.ts'

const takeKeptSignals = Symbol.for('cirque.takeKeptSignals')

type Handler = (signal: HandledSignal) => void

let handler: Handler | null = null
const waiting: HandledSignal[] = []

const isCommandLine = /[\\/]cli\.[jt]s$|[\\/]cirque$/.test(process.argv[1] ?? '')
const becomesSupervisor = !isCommandLine || ['run', 'dev'].includes(process.argv.slice(2).find(argument => !argument.startsWith('-')) ?? '')
if (becomesSupervisor) {
  for (const signal of SIGNALS) process.on(signal, take)
  const preload = globalThis as { [takeKeptSignals]?: () => HandledSignal[] }
  waiting.push(...preload[takeKeptSignals]?.() ?? [])
  delete preload[takeKeptSignals]
  // A reader of our output that went away (EPIPE) must not end us.
  process.stdout.on('error', () => {})
  process.stderr.on('error', () => {})
}

function take(signal: HandledSignal): void { if (handler === null) waiting.push(signal); else handler(signal) }

/** Signals that came before a handler was set. */
export function signalsWaiting(): readonly HandledSignal[] { return waiting }

/**
 * For what runs without a turn of the event loop until an exec: a stop that came meanwhile would be lost with this
 * image, and the operator would wait in vain. It ends the process instead, as it does while the next
 * image starts. @returns undoes it.
 */
export function endByStopSignals(): () => void {
  // Also those of the image's trampoline, which may have a copy of this file of its own.
  const before = STOP_SIGNALS.map(signal => [signal, process.listeners(signal)] as const)
  for (const signal of STOP_SIGNALS) process.removeAllListeners(signal)
  return () => { for (const [signal, listeners] of before) for (const listener of listeners) process.on(signal, listener) }
}

/** From now on signals go to `run`; those that came before do at once. */
export function onSignals(run: Handler): void {
  handler = run
  for (const signal of waiting.splice(0)) run(signal)
}
