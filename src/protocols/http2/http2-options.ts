/**
 * What HTTP/2 with clients may be told besides what holds for every version (../http-options.ts): limits of streams, header blocks,
 * windows, and of frames that cost more here than there. A number of 0 is refused unless the field says what 0 means.
 */
import { count, defaultsOf, duration, flag, number, size, type OptionTable } from '../../primitives/option-table.ts'

/** Options of HTTP/2 on a listener: `http2` of its options. */
export interface Http2ServerOptions {
  /** Whether it is spoken: offered in TLS, and answered without TLS to clients that begin with it. @default true */
  enabled?: boolean
  /** Streams of a connection at a time; further ones are refused with REFUSED_STREAM. @default 100 */
  maxConcurrentStreams?: number
  /** Requests that one read may begin; the rest of it waits for the next turn of the event loop. @default 32 */
  maxStreamsPerRead?: number
  /** Requests on one connection; then it is left with GOAWAY. 0 turns it off. @default 100000 */
  maxStreamsPerConnection?: number
  /** Fields of a head, 32 bytes added to each, in bytes; past it 431, past four times as much the connection ends. @default 49152 */
  maxHeaderListBytes?: number
  /** A header block as it is sent, in bytes; past it the connection ends. At least 16384. @default 65536 */
  maxHeaderBlockBytes?: number
  /** CONTINUATION frames of a header block; past it the connection ends. @default 8 */
  maxContinuationFrames?: number
  /** Parts in which a Cookie field may come; past it 431. @default 256 */
  maxCookieCrumbs?: number
  /**
   * Heads of the requests that are under way on a connection, 32 bytes added to each field, in bytes; past it further ones are refused
   * with REFUSED_STREAM. At least 65536. @default 1048576
   */
  maxHeldHeadBytes?: number
  /** What a client may send on a stream before it is read, in bytes. At most 2147483647. @default 262144 */
  streamWindowBytes?: number
  /** The same for all streams of a connection. At least 65535. At most 2147483647. @default 1048576 */
  connectionWindowBytes?: number
  /**
   * Streams that end with RST_STREAM, of either side, in a burst; then 33 a second, and one more for each that was served whole.
   * @default 200
   */
  maxResets?: number
  /** Frames that make no sense but do no harm, in a burst; then 33 a second. @default 1000 */
  maxGlitches?: number
  /** PING frames in a burst; then 50 a second. @default 500 */
  maxPings?: number
  /** SETTINGS frames in a burst; then one a second. @default 10 */
  maxSettings?: number
  /** Parameters in a SETTINGS frame. @default 32 */
  maxSettingsEntries?: number
  /** DATA frames without data in a burst; then one a second. @default 100 */
  maxEmptyData?: number
  /** PRIORITY frames in a burst; then ten a second. @default 200 */
  maxPriorities?: number
  /** WINDOW_UPDATE frames besides two for each stream and ten for each DATA frame that was sent. @default 100 */
  maxWindowUpdates?: number
  /** Bytes received for each byte of heads and bodies, those of 1 MiB besides. @default 8 */
  maxOverheadRatio?: number
  /** Frames that wait behind a client that takes none; past it the connection is cut. @default 1000 */
  maxQueuedControlFrames?: number
  /** How long SETTINGS may go without an acknowledgement, in ms; past it the connection ends. @default 10000 */
  settingsAckTimeoutMs?: number
  /** How long a connection without streams is kept, in ms. @default 120000 */
  idleTimeoutMs?: number
  /** How long streams are still taken behind the first GOAWAY, in ms; less where PING is answered sooner. @default 1000 */
  goawayGraceMs?: number
}
export type ResolvedHttp2ServerOptions = Readonly<Required<Http2ServerOptions>>

const MAX_WINDOW_BYTES = 2_147_483_647

export const HTTP2_SERVER_OPTIONS = {
  enabled: flag(true),
  maxConcurrentStreams: count(100),
  maxStreamsPerRead: count(32),
  maxStreamsPerConnection: count(100_000, { zero: 'turns it off' }),
  maxHeaderListBytes: size(49_152),
  maxHeaderBlockBytes: size(65_536, { min: 16_384 }),
  maxContinuationFrames: count(8),
  maxCookieCrumbs: count(256),
  maxHeldHeadBytes: size(1_048_576, { min: 65_536 }),
  streamWindowBytes: size(262_144, { max: MAX_WINDOW_BYTES }),
  connectionWindowBytes: size(1_048_576, { min: 65_535, max: MAX_WINDOW_BYTES }),
  maxResets: count(200),
  maxGlitches: count(1000),
  maxPings: count(500),
  maxSettings: count(10),
  maxSettingsEntries: count(32),
  maxEmptyData: count(100),
  maxPriorities: count(200),
  maxWindowUpdates: count(100),
  maxOverheadRatio: number(8, 1, 1000),
  maxQueuedControlFrames: count(1000),
  settingsAckTimeoutMs: duration(10_000),
  idleTimeoutMs: duration(120_000),
  goawayGraceMs: duration(1000),
} satisfies OptionTable<Http2ServerOptions>

export const HTTP2_SERVER_DEFAULTS: ResolvedHttp2ServerOptions = defaultsOf<Http2ServerOptions>(HTTP2_SERVER_OPTIONS)
