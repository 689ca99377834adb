/**
 * What went wrong in a handshake that this process began as a client: the words of Node.js and OpenSSL as kinds of errors, each with
 * what would mend it. Codes carry the alert of the other side (RFC 8446 6) or the complaint of this one; those of certificate
 * chains are OpenSSL's (X509_V_ERR_*).
 */
import { codeOf } from '../../errors/local-faults.ts'
import type { ErrorKind } from '../../errors/proxy-error.ts'

export interface HandshakeFault {
  readonly kind: ErrorKind
  /** One clause, to be read behind the name of the other side. */
  readonly text: string
}

/** What had happened before it went wrong. */
export interface HandshakeProgress {
  /** The other side had shown its certificate: both had agreed on a version, a cipher and a group. */
  readonly sawCertificate: boolean
  /** This side has a certificate to show. */
  readonly hasCertificate: boolean
}

const RENEW = 'renew it there'
const TRUST = "put the authority's certificate into `ca` of the peer"
const UNKNOWN = `the authority of its certificate is not known here; ${TRUST}, or have the server send its intermediate certificates`
const UNTRUSTED = `the authority of its certificate is not trusted here; ${TRUST}`
const NO_LIST = 'there is no revocation list of an authority in its chain; put one of each of them into `crl` of the peer'
const OLD_LIST = 'the revocation list of its authority is out of date; give `crl` of the peer a new one'
const EARLY = 'its certificate, or one of the chain, is not valid yet; compare the clocks of both machines'
const SELF_SIGNED = 'its certificate is signed by itself; put that certificate into `ca` of the peer, if it is to be trusted'

/** By OpenSSL's names. */
const CHAIN_FAULTS: Readonly<Record<string, readonly [ErrorKind, string]>> = {
  CERT_HAS_EXPIRED: ['TLS_CERTIFICATE_EXPIRED', `its certificate, or one of the chain, has expired; ${RENEW}`],
  CERT_NOT_YET_VALID: ['TLS_CERTIFICATE_NOT_YET_VALID', EARLY],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['TLS_SELF_SIGNED', SELF_SIGNED],
  SELF_SIGNED_CERT_IN_CHAIN: ['TLS_UNKNOWN_CA', UNTRUSTED],
  CERT_UNTRUSTED: ['TLS_UNKNOWN_CA', UNTRUSTED],
  UNABLE_TO_GET_ISSUER_CERT: ['TLS_UNKNOWN_CA', UNKNOWN],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['TLS_UNKNOWN_CA', UNKNOWN],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['TLS_UNKNOWN_CA', UNKNOWN],
  INVALID_PURPOSE: ['TLS_WRONG_PURPOSE', 'its certificate is not for servers; have one made with the purpose serverAuth'],
  CERT_REVOKED: ['TLS_CERTIFICATE_REVOKED', `its certificate was revoked; ${RENEW}`],
  UNABLE_TO_GET_CRL: ['TLS_BAD_CERTIFICATE', NO_LIST],
  CRL_HAS_EXPIRED: ['TLS_BAD_CERTIFICATE', OLD_LIST],
}

function fault(kind: ErrorKind, text: string): HandshakeFault { return { kind, text } }

/** @param code what OpenSSL has against the chain: `CERT_HAS_EXPIRED` */
export function chainFault(code: string): HandshakeFault {
  const known = CHAIN_FAULTS[code]
  return known === undefined ? fault('TLS_BAD_CERTIFICATE', `its certificate was not accepted (${code})`) : fault(...known)
}

/** Whether a code of OpenSSL, which begins with the place where it was noticed, is one of `reasons`. */
function says(code: string, reasons: readonly string[]): boolean { return reasons.some(reason => code.endsWith(`_${reason}`)) }

const NOT_TLS = ['WRONG_VERSION_NUMBER', 'UNKNOWN_PROTOCOL', 'HTTP_REQUEST', 'PACKET_LENGTH_TOO_LONG', 'BAD_RECORD_TYPE']
const VERSION = ['ALERT_PROTOCOL_VERSION', 'UNSUPPORTED_PROTOCOL', 'NO_PROTOCOLS_AVAILABLE', 'INAPPROPRIATE_FALLBACK']
const CIPHER = [
  'HANDSHAKE_FAILURE', 'INSUFFICIENT_SECURITY', 'NO_SHARED_CIPHER', 'NO_CIPHERS_AVAILABLE', 'NO_SUITABLE_KEY_SHARE', 'NO_SUITABLE_GROUPS',
  'NO_SUITABLE_SIGNATURE_ALGORITHM',
]
const REFUSED = [
  'ALERT_BAD_CERTIFICATE', 'ALERT_UNSUPPORTED_CERTIFICATE', 'ALERT_CERTIFICATE_REVOKED', 'ALERT_CERTIFICATE_EXPIRED',
  'ALERT_CERTIFICATE_UNKNOWN', 'ALERT_UNKNOWN_CA', 'ALERT_ACCESS_DENIED',
]

/** @param error null: the other side closed the connection */
export function handshakeFault(error: Error | null, progress: HandshakeProgress): HandshakeFault {
  const code = codeOf(error)
  if (error === null || code === 'ECONNRESET' || code === 'EPIPE') {
    return fault('TLS_CLOSED_EARLY', 'it closed the connection within the TLS handshake; look at its own log for the reason')
  }
  if (says(code, NOT_TLS)) {
    return fault('TLS_NOT_SPOKEN', `what answers there speaks no TLS (${code}); leave \`tls\` out, or use its port for TLS`)
  }
  if (says(code, VERSION)) {
    const cure = 'see `tlsMinVersion` and `tlsMaxVersion` of the peer'
    return fault('TLS_VERSION_MISMATCH', `there is no TLS version that both speak (${code}); ${cure}`)
  }
  if (says(code, ['NO_APPLICATION_PROTOCOL'])) {
    return fault('TLS_ALPN_MISMATCH', `it speaks none of the offered protocols (${code}); see \`alpn\` of the peer`)
  }
  if (says(code, ['UNRECOGNIZED_NAME'])) {
    return fault('TLS_WRONG_NAME', `it has no server of that name (${code}); see \`sni\` of the peer`)
  }
  const certificate = certificateFault(code, progress.hasCertificate)
  if (certificate !== null) return certificate
  if (says(code, CIPHER)) {
    // TLS 1.2 has no alert of its own for a certificate that is missing; by then all else was agreed on.
    if (progress.sawCertificate && code.includes('ALERT_')) return progress.hasCertificate ? refused(code) : required(code)
    return fault('TLS_NO_SHARED_CIPHER', `there is no cipher, group or signature that both know (${code}); see \`curves\` of the peer`)
  }
  return fault('TLS_HANDSHAKE', `the TLS handshake failed: ${code === '' ? error.message : code}`)
}

/**
 * The alert by which a server says, behind the handshake of TLS 1.3 too, that it wants another client certificate; null: it is none.
 * It has read nothing of what came behind the handshake then (RFC 8446 4.4.2.4).
 */
export function certificateFault(code: string, hasCertificate = true): HandshakeFault | null {
  if (says(code, ['ALERT_CERTIFICATE_REQUIRED'])) return required(code)
  return hasCertificate && says(code, REFUSED) ? refused(code) : null
}

function required(code: string): HandshakeFault {
  return fault('TLS_CLIENT_CERTIFICATE_REQUIRED', `it wants a client certificate (${code}); give the peer a \`clientCert\``)
}

function refused(code: string): HandshakeFault {
  return fault('TLS_CLIENT_CERTIFICATE_REFUSED', `it did not take the client certificate (${code}); see \`clientCert\` of the peer`)
}
