/**
 * Preloaded by NODE_OPTIONS: a new image of the supervisor gets the signals of SIGNALS_AT_BOOT as soon as it keeps them,
 * long before there is a supervisor in it.
 */
const signals = process.env.SIGNALS_AT_BOOT.split(',')
process.on('newListener', function told(event) {
  if (event !== signals[0] || !process.argv[2]?.endsWith('/handover.json')) return
  process.off('newListener', told)
  setImmediate(() => { for (const signal of signals) process.kill(process.pid, signal) })
})
