/**
 * What one listener may be told: limits of the client's side, times, and whom to let in. docs/configuration.md has the
 * same options for a configuration file, in a table made from the comments here.
 */
import { HTTP1_SERVER_DEFAULTS, type Http1ServerOptions, type ResolvedHttp1ServerOptions } from '../protocols/http1/http1-options.ts'

export interface ListenerOptions extends Http1ServerOptions {
  /** Length of the kernel's accept queue. @default 4096 */
  backlog?: number
  /** Connections open at once on this listener and worker; past it the oldest idle one is closed, and with none idle the new one is reset. 0 turns it off. @default 20000 */
  maxConnections?: number
  /** Connections open at once from one client (IPv4 address, IPv6 /64); past it new ones are reset. Loopback is exempt. 0 turns it off. @default 256 */
  maxConnectionsPerClient?: number
  /** Called with the client's address before anything is read ('' for Unix sockets); false resets the connection. @default null: everybody */
  connectionFilter?: ((remoteIp: string) => boolean) | null
}
export type ResolvedListenerOptions = Readonly<Required<ListenerOptions>> & ResolvedHttp1ServerOptions

export const LISTENER_DEFAULTS: ResolvedListenerOptions = {
  ...HTTP1_SERVER_DEFAULTS,
  backlog: 4096,
  maxConnections: 20_000,
  maxConnectionsPerClient: 256,
  connectionFilter: null,
}

/** Options for which 0 means off. */
const ZERO_IS_OFF = new Set(['maxRequestBodyBytes', 'maxRequestsPerConnection', 'maxConnectionAgeMs', 'minBodyBytesPerSecond', 'minSendBytesPerSecond', 'totalTimeoutMs', 'maxConnections', 'maxConnectionsPerClient', 'maxTrailerCount'])

/** Complete and checked. @throws TypeError with every option that would not do. */
export function resolveListenerOptions(options: ListenerOptions = {}, base: ResolvedListenerOptions = LISTENER_DEFAULTS): ResolvedListenerOptions {
  const mistakes: string[] = []
  const resolved: Record<string, unknown> = { ...base }
  for (const [name, value] of Object.entries(options) as [string, unknown][]) {
    if (value === undefined) continue
    if (!Object.hasOwn(LISTENER_DEFAULTS, name)) {
      mistakes.push(`listener.${name} is not an option`)
      continue
    }
    const wanted = LISTENER_DEFAULTS[name as keyof ListenerOptions]
    if (typeof wanted === 'number') {
      const off = ZERO_IS_OFF.has(name)
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < (off ? 0 : 1)) {
        mistakes.push(`listener.${name} is ${String(value)}; use ${off ? '0 (off) or ' : ''}a positive whole number${name.endsWith('Ms') ? ' of milliseconds' : ''}`)
        continue
      }
    } else if (typeof wanted === 'boolean') {
      if (typeof value !== 'boolean') {
        mistakes.push(`listener.${name} is ${String(value)}; use true or false`)
        continue
      }
    } else if (value !== null && typeof value !== 'function') {
      mistakes.push(`listener.${name} is ${typeof value}; use a function of the client's address, or null`)
      continue
    }
    resolved[name] = value
  }
  if (mistakes.length > 0) throw new TypeError(mistakes.join('\n'))
  return Object.freeze(resolved) as unknown as ResolvedListenerOptions
}
