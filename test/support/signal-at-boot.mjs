/**
 * Preloaded by NODE_OPTIONS: a process whose second argument is SIGNALS_AT_BOOT_OF (`run`, or the file of a hand-over) gets
 * the signals of SIGNALS_AT_BOOT as soon as it keeps them, long before there is a supervisor in it.
 */
import path from 'node:path'

const signals = process.env.SIGNALS_AT_BOOT.split(',')
process.on('newListener', function told(event) {
  if (event !== signals[0] || path.basename(process.argv[2] ?? '') !== process.env.SIGNALS_AT_BOOT_OF) return
  process.off('newListener', told)
  // As Node.js does when one arrives; this is the only way to be sure of the moment.
  queueMicrotask(() => { for (const signal of signals) process.emit(signal, signal) })
})
