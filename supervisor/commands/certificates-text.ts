/** What `cirque certs` shows to people. Pure. */
import { EXPIRY_WARNING_MS } from '../../src/certificates/certificate-files.ts'
import type { CertificatesOfAll, ServedCertificate } from '../../src/certificates/served-certificates.ts'
import { duration } from './duration-text.ts'
import { shownText } from './shown-text.ts'

type Row = CertificatesOfAll['certificates'][number]

/** A block for each certificate: what is in it is of any length, and none of it may be cut. @param now in ms since 1970 */
export function certificatesText({ certificates, more, workers, silent, tls }: CertificatesOfAll, now: number): string {
  if (!tls) return 'no listener speaks TLS'
  const blocks = certificates.map(row => blockOf(row, now, workers).join('\n'))
  return [
    ...blocks.length === 0 && silent.length === 0 ? ['no certificate is served'] : blocks,
    ...more === 0 ? [] : [`and ${more} more, which end later`],
    ...silent.map(({ worker, reason }) => `worker ${worker} has not answered: ${shownText(reason)}`),
  ].join('\n\n')
}

function blockOf(row: Row, now: number, asked: readonly string[]): string[] {
  const { listener, names, moreNames, file, keyFile, issuer, keyType, fingerprint, outcome, since, reason, workers } = row
  const all = names.length === 0 ? 'no name; it is the default' : names.join(' ')
  const others = asked.filter(id => !workers.includes(id))
  return [
    `${shownText(all)}${moreNames === 0 ? '' : ` and ${moreNames} more`}`,
    `  listener     ${shownText(listener)}`,
    `  ends         ${endText(row, now)}`,
    `  issuer       ${shownText(issuer)}`,
    `  key          ${shownText(keyType)}`,
    `  SHA-256      ${shownText(fingerprint)}`,
    `  file         ${file === '' ? 'none: the application gave it as text' : shownText(file)}`,
    ...keyFile === '' || keyFile === file ? [] : [`  key file     ${shownText(keyFile)}`],
    `  state        ${stateText(outcome, since, now)}`,
    ...reason === '' ? [] : [`  because      ${shownText(reason)}`],
    // Where all say the same it goes without saying.
    ...others.length === 0 ? [] : [`  workers      ${workers.join(', ')}; not ${others.join(', ')}`],
  ]
}

function endText({ notBefore, notAfter }: ServedCertificate, now: number): string {
  const day = new Date(notAfter).toISOString().replace(/\.\d+Z$/, 'Z')
  if (notAfter <= now) return `${day}, EXPIRED ${span(now - notAfter)} ago`
  if (notBefore > now) return `${day}; NOT VALID before ${new Date(notBefore).toISOString().replace(/\.\d+Z$/, 'Z')}`
  const left = `in ${span(notAfter - now)}`
  return notAfter - now <= EXPIRY_WARNING_MS ? `${day}, SOON: ${left}` : `${day}, ${left}`
}

function stateText(outcome: Row['outcome'], since: number, now: number): string {
  const ago = `${span(Math.max(0, now - since))} ago`
  switch (outcome) {
    case 'first': return `read ${ago}, not swapped since`
    case 'swapped': return `swapped ${ago}`
    case 'changing': return `its files changed ${ago} and are no good pair yet; the one before is served`
    case 'refused': return `REFUSED ${ago}; the one before is served`
    // Of a worker of a newer build.
    default: return `${shownText(String(outcome))} ${ago}`
  }
}

const DAY_MS = 86_400_000

/** Certificates are good for months: hours say nothing then. */
function span(ms: number): string { return ms < 2 * DAY_MS ? duration(ms) : `${Math.floor(ms / DAY_MS)} days` }
