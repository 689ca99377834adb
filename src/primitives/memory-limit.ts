/**
 * How much memory there is for this process and its like: what their control group may have, or the machine. Infinity never:
 * a machine has an end.
 */
import os from 'node:os'

export function memoryLimit(): number {
  // 0, or more than there is: the group has no limit.
  const ofGroup = process.constrainedMemory()
  return ofGroup === 0 ? os.totalmem() : Math.min(ofGroup, os.totalmem())
}

/** What this process takes now; 0: the system does not say. */
export function residentBytes(): number {
  try { return process.memoryUsage.rss() } catch { return 0 }
}
