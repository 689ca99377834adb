/**
 * Addresses of names, found as the machine would find them, without its thread pool:
 *
 *   hosts file -> localhost -> fresh answer in the cache -> DNS with the search list of resolv.conf
 *
 * Answers are kept for their TTL between a floor and a ceiling; "no such name" is kept briefly; one question per name is
 * under way at a time. When the servers fail or are slow, the last good answer stands in (RFC 8767); a server that says
 * that a name is gone is believed. A failing server never makes the search go on: it must not turn one name into another.
 *
 * Both files belong to machine-names.ts. The DNS client is an injected DnsSource; the real one is c-ares
 * (`dns.Resolver`), which asks for exactly the name that it is given.
 */
import { Resolver as CaresResolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import { ProxyError } from '../errors/proxy-error.ts'
import type { OpenCounts } from '../ipc/open-counts.ts'
import { Ticker } from '../primitives/clock.ts'
import { Lru } from '../primitives/lru.ts'
import { callback, count, defaultsOf, duration, object, path, resolveOptions, type OptionTable } from '../primitives/option-table.ts'
import { candidatesOf, MachineNames, MAX_ADDRESSES, type ResolvConf } from './machine-names.ts'

/** One address of a name, and how long it may be kept. */
export interface DnsAddress {
  /** Numeric, without brackets. One that is not of the family asked for is passed over. */
  readonly address: string
  /** Seconds. */
  readonly ttl: number
}

/** Asks DNS servers for one name, as it stands, and one family. */
export interface DnsSource {
  /** Rejects with a `code`: ENOTFOUND and ENODATA say that there is none, everything else that nobody knows. */
  query(name: string, family: 4 | 6): Promise<readonly DnsAddress[]>
}

/** What a Resolver may be told. */
export interface ResolverOptions {
  /** @internal Deadlines of those who wait. @default null, one of its own */
  ticker?: Ticker | null
  /** Makes the DNS client for what resolv.conf says; called again when it changes. @default null, c-ares */
  createSource?: ((settings: ResolvConf) => DnsSource) | null
  /** Names that are not asked for. @default '/etc/hosts' */
  hostsPath?: string
  /** Search list and servers. @default '/etc/resolv.conf' */
  resolvConfPath?: string
  /** Names remembered; the least recently used is forgotten. @default 1024 */
  maxNames?: number
  /** Names asked for at the same time; past it resolving fails. @default 256 */
  maxQuestions?: number
  /** Shortest time an answer is kept, in ms, whatever its TTL. @default 1000 */
  ttlFloorMs?: number
  /** Longest time an answer is kept, in ms. At least ttlFloorMs. @default 300000 */
  ttlCeilingMs?: number
  /** How long "no such name" is kept, in ms. 0 keeps it not at all. @default 2000 */
  negativeTtlMs?: number
  /** How long after a failure of the servers they are asked again, in ms. @default 1000 */
  failureTtlMs?: number
  /** How long an answer may stand in for servers that fail, in ms after it expired. 0 turns it off. @default 86400000 */
  maxStaleMs?: number
  /** How long a fresh answer is waited for when there is an old one, in ms. @default 500 */
  staleAnswerMs?: number
  /** How long the other family's answer is waited for when one is there, in ms (RFC 8305 3). @default 50 */
  resolutionDelayMs?: number
}
export type ResolvedResolverOptions = Readonly<Required<ResolverOptions>>

export const RESOLVER_OPTIONS = {
  ticker: object<Ticker>('a Ticker'),
  createSource: callback<((settings: ResolvConf) => DnsSource) | null>(null),
  hostsPath: path('/etc/hosts', 'the path of a hosts file'),
  resolvConfPath: path('/etc/resolv.conf', 'the path of a resolv.conf'),
  maxNames: count(1024),
  maxQuestions: count(256),
  ttlFloorMs: duration(1000),
  ttlCeilingMs: duration(300_000, { atLeast: 'ttlFloorMs' }),
  negativeTtlMs: duration(2000, { zero: 'keeps it not at all' }),
  failureTtlMs: duration(1000),
  maxStaleMs: duration(86_400_000, { zero: 'turns it off' }),
  staleAnswerMs: duration(500),
  resolutionDelayMs: duration(50),
} satisfies OptionTable<ResolverOptions>

export const RESOLVER_DEFAULTS: ResolvedResolverOptions = defaultsOf<ResolverOptions>(RESOLVER_OPTIONS)

export interface ResolvedName {
  /** Numeric, without brackets; at least one. */
  readonly addresses: readonly string[]
  /** How long they may be used, ms. */
  readonly ttlMs: number
}

export interface ResolveWaiter {
  onResolved(addresses: readonly string[]): void
  onResolveFailed(error: ProxyError): void
}

/** Totals since the start, for metrics. */
export interface ResolverCounters {
  /** Questions asked of the servers, and how they ended. */
  questions: number
  answers: number
  negatives: number
  failures: number
  /** Answers from the cache, and old ones that stood in. */
  hits: number
  stale: number
  timeouts: number
}

/** What is known of a name. */
class KnownName {
  /** Empty: none, or nobody knows (`failure`). */
  addresses: readonly string[]
  /** Asked for again after this. */
  expiresAt: number
  /** May stand in for failing servers until then. */
  staleUntil: number
  /** Why there is none; '' when the servers say so. */
  failure: string
  constructor(addresses: readonly string[], expiresAt: number, staleUntil: number, failure: string) {
    this.addresses = addresses
    this.expiresAt = expiresAt
    this.staleUntil = staleUntil
    this.failure = failure
  }
}

/** Forgets a question whose source never settles, so that the name can be asked for again. */
const QUESTION_LIMIT_MS = 60_000

/**
 * Resolves host names as the machine would: hosts file first, then the servers, search list and ndots of resolv.conf. Answers are kept
 * for their TTL, within a floor and a ceiling, and the last good one stands in while the servers fail.
 */
export class Resolver {
  /** @internal */
  tickIndex = -1
  /** Its options, complete and checked. */
  readonly options: ResolvedResolverOptions
  /** @internal */
  readonly counters: ResolverCounters = { questions: 0, answers: 0, negatives: 0, failures: 0, hits: 0, stale: 0, timeouts: 0 }
  readonly #ticker: Ticker
  readonly #createSource: (settings: ResolvConf) => DnsSource
  readonly #machine: MachineNames
  /** Made for `#settings`; null until somebody asks, and while it could not be made. */
  #source: DnsSource | null = null
  #settings: ResolvConf | null = null
  readonly #names: Lru<string, KnownName>
  readonly #questions = new Map<string, Question>()

  /** @throws OptionError with every option that would not do. */
  constructor(options: ResolverOptions = {}) {
    this.options = resolveOptions<ResolverOptions>('resolver', RESOLVER_OPTIONS, options, RESOLVER_DEFAULTS)
    this.#ticker = this.options.ticker ?? new Ticker()
    this.#createSource = this.options.createSource ?? createCares
    this.#machine = new MachineNames(this.options.hostsPath, this.options.resolvConfPath)
    this.#names = new Lru(this.options.maxNames)
  }

  /** @internal For status and metrics. */
  counts(): Partial<OpenCounts> {
    const { answers, failures, hits, negatives, questions, stale, timeouts } = this.counters
    return {
      nameQuestions: questions, nameAnswers: answers, nameNegatives: negatives, nameFailures: failures,
      nameHits: hits, nameStale: stale, nameTimeouts: timeouts,
    }
  }

  /** @internal Addresses that are known without asking; null when the name has to be asked for. `name` in lower case. */
  cached(name: string): readonly string[] | null {
    if (isIP(name) !== 0) return [name]
    const now = this.#ticker.clock.exact()
    const local = this.#machine.addresses(name, now)
    if (local !== null) return local
    const known = this.#names.get(name)
    if (known === undefined || known.addresses.length === 0 || now >= known.expiresAt) return null
    this.counters.hits++
    return known.addresses
  }

  /** @internal Finds the addresses of a name. The waiter is called later, never before this returns, unless it cancels first. */
  ask(name: string, timeoutMs: number, waiter: ResolveWaiter): PendingResolve {
    const now = this.#ticker.clock.exact()
    const pending = new PendingResolve(waiter, now + timeoutMs, timeoutMs)
    const addresses = this.cached(name)
    if (addresses !== null) {
      process.nextTick(tellResolved, pending, addresses)
      return pending
    }
    const known = this.#names.peek(name)
    if (known !== undefined && known.addresses.length === 0 && now < known.expiresAt) {
      process.nextTick(tellFailed, pending, resolveFailed(name, known.failure))
      return pending
    }
    let question = this.#questions.get(name)
    if (question === undefined) {
      if (this.#questions.size >= this.options.maxQuestions) {
        process.nextTick(tellFailed, pending, tooManyQuestions(name, this.options.maxQuestions))
        return pending
      }
      question = new Question(name, now)
      this.#questions.set(name, question)
      this.#ticker.add(this)
      // Whoever asks is on the list first, and hears nothing before this returns.
      const asked = question
      queueMicrotask(() => void this.#answer(asked))
    }
    question.waiting.push(pending)
    return pending
  }

  /** The same as a promise; it rejects with a ProxyError. */
  resolve(name: string, timeoutMs = 5000): Promise<ResolvedName> {
    const { promise, resolve, reject } = Promise.withResolvers<ResolvedName>()
    const lower = name.toLowerCase()
    this.ask(lower, timeoutMs, {
      onResolved: addresses => resolve({ addresses, ttlMs: this.#ttlOf(lower) }),
      onResolveFailed: reject,
    })
    return promise
  }

  /** @internal */
  onTick(now: number): void {
    for (const question of this.#questions.values()) {
      const known = this.#names.peek(question.name)
      const old = known !== undefined && known.addresses.length > 0 && now < known.staleUntil ? known.addresses : null
      if (old !== null && now - question.askedAt >= this.options.staleAnswerMs && question.waiting.length > 0) {
        this.counters.stale++
        question.tell(old)
      }
      let left = 0
      for (const pending of question.waiting) {
        if (pending.waiter === null) continue
        if (now >= pending.deadline) {
          this.counters.timeouts++
          pending.fail(noAnswerInTime(question.name, pending.timeoutMs))
        } else question.waiting[left++] = pending
      }
      question.waiting.length = left
      if (now - question.askedAt >= QUESTION_LIMIT_MS) this.#end(question)
    }
  }

  #ttlOf(name: string): number {
    const known = this.#names.peek(name), now = this.#ticker.clock.exact()
    if (known !== undefined && known.expiresAt > now) return known.expiresAt - now
    return this.options.ttlFloorMs
  }

  // ---- asking

  /** What resolv.conf says now, with a source made for it. */
  #prepare(now: number): ResolvConf {
    const settings = this.#machine.resolvConf(now)
    if (settings !== this.#settings || this.#source === null) {
      this.#settings = settings
      this.#source = this.#createSource(settings)
    }
    return settings
  }

  /** Asks, remembers, tells. Never rejects. */
  async #answer(question: Question): Promise<void> {
    this.counters.questions++
    let failure = ''
    let addresses: readonly DnsAddress[] = []
    try {
      const settings = this.#prepare(this.#ticker.clock.now())
      for (const candidate of candidatesOf(question.name, settings)) {
        const answer = await this.#askBoth(candidate, question)
        addresses = answer.addresses
        failure = answer.failure
        if (addresses.length > 0 || failure !== '') break
      }
    } catch (thrown) {
      failure = codeOf(thrown)
    }
    if (this.#questions.get(question.name) !== question) return
    if (addresses.length > 0) {
      this.counters.answers++
      const known = this.#remember(question.name, addresses)
      this.#end(question)
      question.tell(known.addresses)
    } else if (failure === '') {
      this.counters.negatives++
      const now = this.#ticker.clock.exact()
      this.#names.set(question.name, new KnownName([], now + this.options.negativeTtlMs, 0, ''))
      this.#end(question)
      question.fail(resolveFailed(question.name, ''))
    } else this.#failed(question, failure)
  }

  #failed(question: Question, failure: string): void {
    this.counters.failures++
    this.#end(question)
    const now = this.#ticker.clock.exact()
    const known = this.#names.peek(question.name)
    if (known !== undefined && known.addresses.length > 0 && now < known.staleUntil) {
      this.counters.stale++
      known.expiresAt = now + this.options.failureTtlMs
      question.tell(known.addresses)
      return
    }
    this.#names.set(question.name, new KnownName([], now + this.options.failureTtlMs, 0, failure))
    question.fail(resolveFailed(question.name, failure))
  }

  #end(question: Question): void {
    if (this.#questions.get(question.name) === question) this.#questions.delete(question.name)
    if (this.#questions.size === 0) this.#ticker.remove(this)
  }

  #remember(name: string, answer: readonly DnsAddress[]): KnownName {
    const { ttlFloorMs, ttlCeilingMs, maxStaleMs } = this.options
    let ttlMs = ttlCeilingMs
    for (const { ttl } of answer) ttlMs = Math.min(ttlMs, ttl * 1000)
    const now = this.#ticker.clock.exact()
    const expiresAt = now + Math.max(ttlMs, ttlFloorMs)
    const known = new KnownName(answer.map(one => one.address), expiresAt, expiresAt + maxStaleMs, '')
    this.#names.set(name, known)
    return known
  }

  /** Both families of one name as it stands. `failure`: nobody knows; '' with no address: there is none. */
  async #askBoth(name: string, question: Question): Promise<{ addresses: readonly DnsAddress[]; failure: string }> {
    const source = this.#source!
    const v6 = askFamily(source, name, 6), v4 = askFamily(source, name, 4)
    const first = await Promise.race([v6, v4])
    const otherAnswer = first.family === 6 ? v4 : v6
    let other: FamilyAnswer | null
    if (first.addresses.length === 0) other = await otherAnswer
    else {
      const { promise: late, resolve } = Promise.withResolvers<null>()
      const stop = this.#ticker.clock.after(this.options.resolutionDelayMs, () => resolve(null))
      other = await Promise.race([otherAnswer, late])
      stop()
      if (other === null) void otherAnswer.then(answer => this.#addLate(question.name, first.addresses, answer))
    }
    if (other === null) return { addresses: first.addresses, failure: '' }
    const addresses = joinFamilies(first.addresses, other.addresses)
    return { addresses, failure: addresses.length > 0 ? '' : first.failure || other.failure }
  }

  /** The other family's answer came after the first was given out: from now on both are. */
  #addLate(name: string, first: readonly DnsAddress[], late: FamilyAnswer): void {
    const known = this.#names.peek(name)
    if (late.addresses.length === 0 || known === undefined || known.addresses.length !== first.length) return
    const unchanged = known.addresses.every((address, index) => address === first[index]!.address)
    if (unchanged) this.#remember(name, joinFamilies(first, late.addresses))
  }
}

/** Somebody waiting for a name. */
export class PendingResolve {
  /** Null once told, or cancelled. */
  waiter: ResolveWaiter | null
  readonly deadline: number
  readonly timeoutMs: number
  constructor(waiter: ResolveWaiter, deadline: number, timeoutMs: number) {
    this.waiter = waiter
    this.deadline = deadline
    this.timeoutMs = timeoutMs
  }

  cancel(): void { this.waiter = null }

  succeed(addresses: readonly string[]): void {
    const waiter = this.waiter
    this.waiter = null
    waiter?.onResolved(addresses)
  }

  fail(error: ProxyError): void {
    const waiter = this.waiter
    this.waiter = null
    waiter?.onResolveFailed(error)
  }
}

function tellResolved(pending: PendingResolve, addresses: readonly string[]): void { pending.succeed(addresses) }
function tellFailed(pending: PendingResolve, error: ProxyError): void { pending.fail(error) }

/** A name that is being asked for. */
class Question {
  readonly name: string
  readonly askedAt: number
  waiting: PendingResolve[] = []
  constructor(name: string, askedAt: number) {
    this.name = name
    this.askedAt = askedAt
  }

  tell(addresses: readonly string[]): void {
    const waiting = this.waiting
    this.waiting = []
    for (const pending of waiting) pending.succeed(addresses)
  }

  fail(error: ProxyError): void {
    const waiting = this.waiting
    this.waiting = []
    for (const pending of waiting) pending.fail(error)
  }
}

function resolveFailed(name: string, failure: string): ProxyError {
  const what = failure === '' ? 'there is no such name, or it has no address' : `the DNS servers failed (${failure})`
  return new ProxyError('RESOLVE_FAILED', 'upstream', `${name}: ${what}`, { retry: 'always' })
}

function tooManyQuestions(name: string, most: number): ProxyError {
  const what = `${name}: ${most} names are being resolved already`
  return new ProxyError('RESOLVE_FAILED', 'internal', what, { retry: 'always', limit: 'questions' })
}

function noAnswerInTime(name: string, timeoutMs: number): ProxyError {
  const what = `${name}: no answer within ${timeoutMs} ms`
  return new ProxyError('RESOLVE_TIMEOUT', 'upstream', what, { retry: 'always', limit: 'resolve-timeout' })
}

interface FamilyAnswer {
  readonly family: 4 | 6
  readonly addresses: readonly DnsAddress[]
  /** Code of what went wrong; '' when the servers answered. */
  readonly failure: string
}

async function askFamily(source: DnsSource, name: string, family: 4 | 6): Promise<FamilyAnswer> {
  try {
    const answer = await source.query(name, family)
    // What is no address of that family is not dialled.
    return { family, addresses: answer.filter(one => isIP(one.address) === family).slice(0, MAX_ADDRESSES), failure: '' }
  } catch (thrown) {
    const code = codeOf(thrown)
    return { family, addresses: [], failure: code === 'ENOTFOUND' || code === 'ENODATA' ? '' : code }
  }
}

/** Both families, taking turns, so that the limit cuts neither off. */
function joinFamilies(a: readonly DnsAddress[], b: readonly DnsAddress[]): DnsAddress[] {
  const joined: DnsAddress[] = []
  for (let i = 0; i < a.length || i < b.length; i++) {
    if (i < a.length) joined.push(a[i]!)
    if (i < b.length) joined.push(b[i]!)
  }
  return joined.slice(0, MAX_ADDRESSES)
}

function codeOf(thrown: unknown): string {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined
  return code ?? String(thrown)
}

/** c-ares, told the servers by the machine. It keeps no answers and knows no search list: both are here. */
export class CaresSource implements DnsSource {
  readonly #resolver: CaresResolver

  /** @param servers `address:port`; empty: those of resolv.conf. */
  constructor(settings: Pick<ResolvConf, 'timeoutMs' | 'attempts'>, servers: readonly string[] = []) {
    this.#resolver = new CaresResolver({ timeout: settings.timeoutMs, tries: settings.attempts, maxTimeout: settings.timeoutMs * 2 })
    if (servers.length > 0) this.#resolver.setServers(servers)
  }

  async query(name: string, family: 4 | 6): Promise<readonly DnsAddress[]> {
    return family === 4 ? this.#resolver.resolve4(name, { ttl: true }) : this.#resolver.resolve6(name, { ttl: true })
  }
}

function createCares(settings: ResolvConf): DnsSource { return new CaresSource(settings) }
