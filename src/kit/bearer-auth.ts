/** Bearer tokens (RFC 6750), in the Authorization field alone: what is in a query ends in logs and histories (2.3). */
import { timingSafeEqual } from 'node:crypto'
import { isPromise } from '../primitives/application-call.ts'
import { callback, code, defaultsOf, flag, OptionError, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import type { Session, Verdict } from '../proxy/session.ts'
import { credentialsOf, digestOf, isQuotable, quoted, type Guard } from './credentials.ts'

/**
 * Decides about a token. Only true, or a promise of it, lets the request through; 'insufficient_scope' says that the token is good and
 * allows something else (403).
 */
export type TokenCheck = (token: string, session: Session) => TokenVerdict | Promise<TokenVerdict>
/** What is thought of a token. */
export type TokenVerdict = boolean | 'insufficient_scope'

/** Which tokens are good. `tokens` or `check` must be given. */
export interface BearerAuthOptions {
  /** Named in the challenge. @default 'restricted' */
  realm?: string
  /** Scopes that the challenge asks for, with a blank between two of them; '' names none. @default '' */
  scope?: string
  /** Tokens that are good; compared in constant time. @default [] */
  tokens?: readonly string[]
  /** Asked for tokens that are not in `tokens`: a place for signatures and introspection; null: there are no others. @default null */
  check?: TokenCheck | null
  /** Whether the origin gets the token as well; otherwise it ends here. @default false */
  forwards?: boolean
}

/** b64token (RFC 6750 2.1). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/
/** scope-token (RFC 6749 3.3). */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/

export const BEARER_AUTH_OPTIONS = {
  realm: text('restricted', 'printable ASCII', isQuotable),
  scope: text('', 'scopes with a blank between two of them', scope => scope === '' || scope.split(' ').every(one => SCOPE.test(one))),
  // No list: that would show a wrong one in its message.
  tokens: code<readonly string[]>(Object.freeze([]), 'a list of tokens, of letters, digits and ._~+/-', areTokens),
  check: callback<TokenCheck | null>(null),
  forwards: flag(false),
} satisfies OptionTable<BearerAuthOptions>

export const BEARER_AUTH_DEFAULTS: Readonly<Required<BearerAuthOptions>> = defaultsOf<BearerAuthOptions>(BEARER_AUTH_OPTIONS)

function areTokens(value: unknown): boolean {
  return Array.isArray(value) && value.every(token => typeof token === 'string' && TOKEN.test(token))
}

/**
 * A filter that asks for a bearer token: without one 401, with a bad one 401 and `error="invalid_token"`, with a field that makes no
 * sense 400.
 *
 *   const api = bearerAuth({ check: async (token, session) => verify(token, { signal: session.signal }) })
 *   requestFilter: session => api(session)
 *
 * @throws OptionError with every option that would not do
 */
export function bearerAuth(options: BearerAuthOptions): Guard {
  const { realm, scope, tokens, check, forwards } =
    resolveOptions<BearerAuthOptions>('bearerAuth', BEARER_AUTH_OPTIONS, options, BEARER_AUTH_DEFAULTS)
  if (tokens.length === 0 && check === null) throw OptionError.of('bearerAuth.tokens', tokens, 'use at least one token, or a check')
  const digests = tokens.map(digestOf)
  const challenge = `Bearer realm=${quoted(realm)}${scope === '' ? '' : `, scope=${quoted(scope)}`}`
  const refuse = (session: Session, status: 400 | 401 | 403, error: string): Verdict => {
    return session.respond(status, { 'WWW-Authenticate': error === '' ? challenge : `${challenge}, error="${error}"` })
  }
  const decide = (session: Session, verdict: TokenVerdict): Verdict => {
    if (verdict === 'insufficient_scope') return refuse(session, 403, verdict)
    if (verdict !== true) return refuse(session, 401, 'invalid_token')
    if (!forwards) session.request.headers.delete('authorization')
    return 'continue'
  }
  return session => {
    const token = credentialsOf(session.request, 'bearer')
    // A request without a token is told what would do, and no error (RFC 6750 3.1).
    if (token === null) return refuse(session, 401, '')
    if (!TOKEN.test(token)) return refuse(session, 400, 'invalid_request')
    const digest = digestOf(token)
    let known = false
    for (const one of digests) if (timingSafeEqual(digest, one)) known = true
    if (known || check === null) return decide(session, known)
    const answer = check(token, session)
    return isPromise(answer) ? Promise.resolve(answer).then(verdict => decide(session, verdict)) : decide(session, answer)
  }
}
