/**
 * gRPC-Web (doc/PROTOCOL-WEB.md of the gRPC project): browsers speak it, since they give pages neither trailers nor HTTP/2 frames; origins
 * of gRPC do not. Between the two this module changes
 *
 *   request    content-type application/grpc-web…, -text…  ─▶ application/grpc…;  base64 of -text ─▶ bytes
 *   response   content-type application/grpc…  ─▶ that of the client;  trailers ─▶ the last frame of the body, 0x80;  bytes ─▶ base64
 *
 * Messages stay as they are, and are never put together: what comes is passed on, in pieces of base64 that are padded each. An answer of
 * trailers alone has them in its head, where clients of gRPC-Web read them as well. What is no answer of gRPC passes as it is.
 * Who may call from a browser is CORS, and of another module.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import { grpcMediaType, isGrpcWeb } from '../http/grpc-request.ts'
import { asciiLower, FieldKind, type HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { AskedFilter, BodyResult, BodyUse, Session, Verdict } from '../proxy/session.ts'
import { Base64Stream } from './base64-stream.ts'
import type { HttpModule } from './http-module.ts'

const GRPC = 'application/grpc', WEB = 'application/grpc-web', TEXT = 'application/grpc-web-text'

/** The flag of a frame that is no message but the trailers. */
const TRAILERS_FLAG = 0x80
const FRAME_HEAD_BYTES = 5

interface WebCall {
  /** '+proto' and the like; null: the request is none of gRPC-Web. */
  coding: string | null
  /** The body of the request is base64. */
  asksInText: boolean
  /** That of the response shall be. */
  wantsText: boolean
  /** The response is one of gRPC. */
  translates: boolean
  /** Of one attempt. */
  body: Base64Stream | null
}

/**
 * Lets browsers that speak gRPC-Web call origins of gRPC, over HTTP/1.1 or HTTP/2, in binary and in base64. The peers speak HTTP/2
 * (`alpn: 'h2'`). Fields that pages send and read across origins are for `cors` to allow.
 *
 *   const app = {
 *     modules: [grpcWeb(), cors({
 *       origins: ['https://app.example'], headers: ['content-type', 'x-grpc-web', 'x-user-agent', 'grpc-timeout'],
 *       exposedHeaders: ['grpc-status', 'grpc-message'],
 *     })],
 *     upstreamPeer: () => new HttpPeer('10.0.0.1:50051', { alpn: 'h2' }),
 *   }
 */
export function grpcWeb(): HttpModule {
  const module: HttpModule<WebCall> = {
    name: 'grpc-web',
    newState: () => ({ coding: null, asksInText: false, wantsText: false, translates: false, body: null }),

    requestFilter({ request: { method, headers } }: Session, state: WebCall): Verdict {
      const mediaType = method === 'POST' ? grpcMediaType(headers.getKind(FieldKind.ContentType) ?? '') : ''
      if (!isGrpcWeb(mediaType)) return 'continue'
      state.coding = codingOf(mediaType)
      state.asksInText = mediaType.startsWith(TEXT)
      state.wantsText = wantsText(headers, state.asksInText)
      return 'continue'
    },

    upstreamRequestFilter(_session: Session, { headers }: RequestHead, _attempt: number, state: WebCall): void {
      if (state.coding === null) return
      headers.set('Content-Type', GRPC + state.coding)
      state.body = state.asksInText ? new Base64Stream() : null
    },

    bodyUse(_session: Session, filter: AskedFilter, state: WebCall): BodyUse {
      if (state.coding === null) return 'pass'
      if (filter === 'requestBodyFilter') return state.asksInText ? 'change' : 'pass'
      if (!state.translates) return 'pass'
      return filter === 'responseTrailerFilter' || state.wantsText ? 'change' : 'pass'
    },

    requestBodyFilter(_session: Session, chunk: Buffer, last: boolean, state: WebCall): BodyResult {
      const body = state.body!, bytes = body.decode(chunk)
      if (bytes === null) throw noBase64('it has another character, or padding at the wrong place')
      if (last && !body.whole) throw noBase64('it ends within a group of four characters')
      return bytes
    },

    responseFilter(_session: Session, { headers }: ResponseHead, state: WebCall): void {
      if (state.coding === null) return
      const mediaType = grpcMediaType(headers.getKind(FieldKind.ContentType) ?? '')
      // Also an answer of our own, which has the media type of the client.
      if (mediaType === '' || isGrpcWeb(mediaType)) return
      state.translates = true
      headers.set('Content-Type', (state.wantsText ? TEXT : WEB) + codingOf(mediaType))
    },

    responseBodyFilter: (_session: Session, chunk: Buffer): BodyResult => inText(chunk),

    responseTrailerFilter(_session: Session, trailers: HeaderMap, state: WebCall): Buffer {
      const frame = trailersFrame(trailers)
      return state.wantsText ? inText(frame) : frame
    },
  }
  return module as HttpModule
}

/** What stands behind the plus, with it; '' for none. */
function codingOf(mediaType: string): string {
  const plus = mediaType.indexOf('+')
  return plus === -1 ? '' : mediaType.slice(plus)
}

/** A client says what it can read; one that does not reads what it writes. */
function wantsText(headers: HeaderMap, asksInText: boolean): boolean {
  const accepted = asciiLower(headers.getAll('accept').join(','))
  return accepted.includes(TEXT) || (asksInText && !accepted.includes(WEB))
}

function inText(bytes: Buffer): Buffer { return Buffer.from(bytes.toString('base64'), 'latin1') }

/** Names in lower case, as trailers have them in HTTP/2. */
function trailersFrame(trailers: HeaderMap): Buffer {
  let text = ''
  for (const [name, value] of trailers) text += `${asciiLower(name)}: ${value}\r\n`
  const frame = Buffer.alloc(FRAME_HEAD_BYTES + text.length)
  frame[0] = TRAILERS_FLAG
  frame.writeUInt32BE(text.length, 1)
  frame.write(text, FRAME_HEAD_BYTES, 'latin1')
  return frame
}

function noBase64(why: string): ProxyError {
  return new ProxyError('BAD_FRAMING', 'downstream', `the body of a call of ${TEXT} is no base64: ${why}`, { status: 400 })
}
