/**
 * What a server's handshakes may be made of, as options of OpenSSL: Mozilla's guideline "Server Side TLS" 5.7, with these
 * departures:
 *
 *   DHE is left out        it costs a server more than its clients (CVE-2002-20001), and who has it has ECDHE
 *   the server's order     as every cipher here is good, it changes nothing but that clients without AES in hardware get ChaCha20
 *   X25519MLKEM768 first   what is recorded today stays closed to tomorrow's machines, also where a client that can would begin
 *                          with something else: it is asked again, for one more round trip
 *
 * Nobody may renegotiate (TLS 1.2), and nothing is compressed.
 */
import { constants } from 'node:crypto'
import type tls from 'node:tls'
import type { TlsPolicyName, TlsVersion } from '../../certificates/tls-policy-name.ts'

interface Policy {
  readonly minVersion: TlsVersion
  readonly ciphers: readonly string[]
}

const TLS13_CIPHERS = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256']

const POLICIES: Readonly<Record<TlsPolicyName, Policy>> = {
  modern: { minVersion: 'TLSv1.3', ciphers: TLS13_CIPHERS },
  intermediate: {
    minVersion: 'TLSv1.2',
    ciphers: [
      ...TLS13_CIPHERS, 'ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384',
      'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305',
    ],
  },
}

/** What is the same for all certificates of a listener. */
export interface ServerPolicyOptions {
  readonly policy: TlsPolicyName
  readonly minVersion: TlsVersion | 'policy'
  /** '': those of the policy. */
  readonly ciphers: string
  readonly groups: readonly string[]
  readonly certificateCompression: readonly string[]
  readonly resumption: boolean
  readonly ticketLifetimeMs: number
}

interface Contradiction {
  readonly name: 'minVersion' | 'ciphers'
  /** What would do. */
  readonly remedy: string
}

/** What of the options would come to nothing beside the others. Null: each is as it says. */
export function contradiction({ policy, minVersion, ciphers }: ServerPolicyOptions): Contradiction | null {
  const oldest = minVersion === 'policy' ? POLICIES[policy].minVersion : minVersion
  if (policy === 'modern' && oldest === 'TLSv1.2' && ciphers === '') {
    return { name: 'minVersion', remedy: 'the policy modern has no cipher for that: use the policy intermediate, or ciphers of your own' }
  }
  const isForgotten = oldest === 'TLSv1.3' && ciphers !== '' && !ciphers.split(':').some(name => name.startsWith('TLS_'))
  return isForgotten ? { name: 'ciphers', remedy: 'use names of TLS 1.3 (TLS_...), which alone is spoken' } : null
}

/** @param resumes whether tickets are given out and taken */
export function contextOptions(options: ServerPolicyOptions, resumes: boolean): tls.SecureContextOptions {
  const { minVersion, ciphers } = POLICIES[options.policy]
  const { SSL_OP_NO_RENEGOTIATION, SSL_OP_PRIORITIZE_CHACHA, SSL_OP_NO_TICKET } = constants as unknown as Readonly<Record<string, number>>
  const compression = options.certificateCompression as tls.SecureContextOptions['certificateCompression']
  return {
    ...compression!.length === 0 ? {} : { certificateCompression: compression },
    minVersion: options.minVersion === 'policy' ? minVersion : options.minVersion, maxVersion: 'TLSv1.3',
    ciphers: options.ciphers === '' ? ciphers.join(':') : options.ciphers,
    ecdhCurve: groupList(options.groups),
    honorCipherOrder: true,
    secureOptions: SSL_OP_NO_RENEGOTIATION! | SSL_OP_PRIORITIZE_CHACHA! | (resumes ? 0 : SSL_OP_NO_TICKET!),
    sessionTimeout: Math.ceil(options.ticketLifetimeMs / 1000),
  }
}

/**
 * As OpenSSL has it: what stands before a `/` is taken before anything behind it, also when the client has begun with that
 * (SSL_CTX_set1_groups_list); among those between colons the one that it has begun with will do.
 */
function groupList(groups: readonly string[]): string {
  if (groups.length === 0) return 'auto'
  let list = ''
  for (const [index, group] of groups.entries()) {
    const before = groups[index - 1]
    list += before === undefined ? group : `${isHybrid(before) && !isHybrid(group) ? '/' : ':'}${group}`
  }
  return list
}

/** Safe from a quantum computer. */
function isHybrid(group: string): boolean { return group.includes('MLKEM') }
