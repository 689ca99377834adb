/** What an HTTP connector may be told: the limits of its pool, and the parts that may be put in place of its own. */
import type { Peer } from '../peer/peer.ts'
import { POOL_OPTIONS, type PoolOptions } from '../pool/pool-options.ts'
import type { Ticker } from '../primitives/clock.ts'
import { callback, defaultsOf, object, type OptionTable } from '../primitives/option-table.ts'
import type { ConnectionFactory, Transport } from './connection-dial.ts'

/** Limits of a connector's pool, and the parts that may be put in place of its own. */
export interface HttpConnectorOptions extends PoolOptions {
  /** @internal Deadlines of everything below. @default null, one of its own */
  ticker?: Ticker | null
  /** Opens connections. @default null, a TransportConnector with the machine's resolver */
  transport?: Transport | null
  /**
   * @internal Makes a connection of a stream that was dialled, in the protocol that its facts and the peer ask for.
   * @default null, HTTP/1 or HTTP/2
   */
  createConnection?: ConnectionFactory | null
  /**
   * @internal How many exchanges at a time a new connection to this peer may turn out to carry; above 1 requests wait for one dial
   * together. @default null, `maxH2Streams` for a peer whose `alpn` allows HTTP/2, else 1
   */
  expectedExchanges?: ((peer: Peer) => number) | null
}
export type ResolvedHttpConnectorOptions = Readonly<Required<HttpConnectorOptions>>

export const HTTP_CONNECTOR_OPTIONS = {
  ...POOL_OPTIONS,
  ticker: object<Ticker>('a Ticker'),
  transport: object<Transport>('a TransportConnector'),
  createConnection: callback<ConnectionFactory | null>(null),
  expectedExchanges: callback<((peer: Peer) => number) | null>(null),
} satisfies OptionTable<HttpConnectorOptions>

export const HTTP_CONNECTOR_DEFAULTS: ResolvedHttpConnectorOptions = defaultsOf<HttpConnectorOptions>(HTTP_CONNECTOR_OPTIONS)
