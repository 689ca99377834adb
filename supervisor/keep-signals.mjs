/**
 * Preloaded into an image that is to go on with the supervisor's life (reexec.ts): keeps signals until early-signals.ts
 * asks for them. Plain JavaScript without imports, because every signal before its last line ends the process: boot.ts,
 * with all that has to be read and stripped of types before its first line runs, comes four times as late.
 */
/** As in signals.ts. */
const SIGNALS = ['SIGTERM', 'SIGQUIT', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']

const kept = []
const keep = signal => { kept.push(signal) }
for (const signal of SIGNALS) process.on(signal, keep)

/** The caller listens for signals by then. @returns what came so far, oldest first. */
globalThis[Symbol.for('cirque.takeKeptSignals')] = () => {
  for (const signal of SIGNALS) process.off(signal, keep)
  return kept.splice(0)
}
