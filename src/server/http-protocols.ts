/**
 * The versions of HTTP that are spoken with clients: which session serves a connection follows from what both sides agreed
 * on before it began (ALPN). The only place that knows the classes.
 */
import type { ResolvedHttpListenerOptions } from '../listener/http-listener-options.ts'
import type { Ticker } from '../primitives/clock.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { ConnectionHost } from '../protocols/http-connection.ts'
import { Http1ServerSession, type OpenHttp2 } from '../protocols/http1/server-session.ts'
import { Http2ServerConnection } from '../protocols/http2/server-connection.ts'
import type { ServedConnection } from './accept-pipeline.ts'

/** @param listener its name @param acceptedAt when the transport was accepted, ms of the clock: deadlines count from then */
export type OpenHttp = (
  stream: ByteStream, listener: string, options: ResolvedHttpListenerOptions, host: ConnectionHost, ticker: Ticker, acceptedAt: number,
) => ServedConnection

const http1: OpenHttp = (stream, listener, options, host, ticker, acceptedAt) => {
  return new Http1ServerSession(stream, listener, options, host, ticker, acceptedAt)
}

const http2: OpenHttp = (stream, listener, options, host, ticker, acceptedAt) => {
  return new Http2ServerConnection(stream, listener, options, host, ticker, acceptedAt)
}

/** Without TLS a client may begin with HTTP/2 where it knows that it is spoken (RFC 9113 3.3). */
const either: OpenHttp = (stream, listener, options, host, ticker, acceptedAt) => {
  if (stream.digest.tls !== null || !options.http2.enabled) return http1(stream, listener, options, host, ticker, acceptedAt)
  return new Http1ServerSession(stream, listener, options, host, ticker, acceptedAt, http2 as OpenHttp2)
}

/** By the name that ALPN has for it, the preferred first; '' without ALPN. */
export const HTTP_PROTOCOLS: ReadonlyMap<string, OpenHttp> = new Map([
  ['', either], ['h2', http2], ['http/1.1', http1], ['http/1.0', http1],
])
