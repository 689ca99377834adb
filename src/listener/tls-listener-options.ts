/**
 * What a listener for TLS may be told besides what every listener may. Plain data: the configuration offers each of these in the
 * section `tls` of a listener, certificates as files.
 */
import path from 'node:path'
import type { ClientCertificates, GivenCertificate } from '../certificates/certificate-entry.ts'
import type { TlsPolicyName, TlsVersion } from '../certificates/tls-policy-name.ts'
import {
  callback, choice, code, count, defaultsOf, duration, flag, list, path as file, resolveOptions, text, type OptionTable,
} from '../primitives/option-table.ts'

/**
 * The certificate for a name that no certificate of the listener is for: null where there is none, and then the default is served.
 * The same answer for the same name costs nothing more; keep what you had to fetch.
 */
export type CertificateFor = (serverName: string) => GivenCertificate | null | Promise<GivenCertificate | null>

/** What a listener for TLS may be told of handshakes and certificates. */
export interface TlsListenerOptions {
  /**
   * Certificates, each for its names; the first is served for a name that none is for, and without a name. Each is PEM or the path of
   * a file with PEM. @default []
   */
  certificates?: readonly GivenCertificate[]
  /**
   * Files with certificates behind those of `certificates`: `site.pem` with chain and key, or `site.crt site.key` with a blank between.
   * @default []
   */
  certificateFiles?: readonly string[]
  /** Called for a name that no certificate is for; null: nobody is asked. @default null */
  certificateFor?: CertificateFor | null
  /**
   * Longest wait for `certificateFor`, in ms; past it, as where it throws, the default certificate is served, and 421 to requests for
   * the name. @default 5_000
   */
  certificateForTimeoutMs?: number
  /** Versions and ciphers: 'intermediate' has TLS 1.2 and 1.3, 'modern' TLS 1.3 alone. @default 'intermediate' */
  policy?: TlsPolicyName
  /** Oldest version that is spoken; 'policy' leaves it to the policy. @default 'policy' */
  minVersion?: TlsVersion | 'policy'
  /** Ciphers by OpenSSL's names, with colons between, in place of those of the policy; '' leaves it to the policy. @default '' */
  ciphers?: string
  /** Groups for key exchange, the preferred first; [] leaves them to OpenSSL. @default ['X25519MLKEM768', 'X25519', 'P-256', 'P-384'] */
  groups?: readonly string[]
  /** Ways to compress certificates in TLS 1.3 (RFC 8879), the preferred first: zlib, brotli, zstd. @default [] */
  certificateCompression?: readonly string[]
  /** Whether clients are asked for certificates, and whether one is served without; one that is shown must be good. @default 'none' */
  clientCertificates?: ClientCertificates
  /** Authorities of clients' certificates: PEM, or files with PEM. @default [] */
  clientCa?: readonly string[]
  /** Lists of revoked clients' certificates, one of each authority in `clientCa`: PEM, or files with PEM. @default [] */
  clientCrl?: readonly string[]
  /**
   * Whether a request is served whose Host is for another certificate than the one that the connection's name chose; 'reject'
   * answers 421. Where the two have other rules for clients' certificates it is 421 in any case. @default 'allow'
   */
  sniMismatch?: 'allow' | 'reject'
  /** From accepting to the end of the handshake, in ms; past it the connection is cut. @default 10_000 */
  handshakeTimeoutMs?: number
  /**
   * Handshakes under way at once on this listener and worker; further ones wait, each client in its turn. One that takes longer than a
   * second goes on and keeps no other waiting. @default 256
   */
  maxConcurrentHandshakes?: number
  /** Whether sessions are resumed with tickets. Never where clients' certificates are asked for. @default true */
  resumption?: boolean
  /** How long a ticket is good for, in ms; a week is the longest. At least 1000. @default 3_600_000 */
  ticketLifetimeMs?: number
  /** File to which the secrets of every connection are appended, for Wireshark: whoever has it reads everything. '': none. @default '' */
  keyLogFile?: string
  /** Whether OpenSSL's FIPS provider must be in use; without one the listener does not start. @default false */
  fips?: boolean
}
export type ResolvedTlsListenerOptions = Readonly<Required<TlsListenerOptions>>

/** RFC 8446 4.6.1. */
const MAX_TICKET_LIFETIME_MS = 604_800_000
/** Where a ticket's time is written, it is written in seconds. */
const MIN_TICKET_LIFETIME_MS = 1_000

const NAME_OF_OPENSSL = /^[\w.@=+!-]+$/

export const TLS_LISTENER_OPTIONS = {
  certificates: code<readonly GivenCertificate[]>([], 'a list of { cert, key }', Array.isArray),
  certificateFiles: list([], 'files with a certificate and its key, or of two files with a blank between', isFileOrTwo),
  certificateFor: callback<CertificateFor | null>(null),
  certificateForTimeoutMs: duration(5_000),
  policy: choice<TlsPolicyName>('intermediate', ['intermediate', 'modern']),
  minVersion: choice<TlsVersion | 'policy'>('policy', ['policy', 'TLSv1.2', 'TLSv1.3']),
  ciphers: text('', 'names of ciphers with colons between', given => given === '' || given.split(':').every(isOpensslName)),
  groups: list(['X25519MLKEM768', 'X25519', 'P-256', 'P-384'], 'names of groups', isOpensslName),
  certificateCompression: list([], "'zlib', 'brotli' and 'zstd'", way => way === 'zlib' || way === 'brotli' || way === 'zstd'),
  clientCertificates: choice<ClientCertificates>('none', ['none', 'optional', 'required']),
  clientCa: list([], 'texts in PEM or files with them', item => item !== ''),
  clientCrl: list([], 'texts in PEM or files with them', item => item !== ''),
  sniMismatch: choice<'allow' | 'reject'>('allow', ['allow', 'reject']),
  handshakeTimeoutMs: duration(10_000),
  maxConcurrentHandshakes: count(256),
  resumption: flag(true),
  ticketLifetimeMs: duration(3_600_000, { min: MIN_TICKET_LIFETIME_MS, max: MAX_TICKET_LIFETIME_MS }),
  keyLogFile: file('', 'a file that only its owner may read', ['']),
  fips: flag(false),
} satisfies OptionTable<TlsListenerOptions>

export const TLS_LISTENER_DEFAULTS: ResolvedTlsListenerOptions = defaultsOf<TlsListenerOptions>(TLS_LISTENER_OPTIONS)

/** Complete and checked, certificates aside. @throws OptionError with every mistake there is */
export function resolveTlsListenerOptions(
  options: TlsListenerOptions = {}, base: ResolvedTlsListenerOptions = TLS_LISTENER_DEFAULTS,
): ResolvedTlsListenerOptions {
  return resolveOptions<TlsListenerOptions>('listener.tls', TLS_LISTENER_OPTIONS, options, base)
}

/** All certificates that options name, in their order: the first is the default. */
export function givenCertificates({ certificates, certificateFiles }: ResolvedTlsListenerOptions): readonly GivenCertificate[] {
  return [...certificates, ...certificateFiles.map(filesOf)]
}

/** The same options with files by their whole paths. @param folder what relative ones are relative to */
export function tlsFilesFrom(folder: string, given: TlsListenerOptions): TlsListenerOptions {
  const whole = (item: string): string => item.includes('-----BEGIN ') ? item : path.resolve(folder, item)
  const { certificateFiles, clientCa, clientCrl, keyLogFile } = given
  return {
    ...given,
    ...certificateFiles === undefined ? null : {
      certificateFiles: certificateFiles.map(item => splitFiles(item).map(whole).join(BETWEEN) + BETWEEN),
    },
    ...clientCa === undefined ? null : { clientCa: clientCa.map(whole) },
    ...clientCrl === undefined ? null : { clientCrl: clientCrl.map(whole) },
    ...keyLogFile === undefined || keyLogFile === '' ? null : { keyLogFile: whole(keyLogFile) },
  }
}

/** Between files whose folder may have blanks in its name, and behind them. */
const BETWEEN = '\t'

function splitFiles(item: string): string[] { return item.split(item.includes(BETWEEN) ? BETWEEN : ' ').filter(part => part !== '') }

function filesOf(item: string): GivenCertificate {
  const [cert = '', key] = splitFiles(item)
  return key === undefined ? { cert } : { cert, key }
}

function isFileOrTwo(item: string): boolean { return [1, 2].includes(splitFiles(item).length) }

function isOpensslName(name: string): boolean { return NAME_OF_OPENSSL.test(name) }
