/**
 * What an operator says of TLS for the whole server, in the section `tls`. What a listener serves (certificates, versions, clients'
 * certificates) is said where the listener is.
 */
import { defaultsOf, duration, path, type OptionTable } from '../primitives/option-table.ts'

export interface TlsOptions {
  /**
   * How often the key changes that session tickets are encrypted with, in ms. A key that encrypts no more decrypts for as long as
   * tickets of listeners live (`ticketLifetime`); where they live more than 24 times as long as this, the key changes less often. With
   * `ticketKeysFile` the file decides. At least 60_000. @default 43_200_000
   */
  ticketRotationMs?: number
  /**
   * File with the keys of session tickets, for machines that take up each other's sessions: a key a line in base64, of 48 or 80 bytes,
   * the one that encrypts first. Looked at every ten seconds. '': keys are made here. @default ''
   */
  ticketKeysFile?: string
}

/** Plain data, so that it can cross processes. */
export type ResolvedTlsOptions = Readonly<Required<TlsOptions>>

const MINUTE_MS = 60_000

export const TLS_OPTIONS = {
  ticketRotationMs: duration(43_200_000, { min: MINUTE_MS }),
  ticketKeysFile: path('', 'a file with keys of session tickets', ['']),
} satisfies OptionTable<TlsOptions>

export const TLS_DEFAULTS: ResolvedTlsOptions = defaultsOf<TlsOptions>(TLS_OPTIONS)
