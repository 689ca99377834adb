/**
 * Fields that make browsers careful with a site (OWASP Secure Headers). A field that an answer has already stays: the application
 * behind knows its pages better. The defaults break no page but one that another site puts into a frame.
 */
import type { HttpModule } from '../modules/http-module.ts'
import { isToken, VALUE_CHAR } from '../http/header-map.ts'
import { choice, count, defaultsOf, flag, list, OptionError, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import { schemeOf } from './client-scheme.ts'

/** Which fields answers get. '' leaves a field out. */
export interface SecurityHeaderOptions {
  /**
   * Strict-Transport-Security (RFC 6797): for how many seconds a browser uses https alone; 0 sends none. Only in answers to clients that
   * came by https. A week at first: what was promised cannot be taken back before. @default 604800
   */
  hstsMaxAgeS?: number
  /** The same for all hosts below. @default false */
  hstsSubdomains?: boolean
  /** Asks for a place in the list that browsers come with; needs a year and all hosts below. @default false */
  hstsPreload?: boolean
  /** Content-Security-Policy. @default '' */
  contentSecurityPolicy?: string
  /** X-Frame-Options: whose pages may show this one in a frame. @default 'SAMEORIGIN' */
  frameOptions?: 'DENY' | 'SAMEORIGIN' | ''
  /** Whether X-Content-Type-Options tells browsers not to guess types. @default true */
  nosniff?: boolean
  /** Referrer-Policy. @default 'strict-origin-when-cross-origin' */
  referrerPolicy?: string
  /** Permissions-Policy. @default '' */
  permissionsPolicy?: string
  /** Cross-Origin-Opener-Policy. @default '' */
  openerPolicy?: string
  /** Cross-Origin-Resource-Policy. @default '' */
  resourcePolicy?: string
  /** Fields of origins that say what they run, and are removed. @default ['Server', 'X-Powered-By'] */
  removes?: readonly string[]
}

/** Of a policy: what fits into a field. */
function isFieldValue(value: string): boolean {
  for (let at = 0; at < value.length; at++) if (VALUE_CHAR[value.charCodeAt(at)] !== 1) return false
  return true
}

const policy = (value: string) => text(value, "the value of a field, or ''", isFieldValue)

export const SECURITY_HEADER_OPTIONS = {
  hstsMaxAgeS: count(604_800, { zero: 'sends none' }),
  hstsSubdomains: flag(false),
  hstsPreload: flag(false),
  contentSecurityPolicy: policy(''),
  frameOptions: choice('SAMEORIGIN', ['DENY', 'SAMEORIGIN', '']),
  nosniff: flag(true),
  referrerPolicy: policy('strict-origin-when-cross-origin'),
  permissionsPolicy: policy(''),
  openerPolicy: policy(''),
  resourcePolicy: policy(''),
  removes: list(['Server', 'X-Powered-By'], 'field names', isToken),
} satisfies OptionTable<SecurityHeaderOptions>

export const SECURITY_HEADER_DEFAULTS: Readonly<Required<SecurityHeaderOptions>> =
  defaultsOf<SecurityHeaderOptions>(SECURITY_HEADER_OPTIONS)

const YEAR_S = 31_536_000

/**
 * A module that adds them to every answer, error pages included: `modules: [securityHeaders()]`.
 * @throws OptionError with every option that would not do
 */
export function securityHeaders(options: SecurityHeaderOptions = {}): HttpModule {
  const all = resolveOptions<SecurityHeaderOptions>('securityHeaders', SECURITY_HEADER_OPTIONS, options, SECURITY_HEADER_DEFAULTS)
  const { hstsMaxAgeS, hstsSubdomains, hstsPreload, removes } = all
  if (hstsPreload && (hstsMaxAgeS < YEAR_S || !hstsSubdomains)) {
    throw OptionError.of('securityHeaders.hstsPreload', true, `use hstsMaxAgeS of at least ${YEAR_S} and hstsSubdomains with it`)
  }
  const more = `${hstsSubdomains ? '; includeSubDomains' : ''}${hstsPreload ? '; preload' : ''}`
  const hsts = hstsMaxAgeS === 0 ? '' : `max-age=${hstsMaxAgeS}${more}`
  const fields = ([
    ['Content-Security-Policy', all.contentSecurityPolicy], ['X-Frame-Options', all.frameOptions],
    ['X-Content-Type-Options', all.nosniff ? 'nosniff' : ''], ['Referrer-Policy', all.referrerPolicy],
    ['Permissions-Policy', all.permissionsPolicy], ['Cross-Origin-Opener-Policy', all.openerPolicy],
    ['Cross-Origin-Resource-Policy', all.resourcePolicy],
  ] as const).filter(([, value]) => value !== '')
  return {
    name: 'security-headers',
    responseFilter(session, { headers }) {
      for (const name of removes) headers.delete(name)
      for (const [name, value] of fields) if (!headers.has(name)) headers.set(name, value)
      if (hsts !== '' && schemeOf(session) === 'https' && !headers.has('strict-transport-security')) {
        headers.set('Strict-Transport-Security', hsts)
      }
    },
  }
}
