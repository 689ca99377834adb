/**
 * What workers tell of the certificates that they serve, for `cirque certs`: plain data between processes. The order of workers is
 * `certificates` in src/ipc/messages.ts.
 */

/** What has become of the files of a certificate: see certificate-files.ts. */
export type CertificateOutcome = 'first' | 'swapped' | 'changing' | 'refused'

/** One certificate with its key, as an operator sees it. */
export interface CertificateStatus {
  /** The first ones of them. */
  readonly names: readonly string[]
  readonly moreNames: number
  /** '' when it was given as text. */
  readonly file: string
  readonly keyFile: string
  readonly issuer: string
  /** `ec`, `rsa`. */
  readonly keyType: string
  /** SHA-256, with colons. */
  readonly fingerprint: string
  /** In ms since 1970. */
  readonly notBefore: number
  readonly notAfter: number
  readonly outcome: CertificateOutcome
  /** When that came about, in ms since 1970. */
  readonly since: number
  /** Why files are refused, or not taken yet; ''. */
  readonly reason: string
}

export interface ServedCertificate extends CertificateStatus {
  /** Name of the listener. */
  readonly listener: string
}

/** The answer of a worker. */
export interface ServedCertificates {
  /** What needs somebody first, then by the end of their time. */
  readonly certificates: readonly ServedCertificate[]
  /** So many more there are than fit into a message. */
  readonly more: number
}

/** The answer to an operator. */
export interface CertificatesOfAll {
  /** What several workers say alike is said once. */
  readonly certificates: readonly (ServedCertificate & { readonly workers: readonly string[] })[]
  readonly more: number
  /** Ids of all that were asked and have answered. */
  readonly workers: readonly string[]
  /** Why one has not, by its id. */
  readonly silent: readonly { readonly worker: string; readonly reason: string }[]
  /** Whether a listener speaks TLS. */
  readonly tls: boolean
}

/** @param maxBytes of the answer as JSON */
export function servedWithin(all: Iterable<ServedCertificate>, maxBytes: number): ServedCertificates {
  const sorted = [...all].toSorted(mostUrgent)
  const certificates: ServedCertificate[] = []
  let bytes = 0
  for (const one of sorted) {
    bytes += Buffer.byteLength(JSON.stringify(one)) + 1
    if (bytes > maxBytes) break
    certificates.push(one)
  }
  return { certificates, more: sorted.length - certificates.length }
}

const URGENCY: Readonly<Record<CertificateOutcome, number>> = { refused: 0, changing: 1, first: 2, swapped: 2 }

/** For sorting. An outcome of another build is none to worry about. */
export function mostUrgent(one: ServedCertificate, other: ServedCertificate): number {
  const [urgency, otherUrgency] = [URGENCY[one.outcome] ?? 2, URGENCY[other.outcome] ?? 2]
  return urgency - otherUrgency || one.notAfter - other.notAfter || one.listener.localeCompare(other.listener)
}
