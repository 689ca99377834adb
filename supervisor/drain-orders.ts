/**
 * How long a worker may take to drain: orders from the configured times. Pure.
 *
 * A retiring worker has every time of the configuration. Its own deadline, `endAfterMs`, leaves room for what is last to
 * end: requests in flight, or upgraded and idle connections whose closes are spread. A stop caps each time.
 */
import type { ResolvedDrainOptions } from '../src/config/supervisor-options.ts'
import type { DrainOrder } from '../src/ipc/messages.ts'

/** How much longer than its own deadline a draining worker may live before it is killed, in ms. */
export const DRAIN_GRACE_MS = 2_000
/** A polite close of an upgraded connection takes up to 9 s (src/proxy/tunnel.ts). */
const TUNNEL_CLOSE_MS = 9_000

/** A successor serves, so there is time. */
export function retireOrder(options: ResolvedDrainOptions): DrainOrder {
  const { hardDrainMs, idleDrainMs, closeSpreadMs, webSocketDrainMs, tunnelDrainMs, softDrainMs } = options
  const lastCloseMs = Math.max(webSocketDrainMs, tunnelDrainMs, idleDrainMs) + closeSpreadMs
  const endAfterMs = Math.max(hardDrainMs, lastCloseMs) + TUNNEL_CLOSE_MS + DRAIN_GRACE_MS
  return { mode: 'retire', hardDrainMs, idleDrainMs, closeSpreadMs, webSocketDrainMs, tunnelDrainMs, softDrainMs, endAfterMs }
}

/** A retiring worker has had its time: everything that is left is closed politely, now. */
export function cutOrder(options: ResolvedDrainOptions): DrainOrder {
  return {
    ...retireOrder(options),
    hardDrainMs: 0, idleDrainMs: 0, closeSpreadMs: 0, webSocketDrainMs: 0, tunnelDrainMs: 0,
    endAfterMs: TUNNEL_CLOSE_MS + DRAIN_GRACE_MS,
  }
}

/** The server ends. @param capMs no part takes longer, nor the whole, in ms. */
export function stopOrder(options: ResolvedDrainOptions, capMs: number): DrainOrder {
  const cap = (ms: number): number => Math.min(ms, capMs)
  return {
    mode: 'stop',
    hardDrainMs: cap(options.hardDrainMs),
    idleDrainMs: cap(options.idleDrainMs),
    closeSpreadMs: cap(options.closeSpreadMs),
    webSocketDrainMs: cap(options.webSocketDrainMs),
    tunnelDrainMs: cap(options.tunnelDrainMs),
    softDrainMs: options.softDrainMs,
    endAfterMs: capMs,
  }
}
