/**
 * Fields that belong to one connection and must not cross the proxy (RFC 9110 7.6.1). Besides these go the ones that
 * the message's own Connection field names (protocols/http1/framing.ts collects them).
 */
import { FieldKind } from './header-map.ts'

/** Never forwarded, in either direction; the session writes its own. */
export const HOP_BY_HOP: number =
  (1 << FieldKind.Connection) | (1 << FieldKind.KeepAlive) | (1 << FieldKind.ProxyConnection) | (1 << FieldKind.TransferEncoding) |
  (1 << FieldKind.Upgrade) | (1 << FieldKind.Te) | (1 << FieldKind.Http2Settings)

/** Meant for the first proxy on the way, not for the origin behind it. */
export const HOP_BY_HOP_REQUEST: number = HOP_BY_HOP | (1 << FieldKind.ProxyAuthentication)

/** What a client outside of the trusted hops must not tell the origin (decided by the exchange). */
export const FORWARDED_FIELDS: number = (1 << FieldKind.Forwarded) | (1 << FieldKind.XForwarded) | (1 << FieldKind.XRealIp)
