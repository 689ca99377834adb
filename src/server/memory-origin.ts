/**
 * An origin in this process: a transport whose every dial leads to a function, over a pair of streams in memory and through
 * the real sessions on both ends. Used by `inject` and by the self-test.
 * Invariant: no name is resolved and no socket opened, whatever the peer says.
 */
import type { Transport } from '../connector/connection-dial.ts'
import { FieldLines } from '../http/field-lines.ts'
import { HeaderMap } from '../http/header-map.ts'
import { ResponseHead, type RequestHead } from '../http/message-head.ts'
import { HTTP_LISTENER_DEFAULTS } from '../listener/http-listener-options.ts'
import type { Peer } from '../peer/peer.ts'
import type { Ticker } from '../primitives/clock.ts'
import type { ConnectionHost, RequestOwner } from '../protocols/http-connection.ts'
import { BODY_UNKNOWN, type DownstreamSession } from '../protocols/http-session.ts'
import { MemoryStream } from '../protocols/memory-stream.ts'
import { HTTP_PROTOCOLS } from './http-protocols.ts'

/** Both versions: which one a peer wants is seen from what it begins with. */
const SPOKEN_WITHOUT_TLS = HTTP_PROTOCOLS.get('')!

export type Fields = HeaderMap | Readonly<Record<string, string | readonly string[]>>

/** What stands in for every upstream. One that throws is an origin that breaks the connection. */
export type MemoryOrigin = (request: OriginRequest) => OriginAnswer | Promise<OriginAnswer>
/** A request, as it reached the function that stands in for an origin. */
export interface OriginRequest {
  /** As an origin gets it, with all that filters and the proxy made of it. */
  readonly head: RequestHead
  /** Whole: the function is called when all of it is there. Empty for a request without one. */
  readonly body: Buffer
  /** The one that `upstreamPeer` chose. */
  readonly peer: Peer
}
/** What that function answers. */
export interface OriginAnswer {
  /** @default 200 */
  status?: number
  /** Content-Length or chunks follow from `body` and `trailers`. @default none */
  headers?: Fields
  /** Text is sent as UTF-8. @default '' */
  body?: string | Uint8Array
  /** With them the answer is sent in chunks. @default none */
  trailers?: Fields
}

/**
 * @param name of the connections, as listeners have names
 * @param failed is told what `origin` throws; left out: it only breaks the connection
 */
export function memoryTransport(
  origin: MemoryOrigin, ticker: Ticker, name: string, failed: (thrown: unknown) => void = () => {},
): Transport {
  return {
    dial(peer, waiter) {
      const [near, far] = MemoryStream.pair(peer.name)
      let cancelled = false
      queueMicrotask(() => {
        if (cancelled) return
        const host = new OriginHost(origin, peer, failed)
        far.owner = SPOKEN_WITHOUT_TLS(far, name, HTTP_LISTENER_DEFAULTS, host, ticker, ticker.clock.now())
        waiter.onDialed(near, null)
      })
      return { cancel() { cancelled = true } }
    },
  }
}

export function toHeaders(fields: Fields): HeaderMap { return fields instanceof HeaderMap ? fields : HeaderMap.from(fields) }
export function toTrailers(fields: Fields | undefined): HeaderMap | null { return fields === undefined ? null : toHeaders(fields) }
export function toBuffer(piece: string | Uint8Array): Buffer { return typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece) }

/** The far end of a connection. */
class OriginHost implements ConnectionHost {
  readonly draining = false
  readonly #origin: MemoryOrigin
  readonly #peer: Peer
  readonly #failed: (thrown: unknown) => void
  constructor(origin: MemoryOrigin, peer: Peer, failed: (thrown: unknown) => void) {
    this.#origin = origin
    this.#peer = peer
    this.#failed = failed
  }
  onRequest(session: DownstreamSession): RequestOwner {
    const pieces: Buffer[] = []
    const answer = async (): Promise<void> => {
      try {
        const given = await this.#origin({ head: session.request, body: Buffer.concat(pieces), peer: this.#peer })
        const body = toBuffer(given.body ?? '')
        const fields = toHeaders(given.headers ?? {})
        const length = given.trailers === undefined ? body.length : BODY_UNKNOWN
        session.writeHead(ResponseHead.build(given.status ?? 200, fields), length, FieldLines.NONE)
        session.writeBody(body, 0, body.length, true)
        session.endResponse(toTrailers(given.trailers))
      } catch (thrown) {
        // An origin that throws is an origin that breaks the connection.
        this.#failed(thrown)
        session.abort()
      }
      session.release()
    }
    return {
      begin() {
        if (session.requestEnded) void answer()
        else {
          session.sendContinue()
          session.resumeRequest()
        }
      },
      onRequestBody(buffer, from, to) { pieces.push(Buffer.from(buffer.subarray(from, to))) },
      onRequestEnd() { void answer() },
      onDownstreamDrained() { /* it is all written */ },
      onDownstreamHalfClosed() { /* the answer is on its way */ },
      onDownstreamFault() { session.release() },
    }
  }
  onRefused(): void { /* the status says it */ }
}
