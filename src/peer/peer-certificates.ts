/**
 * Certificates, keys and lists that a peer is given, looked at when it is made: OpenSSL takes a good deal in silence that would fail
 * each handshake later (a list of authorities with nothing in it trusts nobody), and what it refuses it refuses at the first dial.
 *
 * Parsing takes some tens of microseconds a certificate, so what a text was found to be is remembered.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { isCertificate, isPrivateKey, pemBlocks } from '../certificates/pem-text.ts'

/** Texts of which the verdict is remembered; all are forgotten when there are too many. */
const MAX_REMEMBERED = 256
const remembered = new Map<string, string>()

function once(key: string, judge: () => string): string {
  const before = remembered.get(key)
  if (before !== undefined) return before
  const verdict = judge()
  if (remembered.size >= MAX_REMEMBERED) remembered.clear()
  remembered.set(key, verdict)
  return verdict
}

type Pem = string | Buffer

function textOf(pem: Pem): string { return typeof pem === 'string' ? pem : pem.latin1Slice(0, pem.length) }

/** What would do in place of these certificates of authorities; '' when they are some. */
export function describeBadAuthorities(list: readonly Pem[]): string {
  for (const pem of list) {
    const text = textOf(pem), verdict = once(`ca ${text}`, () => judgeCertificates(text))
    if (verdict !== '') return verdict
  }
  return ''
}

/** What would do in place of these revocation lists; '' when they are some. What is in them is OpenSSL's to judge. */
export function describeBadRevocationLists(list: readonly Pem[]): string {
  for (const pem of list) {
    const text = textOf(pem), verdict = once(`crl ${text}`, () => judgeRevocationLists(text))
    if (verdict !== '') return verdict
  }
  return ''
}

/** What would do in place of this certificate and key; '' when they are a pair. */
export function describeBadPair(cert: Pem, key: Pem): string {
  const certText = textOf(cert), keyText = textOf(key)
  return once(`pair ${certText} ${keyText}`, () => judgePair(certText, keyText))
}

/** What would do in place of these groups; '' when OpenSSL knows them. */
export function describeBadGroups(groups: string): string {
  return once(`groups ${groups}`, () => {
    try {
      process.getBuiltinModule('node:tls').createSecureContext({ ecdhCurve: groups })
      return ''
    } catch {
      return "groups that OpenSSL knows, such as 'X25519MLKEM768:X25519:P-256'"
    }
  })
}

function judgeCertificates(text: string): string {
  const blocks = pemBlocks(text).filter(isCertificate)
  if (blocks.length === 0) return 'certificates in PEM (-----BEGIN CERTIFICATE-----), not the path of a file'
  for (const block of blocks) {
    try { new X509Certificate(block.text) } catch { return 'certificates that can be read: one of them is damaged' }
  }
  return ''
}

function judgeRevocationLists(text: string): string {
  const isList = pemBlocks(text).some(({ label }) => label === 'X509 CRL')
  if (!isList) return 'revocation lists in PEM (-----BEGIN X509 CRL-----), not the path of a file'
  try {
    process.getBuiltinModule('node:tls').createSecureContext({ crl: text })
    return ''
  } catch {
    return 'revocation lists that can be read: one of them is damaged'
  }
}

function judgePair(certText: string, keyText: string): string {
  const verdict = judgeCertificates(certText)
  if (verdict !== '') return `in cert ${verdict}`
  const block = pemBlocks(keyText).find(isPrivateKey)
  if (block === undefined) return 'in key a private key in PEM (-----BEGIN PRIVATE KEY-----), not the path of a file'
  const leaf = new X509Certificate(pemBlocks(certText).find(isCertificate)!.text)
  try {
    return leaf.checkPrivateKey(createPrivateKey(block.text)) ? '' : 'the key of the first certificate in cert: this one is of another'
  } catch {
    return 'in key one that can be read and is not encrypted'
  }
}
