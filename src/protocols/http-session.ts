/**
 * One request and its response, on one side of the proxy, whatever the protocol. An exchange (proxy/exchange.ts) owns one
 * downstream session, and one upstream session at a time, and never asks whether they are HTTP/1 connections or HTTP/2
 * streams. What carries sessions is a connection (http-connection.ts).
 *
 *   client's session        exchange              origin's session
 *        │ onRequest, begin()  │                         │
 *        ├────────────────────▶│  begin(owner, limits)   │
 *        │                     ├────────────────────────▶│ writeHead(head, setup)
 *        │ resumeRequest()     │                         │
 *        │◀────────────────────┤                         │
 *        │ onRequestBody … End │        writeBody … endRequest
 *        ├────────────────────▶├────────────────────────▶│
 *        │                     │ onResponseHead, Body, End
 *        │ writeHead, writeBody, endResponse             │
 *        │◀────────────────────┤◀────────────────────────┤
 *        │ release()           │  connector.release()    │
 *
 * Everything is a plain call. A body chunk is borrowed: the receiver may pause the session in that call, and the chunk then
 * stays untouched until the session is resumed, if it was called `owned`; otherwise it is gone when the call returns. The end of
 * the message may be told although the session is paused, right behind the last chunk: a receiver that still needs that chunk
 * then calls `giveUpBuffer()`.
 *
 * Heads are neutral. A session removes the fields that belong to its connection before it hands a head over, and adds its own
 * when it writes one. A request to switch protocols is a GET with an Upgrade field, and the answer that switches has that
 * field and status 101, in every version of HTTP: a session of HTTP/2 makes extended CONNECT and 200 of them (RFC 8441).
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { FieldLines } from '../http/field-lines.ts'
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { ByteStream, StreamDigest } from './byte-stream.ts'
import type { DownstreamConnection, UpstreamConnection } from './http-connection.ts'
import type { HalfClose, OriginTimes, RequestLimits } from './http-options.ts'

/** Length of a body that is about to be sent: bytes, or one of these. */
export const BODY_NONE = 0
/** Unknown when it starts; its end is marked by the framing (chunked, END_STREAM). */
export const BODY_UNKNOWN = -1
/** Ends with the connection: only responses of such origins. */
export const BODY_UNTIL_CLOSE = -2
/** No body: the head switches protocols or opens a tunnel, and `detach()` follows. */
export const BODY_TUNNEL = -3

/** What a downstream session tells the exchange that owns it. */
export interface DownstreamOwner {
  onRequestBody(buffer: Buffer, from: number, to: number): void
  onRequestEnd(trailers: HeaderMap | null): void
  /** `bytesQueued` is 0 again after it had been seen above 0. */
  onDownstreamDrained(): void
  /**
   * FIN behind the whole request, and nothing else behind it: the client asks for no more, and is mostly gone. Not told
   * where `halfClose` is 'keep', and perhaps more than once elsewhere; the session goes on as before.
   */
  onDownstreamHalfClosed(): void
  /**
   * The client is gone, broke the protocol, or was too slow. The session is unusable, except to answer when `error.status`
   * is set.
   */
  onDownstreamFault(error: ProxyError): void
}

/** The transport of a session that is over, for raw bytes. */
export interface DetachedStream {
  readonly stream: ByteStream
  /** Bytes that came behind the head; null: none. */
  readonly early: Buffer | null
  /** FIN came behind them, and was told to the session: the stream will not tell it again. */
  readonly ended: boolean
}

export interface DownstreamSession {
  readonly connection: DownstreamConnection
  readonly digest: StreamDigest
  /** Name of the listener that accepted the connection. */
  readonly listener: string
  readonly request: RequestHead
  /** Declared length of the request body: bytes, BODY_UNKNOWN, or 0. */
  readonly requestBodyLength: number
  readonly requestEnded: boolean
  readonly bytesQueued: number
  /** Body bytes received and sent, framing excluded. */
  readonly bodyBytesIn: number
  readonly bodyBytesOut: number
  /** A final head was written; no other can be. */
  readonly responseStarted: boolean
  /** The client waits for 100 Continue before it sends its body. */
  readonly awaitsContinue: boolean
  /** The request asks to switch to the protocols in its Upgrade field, and has no body. */
  readonly wantsSwitch: boolean
  /** The client takes part in trailers (`TE: trailers`, or HTTP/2). */
  readonly acceptsTrailers: boolean
  /** As the listener has it, for each request anew; what is set counts from then on. */
  halfClose: HalfClose
  /** As the listener has them, for each request anew; what is set counts from the start of the request. */
  limits: RequestLimits
  /** The target has something that wants a closer look before it is matched or sent on (http/target-path.ts). */
  readonly targetUnusual: boolean

  /** Body bytes may flow to the owner from now on, or again. */
  resumeRequest(): void
  pauseRequest(): void
  /** Sends 100 Continue if the client waits for it. */
  sendContinue(): void
  /** 100 Continue, 103 and other 1xx (never 101 here). Ignored for clients that do not know them. */
  writeInterim(head: ResponseHead): void
  /**
   * Writes the final head. The session adds framing and connection fields and removes any it finds.
   * @param length bytes, BODY_UNKNOWN, or BODY_TUNNEL: then only `detach()` may follow
   * @param lines written behind the fields of the head; the session reads them within this call
   */
  writeHead(head: ResponseHead, length: number, lines: FieldLines): void
  /** @param owned the bytes stay untouched until `bytesQueued` is 0; otherwise the session copies what has to wait */
  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void
  endResponse(trailers: HeaderMap | null): void
  /** The owner is done and is told nothing more: the transport goes on to the next request, lingers or closes. Called once, last. */
  release(): void
  /** The transport must not carry another request: the next head says so, or `release()` closes it. */
  refuseReuse(): void
  /** The end of the answer is a mark of its own, so that it may come anywhere: neither a length nor the connection's end says it. */
  readonly endsByMark: boolean
  /**
   * Ends this session now, in a way that the client cannot mistake for a complete answer. `release()` still follows.
   * @param cancelled its time is over, that of a drain included: nothing here is broken. @default false
   */
  abort(cancelled?: boolean): void
  /**
   * Within a call of the owner: leaves the last chunk to the owner for good. Returns false when the transport still needs that
   * buffer: finish with the chunk before `release()`.
   */
  giveUpBuffer(): boolean
  /** A head with BODY_TUNNEL was written: hands over the transport; the session is over. */
  detach(): DetachedStream
}

/** What an upstream session tells the exchange that owns it. */
export interface UpstreamOwner {
  /** A 1xx head other than 101. */
  onInterim(head: ResponseHead): void
  /**
   * `length`: bytes, BODY_UNKNOWN or BODY_UNTIL_CLOSE; 0 when the answer has no body. BODY_TUNNEL: the origin switches
   * protocols or opened a tunnel, and only `detach()` may follow.
   */
  onResponseHead(head: ResponseHead, length: number): void
  /** `owned`: the chunk stays untouched while the session is paused; otherwise it is gone when the call returns. */
  onResponseBody(buffer: Buffer, from: number, to: number, owned: boolean): void
  onResponseEnd(trailers: HeaderMap | null): void
  onUpstreamDrained(): void
  /** The attempt failed; the session is already over. */
  onUpstreamFault(error: ProxyError): void
}

/** How a request is to be sent, besides its head. The session reads it within `writeHead`: one object serves all. */
export interface RequestSetup {
  /** Bytes, BODY_UNKNOWN, or 0: no body. */
  length: number
  /** Written behind the fields of the head. */
  lines: FieldLines
  /** The origin may switch to one of these, as a value of Upgrade; '' to none. The Upgrade field of the head is left out. */
  switchesTo: string
  /** Trailers of the response are of use. */
  acceptsTrailers: boolean
  /** Sent as the authority of a request that names none, since every version that is written wants one. */
  defaultAuthority: string
}

export interface UpstreamSession {
  readonly connection: UpstreamConnection
  readonly digest: StreamDigest
  readonly bytesQueued: number
  readonly bodyBytesIn: number
  readonly bodyBytesOut: number
  /** Response bytes seen in this exchange, so that a retry can be ruled out. */
  readonly responseStarted: boolean
  /** At first those that `begin` was given. */
  times: OriginTimes

  writeHead(head: RequestHead, setup: RequestSetup): void
  /** @param owned the bytes stay untouched until `bytesQueued` is 0; otherwise the session copies what has to wait */
  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void
  endRequest(trailers: HeaderMap | null): void
  resumeResponse(): void
  pauseResponse(): void
  /** As for downstream sessions. */
  giveUpBuffer(): boolean
  /** A head with BODY_TUNNEL was received: hands over the transport; the session is over. */
  detach(): DetachedStream
  /** Ends the exchange now: a connection of its own is closed, a stream of a shared one reset. No callback follows. */
  abort(): void
}
