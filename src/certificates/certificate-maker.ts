/**
 * Makes X.509 certificates of version 3 and revocation lists (RFC 5280), which Node.js can read but not make: for a demo that serves
 * https at its first start, and for tests, which need a wrong certificate of each kind.
 *
 * Signs whatever it is told, also what no verifier takes (expired, for another purpose, signed by what is no authority): what a
 * certificate is good for is decided by the caller. What cannot be written at all is a TypeError or a RangeError.
 * Keys are ECDSA on P-256 or P-384, RSA of 2048 bits, and Ed25519; signatures go with the issuer's key.
 * Where keys and certificates are kept, and when they are made anew, is left to others (test/support/test-ca.ts is one).
 */
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import {
  addressBytes, derBitString, derBoolean, derEnumerated, derExplicit, derImplicit, derInteger, derNamedBits, derNull,
  derObjectIdentifier, derOctetString, derSequence, derSet, derTime, derUtf8String, pemOf,
} from '../primitives/der.ts'

export type KeyType = 'ecdsa' | 'ecdsa-p384' | 'rsa' | 'ed25519'

/** What a certificate may be used for (RFC 5280, 4.2.1.12). */
export type CertificatePurpose = 'serverAuth' | 'clientAuth' | 'codeSigning' | 'emailProtection' | 'OCSPSigning'

/** Who signs: a name and a key. Its certificate is nobody's business here. */
export interface CertificateIssuer {
  readonly name: CertificateName
  readonly key: KeyObject
}

/** At least one of the two, unless the certificate has alternative names. */
export interface CertificateName {
  /** At most 64 characters. @default none */
  readonly commonName?: string
  /** @default none */
  readonly organization?: string
}

export interface CertificateContent {
  readonly subject: CertificateName
  /** Public or private; the public half goes into the certificate. */
  readonly key: KeyObject
  readonly notBefore: Date
  readonly notAfter: Date
  /** DNS names, a wildcard as the first label included. @default none */
  readonly names?: readonly string[]
  /** IP addresses. @default none */
  readonly ips?: readonly string[]
  /** URIs, such as the identity of a workload (spiffe://). @default none */
  readonly uris?: readonly string[]
  /** Whether it may sign certificates, and how many authorities may stand between it and a leaf (null: any number). @default it may not */
  readonly authority?: { readonly pathLength: number | null }
  /** @default none are named, so that it is good for each */
  readonly purposes?: readonly CertificatePurpose[]
  /** At most 20 bytes, positive. @default 16 random bytes */
  readonly serial?: Uint8Array
  /** The status_request feature (RFC 7633): a server must staple an answer of OCSP. @default false */
  readonly mustStaple?: boolean
}

const ID = {
  commonName: '2.5.4.3', organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14', keyUsage: '2.5.29.15', subjectAltName: '2.5.29.17', basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20', crlReason: '2.5.29.21',
  authorityKeyIdentifier: '2.5.29.35', extendedKeyUsage: '2.5.29.37', tlsFeature: '1.3.6.1.5.5.7.1.24',
} as const
const PURPOSE_IDS: Readonly<Record<CertificatePurpose, string>> = {
  serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2', codeSigning: '1.3.6.1.5.5.7.3.3',
  emailProtection: '1.3.6.1.5.5.7.3.4', OCSPSigning: '1.3.6.1.5.5.7.3.9',
}
/** Bits of keyUsage (RFC 5280, 4.2.1.3). */
const KeyUsage = { DigitalSignature: 0, KeyEncipherment: 2, KeyCertSign: 5, CrlSign: 6 } as const
/** Numbers of GeneralName (RFC 5280, 4.2.1.6). */
const GeneralName = { Dns: 2, Uri: 6, Ip: 7 } as const
/** Versions are written as one less. */
const CERTIFICATE_V3 = 2, CRL_V2 = 1
/** TLS extension 5, status_request. */
const STATUS_REQUEST = 5
/** ub-common-name (RFC 5280, appendix A.1). */
const COMMON_NAME_MAX = 64
/** RFC 5280, 4.1.2.2. */
const SERIAL_BYTES_MAX = 20
const SERIAL_BYTES = 16
/** Of the hash in a key identifier: 160 bits. */
const KEY_IDENTIFIER_BYTES = 20

/** @returns a new private key; its public half comes with it */
export function makeKey(type: KeyType): KeyObject {
  switch (type) {
    case 'ecdsa': return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    case 'ecdsa-p384': return generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
    case 'rsa': return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    case 'ed25519': return generateKeyPairSync('ed25519').privateKey
  }
}

export function keyPem(key: KeyObject): string { return key.export({ type: 'pkcs8', format: 'pem' }) as string }

/** @param issuer null: it signs itself, for which its key must be the private one @returns PEM */
export function makeCertificate(content: CertificateContent, issuer: CertificateIssuer | null): string {
  const signer = issuer ?? { name: content.subject, key: content.key }
  const algorithm = signatureAlgorithm(signer.key)
  const toBeSigned = derSequence(
    derExplicit(0, derInteger(CERTIFICATE_V3)),
    derSerial(content.serial ?? randomBytes(SERIAL_BYTES)),
    algorithm.identifier,
    derName(signer.name),
    derSequence(derTime(content.notBefore), derTime(content.notAfter)),
    derName(content.subject),
    publicKeyBytes(content.key),
    derExplicit(3, derSequence(...extensionsOf(content, signer.key))),
  )
  return pemOf('CERTIFICATE', signed(toBeSigned, algorithm, signer.key))
}

export interface RevokedCertificate {
  readonly serial: Uint8Array
  readonly at: Date
  /** A number of RFC 5280, 5.3.1; 1 is a key that was stolen. @default none is given */
  readonly reason?: number
}

export interface RevocationList {
  readonly revoked: readonly RevokedCertificate[]
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Goes up from list to list. @default 1 */
  readonly number?: number
}

/** A list of the second version (RFC 5280, section 5). @returns PEM */
export function makeRevocationList(list: RevocationList, issuer: CertificateIssuer): string {
  const algorithm = signatureAlgorithm(issuer.key)
  const entries = list.revoked.map(({ serial, at, reason }) => derSequence(
    derSerial(serial), derTime(at), ...reason === undefined ? [] : [derSequence(extension(ID.crlReason, false, derEnumerated(reason)))],
  ))
  const toBeSigned = derSequence(
    derInteger(CRL_V2), algorithm.identifier, derName(issuer.name), derTime(list.thisUpdate), derTime(list.nextUpdate),
    // An empty list of entries is left out (5.1.2.6).
    ...entries.length === 0 ? [] : [derSequence(...entries)],
    derExplicit(0, derSequence(authorityKeyIdentifier(issuer.key), extension(ID.crlNumber, false, derInteger(list.number ?? 1)))),
  )
  return pemOf('X509 CRL', signed(toBeSigned, algorithm, issuer.key))
}

function extensionsOf(content: CertificateContent, signerKey: KeyObject): Buffer[] {
  const { authority, purposes = [] } = content
  const usage: number[] = authority === undefined ? [KeyUsage.DigitalSignature] : [KeyUsage.KeyCertSign, KeyUsage.CrlSign]
  if (authority === undefined && content.key.asymmetricKeyType === 'rsa') usage.push(KeyUsage.KeyEncipherment)
  const extensions = [
    extension(ID.basicConstraints, true, basicConstraints(authority)),
    extension(ID.keyUsage, true, derNamedBits(...usage)),
    extension(ID.subjectKeyIdentifier, false, derOctetString(keyIdentifier(content.key))),
    authorityKeyIdentifier(signerKey),
  ]
  if (purposes.length > 0) {
    const ids = purposes.map(purpose => derObjectIdentifier(PURPOSE_IDS[purpose]))
    extensions.push(extension(ID.extendedKeyUsage, false, derSequence(...ids)))
  }
  const names = generalNames(content)
  // Without a subject the names are all that there is, and a verifier that does not know them must refuse (4.2.1.6).
  if (names.length > 0) extensions.push(extension(ID.subjectAltName, isEmpty(content.subject), derSequence(...names)))
  if (content.mustStaple === true) extensions.push(extension(ID.tlsFeature, false, derSequence(derInteger(STATUS_REQUEST))))
  return extensions
}

function basicConstraints(authority: CertificateContent['authority']): Buffer {
  // A leaf says nothing, which is what FALSE is written as.
  if (authority === undefined) return derSequence()
  const { pathLength } = authority
  return derSequence(derBoolean(true), ...pathLength === null ? [] : [derInteger(pathLength)])
}

function generalNames({ names = [], ips = [], uris = [] }: CertificateContent): Buffer[] {
  return [
    ...names.map(name => derImplicit(GeneralName.Dns, dnsName(name))),
    ...ips.map(address => derImplicit(GeneralName.Ip, addressBytes(address))),
    ...uris.map(uri => derImplicit(GeneralName.Uri, uri)),
  ]
}

function dnsName(name: string): string {
  if (!/^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(name)) {
    throw new TypeError(`'${name}' is no name of a certificate; write it in ASCII, without a dot at the end, a wildcard as the first label`)
  }
  return name
}

function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  return derSequence(derObjectIdentifier(id), ...critical ? [derBoolean(true)] : [], derOctetString(value))
}

function authorityKeyIdentifier(signerKey: KeyObject): Buffer {
  return extension(ID.authorityKeyIdentifier, false, derSequence(derImplicit(0, keyIdentifier(signerKey))))
}

/** The hash of the whole key (RFC 7093, section 2, method 4), so that the issuer's certificate is not needed to name its key. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha256').update(publicKeyBytes(key)).digest().subarray(0, KEY_IDENTIFIER_BYTES)
}

function publicKeyBytes(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return publicKey.export({ type: 'spki', format: 'der' })
}

function isEmpty(name: CertificateName): boolean { return name.commonName === undefined && name.organization === undefined }

function derName({ commonName, organization }: CertificateName): Buffer {
  if (commonName !== undefined && commonName.length > COMMON_NAME_MAX) {
    throw new RangeError(`a common name of ${commonName.length} characters is too long; ${COMMON_NAME_MAX} fit, longer names go into names`)
  }
  const part = (id: string, text: string | undefined): Buffer[] =>
    text === undefined ? [] : [derSet(derSequence(derObjectIdentifier(id), derUtf8String(text)))]
  return derSequence(...part(ID.organization, organization), ...part(ID.commonName, commonName))
}

/** A serial number is positive and not 0 (RFC 5280, 4.1.2.2): bytes whose first is too high lose its highest bit. */
function derSerial(bytes: Uint8Array): Buffer {
  if (bytes.length === 0 || bytes.length > SERIAL_BYTES_MAX) throw new RangeError(`a serial number has 1 to ${SERIAL_BYTES_MAX} bytes`)
  const value = BigInt(`0x${Buffer.from(bytes).toString('hex')}`) & ((1n << BigInt(8 * bytes.length - 1)) - 1n)
  return derInteger(value === 0n ? 1n : value)
}

interface SignatureAlgorithm {
  readonly identifier: Buffer
  /** Null: the key has one of its own. */
  readonly hash: string | null
}

function signatureAlgorithm(key: KeyObject): SignatureAlgorithm {
  switch (key.asymmetricKeyType) {
    case 'rsa': return { identifier: derSequence(derObjectIdentifier('1.2.840.113549.1.1.11'), derNull()), hash: 'sha256' }
    case 'ed25519': return { identifier: derSequence(derObjectIdentifier('1.3.101.112')), hash: null }
    case 'ec': {
      const large = key.asymmetricKeyDetails?.namedCurve === 'secp384r1'
      const identifier = derSequence(derObjectIdentifier(large ? '1.2.840.10045.4.3.3' : '1.2.840.10045.4.3.2'))
      return { identifier, hash: large ? 'sha384' : 'sha256' }
    }
    default: throw new TypeError(`a key of the kind ${String(key.asymmetricKeyType)} signs no certificates here; use ECDSA, RSA or Ed25519`)
  }
}

function signed(toBeSigned: Buffer, { identifier, hash }: SignatureAlgorithm, key: KeyObject): Buffer {
  return derSequence(toBeSigned, identifier, derBitString(sign(hash, toBeSigned, key)))
}
