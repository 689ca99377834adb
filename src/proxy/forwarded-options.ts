/** What the proxy may be told about the fields that say whose request it is; part of the options of a service. */
import { isAuthority } from '../http/authority.ts'
import { isToken } from '../http/header-map.ts'
import { parseAddressBlock } from '../primitives/address-blocks.ts'
import { choice, code, defaultsOf, flag, list, orText, text, type OptionTable } from '../primitives/option-table.ts'

/** Which fields tell origins and clients who asked and what passed on the way, and whose such fields are believed. */
export interface ForwardedOptions {
  /**
   * Addresses and CIDR blocks of proxies in front whose forwarded fields are believed: the client is the last address in
   * X-Forwarded-For that is none of them, or in Forwarded when `forwarded` is 'forwarded'. @default []
   */
  trustedHops?: readonly string[]
  /**
   * Which fields tell the origin who asked: 'x-forwarded' (For, Proto, Host), 'forwarded' (RFC 7239), 'both' or 'off'.
   * @default 'x-forwarded'
   */
  forwarded?: 'x-forwarded' | 'forwarded' | 'both' | 'off'
  /**
   * Who gets a Via field (RFC 9110 7.6.3): 'responses' tells clients, 'both' origins as well, 'off' nobody. An origin that
   * sees one may stop compressing, as nginx does by default. @default 'responses'
   */
  via?: 'off' | 'responses' | 'both'
  /** Name in Via; '' sends none. @default 'cirque' */
  viaName?: string
  /**
   * Requests are marked, so that one that comes back is answered with 508 instead of going round: '' marks them with
   * Cirque-Loop and an id of this instance, a name with CDN-Loop, that name and the id (RFC 8586), null does not mark them
   * and sees no loops. @default ''
   */
  loopName?: string | null
  /** Whether the origin gets an X-Request-Id. @default true */
  requestId?: boolean
  /**
   * Whether the origin is told of the certificate that a client showed in its handshake, and that was found good: 'client-cert' tells it
   * in Client-Cert (RFC 9440), and takes what calls itself so, and Client-Cert-Chain, out of every request. @default 'off'
   */
  clientCertificate?: 'client-cert' | 'off'
}
export type ResolvedForwardedOptions = Readonly<Required<ForwardedOptions>>

export const FORWARDED_OPTIONS = {
  trustedHops: list([], 'IP addresses and CIDR blocks such as 10.0.0.0/8', entry => parseAddressBlock(entry) !== null),
  forwarded: choice('x-forwarded', ['x-forwarded', 'forwarded', 'both', 'off']),
  via: choice('responses', ['off', 'responses', 'both']),
  viaName: text('cirque', "letters, digits and hyphens, or '' for none", name => name === '' || isToken(name)),
  loopName: orText(code<string | null>('', "a host name or a word, '' for a field of our own, or null", isLoopName)),
  requestId: flag(true),
  clientCertificate: choice('off', ['client-cert', 'off']),
} satisfies OptionTable<ForwardedOptions>

export const FORWARDED_DEFAULTS: ResolvedForwardedOptions = defaultsOf<ForwardedOptions>(FORWARDED_OPTIONS)

/** cdn-id of RFC 8586 2: a host with an optional port, or a pseudonym. */
function isLoopName(value: unknown): boolean {
  if (value === null || value === '') return true
  return typeof value === 'string' && (isToken(value) || (isAuthority(value) && /^[\w.:[\]-]+$/.test(value)))
}
