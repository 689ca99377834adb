/**
 * How a response is framed for an HTTP/1 client (RFC 9112 6, RFC 9110 9.3.2, 15.3.5, 15.4.5): pure, over a head, the length
 * of the body that follows, and what the client asked with. It fills one reusable `ResponseFraming`.
 */
import { FieldKind } from '../../http/header-map.ts'
import { HOP_BY_HOP } from '../../http/hop-by-hop.ts'
import { REASONS, type ResponseHead } from '../../http/message-head.ts'

export class ResponseFraming {
  /** Kinds of fields that are not written. */
  skip = 0
  /** The framing field with its CRLF; '' when the head has the right one, or wants none. */
  text = ''
  /** A body follows: not for HEAD, 204 and 304, whatever the head says of a length. */
  hasBody = true
  chunked = false
  /** Bytes of the body that the head announces; -1 when it announces none. */
  announced = -1
  /** Only the end of the connection marks the end of the body. */
  untilClose = false
}

/** @param length bytes, or negative when it is not known. @param old the client speaks HTTP/1.0, which knows no chunks */
export function frameResponse(head: ResponseHead, length: number, method: string, old: boolean, framing: ResponseFraming): void {
  const { headers, status } = head
  framing.skip = HOP_BY_HOP
  framing.text = ''
  framing.chunked = framing.untilClose = false
  framing.announced = -1
  framing.hasBody = method !== 'HEAD' && status !== 304 && status !== 204
  if (!framing.hasBody) {
    // A filter may have set one that is no number, or a second one.
    if (status === 204 || (headers.hasKind(FieldKind.ContentLength) && headers.contentLength() === -1)) {
      framing.skip |= 1 << FieldKind.ContentLength
    }
    // An answer whose body never comes tells the length that it would have, as far as that is known.
    if (status !== 204 && length > 0 && headers.contentLength() !== length) setLength(framing, length)
    return
  }
  if (length >= 0) {
    framing.announced = length
    if (headers.contentLength() !== length) setLength(framing, length)
    return
  }
  framing.skip |= 1 << FieldKind.ContentLength
  if (old) framing.untilClose = true
  else {
    framing.chunked = true
    framing.text = 'Transfer-Encoding: chunked\r\n'
  }
}

function setLength(framing: ResponseFraming, length: number): void {
  framing.skip |= 1 << FieldKind.ContentLength
  framing.text = `Content-Length: ${length}\r\n`
}

export function statusLine(head: ResponseHead): string {
  if (head.status === 200 && (head.reason === 'OK' || head.reason === '')) return 'HTTP/1.1 200 OK\r\n'
  return `HTTP/1.1 ${head.status} ${head.reason === '' ? REASONS[head.status] ?? '' : head.reason}\r\n`
}
