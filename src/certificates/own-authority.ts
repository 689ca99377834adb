/**
 * An authority of one's own in a folder, and a certificate by it: for a server that is tried out, where nobody else signs one.
 *
 *   authority.pem   the authority's certificate and key, which only their owner may read
 *   ca.crt          its certificate alone: what clients are told to trust
 *   site.pem        the certificate that is served with that of the authority behind it, and its key
 *
 * What is there and good is used again, so that who has trusted the authority once does so for good. The certificate is made anew
 * when less than RENEW_MS of its time is left, when it lacks a name, and when it is of another authority. Several processes may do all
 * this at once: each file appears whole, and the first authority that is there is the one of all.
 */
import { createPrivateKey, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import fs from 'node:fs'
import { isIP } from 'node:net'
import path from 'node:path'
import { makeFolder } from '../primitives/make-folder.ts'
import { keyPem, makeCertificate, makeKey, type CertificateName } from './certificate-maker.ts'

/** Below the state folder of a supervisor. */
export const OWN_AUTHORITY_FOLDER = 'own-authority'

export interface OwnAuthorityFiles {
  /** Of the authority, without its key. */
  readonly caFile: string
  /** Certificate and key that are to be served. */
  readonly certFile: string
}

export function ownAuthorityFiles(folder: string): OwnAuthorityFiles {
  return { caFile: path.join(folder, 'ca.crt'), certFile: path.join(folder, 'site.pem') }
}

interface Authority {
  readonly name: CertificateName
  readonly certificate: X509Certificate
  readonly key: KeyObject
}

const DAY_MS = 86_400_000
const AUTHORITY_MS = 3650 * DAY_MS
/** With less than this left an authority is made anew, and has to be trusted anew. */
const AUTHORITY_RENEW_MS = 365 * DAY_MS
const CERTIFICATE_MS = 90 * DAY_MS
/** Well before anything warns of its end. */
const RENEW_MS = 45 * DAY_MS
/** Clocks of clients may be a little behind. */
const BACKDATED_MS = DAY_MS
const ORGANIZATION = 'Cirque development authority'
/** Another process may replace the authority meanwhile. */
const ATTEMPTS = 3

/**
 * Sees to it that the files are there and good. @param names DNS names and IP addresses. @param now in ms since 1970
 * @returns whether the certificate was made now. @throws what the disk says
 */
export function keepOwnCertificate(folder: string, names: readonly string[], now: number): boolean {
  makeFolder(folder, 0o700)
  const { caFile, certFile } = ownAuthorityFiles(folder), authorityFile = path.join(folder, 'authority.pem')
  let made = false
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const authority = readAuthority(authorityFile, now) ?? makeAuthority(authorityFile, now)
    const pem = authority.certificate.toString()
    if (readText(caFile) !== pem) replace(caFile, pem, 0o644)
    const isGood = isServable(readText(certFile), authority, names, now)
    if (isGood) return made
    replace(certFile, makeSite(authority, names, now), 0o600)
    made = true
  }
  return made
}

/** Null: there is none that would do. */
function readAuthority(file: string, now: number): Authority | null {
  const text = readText(file)
  if (text === '') return null
  try {
    const certificate = new X509Certificate(text), key = createPrivateKey(text)
    const commonName = /^CN=(.*)$/m.exec(certificate.subject)?.[1]
    const isWhole = commonName !== undefined && certificate.checkPrivateKey(key) && certificate.ca
    const hasTime = certificate.validToDate.getTime() - now > AUTHORITY_RENEW_MS
    return isWhole && hasTime ? { name: { commonName, organization: ORGANIZATION }, certificate, key } : null
  } catch {
    // Cut, or edited: a new one takes its place.
    return null
  }
}

function makeAuthority(file: string, now: number): Authority {
  const key = makeKey('ecdsa')
  // Clients keep several of one name apart by their keys, people by this.
  const name = { commonName: `Cirque ${randomBytes(4).toString('hex')}`, organization: ORGANIZATION }
  const pem = makeCertificate({
    subject: name, key, authority: { pathLength: 0 }, notBefore: new Date(now - BACKDATED_MS), notAfter: new Date(now + AUTHORITY_MS),
  }, null)
  const text = keyPem(key) + pem
  if (readText(file) !== '') replace(file, text, 0o600)
  else if (!create(file, text)) {
    const other = readAuthority(file, now)
    if (other !== null) return other
    replace(file, text, 0o600)
  }
  return { name, certificate: new X509Certificate(pem), key }
}

function makeSite({ name, key: authorityKey, certificate }: Authority, names: readonly string[], now: number): string {
  const key = makeKey('ecdsa')
  const hosts = names.filter(one => isIP(one) === 0), ips = names.filter(one => isIP(one) !== 0)
  const pem = makeCertificate({
    subject: { commonName: names[0]! }, key, names: hosts, ips, purposes: ['serverAuth'],
    notBefore: new Date(now - BACKDATED_MS), notAfter: new Date(now + CERTIFICATE_MS),
  }, { name, key: authorityKey })
  return keyPem(key) + pem + certificate.toString()
}

function isServable(text: string, { certificate: authority }: Authority, names: readonly string[], now: number): boolean {
  if (text === '') return false
  try {
    const leaf = new X509Certificate(text)
    const isOurs = leaf.checkIssued(authority) && leaf.verify(authority.publicKey) && leaf.checkPrivateKey(createPrivateKey(text))
    const hasAll = names.every(name => (isIP(name) === 0 ? leaf.checkHost(name.replace(/^\*/, 'any')) : leaf.checkIP(name)) !== undefined)
    return isOurs && hasAll && leaf.validToDate.getTime() - now > RENEW_MS
  } catch {
    return false
  }
}

function readText(file: string): string { try { return fs.readFileSync(file, 'latin1') } catch { return '' } }

/** Whole, by rename. */
function replace(file: string, text: string, mode: number): void {
  const next = `${file}.${process.pid}.next`
  write(next, text, mode)
  fs.renameSync(next, file)
}

/** @returns false when there is one already */
function create(file: string, text: string): boolean {
  const next = `${file}.${process.pid}.next`
  write(next, text, 0o600)
  try {
    fs.linkSync(next, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  } finally {
    fs.rmSync(next, { force: true })
  }
}

function write(file: string, text: string, mode: number): void {
  fs.rmSync(file, { force: true })
  fs.writeFileSync(file, text, { mode, flag: 'wx' })
}
