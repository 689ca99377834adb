/** What the connector of transports may be told: where names come from, and what connections are dialled from. */
import { isIP } from 'node:net'
import { callback, defaultsOf, list, object, type OptionTable } from '../primitives/option-table.ts'
import type { Ticker } from '../primitives/clock.ts'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'
import type { DialRequest } from '../protocols/tcp/tcp-stream.ts'
import type { NameSource } from './name-watch.ts'

/** Starts a TCP or Unix connect; `onConnected` or `onClosed` follows. */
export type Dial = (options: DialRequest, owner: StreamOwner & { onConnected(): void }) => ByteStream

/** From where to dial, and who resolves names. */
export interface TransportConnectorOptions {
  /** @internal Deadlines of its dials. @default null, one of its own */
  ticker?: Ticker | null
  /** Addresses of names. @default null, a Resolver of the machine's settings */
  resolver?: NameSource | null
  /** IPv4 addresses to connect from, one chosen at random for each connection; a peer's `localAddress` wins. @default [] */
  bindToV4?: readonly string[]
  /** The same for IPv6. @default [] */
  bindToV6?: readonly string[]
  /** Connects sockets. @default null, those of the machine */
  dial?: Dial | null
  /** From 0 to 1, for the choice among bind addresses, and for the address of a name that is dialled first. @default Math.random */
  random?: () => number
}
export type ResolvedTransportConnectorOptions = Readonly<Required<TransportConnectorOptions>>

export const TRANSPORT_CONNECTOR_OPTIONS = {
  ticker: object<Ticker>('a Ticker'),
  resolver: object<NameSource>('a Resolver'),
  bindToV4: list([], 'IPv4 addresses', address => isIP(address) === 4),
  bindToV6: list([], 'IPv6 addresses', address => isIP(address) === 6),
  dial: callback<Dial | null>(null),
  random: callback<() => number>(Math.random),
} satisfies OptionTable<TransportConnectorOptions>

export const TRANSPORT_CONNECTOR_DEFAULTS: ResolvedTransportConnectorOptions =
  defaultsOf<TransportConnectorOptions>(TRANSPORT_CONNECTOR_OPTIONS)
