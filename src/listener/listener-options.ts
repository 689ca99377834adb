/**
 * What a listener may be told before it knows what is spoken on its connections: how many to accept, and from whom.
 * Holds for every protocol; what HTTP adds is in http-listener-options.ts.
 */
import { callback, count, defaultsOf, type OptionTable } from '../primitives/option-table.ts'

/** What a listener may be told whatever is spoken on its connections. */
export interface ListenerOptions {
  /** Length of the kernel's accept queue. @default 4096 */
  backlog?: number
  /**
   * Connections open at once on this listener and worker; past it the one that has waited for longest is reset, idle or with an
   * incomplete head, and where all are being served the new one. 0 turns it off. @default 20000
   */
  maxConnections?: number
  /**
   * Connections open at once from one client (IPv4 address, IPv6 /64); past it new ones are reset. Loopback is exempt, and so
   * are the service's `trustedHops`. 0 turns it off. @default 256
   */
  maxConnectionsPerClient?: number
  /**
   * Called with the client's address before anything is read ('' for Unix sockets); true lets the connection in, anything else
   * resets it, a promise and a throw too (the process log says so). Null lets all in. @default null
   */
  connectionFilter?: ((remoteIp: string) => boolean) | null
}
export type ResolvedListenerOptions = Readonly<Required<ListenerOptions>>

/** The kernel keeps the length in 16 bits on some systems. */
const MAX_BACKLOG = 65_535

export const LISTENER_OPTIONS = {
  backlog: count(4096, { max: MAX_BACKLOG }),
  maxConnections: count(20_000, { zero: 'turns it off' }),
  maxConnectionsPerClient: count(256, { zero: 'turns it off' }),
  connectionFilter: callback<((remoteIp: string) => boolean) | null>(null),
} satisfies OptionTable<ListenerOptions>

export const LISTENER_DEFAULTS: ResolvedListenerOptions = defaultsOf<ListenerOptions>(LISTENER_OPTIONS)
