/**
 * The one shape of a session, whatever the protocol: one request and its response, on one side of the proxy.
 * An exchange (proxy/exchange.ts) owns one downstream session and one upstream session a time, and never asks whether
 * they are HTTP/1 connections or HTTP/2 streams.
 *
 * Everything is a plain call. A body chunk is borrowed: its receiver may pause the session in that call, and then the
 * chunk stays untouched until it resumes (of an upstream session: only where `ownsBuffer` says so). The end of the message may still be told while paused, right behind the last
 * chunk: whoever has not finished with that chunk then calls `giveUpBuffer()`.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { ByteStream, StreamDigest } from './byte-stream.ts'
import type { UpstreamConnection } from './http-connection.ts'

/** Length of a body that is about to be sent: bytes, or one of these. */
export const BODY_NONE = 0
/** Unknown when it starts; its end is marked by the framing (chunked, END_STREAM). */
export const BODY_UNKNOWN = -1
/** Ends with the connection: only responses to HTTP/1.0, or from such origins. */
export const BODY_UNTIL_CLOSE = -2

/** What a downstream session tells the exchange that owns it. */
export interface DownstreamOwner {
  onRequestBody(buffer: Buffer, from: number, to: number): void
  onRequestEnd(trailers: HeaderMap | null): void
  /** `bytesQueued` is 0 again after it had been seen above 0. */
  onDownstreamDrained(): void
  /** The client is gone, broke the protocol, or was too slow. The session is unusable, except to answer when `error.status` is set. */
  onDownstreamFault(error: ProxyError): void
}

export interface DownstreamSession {
  readonly digest: StreamDigest
  /** Name of the listener that accepted the connection. */
  readonly listener: string
  readonly request: RequestHead
  /** Declared length of the request body: bytes, BODY_UNKNOWN (chunked), or 0. */
  readonly requestBodyLength: number
  readonly requestEnded: boolean
  readonly bytesQueued: number
  /** Body bytes received and sent, framing excluded. */
  readonly bodyBytesIn: number
  readonly bodyBytesOut: number
  /** A final head was written; no other can be. */
  readonly responseStarted: boolean
  /** Fields (lower case) that the client's Connection asks to drop on the way; null: none besides the usual ones. */
  readonly hopNames: readonly string[] | null
  /** The client waits for 100 Continue before it sends its body. */
  readonly awaitsContinue: boolean
  /** `Connection: upgrade` with an Upgrade field, on a request without a body. */
  readonly wantsUpgrade: boolean
  /** The client takes part in trailers (`TE: trailers`, or HTTP/2). */
  readonly acceptsTrailers: boolean
  /** What the service knows of the connection behind this session; kept from request to request, null until it sets it. */
  attachment: object | null
  /** The target has something that wants a closer look before it is matched or sent on (http/target-path.ts). */
  readonly targetUnusual: boolean

  /** Body bytes may flow to the owner from now on, or again. */
  resumeRequest(): void
  pauseRequest(): void
  /** Sends 100 Continue if the client waits for it. */
  sendContinue(): void
  /** 100 Continue, 103 and other 1xx (never 101 here). Ignored for HTTP/1.0 clients. */
  writeInterim(head: ResponseHead): void
  /**
   * `length`: bytes, BODY_UNKNOWN or BODY_UNTIL_CLOSE. The session adds framing and connection fields and removes any it
   * finds; `extra` is field lines with their CRLF, already checked; fields in `hopNames` (lower case) are left out.
   */
  writeHead(head: ResponseHead, length: number, extra: string, hopNames: readonly string[] | null): void
  writeBody(buffer: Buffer, from: number, to: number): void
  endResponse(trailers: HeaderMap | null): void
  /** The owner is done: it was told nothing more, and the transport goes on to the next request, lingers or closes. Called once, last. */
  release(): void
  /** The transport must not carry another request: the next head says so, or `release()` closes it. */
  refuseReuse(): void
  /** Ends this session now, in a way that the client cannot mistake for a complete answer. `release()` still follows. */
  abort(): void
  /** Within a call of the owner: the last chunk stays valid for ever. False when that cannot be had: finish with it before `release()`. */
  giveUpBuffer(): boolean
  /** 101 was written, or 2xx to CONNECT: hands over the transport with bytes already read; the session is over. */
  detach(): { stream: ByteStream; early: Buffer | null }
}

/** What an upstream session tells the exchange that owns it. */
export interface UpstreamOwner {
  /** A 1xx head other than 101. */
  onInterim(head: ResponseHead): void
  /** `length`: bytes, BODY_UNKNOWN or BODY_UNTIL_CLOSE; 0 when the answer has no body. For 101 nothing but `detach()` may follow. */
  onResponseHead(head: ResponseHead, length: number): void
  onResponseBody(buffer: Buffer, from: number, to: number): void
  onResponseEnd(trailers: HeaderMap | null): void
  onUpstreamDrained(): void
  /** The attempt failed; the session is already closed. */
  onUpstreamFault(error: ProxyError): void
}

export interface UpstreamSession {
  readonly connection: UpstreamConnection
  readonly digest: StreamDigest
  readonly bytesQueued: number
  readonly bodyBytesIn: number
  readonly bodyBytesOut: number
  /** Body chunks stay untouched while the session is paused. Otherwise they are gone when the call returns: keep a copy. */
  readonly ownsBuffer: boolean
  /** Response bytes seen in this exchange, so that a retry can be ruled out. */
  readonly responseStarted: boolean
  /** Fields (lower case) that the origin's Connection asks to drop on the way; null: none besides the usual ones. */
  readonly hopNames: readonly string[] | null

  /** `length`: bytes, or BODY_UNKNOWN (chunked); 0: no body. `extra` and `hopNames` as for the downstream head; `upgrade`: the Upgrade field to send, '' for none. */
  writeHead(head: RequestHead, length: number, extra: string, hopNames: readonly string[] | null, upgrade: string): void
  writeBody(buffer: Buffer, from: number, to: number): void
  endRequest(trailers: HeaderMap | null): void
  resumeResponse(): void
  pauseResponse(): void
  giveUpBuffer(): boolean
  /** 101 or 2xx to CONNECT was received: hands over the transport with bytes already read; the session is over. */
  detach(): { stream: ByteStream; early: Buffer | null }
  /**
   * Gives up an exchange that has not ended: an HTTP/1 connection closes, an HTTP/2 stream is reset. No callback follows.
   * Harmless when both messages have ended, or the transport was handed over.
   */
  abort(): void
}
