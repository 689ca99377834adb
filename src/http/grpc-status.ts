/**
 * Status codes of gRPC, and how a proxy says in them what it would have said in HTTP. Pure: no sockets, no phases.
 *
 * Up to 504 the table is that of the gRPC project (doc/http-grpc-status-mapping.md), which its clients apply themselves to what is no
 * answer of gRPC, and which Envoy applies (httpToGrpcStatus in common/grpc/status.cc). That document says UNKNOWN to everything else, and
 * so tells a caller less than a proxy knows: for a late client, a message or a head that is too large, and faults of its own, it is what
 * NGINX's errors.grpc_conf says (408, 413, 414, 500). 421 was not looked at by anybody, and may be asked again.
 */

/** Codes of doc/statuscodes.md. */
export const GrpcStatus = {
  Ok: 0, Cancelled: 1, Unknown: 2, InvalidArgument: 3, DeadlineExceeded: 4, NotFound: 5, AlreadyExists: 6, PermissionDenied: 7,
  ResourceExhausted: 8, FailedPrecondition: 9, Aborted: 10, OutOfRange: 11, Unimplemented: 12, Internal: 13, Unavailable: 14,
  DataLoss: 15, Unauthenticated: 16,
} as const
export type GrpcStatus = (typeof GrpcStatus)[keyof typeof GrpcStatus]

const NAMES: readonly string[] = Object.keys(GrpcStatus).map(name => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase())

/** `UNAVAILABLE` for 14, as the documents of gRPC write it; the number itself for what is no code. */
export function grpcStatusName(status: number): string { return NAMES[status] ?? String(status) }

/** The code that stands for an HTTP status of the proxy's own. */
export function grpcStatusOfHttp(status: number): GrpcStatus {
  switch (status) {
    case 400: case 500: return GrpcStatus.Internal
    case 401: return GrpcStatus.Unauthenticated
    case 403: return GrpcStatus.PermissionDenied
    case 404: case 501: return GrpcStatus.Unimplemented
    case 408: return GrpcStatus.DeadlineExceeded
    case 413: case 414: case 431: return GrpcStatus.ResourceExhausted
    case 421: case 429: case 502: case 503: case 504: return GrpcStatus.Unavailable
    default: return GrpcStatus.Unknown
  }
}

/** Value of `grpc-message`: what is not printable ASCII, and the percent sign, as the percent-encoded bytes of UTF-8. */
export function grpcMessage(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]+|%/gu, part => {
    return Array.from(Buffer.from(part), byte => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('')
  })
}
