/**
 * The CORS protocol (Fetch standard, "HTTP extensions"): which pages of other origins a browser lets read an answer. It stops no
 * request: a form of another site is sent all the same, and what is no browser does not look at these fields.
 *
 * What an origin server says of it is removed: one place decides.
 */
import { asciiLower, isToken, type HeaderMap } from '../http/header-map.ts'
import type { HttpModule } from '../modules/http-module.ts'
import { decisionOf } from '../primitives/application-call.ts'
import {
  callback, code, count, defaultsOf, flag, list, needed, OptionError, resolveOptions, type OptionTable,
} from '../primitives/option-table.ts'
import type { Session } from '../proxy/session.ts'
import { isMethodName } from './method-name.ts'

/**
 * Decides at once whether pages of `origin` may read answers. It is asked about what has the form of an origin, and about nothing else.
 * 'null' is that of sandboxed frames, which any site can make.
 */
export type OriginCheck = (origin: string, session: Session) => boolean

/** Who may read what. */
export interface CorsOptions {
  /**
   * Origins such as `https://app.example`, a function, or '*' for any. 'null' has to be named, and never with credentials. Must be
   * given.
   */
  origins: '*' | readonly string[] | OriginCheck
  /**
   * Methods besides GET, HEAD and POST, which need no leave. '*' stands for all where `credentials` is false.
   * @default ['PUT', 'PATCH', 'DELETE']
   */
  methods?: readonly string[]
  /** Fields of requests besides those that need no leave, such as Authorization, which '*' does not stand for. @default ['Content-Type'] */
  headers?: readonly string[]
  /** Fields of answers that scripts may read besides the usual ones. @default [] */
  exposedHeaders?: readonly string[]
  /** Whether cookies and credentials go with the requests of those pages; not with '*'. @default false */
  credentials?: boolean
  /** How long a browser may remember what it was told, in seconds. 0 makes it ask each time. @default 600 */
  maxAgeS?: number
  /** Which requests it is about; null: all of the service. @default null */
  applies?: ((session: Session) => boolean) | null
}

const ORIGIN_FORMS = "a list of origins such as https://app.example, a function, or '*'"

export const CORS_OPTIONS = {
  origins: needed(code<'*' | readonly string[] | OriginCheck>('*', ORIGIN_FORMS, areOrigins)),
  methods: list(['PUT', 'PATCH', 'DELETE'], 'methods in capitals', isMethodName),
  headers: list(['Content-Type'], 'field names', isToken),
  exposedHeaders: list([], 'field names', isToken),
  credentials: flag(false),
  maxAgeS: count(600, { max: 86_400, zero: 'makes it ask each time' }),
  applies: callback<((session: Session) => boolean) | null>(null),
} satisfies OptionTable<CorsOptions>

export const CORS_DEFAULTS: Readonly<Required<CorsOptions>> = defaultsOf<CorsOptions>(CORS_OPTIONS)

function areOrigins(value: unknown): boolean {
  if (value === '*' || typeof value === 'function') return true
  return Array.isArray(value) && value.every(isOrigin)
}

/** As a browser writes it: scheme, host and port, without the usual port or a slash behind it. */
function isOrigin(value: unknown): boolean {
  if (value === 'null') return true
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value
}

/** What a browser may send: an application's own scheme is one too, such as capacitor://localhost. */
const ORIGIN = /^(?:null|[a-z][a-z0-9+.-]*:\/\/[a-z0-9._:[\]-]+)$/

/** What is known of one request. */
interface CorsState {
  /** The origin that may read the answer; '' for none; null: it was not looked at. */
  allowed: string | null
  applies: boolean
}

/** Fields by which an answer says who may read what; the others are for preflight requests, which no origin server gets. */
const OURS = ['Access-Control-Allow-Origin', 'Access-Control-Allow-Credentials', 'Access-Control-Expose-Headers']

/**
 * A module that answers preflight requests and marks every other answer, error pages included:
 *
 *   const app = { modules: [cors({ origins: ['https://app.example'], credentials: true })], upstreamPeer: () => api }
 *
 * @throws OptionError with every option that would not do
 */
export function cors(options: CorsOptions): HttpModule {
  const { origins, methods, headers, exposedHeaders, credentials, maxAgeS, applies } =
    resolveOptions<CorsOptions>('cors', CORS_OPTIONS, options, CORS_DEFAULTS)
  if (credentials && origins === '*') throw OptionError.of('cors.origins', origins, 'use a list of origins where credentials is true')
  const named = Array.isArray(origins) ? new Set<string>(origins) : null
  // Any site can put its page into a frame that has this origin.
  if (credentials && named?.has('null') === true) throw OptionError.of('cors.origins', 'null', 'leave it out where credentials is true')
  if (credentials) {
    for (const [name, all] of Object.entries({ methods, headers, exposedHeaders })) {
      // A browser would take it for a name there.
      if (all.includes('*')) throw OptionError.of(`cors.${name}`, '*', 'use names where credentials is true')
    }
  }
  const anyOrigin = origins === '*'
  const forPreflight = {
    'Access-Control-Allow-Methods': ['GET', 'HEAD', 'POST', ...methods].join(', '),
    ...(headers.length === 0 ? {} : { 'Access-Control-Allow-Headers': headers.join(', ') }),
    'Access-Control-Max-Age': String(maxAgeS),
  }

  const isAllowed = (origin: string, session: Session): boolean => {
    if (anyOrigin) return true
    if (named !== null) return named.has(origin)
    // What is sent back is an origin: a `*` would be all of them.
    return ORIGIN.test(origin) && !(credentials && origin === 'null') && decisionOf((origins as OriginCheck)(origin, session))
  }
  const look = (session: Session, state: CorsState): string => {
    if (state.allowed !== null) return state.allowed
    // A function that throws is not asked again for the error page.
    state.allowed = ''
    state.applies = applies === null || decisionOf(applies(session))
    const sent = session.request.headers.getAll('origin')
    if (state.applies && sent.length === 1 && isAllowed(sent[0]!, session)) state.allowed = sent[0]!
    return state.allowed
  }

  const module: HttpModule<CorsState> = {
    name: 'cors',
    newState: () => ({ allowed: null, applies: true }),
    requestFilter(session, state) {
      const allowed = look(session, state), { method, headers: sent } = session.request
      if (!state.applies || method !== 'OPTIONS' || !sent.has('origin') || !sent.has('access-control-request-method')) return 'continue'
      // Who may read it is added below, as to any answer.
      return allowed === '' ? session.respond(403) : session.respond(204, forPreflight)
    },
    responseFilter(session, { headers: fields }, state) {
      const allowed = look(session, state)
      if (!state.applies) return
      for (const name of OURS) fields.delete(name)
      if (!anyOrigin) addVary(fields)
      if (allowed === '') return
      fields.set('Access-Control-Allow-Origin', anyOrigin ? '*' : allowed)
      if (credentials) fields.set('Access-Control-Allow-Credentials', 'true')
      if (exposedHeaders.length > 0) fields.set('Access-Control-Expose-Headers', exposedHeaders.join(', '))
    },
  }
  return module
}

/** A cache must not give the answer for one origin to another. */
function addVary(fields: HeaderMap): void {
  const lines = fields.getAll('vary').join(',').split(',').map(one => asciiLower(one.trim()))
  if (!lines.includes('origin') && !lines.includes('*')) fields.append('Vary', 'Origin')
}
