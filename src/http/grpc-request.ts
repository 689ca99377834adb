/**
 * What the fields of a request say about a call of gRPC (doc/PROTOCOL-HTTP2.md, doc/PROTOCOL-WEB.md of the gRPC project). Pure.
 * Whether the body is one is for its ends to say; nothing here reads it.
 */
import { asciiLower, FieldKind, type HeaderMap } from './header-map.ts'

/** A call of gRPC, or of gRPC-Web with its bodies in binary or in base64, each with the coding of its messages behind a plus. */
const MEDIA_TYPE = /^application\/grpc(?:-web(?:-text)?)?(?:\+[a-z0-9!#$&^_.-]{1,64})?$/

/** The commonest ones, which are told without a pattern. */
const USUAL: ReadonlySet<string> = new Set(['application/grpc', 'application/grpc+proto', 'application/grpc-web+proto'])

/** The media type of a call, in lower case and without parameters; '' when `contentType` is that of none. */
export function grpcMediaType(contentType: string): string {
  if (USUAL.has(contentType)) return contentType
  if (contentType.length < 16 || asciiLower(contentType.slice(0, 16)) !== 'application/grpc') return ''
  const type = asciiLower(contentType.split(';', 1)[0]!.trim())
  return MEDIA_TYPE.test(type) ? type : ''
}

/** The media type is that of gRPC-Web, whose trailers come in the body. */
export function isGrpcWeb(mediaType: string): boolean { return mediaType.startsWith('application/grpc-web') }

/** What is to be sent is gRPC itself, which is nothing without its trailers; the client may be one of gRPC-Web. */
export function isPlainGrpc(headers: HeaderMap): boolean {
  const mediaType = grpcMediaType(headers.getKind(FieldKind.ContentType) ?? '')
  return mediaType !== '' && !isGrpcWeb(mediaType)
}

const MS_PER_UNIT: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/**
 * The time in a `grpc-timeout` field, in ms, parts of one as a whole one; -1 for what is none: another unit, no digit, or more than
 * eight of them. 0 has passed.
 */
export function grpcTimeoutMs(value: string): number {
  if (!/^\d{1,8}[HMSmun]$/.test(value)) return -1
  return Math.ceil(Number(value.slice(0, -1)) * MS_PER_UNIT[value.at(-1)!]!)
}
