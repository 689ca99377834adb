/**
 * Which certificate entry serves a name (SNI): the one that has it, else the one with a wildcard for it, else the default, which is
 * the first. Names are found in one map, so that ten thousand cost a handshake what one does.
 *
 * All entries are replaced at once: a handshake finds those before or those behind, and what it found holds until its end. Where
 * OpenSSL refuses one of the new entries nothing changes. A secure context is made once for what an entry says, and kept for as long
 * as an entry says it; beyond EAGER_CONTEXTS it is made at the first handshake that needs it.
 *
 * Sessions: the context that a name chooses decides before OpenSSL looks at a ticket. All share the keys, and each has an id
 * (`sessionIdContext`): a session that was made under another one is no session there. It stands for the names in the certificate, since
 * none is shown when a session is taken up again, and a client that was sent astray would not see it; for the ciphers, which TLS 1.2
 * takes from the session; and for the rules for clients' certificates, where besides no tickets are given. It does not stand for the
 * certificate itself, which may so be renewed under a ticket.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import { CertificateError, type CertificateEntry, type ClientRules } from '../../certificates/certificate-entry.ts'
import { plainServerName, wildcardOf } from '../../certificates/server-name.ts'
import { Lru } from '../../primitives/lru.ts'
import { contextOptions, type ServerPolicyOptions } from './server-policy.ts'
import type { TicketKeys } from './ticket-keys.ts'

/** A context takes a fifth of a millisecond and 30 KiB: more than these at once would be felt. */
const EAGER_CONTEXTS = 256
/** Entries that an application gave for single names, and that are kept. */
const ANSWERED_ENTRIES = 1000
/** OpenSSL takes at most 32 bytes. */
const SESSION_ID_BYTES = 32

/** An entry as handshakes use it. */
export class ServedEntry {
  readonly entry: CertificateEntry
  /** The same for entries that ask the same of clients. */
  readonly clientsKey: string
  /** Whether sessions are taken up again. */
  readonly resumes: boolean
  readonly #policy: ServerPolicyOptions
  readonly #keys: TicketKeys
  #context: tls.SecureContext | null = null

  constructor(entry: CertificateEntry, policy: ServerPolicyOptions, keys: TicketKeys) {
    this.entry = entry
    this.clientsKey = keyOf(entry.clients)
    this.resumes = policy.resumption && entry.clients.mode === 'none'
    this.#policy = policy
    this.#keys = keys
  }

  /** @throws what OpenSSL says of the certificate */
  get context(): tls.SecureContext { return this.#context ??= this.#make() }

  #make(): tls.SecureContext {
    const { createSecureContext } = process.getBuiltinModule('node:tls'), { pairs, clients } = this.entry
    const options = contextOptions(this.#policy, this.resumes)
    const context = createSecureContext({
      ...options,
      cert: pairs.map(({ cert }) => cert), key: pairs.map(({ key }) => key),
      // An empty list: the authorities of the web, which are Node.js's own choice, are none of a server's.
      ca: [...clients.ca],
      ...clients.crl.length === 0 ? {} : { crl: [...clients.crl] },
      sessionIdContext: sessionIdOf(this, options),
    })
    if (this.resumes) this.#keys.install(context)
    return context
  }
}

/** What serves which name, at one time. */
interface Table {
  readonly entries: readonly CertificateEntry[]
  readonly byName: ReadonlyMap<string, ServedEntry>
  /** Null: there is none. */
  readonly fallback: ServedEntry | null
  readonly byContent: ReadonlyMap<string, ServedEntry>
}

const EMPTY: Table = { entries: [], byName: new Map(), fallback: null, byContent: new Map() }

export class CertificateMap {
  readonly #policy: ServerPolicyOptions
  readonly #keys: TicketKeys
  readonly #answered = new Lru<string, ServedEntry>(ANSWERED_ENTRIES)
  #table = EMPTY
  /** Times that all entries were replaced. */
  swaps = 0

  constructor(policy: ServerPolicyOptions, keys: TicketKeys) {
    this.#policy = policy
    this.#keys = keys
  }

  get entries(): readonly CertificateEntry[] { return this.#table.entries }

  /**
   * Serves these from now on, the first one where no other fits.
   * @throws CertificateError with every entry that OpenSSL refuses; then nothing has changed
   */
  replace(entries: readonly CertificateEntry[]): void {
    const before = this.#table.byContent
    const byName = new Map<string, ServedEntry>(), byContent = new Map<string, ServedEntry>()
    for (const entry of entries) {
      const served = byContent.get(entry.fingerprint) ?? before.get(entry.fingerprint) ?? new ServedEntry(entry, this.#policy, this.#keys)
      byContent.set(entry.fingerprint, served)
      // The first entry that has a name serves it.
      for (const name of entry.names) if (!byName.has(name)) byName.set(name, served)
    }
    checkContexts([...byContent.values()].slice(0, EAGER_CONTEXTS))
    const first = entries[0]
    this.#table = { entries: [...entries], byName, byContent, fallback: first === undefined ? null : byContent.get(first.fingerprint)! }
    this.swaps++
  }

  /** @param serverName in lower case; '': the client named none. Null: nothing fits, and there is no default */
  find(serverName: string): ServedEntry | null { return this.exact(serverName) ?? this.#table.fallback }

  /** The same without the default. */
  exact(serverName: string): ServedEntry | null {
    const { byName } = this.#table
    return byName.get(serverName) ?? byName.get(wildcardOf(serverName)) ?? null
  }

  /** What a request's host is served with, as `find`. @param host as in Host, without port */
  forHost(host: string): ServedEntry | null { return this.find(plainServerName(host)) }

  /** An entry that an application gave for one name: the same content has the same context. */
  answered(entry: CertificateEntry): ServedEntry {
    const known = this.#table.byContent.get(entry.fingerprint) ?? this.#answered.get(entry.fingerprint)
    if (known !== undefined) return known
    const served = new ServedEntry(entry, this.#policy, this.#keys)
    this.#answered.set(entry.fingerprint, served)
    return served
  }
}

function checkContexts(all: readonly ServedEntry[]): void {
  const mistakes = all.flatMap(served => {
    try {
      return served.context === null ? [] : []
    } catch (error) {
      const { pairs: [pair], names } = served.entry
      return [{ where: pair!.certFile || names[0] || 'certificate', text: `is refused by OpenSSL: ${(error as Error).message}` }]
    }
  })
  if (mistakes.length > 0) throw new CertificateError(mistakes)
}

function sessionIdOf({ entry, clientsKey }: ServedEntry, { ciphers, minVersion }: tls.SecureContextOptions): string {
  const names = new Set(entry.pairs.map(({ leaf }) => namesIn(leaf)))
  const hash = createHash('sha256')
  for (const part of [clientsKey, minVersion!, ciphers!, ...names]) hash.update(`${part.length}:`).update(part)
  return hash.digest('base64url').slice(0, SESSION_ID_BYTES)
}

/** Their order is the authority's choice. A certificate without any has no subject either, whatever its type says. */
function namesIn({ subject, subjectAltName }: X509Certificate): string {
  return `${subjectAltName ?? subject}`.split(', ').toSorted().join()
}

function keyOf({ mode, ca, crl }: ClientRules): string {
  if (mode === 'none') return ''
  const hash = createHash('sha256').update(mode)
  for (const part of [...ca, '', ...crl]) hash.update(`${part.length}:`).update(part)
  return hash.digest('base64url')
}
