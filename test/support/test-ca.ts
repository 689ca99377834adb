/**
 * An authority for tests of TLS: certificates of each right and wrong kind, made at run time, in memory, with ECDSA keys unless
 * another kind is asked for (a key and its certificate take a fifth of a millisecond; with RSA a tenth of a second).
 *
 *   const ca = makeTestCa()
 *   const site = ca.issue({ names: ['a.test', '*.b.test'], ips: ['127.0.0.1'] })
 *   tls.createServer({ cert: site.cert, key: site.key })        tls.connect({ ca: ca.cert, servername: 'a.test' })
 *
 * `cert` is always what a server sends: the leaf, then the authorities between it and the root, without the root.
 */
import { createPublicKey, X509Certificate, type KeyObject } from 'node:crypto'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  keyPem, makeCertificate, makeKey, makeRevocationList, type CertificateContent, type CertificateName, type CertificatePurpose,
  type KeyType,
} from '../../src/certificates/certificate-maker.ts'

export interface TestCertificateOptions {
  /** DNS names; the first one is the common name as well, when it fits. @default ['localhost'] when there are no addresses either */
  readonly names?: readonly string[]
  readonly ips?: readonly string[]
  readonly uris?: readonly string[]
  /** @default the first name or address; null: no subject at all */
  readonly commonName?: string | null
  /** @default an hour ago */
  readonly notBefore?: Date
  /** @default in 90 days */
  readonly notAfter?: Date
  readonly keyType?: KeyType
  /** A key that there is already, in place of a new one: renewals. */
  readonly signedKey?: KeyObject
  /** @default serverAuth and clientAuth; []: the certificate does not say */
  readonly purposes?: readonly CertificatePurpose[]
  readonly serial?: Uint8Array
  readonly mustStaple?: boolean
}

export interface TestCaOptions {
  /** @default 'Cirque test CA' and a number */
  readonly name?: string
  readonly keyType?: KeyType
  readonly notBefore?: Date
  /** @default in 10 years */
  readonly notAfter?: Date
  /** Authorities below it on a path. @default any number */
  readonly pathLength?: number | null
}

export interface TestCertificate {
  /** PEM: the leaf, then the authorities up to the root, which is left out. */
  readonly cert: string
  /** PEM of the leaf alone. */
  readonly leaf: string
  /** PEM, PKCS #8. */
  readonly key: string
  readonly privateKey: KeyObject
  readonly x509: X509Certificate
  readonly serial: Buffer
}

interface CrlTimes {
  /** @default an hour ago */
  readonly thisUpdate?: Date
  /** @default in 30 days */
  readonly nextUpdate?: Date
}

/** What a server is given. */
type Pair = Pick<TestCertificate, 'cert' | 'key'>

const HOUR = 3_600_000, DAY = 24 * HOUR
let made = 0

export class TestCa {
  readonly name: CertificateName
  readonly privateKey: KeyObject
  /** PEM of its own certificate: what trusts it. */
  readonly cert: string
  /** PEM of its private key. */
  readonly key: string
  readonly x509: X509Certificate
  readonly serial: Buffer
  /** PEM of it and of the authorities above it, without the root: what follows a leaf. Of a root: ''. */
  readonly chain: string
  /** The one at the top. */
  readonly root: TestCa
  #revocations = 0

  constructor(parent: TestCa | null, options: TestCaOptions) {
    const { keyType = 'ecdsa', pathLength = null } = options
    this.name = { commonName: options.name ?? `Cirque test CA ${++made}`, organization: 'Cirque tests' }
    this.privateKey = makeKey(keyType)
    this.key = keyPem(this.privateKey)
    const content: CertificateContent = {
      subject: this.name, key: this.privateKey, authority: { pathLength },
      notBefore: options.notBefore ?? inMs(-HOUR), notAfter: options.notAfter ?? inMs(3650 * DAY),
    }
    this.cert = makeCertificate(content, parent === null ? null : { name: parent.name, key: parent.privateKey })
    this.x509 = new X509Certificate(this.cert)
    this.serial = serialOf(this.x509)
    this.root = parent?.root ?? this
    this.chain = parent === null ? '' : this.cert + parent.chain
  }

  issue(options: TestCertificateOptions = {}): TestCertificate {
    const privateKey = options.signedKey ?? makeKey(options.keyType ?? 'ecdsa')
    const leaf = makeCertificate(contentOf(options, privateKey), { name: this.name, key: this.privateKey })
    return testCertificate(leaf, this.chain, privateKey)
  }

  /** An authority below this one. */
  intermediate(options: TestCaOptions = {}): TestCa { return new TestCa(this, options) }

  /** Its time was over yesterday. */
  issueExpired(options: TestCertificateOptions = {}): TestCertificate {
    return this.issue({ notBefore: inMs(-30 * DAY), notAfter: inMs(-DAY), ...options })
  }

  /** Its time begins tomorrow. */
  issueNotYetValid(options: TestCertificateOptions = {}): TestCertificate { return this.issue({ notBefore: inMs(DAY), ...options }) }

  /** It is good for signing mail and nothing else. */
  issueForOtherPurpose(options: TestCertificateOptions = {}): TestCertificate {
    return this.issue({ purposes: ['emailProtection'], ...options })
  }

  /** A list of what it has revoked, PEM. Each list has a higher number than the one before. */
  crl(revoked: readonly Pick<TestCertificate, 'serial'>[] = [], times: CrlTimes = {}): string {
    return makeRevocationList({
      revoked: revoked.map(({ serial }) => ({ serial, at: inMs(-HOUR), reason: 1 })),
      thisUpdate: times.thisUpdate ?? inMs(-HOUR), nextUpdate: times.nextUpdate ?? inMs(30 * DAY), number: ++this.#revocations,
    }, { name: this.name, key: this.privateKey })
  }
}

/** A root of its own. */
export function makeTestCa(options: TestCaOptions = {}): TestCa { return new TestCa(null, options) }

/** A leaf that no authority has signed. */
export function selfSigned(options: TestCertificateOptions = {}): TestCertificate {
  const privateKey = options.signedKey ?? makeKey(options.keyType ?? 'ecdsa')
  return testCertificate(makeCertificate(contentOf(options, privateKey), null), '', privateKey)
}

/** The files of a certificate in `folder`, which is made: `NAME.crt` (with its chain) and `NAME.key`, which only its owner reads. */
export function writeCertificate(folder: string, name: string, { cert, key }: Pair): { certFile: string; keyFile: string } {
  mkdirSync(folder, { recursive: true })
  const certFile = path.join(folder, `${name}.crt`), keyFile = path.join(folder, `${name}.key`)
  writeFileSync(certFile, cert)
  writeFileSync(keyFile, key, { mode: 0o600 })
  chmodSync(keyFile, 0o600)
  return { certFile, keyFile }
}

function contentOf(options: TestCertificateOptions, key: KeyObject): CertificateContent {
  const { ips = [], uris = [] } = options
  const names = options.names ?? (ips.length + uris.length > 0 ? [] : ['localhost'])
  const commonName = options.commonName === undefined ? [...names, ...ips].find(name => name.length <= 64) : options.commonName ?? undefined
  return {
    subject: commonName === undefined ? {} : { commonName }, key, names, ips, uris,
    notBefore: options.notBefore ?? inMs(-HOUR), notAfter: options.notAfter ?? inMs(90 * DAY),
    purposes: options.purposes ?? ['serverAuth', 'clientAuth'],
    ...options.serial === undefined ? null : { serial: options.serial },
    ...options.mustStaple === undefined ? null : { mustStaple: options.mustStaple },
  }
}

function testCertificate(leaf: string, chain: string, privateKey: KeyObject): TestCertificate {
  const x509 = new X509Certificate(leaf)
  // A test that gets a mixed pair by accident would look for its fault elsewhere.
  if (!x509.publicKey.equals(createPublicKey(privateKey))) throw new Error('the certificate is of another key')
  return { cert: leaf + chain, leaf, key: keyPem(privateKey), privateKey, x509, serial: serialOf(x509) }
}

function serialOf(x509: X509Certificate): Buffer {
  const digits = x509.serialNumber
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex')
}

function inMs(ms: number): Date { return new Date(Date.now() + ms) }
