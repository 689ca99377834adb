/**
 * What Basic and Bearer have in common (RFC 9110 11): the Authorization field of a request, the challenge of an answer, and a comparison
 * whose time does not tell how much of a secret was right.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { asciiLower } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'
import type { Session, Verdict } from '../proxy/session.ts'

/** A filter that lets a request through, or has answered it. */
export type Guard = (session: Session) => Verdict | Promise<Verdict>

/**
 * What follows the scheme in Authorization; null without the field or with another scheme; '' when nothing follows, and when the field
 * is there twice.
 */
export function credentialsOf(request: RequestHead, scheme: 'basic' | 'bearer'): string | null {
  const fields = request.headers.getAll('authorization')
  if (fields.length === 0) return null
  // Two hops could go by different ones.
  if (fields.length > 1) return ''
  const field = fields[0]!, blank = field.indexOf(' ')
  if (asciiLower(blank === -1 ? field : field.slice(0, blank)) !== scheme) return null
  // Blanks alone are between the two (RFC 9110 11.4).
  return blank === -1 ? '' : field.slice(blank + 1).replace(/^ +/, '')
}

/** A realm, or another text of a challenge, as a quoted-string (RFC 9110 5.6.4). */
export function quoted(text: string): string { return `"${text.replaceAll(/["\\]/g, '\\$&')}"` }

/** For an option: what `quoted` can say in any client. */
export function isQuotable(text: string): boolean { return /^[\x20-\x7e]*$/.test(text) }

/** Of this process alone: what is compared is not the secret, and has one length. */
const KEY = randomBytes(32)

export function digestOf(secret: string): Buffer { return createHmac('sha256', KEY).update(secret, 'utf8').digest() }

/**
 * Whether two secrets are the same, in a time that says nothing about where they differ or how long they are. For keys, tokens and
 * signatures that a hook compares by itself.
 */
export function sameSecret(given: string, expected: string): boolean { return timingSafeEqual(digestOf(given), digestOf(expected)) }
