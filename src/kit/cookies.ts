/**
 * Cookies of requests, and the Set-Cookie field of responses (RFC 6265, and 6265bis for SameSite, prefixes and the rest that browsers do).
 *
 * What a client sends is taken as it is: browsers pass on what scripts put into a cookie, JSON, blanks and bytes above 0x7f included, and
 * one bad cookie of another application must not cost the good ones. What is set is held to the grammar (RFC 6265 4.1.1).
 */
import { isToken } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'
import { choice, code, defaultsOf, flag, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'

/** Twice what browsers keep for a site; those behind it are not looked at. */
const MAX_COOKIES = 400
/** 400 days: browsers keep none for longer (RFC 6265bis 5.5). */
const MAX_AGE_S = 34_560_000
/** Name and value of a cookie together, and the value of an attribute: browsers drop what is longer (RFC 6265bis 5). */
const MAX_BYTES = 4096, MAX_ATTRIBUTE_BYTES = 1024

/**
 * The cookies of a request by name. Values are as they were sent, less the blanks around them and one pair of quotes: decoding is left to
 * who encoded them. Of several with one name the first counts, which is the one with the longest path (RFC 6265 5.4).
 */
export function cookiesOf(request: RequestHead): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>()
  // HTTP/2 may split the field (RFC 9113 8.2.3).
  for (const line of request.headers.getAll('cookie')) {
    for (let start = 0; start <= line.length && cookies.size < MAX_COOKIES;) {
      const semicolon = line.indexOf(';', start), end = semicolon === -1 ? line.length : semicolon
      const pair = line.slice(start, end), equals = pair.indexOf('=')
      start = end + 1
      if (equals === -1) continue
      const name = withoutBlanks(pair, 0, equals)
      if (name !== '' && !cookies.has(name)) cookies.set(name, unquoted(withoutBlanks(pair, equals + 1, pair.length)))
    }
  }
  return cookies
}

/**
 * Blank and tab alone are around a cookie (OWS, RFC 6265 4.2.1). What trim() takes besides belongs to it: the byte 0xa0 ends letters of
 * UTF-8, and with it before `__Host-` another host of the domain could set what a browser would refuse by that name.
 */
function withoutBlanks(text: string, start: number, end: number): string {
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function isBlank(code: number): boolean { return code === 0x20 || code === 0x09 }

function unquoted(value: string): string {
  return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}

/** What holds for a cookie. The defaults keep it from scripts, from other sites, and from connections without TLS. */
export interface CookieOptions {
  /** Paths that get it: this one and all below. @default '/' */
  path?: string
  /** Hosts that get it: this one and all below; '' means the host that sets it, and no other. @default '' */
  domain?: string
  /** How long it is kept, in seconds, 400 days at most; 0 deletes it, null keeps it until the browser ends. @default null */
  maxAgeS?: number | null
  /** Only over TLS. Browsers take it from http://localhost all the same. @default true */
  secure?: boolean
  /** Out of reach of scripts. @default true */
  httpOnly?: boolean
  /** Which requests from other sites carry it: 'Strict' none, 'Lax' those that navigate, 'None' all. @default 'Lax' */
  sameSite?: 'Strict' | 'Lax' | 'None'
  /** Kept apart for each site that embeds this one (CHIPS). @default false */
  partitioned?: boolean
}

const HOST_NAME = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i

export const COOKIE_OPTIONS = {
  path: text('/', `a path of ${MAX_ATTRIBUTE_BYTES} bytes at most that starts with / and has no semicolon`, isPath),
  domain: text('', "a host name, or ''", value => value === '' || (value.length <= 253 && HOST_NAME.test(value))),
  maxAgeS: code<number | null>(null, `whole seconds from 0 to ${MAX_AGE_S}, or null`, isAge),
  secure: flag(true),
  httpOnly: flag(true),
  sameSite: choice('Lax', ['Strict', 'Lax', 'None']),
  partitioned: flag(false),
} satisfies OptionTable<CookieOptions>

export const COOKIE_DEFAULTS: Readonly<Required<CookieOptions>> = defaultsOf<CookieOptions>(COOKIE_OPTIONS)

function isPath(value: string): boolean {
  return value.length <= MAX_ATTRIBUTE_BYTES && /^\/[\x20-\x3a\x3c-\x7e]*$/.test(value)
}

function isAge(value: unknown): boolean {
  return value === null || (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_AGE_S)
}

/**
 * A cookie as the value of Set-Cookie: `response.headers.append('Set-Cookie', setCookie('theme', 'dark'))`. With a `maxAgeS` of 0 it
 * deletes the cookie that was set with the same path and domain.
 * @throws TypeError on a name that is no token, on a value that a cookie cannot have (encode it, by encodeURIComponent for example), and
 * on what browsers would drop in silence: more than 4096 bytes of name and value, a `__Host-`, `__Secure-` or `__Http-` name, 'None' or
 * `partitioned` without what they ask for
 */
export function setCookie(name: string, value: string, options: CookieOptions = {}): string {
  const { path, domain, maxAgeS, secure, httpOnly, sameSite, partitioned } =
    resolveOptions<CookieOptions>('cookie', COOKIE_OPTIONS, options, COOKIE_DEFAULTS)
  if (typeof name !== 'string' || !isToken(name)) throw new TypeError(`cookie name ${JSON.stringify(name)} is not a token`)
  if (typeof value !== 'string' || !/^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/.test(value)) {
    const found = 'a blank, a quote, a comma, a semicolon, a backslash, a control or a character outside ASCII'
    throw new TypeError(`cookie ${name}: the value has ${found}; encode it, by encodeURIComponent() for example`)
  }
  if (name.length + value.length > MAX_BYTES) {
    throw new TypeError(`cookie ${name}: name and value have ${name.length + value.length} bytes; browsers keep ${MAX_BYTES} at most`)
  }
  if (!secure) refuseWithoutTls(name, sameSite, partitioned)
  // Case is ignored by browsers (RFC 6265bis 5.4).
  if (/^__host-/i.test(name) && (path !== '/' || domain !== '')) {
    throw new TypeError(`cookie ${name}: __Host- asks for the path / and no domain (RFC 6265bis 4.1.3.2)`)
  }
  // Newer than 6265bis: browsers that know the prefix drop it otherwise.
  if (!httpOnly && /^__(?:host-)?http-/i.test(name)) throw new TypeError(`cookie ${name}: its prefix asks for httpOnly: true`)
  const age = maxAgeS === null ? '' : maxAgeS === 0 ? '; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT' : `; Max-Age=${maxAgeS}`
  return `${name}=${value}; Path=${path}${domain === '' ? '' : `; Domain=${domain}`}${age}${secure ? '; Secure' : ''}` +
    `${httpOnly ? '; HttpOnly' : ''}; SameSite=${sameSite}${partitioned ? '; Partitioned' : ''}`
}

function refuseWithoutTls(name: string, sameSite: string, partitioned: boolean): void {
  const hasPrefix = /^__(?:host|secure|http)-/i.test(name)
  const what = hasPrefix ? 'its prefix' : sameSite === 'None' ? 'SameSite=None' : partitioned ? 'partitioned' : ''
  if (what !== '') throw new TypeError(`cookie ${name}: ${what} asks for secure: true`)
}
