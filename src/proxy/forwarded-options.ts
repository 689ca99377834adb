/** What the proxy may be told about the fields that say whose request it is; part of the options of a service. */
import { isIP } from 'node:net'
import { isToken } from '../http/header-map.ts'
import { choice, code, defaultsOf, flag, list, orText, type OptionTable } from '../primitives/option-table.ts'

export interface ForwardedOptions {
  /** Addresses and CIDR blocks of proxies in front whose forwarded fields are believed. @default [] */
  trustedHops?: readonly string[]
  /**
   * Which fields tell the origin who asked: 'x-forwarded' (For, Proto, Host), 'forwarded' (RFC 7239), 'both' or 'off'.
   * @default 'x-forwarded'
   */
  forwarded?: 'x-forwarded' | 'forwarded' | 'both' | 'off'
  /**
   * Name in Via; it must be the same in all processes of one proxy and different between proxies. '' sends no Via and
   * detects no loops; null is `cirque-` with eight digits of this machine and user. @default null
   */
  viaName?: string | null
  /** Whether the origin gets an X-Request-Id. @default true */
  requestId?: boolean
}
export type ResolvedForwardedOptions = Readonly<Required<ForwardedOptions>>

export const FORWARDED_OPTIONS = {
  trustedHops: list([], 'IP addresses and CIDR blocks such as 10.0.0.0/8', entry => parseAddressBlock(entry) !== null),
  forwarded: choice('x-forwarded', ['x-forwarded', 'forwarded', 'both', 'off']),
  viaName: orText(code<string | null>(null, "letters, digits and hyphens, '' for none, or null", isViaName)),
  requestId: flag(true),
} satisfies OptionTable<ForwardedOptions>

export const FORWARDED_DEFAULTS: ResolvedForwardedOptions = defaultsOf<ForwardedOptions>(FORWARDED_OPTIONS)

export interface AddressBlock {
  readonly address: string
  readonly family: 'ipv4' | 'ipv6'
  readonly prefix: number
}

/** An address, or a block of them such as 10.0.0.0/8; null for anything else. */
export function parseAddressBlock(entry: string): AddressBlock | null {
  const slash = entry.indexOf('/')
  const address = slash === -1 ? entry : entry.slice(0, slash)
  const version = isIP(address)
  if (version === 0) return null
  const whole = version === 4 ? 32 : 128
  const digits = slash === -1 ? String(whole) : entry.slice(slash + 1)
  if (!/^\d{1,3}$/.test(digits) || Number(digits) > whole) return null
  return { address, family: version === 4 ? 'ipv4' : 'ipv6', prefix: Number(digits) }
}

function isViaName(value: unknown): boolean { return value === null || value === '' || (typeof value === 'string' && isToken(value)) }
