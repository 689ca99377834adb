/**
 * Sockets that a service manager gave to this process (sd_listen_fds(3)) and that the next image of it shall get: Node.js
 * marks what it is born with close-on-exec, so they would end with us.
 */
import { loadSystemCalls } from './system-calls.ts'

const FIRST = 3
/** More than any service manager gives; a larger number is a mistake. */
const MAX = 16_384

/** Right before an exec. Does nothing when there are none, or when they cannot be passed on. */
export async function passInheritedSockets(env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const count = Number(env['LISTEN_FDS'] ?? 0)
  if (env['LISTEN_PID'] !== String(process.pid) || !Number.isInteger(count) || count < 1 || count > MAX) return
  const systemCalls = await loadSystemCalls()
  if (!systemCalls.available) return
  for (let fd = FIRST; fd < FIRST + count; fd++) {
    try { systemCalls.calls.setInheritable(fd, true) } catch { /* It is not open; the next image says so. */ }
  }
}
