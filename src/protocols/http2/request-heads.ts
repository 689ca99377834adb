/** Header blocks of requests to an origin (RFC 9113 8.3.1, RFC 8441 4). */
import { asciiLower, FieldKind } from '../../http/header-map.ts'
import { HOP_BY_HOP_REQUEST } from '../../http/hop-by-hop.ts'
import type { RequestHead } from '../../http/message-head.ts'
import type { RequestSetup } from '../http-session.ts'
import { HeaderBlocks } from './header-blocks.ts'

const LENGTH = 1 << FieldKind.ContentLength
const SKIPPED = HOP_BY_HOP_REQUEST | (1 << FieldKind.Host)
/** What a WebSocket has in HTTP/1 alone (RFC 8441 5). */
const OF_HTTP1_WEBSOCKET: readonly string[] = ['sec-websocket-key']

export class RequestHeads extends HeaderBlocks {
  /** @param protocol to switch to; '' for none */
  write({ method, target, headers, authority }: RequestHead, setup: RequestSetup, scheme: string, protocol: string): void {
    const { length, lines, acceptsTrailers, defaultAuthority } = setup, { encoder } = this
    const isConnect = method === 'CONNECT', keepsLength = length >= 0 && headers.contentLength() === length
    this.begin()
    encoder.field(':method', protocol === '' ? method : 'CONNECT')
    if (protocol !== '') encoder.field(':protocol', protocol)
    if (!isConnect) {
      encoder.field(':scheme', scheme)
      encoder.field(':path', target)
    }
    encoder.field(':authority', isConnect ? target : authority === '' ? defaultAuthority : authority)
    this.fields(headers, keepsLength ? SKIPPED : SKIPPED | LENGTH, protocol === '' ? null : OF_HTTP1_WEBSOCKET)
    if (!keepsLength && (length > 0 || (length === 0 && headers.hasKind(FieldKind.ContentLength)))) {
      encoder.field('content-length', String(length))
    }
    if (acceptsTrailers) encoder.field('te', 'trailers')
    for (let index = 0; index < lines.size; index++) encoder.field(asciiLower(lines.nameAt(index)), lines.valueAt(index))
    this.done()
  }
}
