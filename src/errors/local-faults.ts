/**
 * What the system says when this machine or process is at its end, and not whoever it was to reach: descriptors, ephemeral
 * ports, memory, the table of a firewall. Such a fault says nothing about an origin, and another try may go well.
 */

const EXHAUSTED: ReadonlySet<string> = new Set([
  'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM',
  // Nothing that Node.js connects needs a right, so it is a firewall: one that forbids, or whose table is full.
  'EPERM',
  // No ephemeral port is left, in connecting (the first) or where a local address is given (the second).
  'EADDRNOTAVAIL', 'EADDRINUSE',
])

/** Whether this error of the system says that this machine or process has nothing left to connect or to read with. */
export function isExhausted(error: unknown): boolean { return EXHAUSTED.has(codeOf(error)) }

/** Whether it is for want of descriptors: closing some that are idle helps. */
export function isOutOfDescriptors(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'EMFILE' || code === 'ENFILE'
}

/** The system's name of the error; '' when it is none of the system's. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : ''
}
