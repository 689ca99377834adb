/** Basic authentication (RFC 7617). Without TLS in front of it, passwords pass in clear. */
import { timingSafeEqual } from 'node:crypto'
import type { RequestHead } from '../http/message-head.ts'
import { isPromise } from '../primitives/application-call.ts'
import { callback, code, defaultsOf, flag, OptionError, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import type { Session, Verdict } from '../proxy/session.ts'
import { credentialsOf, digestOf, isQuotable, quoted, type Guard } from './credentials.ts'

/** Decides whether a password is the user's. Only true, or a promise of true, lets the request through. */
export type PasswordCheck = (user: string, password: string, session: Session) => boolean | Promise<boolean>

/** Who may come in, and what is said to the others. `users` or `check` must be given. */
export interface BasicAuthOptions {
  /** What the browser shows beside its question. @default 'restricted' */
  realm?: string
  /** A password for each user; compared in constant time. @default {} */
  users?: Readonly<Record<string, string>>
  /** Asked for users that are not in `users`: a place for hashes, files and directories; null: there are no others. @default null */
  check?: PasswordCheck | null
  /** Whether the origin gets the credentials as well; otherwise they end here. @default false */
  forwards?: boolean
  /** Whether the name of who came in goes to the access log, as `app.user`. @default true */
  logsUser?: boolean
}

export const BASIC_AUTH_OPTIONS = {
  realm: text('restricted', 'printable ASCII', isQuotable),
  users: code<Readonly<Record<string, string>>>(Object.freeze({}), 'an object with a password for each user', areUsers),
  check: callback<PasswordCheck | null>(null),
  forwards: flag(false),
  logsUser: flag(true),
} satisfies OptionTable<BasicAuthOptions>

export const BASIC_AUTH_DEFAULTS: Readonly<Required<BasicAuthOptions>> = defaultsOf<BasicAuthOptions>(BASIC_AUTH_OPTIONS)

/** Not in names and passwords (RFC 7617 2). */
const CONTROL = /[\0-\x1f\x7f]/

function areUsers(value: unknown): boolean | string {
  if (typeof value !== 'object' || value === null) return false
  for (const [user, password] of Object.entries(value)) {
    if (user.includes(':') || CONTROL.test(user)) return 'names without a colon or a control character, which a client could not send'
    if (typeof password !== 'string' || password === '') return `a password of at least one character for ${user}`
    // What is read from a file often has one, and would let nobody in.
    if (CONTROL.test(password)) return `a password without a line break or another control character for ${user}`
  }
  return true
}

/** Standard base64, padded or not (RFC 7617 2, RFC 4648 4). */
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/

/**
 * User and password of the request's Authorization field, read as UTF-8; null when there are none, or none that make sense.
 * They are what the client claims, and are not checked.
 */
export function basicCredentials(request: RequestHead): { user: string; password: string } | null {
  const given = credentialsOf(request, 'basic')
  if (given === null || !BASE64.test(given)) return null
  let pair: string
  try {
    pair = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(given, 'base64'))
  } catch {
    return null // No UTF-8, which the challenge asks for.
  }
  const colon = pair.indexOf(':')
  return colon === -1 || CONTROL.test(pair) ? null : { user: pair.slice(0, colon), password: pair.slice(colon + 1) }
}

/**
 * A filter that asks for user and password: others than those allowed get 401.
 *
 *   const staff = basicAuth({ realm: 'staff', users: { ada: process.env.ADA_PASSWORD ?? '' } })
 *   requestFilter: session => session.request.path.startsWith('/staff/') ? staff(session) : 'continue'
 *
 * @throws OptionError with every option that would not do
 */
export function basicAuth(options: BasicAuthOptions): Guard {
  const { realm, users, check, forwards, logsUser } =
    resolveOptions<BasicAuthOptions>('basicAuth', BASIC_AUTH_OPTIONS, options, BASIC_AUTH_DEFAULTS)
  const digests = new Map(Object.entries(users).map(([user, password]) => [user, digestOf(password)]))
  if (digests.size === 0 && check === null) throw OptionError.of('basicAuth.users', users, 'use at least one user, or a check')
  const challenge = { 'WWW-Authenticate': `Basic realm=${quoted(realm)}, charset="UTF-8"` }
  const unknown = digestOf('')
  const decide = (session: Session, user: string, allowed: boolean): Verdict => {
    if (!allowed) return session.respond(401, challenge)
    if (!forwards) session.request.headers.delete('authorization')
    if (logsUser) session.logField('user', user)
    return 'continue'
  }
  return session => {
    const given = basicCredentials(session.request)
    if (given === null) return session.respond(401, challenge)
    const { user, password } = given
    // An unknown user takes as long as a wrong password.
    const known = digests.get(user), same = timingSafeEqual(digestOf(password), known ?? unknown)
    if (known !== undefined || check === null) return decide(session, user, known !== undefined && same)
    const answer = check(user, password, session)
    if (!isPromise(answer)) return decide(session, user, answer === true)
    return Promise.resolve(answer).then(allowed => decide(session, user, allowed === true))
  }
}
