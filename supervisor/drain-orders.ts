/**
 * How long a worker may take to drain: orders from the configured times. Pure.
 *
 * A retiring worker has every time of the configuration. Its own deadline, `endAfterMs`, leaves room for what is last to
 * end: requests in flight, or upgraded and idle connections whose closes are spread. A stop caps each time.
 */
import type { ResolvedDrainOptions } from '../src/config/supervisor-options.ts'
import { drainOrder, lastCloseMs } from '../src/ipc/drain-times.ts'
import type { DrainOrder } from '../src/ipc/messages.ts'

/** How much longer than its own deadline a draining worker may live before it is killed, in ms. */
export const DRAIN_GRACE_MS = 2_000
/** A polite close of an upgraded connection takes up to 9 s (src/proxy/tunnel.ts). */
const TUNNEL_CLOSE_MS = 9_000

/** A successor serves, so there is time. */
export function retireOrder(options: ResolvedDrainOptions): DrainOrder {
  const endAfterMs = lastCloseMs(options) + TUNNEL_CLOSE_MS + DRAIN_GRACE_MS
  return { ...drainOrder('retire', options), softDrainMs: options.softDrainMs, endAfterMs }
}

/** A retiring worker has had its time: everything that is left is closed politely, now. */
export function cutOrder(options: ResolvedDrainOptions): DrainOrder {
  const endAfterMs = TUNNEL_CLOSE_MS + DRAIN_GRACE_MS
  return { ...drainOrder('retire', options, 0), softDrainMs: options.softDrainMs, endAfterMs }
}

/** A worker met an error that nothing caught: it may be broken, so what it has gets seconds. WebSockets are told at once. */
export function crashOrder(options: ResolvedDrainOptions): DrainOrder {
  return stopOrder({ ...options, webSocketDrainMs: 0, softDrainMs: 0 }, options.crashDrainMs)
}

/** The server ends. @param capMs no part takes longer, nor the whole, in ms. */
export function stopOrder(options: ResolvedDrainOptions, capMs: number): DrainOrder {
  return { ...drainOrder('stop', options, capMs), softDrainMs: options.softDrainMs, endAfterMs: capMs }
}
