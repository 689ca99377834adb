/** What an HTTP connector may be told: the limits of its pool, and the parts that may be put in place of its own. */
import type { Peer } from '../peer/peer.ts'
import { POOL_OPTIONS, type PoolOptions } from '../pool/pool-options.ts'
import type { Ticker } from '../primitives/clock.ts'
import { callback, defaultsOf, object, type OptionTable } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { UpstreamSession } from '../protocols/http-session.ts'
import type { DialWaiter, PendingDial } from './transport-connector.ts'

export type SessionFactory = (stream: ByteStream, peer: Peer, ticker: Ticker) => UpstreamSession

/** What opens connections: TransportConnector, or a test's own. */
export interface Transport {
  dial(peer: Peer, waiter: DialWaiter): PendingDial
}

export interface HttpConnectorOptions extends PoolOptions {
  /** Deadlines of everything below. @default null, one of its own */
  ticker?: Ticker | null
  /** Opens connections. @default null, a TransportConnector with the machine's resolver */
  transport?: Transport | null
  /** Makes a session of a new connection. @default null, HTTP/1 */
  createSession?: SessionFactory | null
}
export type ResolvedHttpConnectorOptions = Readonly<Required<HttpConnectorOptions>>

export const HTTP_CONNECTOR_OPTIONS = {
  ...POOL_OPTIONS,
  ticker: object<Ticker>('a Ticker'),
  transport: object<Transport>('a TransportConnector'),
  createSession: callback<SessionFactory | null>(null),
} satisfies OptionTable<HttpConnectorOptions>

export const HTTP_CONNECTOR_DEFAULTS: ResolvedHttpConnectorOptions = defaultsOf<HttpConnectorOptions>(HTTP_CONNECTOR_OPTIONS)
