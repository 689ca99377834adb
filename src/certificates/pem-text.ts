/**
 * Text that is given as PEM or as the path of a file with PEM, and the blocks in it (RFC 7468). A file is read whole and once, so
 * that what was checked is what is used.
 */
import { readFileSync, statSync } from 'node:fs'

/** Much longer than any chain; what is longer is another file by mistake. */
export const MAX_PEM_BYTES = 1_048_576

/** What was given, and where it came from. */
export interface PemText {
  readonly text: string
  /** Path of the file; '' for what was given as text. */
  readonly file: string
}

const BEGIN = '-----BEGIN '
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g

export interface PemBlock {
  /** `CERTIFICATE`, `PRIVATE KEY`, `EC PRIVATE KEY`. */
  readonly label: string
  readonly text: string
}

/** Why a file could not be read; what would do stands behind it. */
export class PemFileError extends Error {}

/** @param given PEM, or the path of a file. @throws PemFileError: `cannot be read (ENOENT)` */
export function readPem(given: string): PemText {
  if (given.includes(BEGIN)) return { text: given, file: '' }
  return { text: readSmallFile(given).toString('latin1'), file: given }
}

/** @throws PemFileError */
export function readSmallFile(file: string): Buffer {
  let bytes: Buffer
  try {
    const stat = statSync(file)
    if (!stat.isFile()) throw new PemFileError('is no regular file')
    if (stat.size > MAX_PEM_BYTES) throw new PemFileError(`has ${stat.size} bytes, more than any certificate with its chain`)
    bytes = readFileSync(file)
  } catch (error) {
    if (error instanceof PemFileError) throw error
    throw new PemFileError(`cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`)
  }
  return bytes
}

export function pemBlocks(text: string): PemBlock[] {
  return [...text.matchAll(BLOCK)].map(([block, label = '']) => ({ label, text: `${block}\n` }))
}

export function isCertificate({ label }: PemBlock): boolean {
  return label === 'CERTIFICATE' || label === 'X509 CERTIFICATE' || label === 'TRUSTED CERTIFICATE'
}

/** A private key in any of its forms, encrypted ones included. */
export function isPrivateKey({ label }: PemBlock): boolean { return label.endsWith('PRIVATE KEY') }
