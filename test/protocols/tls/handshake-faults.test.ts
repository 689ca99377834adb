import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ErrorKind } from '../../../src/errors/proxy-error.ts'
import { certificateFault, chainFault, handshakeFault } from '../../../src/protocols/tls/handshake-faults.ts'

const EARLY = { sawCertificate: false, hasCertificate: false }

/** Codes as OpenSSL 3.5 has them, with the place where each was noticed. */
const CODES: readonly (readonly [code: string, kind: ErrorKind])[] = [
  ['ECONNRESET', 'TLS_CLOSED_EARLY'], ['EPIPE', 'TLS_CLOSED_EARLY'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'TLS_NOT_SPOKEN'], ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'TLS_NOT_SPOKEN'],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'TLS_VERSION_MISMATCH'], ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'TLS_VERSION_MISMATCH'],
  ['ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', 'TLS_NO_SHARED_CIPHER'], ['ERR_SSL_NO_CIPHERS_AVAILABLE', 'TLS_NO_SHARED_CIPHER'],
  ['ERR_SSL_TLSV1_ALERT_INSUFFICIENT_SECURITY', 'TLS_NO_SHARED_CIPHER'],
  ['ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', 'TLS_ALPN_MISMATCH'], ['ERR_SSL_TLSV1_UNRECOGNIZED_NAME', 'TLS_WRONG_NAME'],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'TLS_CLIENT_CERTIFICATE_REQUIRED'],
  ['ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR', 'TLS_HANDSHAKE'], ['ERR_SSL_DECRYPT_ERROR', 'TLS_HANDSHAKE'],
]

test('handshake faults: every code has its kind, and stands in the text', () => {
  for (const [code, kind] of CODES) {
    const fault = handshakeFault(Object.assign(new Error('no'), { code }), EARLY)
    assert.equal(fault.kind, kind, code)
    assert.ok(fault.text.includes(code) || kind === 'TLS_CLOSED_EARLY')
  }
  assert.equal(handshakeFault(null, EARLY).kind, 'TLS_CLOSED_EARLY')
  assert.match(handshakeFault(new Error('of another sort'), EARLY).text, /of another sort/)
})

test('handshake faults: an alert behind the certificate of TLS 1.2 is about the one of this side', () => {
  const error = Object.assign(new Error('no'), { code: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE' })
  assert.equal(handshakeFault(error, { sawCertificate: true, hasCertificate: false }).kind, 'TLS_CLIENT_CERTIFICATE_REQUIRED')
  assert.equal(handshakeFault(error, { sawCertificate: true, hasCertificate: true }).kind, 'TLS_CLIENT_CERTIFICATE_REFUSED')
})

test('handshake faults: alerts about a client certificate are those, and no others are', () => {
  for (const alert of ['UNKNOWN_CA', 'BAD_CERTIFICATE', 'CERTIFICATE_EXPIRED', 'CERTIFICATE_REVOKED', 'ACCESS_DENIED']) {
    assert.equal(certificateFault(`ERR_SSL_SSL/TLS_ALERT_${alert}`)!.kind, 'TLS_CLIENT_CERTIFICATE_REFUSED')
    // Who showed none was refused nothing.
    assert.equal(certificateFault(`ERR_SSL_SSL/TLS_ALERT_${alert}`, false), null)
  }
  for (const code of ['', 'ECONNRESET', 'ERR_TLS_CUT', 'ERR_SSL_BAD_RECORD_MAC']) assert.equal(certificateFault(code), null)
})

test('handshake faults: what OpenSSL has against a chain and is not known here is named', () => {
  const { kind, text } = chainFault('EE_KEY_TOO_SMALL')
  assert.deepEqual([kind, text], ['TLS_BAD_CERTIFICATE', 'its certificate was not accepted (EE_KEY_TOO_SMALL)'])
  assert.equal(chainFault('CERT_REVOKED').kind, 'TLS_CERTIFICATE_REVOKED')
})
