/**
 * Redirects that lead where the application says, and nowhere that a client says. A browser takes `//evil.example`, `/\evil.example` and
 * either with a tab or a line break in it for another host (URL 4.4), so a text must be a path that has one reading.
 */
import type { ResponseFields, Session } from '../proxy/session.ts'
import { answerFields } from './answer-fields.ts'

/** Statuses with a Location that is followed (RFC 9110 15.4). */
export type RedirectStatus = 301 | 302 | 303 | 307 | 308

const STATUSES: readonly number[] = [301, 302, 303, 307, 308] satisfies RedirectStatus[]

/** Visible ASCII, and no backslash; one slash first. */
const LOCAL_PATH = /^\/(?:[\x21-\x2e\x30-\x5b\x5d-\x7e][\x21-\x5b\x5d-\x7e]*)?$/

/**
 * Answers with a redirect: `return redirect(session, '/login')`.
 * @param to a path on this host, with a query perhaps; a URL leads anywhere, so make none from what a client sent
 * @param status 302 and 303 make a GET of what is followed, 307 and 308 keep the method, 301 and 308 may be remembered
 * @throws TypeError on a text that is no such path (`localPath` makes one), on a URL that is not http or https, on another status
 */
export function redirect(session: Session, to: string | URL, status: RedirectStatus = 302, fields: ResponseFields = {}): 'responded' {
  if (!STATUSES.includes(status)) throw new TypeError(`redirect: the status is ${String(status)}; use one of ${STATUSES.join(', ')}`)
  const location = to instanceof URL ? checkedUrl(to) : checkedPath(to)
  return session.respond(status, answerFields(fields).set('Location', location))
}

function checkedUrl(url: URL): string {
  if (url.protocol === 'https:' || url.protocol === 'http:') return url.href
  throw new TypeError(`redirect: a ${url.protocol} URL; use http or https`)
}

function checkedPath(path: string): string {
  if (typeof path === 'string' && LOCAL_PATH.test(path)) return path
  throw new TypeError(`redirect: ${JSON.stringify(path)} is no path of this host; use localPath() for what a client sent, or a URL`)
}

/**
 * `wanted` where it is a path of this host and nothing else, and `fallback` otherwise: for `?next=` and its like.
 * @param wanted from a client; null and undefined are nothing
 */
export function localPath(wanted: string | null | undefined, fallback = '/'): string {
  return typeof wanted === 'string' && LOCAL_PATH.test(wanted) ? wanted : fallback
}
