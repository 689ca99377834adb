/**
 * A certificate entry: names, and the chains and keys that are served for them. It is read and checked as a whole before anything
 * uses it, because OpenSSL takes a good deal in silence that fails each handshake later: a chain without its key, a list of
 * authorities with nothing in it, a pair whose time is over.
 *
 * What would not do is a mistake with the file, what is wrong, and what would do; all of them are found at once. What is odd and
 * works is a remark. Which entry serves a name is certificate-map.ts in src/protocols/tls; when files are read again is decided
 * elsewhere.
 */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { isCertificate, isPrivateKey, pemBlocks, readPem, readSmallFile, type PemFileError, type PemText } from './pem-text.ts'
import { isMadeFor, isServerName, plainServerName } from './server-name.ts'

/** Whether clients are asked for certificates: never; asked, and served without one; none is served without a good one. */
export type ClientCertificates = 'none' | 'optional' | 'required'

/** A certificate for one or more names, as an application gives it. Each text is PEM, or the path of a file with PEM. */
export interface GivenCertificate {
  /** Names that it is served for; a wildcard stands for one label. Left out: those in the certificate. */
  readonly names?: readonly string[]
  /** The server's own certificate first, then those that lead to its authority. Of several kinds of key for the same names: a list. */
  readonly cert: string | readonly string[]
  /** In the order of `cert`. Left out: they stand in the same texts. */
  readonly key?: string | readonly string[]
  /** File with an answer of OCSP (DER) that is stapled to handshakes. Left out: none. */
  readonly ocspFile?: string
  /** For these names in place of what the listener says. */
  readonly clientCertificates?: ClientCertificates
  /** Authorities of clients' certificates, for these names in place of those of the listener. */
  readonly clientCa?: string | readonly string[]
  /** Lists of what was revoked: one of each authority that may stand in a client's chain. For these names alone. */
  readonly clientCrl?: string | readonly string[]
}

/** One chain and its key. */
export interface CertificatePair {
  /** '' for what was given as text. */
  readonly certFile: string
  readonly keyFile: string
  /** PEM, the leaf first. */
  readonly cert: string
  /** PEM. Never to be shown. */
  readonly key: string
  readonly leaf: X509Certificate
  /** `rsa`, `ec`, `ed25519`. */
  readonly keyType: string
  /** ms since 1970. */
  readonly notBefore: number
  readonly notAfter: number
}

/** What a client's certificate is checked against. */
export interface ClientRules {
  readonly mode: ClientCertificates
  /** PEM. */
  readonly ca: readonly string[]
  readonly crl: readonly string[]
}

export const NO_CLIENT_CERTIFICATES: ClientRules = Object.freeze({ mode: 'none', ca: [], crl: [] })

/** Read, checked, and complete. */
export interface CertificateEntry {
  /** In lower case; none only where it is the default. */
  readonly names: readonly string[]
  /** At least one, each with another kind of key. */
  readonly pairs: readonly CertificatePair[]
  /** DER. */
  readonly ocsp: Buffer | null
  readonly clients: ClientRules
  /** The same for entries that say the same: contexts are kept by it. */
  readonly fingerprint: string
}

/** Something that is wrong or odd, as one clause behind where it is. */
export interface CertificateMistake {
  /** A file, or what it was given as: `certificates[1].key`. */
  readonly where: string
  /** What was found, and what would do. */
  readonly text: string
}

/** What is odd and works. */
export interface CertificateRemark extends CertificateMistake {
  /** It may well be meant so. */
  readonly meant: boolean
}

/** Certificates that cannot be used. The message has a line for each fault. */
export class CertificateError extends Error {
  /** Each certificate that will not do, with its place and what would. */
  readonly mistakes: readonly CertificateMistake[]

  /** @internal */
  constructor(mistakes: readonly CertificateMistake[]) {
    super(mistakes.map(({ where, text }) => `${where} ${text}`).join('\n'))
    this.name = 'CertificateError'
    this.mistakes = mistakes
  }
}

export interface ReadingOptions {
  /** ms since 1970: what is over or has not begun by then is wrong. */
  readonly now: number
  /**
   * Whether one whose time is over is a mistake or a remark: where there is nothing better, clients that are warned are served
   * better than clients that are turned away.
   */
  readonly refusesExpired: boolean
  /** What holds for entries that say nothing of clients' certificates. */
  readonly clients: ClientRules
}

export interface ReadCertificates {
  /** The first one is the default. */
  readonly entries: readonly CertificateEntry[]
  readonly remarks: readonly CertificateRemark[]
}

/** @param at what messages call the list. @throws CertificateError with every mistake there is */
export function readCertificates(given: readonly GivenCertificate[], options: ReadingOptions, at = 'certificates'): ReadCertificates {
  const reader = new Reader(options), taken = new Map<string, string>()
  const entries = given.map((one, index) => reader.entry(one, `${at}[${index}]`, index === 0))
  for (const [index, entry] of entries.entries()) {
    if (entry === null) continue
    const where = given.length === 1 ? at : `${at}[${index}]`
    for (const name of entry.names) {
      const before = taken.get(name)
      if (before === undefined) taken.set(name, where)
      else reader.remark(where, `names ${name}, which ${before} serves already; that one goes on serving it`)
    }
  }
  return { entries: reader.finish(entries), remarks: reader.remarks }
}

/** Authorities and lists for clients' certificates. @throws CertificateError with every mistake there is */
export function readClientRules(
  mode: ClientCertificates, ca: readonly string[], crl: readonly string[], at = 'tls', base: ClientRules = NO_CLIENT_CERTIFICATES,
): ClientRules {
  const reader = new Reader({ now: Date.now(), refusesExpired: false, clients: base })
  const rules = reader.clients({ mode, ca, crl }, at)
  reader.finish([])
  return rules
}

/**
 * What is there, and asks clients for what it asks for by these rules.
 * @param base what holds where `given` says nothing. Where a file that is its own will not do, the rules stay as they are
 */
export function withClientRules(entry: CertificateEntry, given: GivenCertificate, base: ClientRules): CertificateEntry {
  const reader = new Reader({ now: 0, refusesExpired: false, clients: base }), clients = reader.clientsOf(given, 'certificates')
  if (reader.mistakes.length > 0) return entry
  return Object.freeze({ ...entry, clients, fingerprint: fingerprintOf(entry.pairs, entry.ocsp, clients) })
}

class Reader {
  readonly mistakes: CertificateMistake[] = []
  readonly remarks: CertificateRemark[] = []
  readonly #options: ReadingOptions

  constructor(options: ReadingOptions) { this.#options = options }

  fault(where: string, text: string): null {
    this.mistakes.push({ where, text })
    return null
  }

  remark(where: string, text: string, meant = false): void { this.remarks.push({ where, text, meant }) }

  /** @throws CertificateError unless nothing was wrong, and then none of them is null */
  finish(entries: readonly (CertificateEntry | null)[]): readonly CertificateEntry[] {
    if (this.mistakes.length > 0) throw new CertificateError(this.mistakes)
    return entries as readonly CertificateEntry[]
  }

  entry(given: GivenCertificate, at: string, isDefault: boolean): CertificateEntry | null {
    if (typeof given !== 'object' || given === null) return this.fault(at, 'is no object; use { cert, key }')
    const certs = listOf(given.cert), keys = given.key === undefined ? certs : listOf(given.key)
    if (certs.length === 0) return this.fault(at, 'has no cert; give PEM or a file with it')
    if (keys.length !== certs.length) {
      return this.fault(at, `has ${certs.length} cert and ${keys.length} key; give one key for each, in the same order`)
    }
    const before = this.mistakes.length
    const pairs = certs.map((cert, index) => {
      const numbered = certs.length === 1 ? '' : `[${index}]`
      return this.#pair(cert, keys[index]!, { cert: `${at}.cert${numbered}`, key: `${at}.key${numbered}` })
    })
    const ocsp = given.ocspFile === undefined ? null : this.#ocsp(given.ocspFile)
    const clients = this.clientsOf(given, at)
    if (this.mistakes.length > before) return null
    const whole = pairs as CertificatePair[]
    const kinds = whole.map(({ keyType }) => keyType)
    const twice = kinds.find((kind, index) => kinds.indexOf(kind) !== index)
    if (twice !== undefined) return this.fault(at, `has two certificates with keys of kind ${twice}; make an entry of each`)
    const names = given.names === undefined ? namesOf(whole) : this.#names(given.names, at, whole)
    if (names === null) return null
    if (names.length === 0 && !isDefault) {
      return this.fault(whole[0]!.certFile || `${at}.cert`, 'names no host, and so would serve none; say which in `names`')
    }
    const fingerprint = fingerprintOf(whole, ocsp, clients)
    return Object.freeze({ names, pairs: whole, ocsp, clients, fingerprint })
  }

  #pair(cert: string, key: string, at: { cert: string; key: string }): CertificatePair | null {
    const certText = this.#read(cert, at.cert, 'a file with the chain in PEM, the certificate of the server first')
    // One file with both is read once, and its mistakes are told once.
    const keyText = cert === key ? certText : this.#read(key, at.key, 'a file with the private key in PEM')
    if (certText === null || keyText === null) return null
    const where = certText.file || at.cert, keyWhere = keyText.file || at.key
    const chain = this.#chain(certText, where), privateKey = this.#key(keyText, keyWhere, cert === key)
    if (chain === null || privateKey === null) return null
    const [leaf] = chain
    if (!leaf!.checkPrivateKey(privateKey.object)) {
      const owner = chain.findIndex(one => one.checkPrivateKey(privateKey.object))
      if (owner > 0) return this.fault(where, `has the certificate of the key in place ${owner + 1}; put it first`)
      return this.fault(keyWhere, `does not belong to the certificate in ${where}; give the key that it was made with`)
    }
    const notBefore = leaf!.validFromDate.getTime(), notAfter = leaf!.validToDate.getTime()
    if (!this.#isInTime(where, notBefore, notAfter)) return null
    this.#remarkOrder(chain, where)
    return {
      certFile: certText.file, keyFile: keyText.file, cert: pemOf(certText), key: privateKey.pem, leaf: leaf!,
      keyType: privateKey.object.asymmetricKeyType ?? 'unknown', notBefore, notAfter,
    }
  }

  #read(given: string, at: string, remedy: string): PemText | null {
    if (typeof given !== 'string' || given === '') return this.fault(at, `is no text; use PEM, or ${remedy}`)
    try { return readPem(given) } catch (error) {
      return this.fault(given, `${(error as PemFileError).message}; use ${remedy}`)
    }
  }

  /** The leaf first; null: there is a mistake in it. */
  #chain({ text }: PemText, where: string): X509Certificate[] | null {
    const blocks = pemBlocks(text), certificates = blocks.filter(isCertificate)
    if (certificates.length === 0) {
      const holds = blocks.length === 0 ? 'nothing in PEM' : `${blocks.map(({ label }) => label.toLowerCase()).join(', ')} only`
      return this.fault(where, `holds ${holds}; use a file with certificates in PEM`)
    }
    const chain: X509Certificate[] = []
    for (const [index, block] of certificates.entries()) {
      try { chain.push(new X509Certificate(block.text)) } catch {
        return this.fault(where, `has a certificate in place ${index + 1} that cannot be read; get the file anew`)
      }
    }
    return chain
  }

  #key({ text }: PemText, where: string, isShared: boolean): { object: KeyObject; pem: string } | null {
    const blocks = pemBlocks(text).filter(isPrivateKey)
    if (blocks.length === 0) {
      return this.fault(where, isShared ? 'holds no private key; give one as `key`, or put it into the same file' : 'holds no private key')
    }
    if (blocks.length > 1) return this.fault(where, `holds ${blocks.length} private keys; use a file for each`)
    const pem = blocks[0]!.text
    if (pem.includes('ENCRYPTED')) {
      return this.fault(where, 'is encrypted; use a key without a passphrase that only its owner may read (openssl pkey -in ... -out ...)')
    }
    try { return { object: createPrivateKey(pem), pem } } catch {
      return this.fault(where, 'holds a private key that cannot be read; use PEM as openssl writes it')
    }
  }

  #isInTime(where: string, notBefore: number, notAfter: number): boolean {
    const { now, refusesExpired } = this.#options
    if (notAfter > now && notBefore <= now) return true
    const text = notAfter <= now
      ? `is expired since ${new Date(notAfter).toISOString()}; renew it`
      : `is not valid before ${new Date(notBefore).toISOString()}; wait until then, or look at the clock of this machine`
    if (refusesExpired) this.fault(where, text)
    else this.remark(where, text)
    return !refusesExpired
  }

  #remarkOrder(chain: readonly X509Certificate[], where: string): void {
    const gap = chain.findIndex((one, index) => index > 0 && !chain[index - 1]!.checkIssued(one))
    if (gap > 0) {
      this.remark(where, `has a certificate in place ${gap + 1} that did not sign the one before it; clients may not find the way`)
    }
    const [leaf] = chain
    if (chain.length === 1 && leaf!.issuer !== leaf!.subject) {
      this.remark(where, 'has no certificate behind that of the server; unless a root signed it, clients cannot find the way to one', true)
    }
  }

  #ocsp(file: string): Buffer | null {
    let bytes: Buffer
    try { bytes = readSmallFile(file) } catch (error) {
      return this.fault(file, `${(error as PemFileError).message}; use a file with an answer of OCSP in DER, or leave it out`)
    }
    // SEQUENCE { ENUMERATED 0 (successful), ... }, RFC 6960 4.2.1.
    const at = bytes.indexOf(SUCCESSFUL), isAnswer = bytes[0] === 0x30 && at >= 2 && at <= 2 + MAX_LENGTH_BYTES
    return isAnswer ? bytes : this.fault(file, 'holds no successful answer of OCSP in DER (openssl ocsp -respout)')
  }

  #names(given: readonly string[], at: string, pairs: readonly CertificatePair[]): readonly string[] | null {
    if (!Array.isArray(given)) return this.fault(`${at}.names`, 'is no list; use host names')
    const names: string[] = []
    for (const one of given as readonly unknown[]) {
      const name = typeof one === 'string' ? plainServerName(one) : ''
      if (!isServerName(name)) {
        this.fault(`${at}.names`, `has ${JSON.stringify(one) ?? String(one)}; use a host name in ASCII such as a.example or *.a.example`)
        return null
      }
      names.push(name)
      const missing = pairs.find(({ leaf }) => !isMadeFor(leaf, name.replace('*', 'any')))
      if (missing !== undefined) this.remark(missing.certFile || `${at}.cert`, `is not made for ${name}; clients will refuse it there`)
    }
    return [...new Set(names)]
  }

  clientsOf({ clientCertificates, clientCa, clientCrl }: GivenCertificate, at: string): ClientRules {
    const base = this.#options.clients
    if (clientCertificates === undefined && clientCa === undefined && clientCrl === undefined) return base
    const mode = clientCertificates ?? base.mode
    if (mode === 'none') return this.clients({ mode, ca: listOf(clientCa), crl: listOf(clientCrl) }, at)
    return this.clients({
      mode, ca: clientCa === undefined ? [...base.ca] : listOf(clientCa), crl: clientCrl === undefined ? [...base.crl] : listOf(clientCrl),
    }, at)
  }

  clients({ mode, ca, crl }: ClientRules, at: string): ClientRules {
    if (mode !== 'none' && mode !== 'optional' && mode !== 'required') {
      this.fault(`${at}.clientCertificates`, `is ${JSON.stringify(mode) ?? String(mode)}; use 'none', 'optional' or 'required'`)
      return NO_CLIENT_CERTIFICATES
    }
    if (mode === 'none') {
      // Nobody gives authorities who wants everybody let in.
      const [unused] = ca.length > 0 ? ['clientCa'] : crl.length > 0 ? ['clientCrl'] : []
      if (unused !== undefined) this.fault(`${at}.${unused}`, NOBODY_ASKED)
      return NO_CLIENT_CERTIFICATES
    }
    if (ca.length === 0) this.fault(`${at}.clientCa`, 'is missing; give the authorities of clients in PEM, or a file with them')
    const authorities = ca.flatMap(one => this.#authorities(one, `${at}.clientCa`))
    return { mode, ca: authorities, crl: crl.flatMap(one => this.#lists(one, `${at}.clientCrl`)) }
  }

  #authorities(given: string, at: string): string[] {
    const text = this.#read(given, at, 'a file with certificates of authorities in PEM')
    const chain = text === null ? null : this.#chain(text, text.file || at)
    if (chain === null) return []
    for (const one of chain) {
      if (one.ca) continue
      this.fault(text!.file || at, `has ${subjectOf(one)}, which is no authority; use the certificate of the one that signed it`)
    }
    return [pemOf(text!)]
  }

  #lists(given: string, at: string): string[] {
    const text = this.#read(given, at, 'a file with revocation lists in PEM')
    if (text === null) return []
    const lists = pemBlocks(text.text).filter(({ label }) => label === 'X509 CRL')
    if (lists.length === 0) this.fault(text.file || at, 'holds no revocation list in PEM (X509 CRL)')
    return lists.map(list => list.text)
  }
}

const NOBODY_ASKED = "is given, and clients are asked for no certificates; use clientCertificates: 'required' or 'optional' beside it"

/** The status of an answer of OCSP, behind a tag and a length of one to five bytes. */
const SUCCESSFUL = Buffer.from([0x0a, 0x01, 0x00]), MAX_LENGTH_BYTES = 5

function listOf(given: string | readonly string[] | undefined): string[] {
  return given === undefined ? [] : typeof given === 'string' ? [given] : [...given]
}

/** The certificates alone: a key in the same file goes nowhere else. */
function pemOf({ text }: PemText): string { return pemBlocks(text).filter(isCertificate).map(block => block.text).join('') }

/** Names of hosts that all its certificates have, as alternative names, or as the common name where there are none (RFC 6125 6.4.4). */
function namesOf(pairs: readonly CertificatePair[]): readonly string[] {
  const [first = [], ...others] = pairs.map(({ leaf }) => namesOfCertificate(leaf))
  return first.filter(name => others.every(names => names.includes(name)))
}

export function namesOfCertificate(certificate: X509Certificate): string[] {
  const { subjectAltName } = certificate
  // A name with a comma in it is written in quotes, and is none of a host.
  const listed = subjectAltName === undefined ? [/^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? '']
    : subjectAltName.split(', ').map(one => /^DNS:(.*)$/.exec(one)?.[1] ?? '')
  return [...new Set(listed.map(plainServerName).filter(isServerName))]
}

function subjectOf({ subject, fingerprint256 }: X509Certificate): string {
  return subject === undefined || subject === '' ? fingerprint256 : subject.replaceAll('\n', ', ')
}

function fingerprintOf(pairs: readonly CertificatePair[], ocsp: Buffer | null, { mode, ca, crl }: ClientRules): string {
  const hash = createHash('sha256')
  // The length goes first, so that no two lists of parts are one run of bytes.
  const add = (part: string | Buffer): void => { hash.update(`${part.length}:`).update(part) }
  for (const { cert, key } of pairs) {
    add(cert)
    add(key)
  }
  add(ocsp ?? '')
  add(mode)
  for (const part of [...ca, '', ...crl]) add(part)
  return hash.digest('base64')
}
