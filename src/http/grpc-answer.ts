/**
 * An answer that the proxy makes itself, as callers of gRPC understand it: status 200 with `grpc-status` and `grpc-message` among the
 * fields of its head, and no body ("Trailers-Only" of doc/PROTOCOL-HTTP2.md; doc/PROTOCOL-WEB.md has the same).
 */
import { grpcMessage, grpcStatusOfHttp } from './grpc-status.ts'
import { FieldKind, HeaderMap } from './header-map.ts'
import { REASONS, ResponseHead } from './message-head.ts'

/** A longer text of an answer is no message. */
const MAX_MESSAGE_BYTES = 1024

/** Fields that say something of the body, or of its framing. */
const OF_BODY = /^(?:content-|transfer-encoding$)/i

/** A caller of gRPC would have to guess what it means. What says itself how the call ended stays as it is. */
export function isHttpFailure({ status, headers }: ResponseHead): boolean { return status >= 300 && !headers.has('grpc-status') }

/**
 * The same answer in gRPC; what the head says besides its body stays.
 * @param mediaType of the call @param body of the answer; null: it is not here as bytes
 */
export function trailersOnly({ status, headers }: ResponseHead, mediaType: string, body: Buffer | null): ResponseHead {
  const fields = new HeaderMap()
  for (const [name, value] of headers) if (!OF_BODY.test(name)) fields.append(name, value)
  fields.append('Content-Type', mediaType)
  fields.append('Grpc-Status', String(grpcStatusOfHttp(status)))
  fields.append('Grpc-Message', grpcMessage(messageOf(status, headers.getKind(FieldKind.ContentType) ?? '', body)))
  return ResponseHead.build(200, fields)
}

/** The lines of a short plain text, otherwise what HTTP calls the status. */
function messageOf(status: number, contentType: string, body: Buffer | null): string {
  const isText = body !== null && body.length > 0 && body.length <= MAX_MESSAGE_BYTES && /^(?:text\/plain\b|$)/i.test(contentType)
  const text = isText ? body.toString().split(/\s*\n\s*/).filter(line => line !== '').join(', ') : ''
  return text === '' ? REASONS[status] ?? `HTTP status ${status}` : text
}
