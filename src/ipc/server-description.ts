/**
 * What an application is made of, as plain JSON: printed by the describe worker, read by the supervisor, which binds
 * the listeners from it without ever running the application. The order of `listeners` is the order of descriptors.
 */

/** Raised when a field changes its meaning. */
export const DESCRIPTION_FORMAT = 1

export type DescribedAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly ipv6Only: boolean }
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number }
  /** Datagrams. No supervisor binds it yet (supervisor/listener-table.ts refuses it), and no text names it. */
  | { readonly kind: 'udp'; readonly host: string; readonly port: number; readonly ipv6Only: boolean }

export interface DescribedListener {
  /** Unique in the application. */
  readonly name: string
  readonly service: string
  readonly address: DescribedAddress
  /** The address in its one canonical spelling, see canonicalAddress. */
  readonly canonical: string
  readonly backlog: number
  /** Left out where it does not speak TLS, and by an older build. */
  readonly tls?: DescribedTls
}

/** What those who hold the sockets have to know of TLS. */
export interface DescribedTls {
  /** How long its session tickets are good for. */
  readonly ticketLifetimeMs: number
}

export interface DescribedService {
  readonly name: string
  readonly kind: 'listening' | 'background'
  readonly dependsOn: readonly string[]
  /** What the application of an HTTP proxy has, for whoever wants to see that it was understood; left out by other services and builds. */
  readonly hooks?: readonly string[]
  readonly otherMethods?: readonly string[]
  readonly modules?: readonly DescribedModule[]
}

export interface DescribedModule {
  readonly name: string
  readonly hooks: readonly string[]
  readonly otherMethods: readonly string[]
}

/** A request that a fresh worker must answer before it gets traffic. */
export interface SelfTest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Statuses that pass, both ends included. */
  readonly expect: { readonly statusMin: number; readonly statusMax: number }
  readonly timeoutMs: number
  /** It goes on to the peer that the application names; otherwise the worker answers in the peer's place. */
  readonly upstream: boolean
}

export interface ServerDescription {
  readonly format: number
  /** In start order. */
  readonly services: readonly DescribedService[]
  readonly listeners: readonly DescribedListener[]
  readonly selfTest: SelfTest
}

/** What the describe worker writes to its descriptor 3. */
export type DescribeOutcome = LoadedFiles & (
  | { readonly ok: true; readonly description: ServerDescription }
  | { readonly ok: false; readonly message: string; readonly stack: string }
)

interface LoadedFiles {
  /** Absolute paths of the application, of what it imports, and of what it did not find; left out unless asked for. */
  readonly files?: readonly string[]
}

/** `127.0.0.1:80`, `[::1]:80`, `unix:/path`, `udp:127.0.0.1:53`. Equal addresses have equal spellings. */
export function canonicalAddress(address: DescribedAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  const where = hostAndPort(address.host.toLowerCase(), address.port)
  return address.kind === 'udp' ? `udp:${where}` : where
}

export function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** @returns null when the value is not a description that this build can read; `problem` says why. */
export function readDescription(value: unknown): { readonly description: ServerDescription } | { readonly problem: string } {
  const given = value as Partial<ServerDescription> | null
  if (typeof given !== 'object' || given === null) return { problem: 'it is not an object' }
  if (given.format !== DESCRIPTION_FORMAT) {
    return { problem: `its format is ${String(given.format)}, this build reads ${DESCRIPTION_FORMAT}` }
  }
  if (!Array.isArray(given.services) || !Array.isArray(given.listeners)) return { problem: 'it lists no services or listeners' }
  return { description: given as ServerDescription }
}
