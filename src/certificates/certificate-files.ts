/**
 * The certificates of one listener as they are in its files, looked at again and again while they are served.
 *
 * Of each entry:
 *
 *   Served --a file is another one than before--> Changing --the same at two looks, and good--> Served, swapped
 *      ^                                            |   ^
 *      |                                            |   +-- a file is another one again
 *      |                                            +-- bad, and nothing has changed for PAIR_WAIT_MS --> Refused: the one before serves
 *      +-- the files are as they were when it was read ------------------------------------------------------+
 *
 * Certificate and key are seldom written in one moment, and a reader may see half of either. So what has changed is read when it
 * was the same at two looks, and what does not belong together then has PAIR_WAIT_MS to become a pair; nobody is told of it
 * before. Whether a file is another one is decided by what `stat` says behind symbolic links: a rename, a new target of a link
 * (as volumes of Kubernetes have) and a rewrite in place all show. The clock of a file system is coarse: two changes within one of its
 * ticks leave the same times behind. So what was changed less than TICK_MS before it was read is read once more at the next look.
 *
 * Invariants: what is served was read whole and found good, key and chain together; a bad entry leaves the others alone; an entry whose
 * files say what they said before is not replaced.
 * When to look, and who is told, is decided elsewhere; so is what is done with entries (`replace`).
 */
import fs from 'node:fs'
import {
  CertificateError, NO_CLIENT_CERTIFICATES, readCertificates, readClientRules, withClientRules, type CertificateEntry, type ClientRules,
  type GivenCertificate, type ReadCertificates,
} from './certificate-entry.ts'
import type { CertificateOutcome, CertificateStatus } from './served-certificates.ts'

export interface CertificateFilesHost {
  /** ms since 1970. */
  now(): number
  /** Serves these from now on, the first where no other fits. @throws CertificateError, and then nothing has changed */
  replace(entries: readonly CertificateEntry[]): void
}

/** What a look has brought about. */
export interface CertificateChange {
  /** What is in the files now is served, or is refused and what was there before is served on. */
  readonly outcome: 'swapped' | 'refused'
  /** The files that have changed. */
  readonly files: readonly string[]
  /** Why it is refused; ''. */
  readonly reason: string
}

/** What was changed is given so long to become a pair, in ms. */
export const PAIR_WAIT_MS = 60_000
/** What was refused is read again after this, in ms: its time may have come. */
const RETRY_MS = 600_000
/** The coarsest clock of a file system, in ms: FAT has 2 s, HFS+ 1 s, the others of Linux one turn of its timer. */
const TICK_MS = 2_000
/** Entries whose files are asked for at the same time. */
const ITEMS_AT_ONCE = 16
export const MAX_SHOWN_NAMES = 20
const MAX_REASON_LENGTH = 1_000
const OLD_RULES = "authorities of clients' certificates are those of before"
/** So long before its end a certificate is something to be known, in ms. */
export const EXPIRY_WARNING_MS = 30 * 86_400_000

/** What `stat` says of some files. */
interface Look {
  readonly signature: string
  /** When the one that was changed last was changed, in ms since 1970. */
  readonly changedMs: number
}

/** Something that was read from files: an entry, or what holds for all of them. */
class Watched {
  readonly files: readonly string[]
  /** As the files were right before what is served was read; '' while they may have been changed since without a trace. */
  #signature: string
  /** Whether they had been changed so shortly before the last look that another change would have left no trace. */
  #isFresh: boolean
  /** At the last look. */
  #seen: string
  /** When that was seen first. */
  changedAt: number
  /** When that was read; 0: not yet. */
  readAt = 0
  outcome: CertificateOutcome = 'first'
  since: number
  reason = ''
  /** Why what was seen is refused, as it was told; '' */
  #told = ''
  /** What was refused may have changed since without a trace: it is read once more. */
  #refusedFresh = false
  /** The outcome that holds when the files are as they were. */
  #settled: 'first' | 'swapped' = 'first'

  constructor(files: readonly string[], now: number) {
    this.files = [...new Set(files)]
    const look = joined(this.files.map(statNow))
    this.#isFresh = isFresh(look, now)
    this.#seen = look.signature
    this.#signature = this.#isFresh ? '' : look.signature
    this.since = this.changedAt = now
  }

  /** Whether the files have to be read to know that they still say what is served: their times do not show it. */
  get isSuspect(): boolean { return this.#signature === '' }

  /** Whether it has to be read. @param look at its files, as they are */
  isDue(look: Look, now: number, atOnce: boolean): boolean {
    const { signature } = look, isNew = signature !== this.#seen
    this.#isFresh = isFresh(look, now)
    if (isNew) {
      this.#seen = signature
      this.changedAt = now
      this.readAt = 0
      this.#refusedFresh = false
      this.#told = ''
    }
    if (signature === this.#signature) {
      if (this.outcome !== this.#settled) this.#become(this.#settled, now, '')
      return false
    }
    if (isNew && !atOnce) {
      this.#become('changing', now, '')
      return false
    }
    if (this.readAt === 0 || this.#refusedFresh || atOnce) return true
    return this.outcome === 'changing' ? this.#hasHadItsTime(now) : now - this.readAt >= RETRY_MS
  }

  /** It is read now. What is only read once more has its time from the first reading on. */
  reads(now: number): void {
    if (!this.#refusedFresh) this.readAt = now
    this.#refusedFresh = false
  }

  /** What was read is served. @param changed it says something else than before */
  taken(now: number, changed: boolean): void {
    this.#signature = this.#isFresh ? '' : this.#seen
    if (this.#isFresh) this.readAt = 0
    if (changed) this.#settled = 'swapped'
    this.#become(this.#settled, now, '')
    if (changed) this.since = now
  }

  /** What was read will not do. @returns whether that is to be told: it is final, and was not told before */
  refused(reason: string, now: number, atOnce: boolean): boolean {
    this.#refusedFresh = this.#isFresh
    const isFinal = atOnce || this.outcome === 'refused' || this.#hasHadItsTime(now)
    this.#become(isFinal ? 'refused' : 'changing', now, reason)
    if (!isFinal || this.#told === reason) return false
    this.#told = reason
    return true
  }

  #hasHadItsTime(now: number): boolean { return now - this.changedAt >= PAIR_WAIT_MS }

  #become(outcome: CertificateOutcome, now: number, reason: string): void {
    if (outcome !== this.outcome) this.since = now
    this.outcome = outcome
    this.reason = reason
  }
}

interface Item {
  readonly given: GivenCertificate
  readonly watched: Watched
  entry: CertificateEntry
}

export class CertificateFiles {
  readonly #given: readonly GivenCertificate[]
  readonly #givenClients: ClientRules
  readonly #host: CertificateFilesHost
  #clients = NO_CLIENT_CERTIFICATES
  #clientsWatched: Watched
  #items: readonly Item[] = []
  /** Whose files will not do, as of the last look. */
  #refused: readonly Item[] = []
  #looking: Promise<readonly CertificateChange[]> | null = null
  /** When the first of them is over, in ms since 1970. */
  #firstEnd = Number.POSITIVE_INFINITY

  /** @param clients what holds for entries that say nothing of clients' certificates, as it was given */
  constructor(given: readonly GivenCertificate[], clients: ClientRules, host: CertificateFilesHost) {
    this.#given = given
    this.#givenClients = clients
    this.#host = host
    this.#clientsWatched = new Watched([], host.now())
  }

  /** Reads all of them for the first time. @throws CertificateError with every mistake. @returns what is odd and works */
  load(): ReadCertificates['remarks'] {
    const now = this.#host.now()
    // Before they are read: what changes meanwhile shows at the first look.
    this.#clientsWatched = new Watched(filesOf([...this.#givenClients.ca, ...this.#givenClients.crl]), now)
    const watched = this.#given.map(given => new Watched(filesOfEntry(given), now))
    this.#clients = this.#readClients()
    const { entries, remarks } = readCertificates(this.#given, { now, refusesExpired: false, clients: this.#clients })
    this.#host.replace(entries)
    this.#items = this.#given.map((given, index) => ({ given, watched: watched[index]!, entry: entries[index]! }))
    this.#noteEnd()
    return remarks
  }

  /** What holds for entries that say nothing of clients' certificates: as it was read last and found good. */
  get clients(): ClientRules { return this.#clients }

  /** How many files are looked at. */
  get files(): number { return this.#items.reduce((sum, { watched }) => sum + watched.files.length, this.#clientsWatched.files.length) }

  /**
   * Looks at all files, reads those that have changed, and serves them where they will do. One look at a time: who asks meanwhile gets
   * what that one brings. @param atOnce an operator waits: what has changed is read now, and what will not do is refused now
   */
  look(atOnce = false): Promise<readonly CertificateChange[]> {
    if (atOnce && this.#looking !== null) return this.#looking.then(() => this.look(true))
    return this.#looking ??= this.#look(atOnce).finally(() => { this.#looking = null })
  }

  async #look(atOnce: boolean): Promise<readonly CertificateChange[]> {
    const changes: CertificateChange[] = [], clients = this.#clientsWatched
    if (await this.#isDue(clients, atOnce)) this.#takeClients(atOnce, changes)
    const due: Item[] = []
    // Some at a time: thousands of them are no burst, and what was learnt of one is forgotten with it.
    for (let from = 0; from < this.#items.length; from += ITEMS_AT_ONCE) {
      const some = this.#items.slice(from, from + ITEMS_AT_ONCE)
      const areDue = await Promise.all(some.map(({ watched }) => this.#isDue(watched, atOnce)))
      due.push(...some.filter((_, index) => areDue[index]!))
    }
    this.#readItems(due, atOnce, changes)
    this.#refused = this.#items.filter(({ watched }) => watched.outcome === 'refused')
    return changes
  }

  async #isDue(watched: Watched, atOnce: boolean): Promise<boolean> {
    const looks = await Promise.all(watched.files.map(statLater))
    return watched.isDue(joined(looks), this.#host.now(), atOnce)
  }

  #readClients(): ClientRules {
    const { mode, ca, crl } = this.#givenClients
    return readClientRules(mode, ca, crl, 'listener.tls')
  }

  /** Authorities and lists of those entries that have none of their own. */
  #takeClients(atOnce: boolean, changes: CertificateChange[]): void {
    const clients = this.#attempt(this.#clientsWatched, atOnce, changes, () => {
      const read = this.#readClients()
      this.#rule(read)
      return read
    })
    if (clients === null) return
    const isSame = saysTheSame(clients, this.#clients)
    this.#clients = clients
    if (isSame) this.#clientsWatched.taken(this.#host.now(), false)
    else this.#taken(this.#clientsWatched, changes)
  }

  /** What is served is served under these rules. Nothing of it is read: files that will not do now must not keep old rules alive. */
  #rule(clients: ClientRules): void {
    const fresh = new Map<Item, CertificateEntry>()
    for (const item of this.#items) {
      const entry = withClientRules(item.entry, item.given, clients)
      if (entry.fingerprint !== item.entry.fingerprint) fresh.set(item, entry)
    }
    if (fresh.size > 0) this.#serve(fresh)
  }

  #readItems(items: readonly Item[], atOnce: boolean, changes: CertificateChange[]): void {
    const fresh = new Map<Item, CertificateEntry>()
    for (const item of items) {
      const entry = this.#attempt(item.watched, atOnce, changes, () => this.#readItem(item))
      if (entry === null) continue
      if (entry.fingerprint === item.entry.fingerprint) item.watched.taken(this.#host.now(), false)
      else fresh.set(item, entry)
    }
    if (fresh.size === 0) return
    try {
      this.#serve(fresh)
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error
      // OpenSSL refuses one of them: the others do not wait for it.
      this.#serveEach(fresh, changes)
      return
    }
    for (const { watched } of fresh.keys()) this.#taken(watched, changes)
  }

  /** What is served already may be expired by now, and is served on. */
  #readItem({ given, watched, entry }: Item): CertificateEntry {
    const options = { now: this.#host.now(), clients: this.#clients }
    if (watched.isSuspect) {
      const [again] = readCertificates([given], { ...options, refusesExpired: false }).entries
      if (again!.fingerprint === entry.fingerprint) return again!
    }
    return readCertificates([given], { ...options, refusesExpired: true }).entries[0]!
  }

  #serveEach(fresh: ReadonlyMap<Item, CertificateEntry>, changes: CertificateChange[]): void {
    for (const [item, entry] of fresh) {
      const served = this.#attempt(item.watched, true, changes, () => {
        this.#serve(new Map([[item, entry]]))
        return entry
      })
      if (served !== null) this.#taken(item.watched, changes)
    }
  }

  #serve(fresh: ReadonlyMap<Item, CertificateEntry>): void {
    this.#host.replace(this.#items.map(item => fresh.get(item) ?? item.entry))
    for (const [item, entry] of fresh) item.entry = entry
    this.#noteEnd()
  }

  /** So that a server with thousands of them need not look at each for each report. */
  #noteEnd(): void {
    this.#firstEnd = this.#items.reduce((end, { entry }) => Math.min(end, ...entry.pairs.map(({ notAfter }) => notAfter)), Infinity)
  }

  /** @returns null: it will not do, and `watched` knows why */
  #attempt<T>(watched: Watched, atOnce: boolean, changes: CertificateChange[], read: () => T): T | null {
    const now = this.#host.now()
    watched.reads(now)
    try {
      return read()
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error
      const reason = error.message.replaceAll('\n', '; ').slice(0, MAX_REASON_LENGTH)
      if (watched.refused(reason, now, atOnce)) changes.push({ outcome: 'refused', files: watched.files, reason })
      return null
    }
  }

  #taken(watched: Watched, changes: CertificateChange[]): void {
    watched.taken(this.#host.now(), true)
    changes.push({ outcome: 'swapped', files: watched.files, reason: '' })
  }

  status(): CertificateStatus[] {
    return this.#items.flatMap(item => {
      const { entry: { names, pairs } } = item, { outcome, since, reason } = this.#stateOf(item)
      return pairs.map(({ certFile, keyFile, keyType, leaf, notBefore, notAfter }) => ({
        names: names.slice(0, MAX_SHOWN_NAMES), moreNames: Math.max(0, names.length - MAX_SHOWN_NAMES),
        file: certFile, keyFile, keyType, issuer: lineOf(leaf.issuer), fingerprint: leaf.fingerprint256,
        notBefore, notAfter, outcome, since, reason,
      }))
    })
  }

  /** Who has put a new list of revoked clients there has to hear that it does not hold: where it would, if nothing worse is to be said. */
  #stateOf({ given: { clientCa, clientCrl }, entry, watched }: Item): Pick<CertificateStatus, 'outcome' | 'since' | 'reason'> {
    const { outcome, since, reason } = this.#clientsWatched
    const takesRules = entry.clients.mode !== 'none' && (clientCa === undefined || clientCrl === undefined)
    if (outcome !== 'refused' || watched.outcome === 'refused' || !takesRules) return watched
    return { outcome, since, reason: `${OLD_RULES}: ${reason}` }
  }

  /** What an operator should know, a line each. */
  * notices(): Generator<string> {
    const now = this.#host.now(), clients = this.#clientsWatched
    if (clients.outcome === 'refused') yield `${OLD_RULES}: ${clients.reason}`
    for (const { watched } of this.#refused) yield `a certificate was not swapped, the one before is served: ${watched.reason}`
    if (this.#firstEnd - now > EXPIRY_WARNING_MS) return
    for (const { entry } of this.#items) {
      for (const { certFile, notAfter } of entry.pairs) {
        const text = expiryText(notAfter, now)
        if (text !== '') yield `certificate ${certFile === '' ? entry.names[0] ?? 'without a file' : certFile} ${text}`
      }
    }
  }
}

/** @param name undefined, whatever the types of Node.js say, of who has none */
function lineOf(name: string | undefined): string { return (name ?? '').replaceAll('\n', ', ') }

/** `expires in 12 days`; '' while there is time. */
export function expiryText(notAfter: number, now: number): string {
  const left = notAfter - now, day = new Date(notAfter).toISOString().slice(0, 'YYYY-MM-DD'.length)
  if (left > EXPIRY_WARNING_MS) return ''
  if (left <= 0) return `is expired since ${day}`
  const days = Math.floor(left / 86_400_000)
  const when = days === 0 ? 'in less than a day' : days === 1 ? 'in 1 day' : `in ${days} days`
  return `expires ${when}, on ${day}`
}

function filesOf(given: readonly string[]): string[] { return given.filter(one => !one.includes('-----BEGIN ')) }

function filesOfEntry({ cert, key, ocspFile, clientCa, clientCrl }: GivenCertificate): string[] {
  const texts = [cert, key, clientCa, clientCrl].flatMap(one => one ?? [])
  return [...filesOf(texts), ...ocspFile === undefined ? [] : [ocspFile]]
}

function saysTheSame(one: ClientRules, other: ClientRules): boolean {
  return one.mode === other.mode && one.ca.join('\n') === other.ca.join('\n') && one.crl.join('\n') === other.crl.join('\n')
}

function joined(looks: readonly Look[]): Look {
  const signature = looks.map(one => one.signature).join(' ')
  const changedMs = looks.reduce((last, one) => Math.max(last, one.changedMs), 0)
  return { signature, changedMs }
}

/** A clock that is ahead of ours, as of a file server, says nothing: it must not have files read again for ever. */
function isFresh({ changedMs }: Look, now: number): boolean { return Math.abs(now - changedMs) < TICK_MS }

/** Not on the event loop: a file system that hangs must not hang what is served. */
function statLater(file: string): Promise<Look> {
  return new Promise(resolve => {
    fs.stat(file, (error, stat) => resolve(error === null ? lookOf(stat) : noFile(error)))
  })
}

function statNow(file: string): Look {
  try { return lookOf(fs.statSync(file)) } catch (error) { return noFile(error) }
}

/** Where a file really is, how long it is, and when it was changed: the latter by ctime, which none but the kernel sets. */
function lookOf({ dev, ino, size, mtimeMs, ctimeMs }: fs.Stats): Look {
  return { signature: `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}`, changedMs: ctimeMs }
}

function noFile(error: unknown): Look { return { signature: (error as NodeJS.ErrnoException).code ?? 'unknown', changedMs: 0 } }
