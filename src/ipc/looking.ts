/**
 * What an operator who looks at traffic says to the supervisor, and the supervisor to workers: which requests are wanted, and what
 * is told of them. `tail` is told lines of the access log, `trace` a record of the phases of each request.
 *
 *   operator ──look──▶ supervisor ──look──▶ each worker      the same order again and again: it is answered with what there is by
 *            ◀─Seen───            ◀─Seen──                   then, and whoever is not asked any more stops
 *
 * Whoever asks decides how fast: nobody is sent anything unasked, so that a slow reader costs the requests that are counted as
 * dropped, and nothing else. An order says all of itself each time, so a worker that begins meanwhile needs no other.
 */

/** Which requests are wanted: those of which all that stands here is true. Names are globs, in which `*` is any text. */
export interface RequestMatch {
  /** Name of the listener, or its address as written. */
  readonly listener?: string
  readonly method?: string
  /** Value of Host, with or without its port; case does not matter. */
  readonly host?: string
  /** Without the query. */
  readonly path?: string
  /** Fields of the request: its name, and a glob for one of its values. */
  readonly headers?: readonly (readonly [name: string, value: string])[]
  /** Least and greatest status that the client was sent; one of these ranges. */
  readonly statuses?: readonly (readonly [min: number, max: number])[]
  /** One of these flags of the access log. */
  readonly flags?: readonly string[]
  /** It took so long or longer, in ms. */
  readonly slowMs?: number
}

export interface LookOrder {
  /** Made by the operator's command, and no other look has it. */
  readonly id: string
  readonly kind: LookKind
  readonly match: RequestMatch
  /** So many requests, and it is over. 0: any number. */
  readonly count: number
}

export type LookKind = 'tail' | 'trace'

/** What there was since the last answer. */
export interface Seen {
  /** JSON, one request each, oldest first: a line of the access log, or a TraceRecord. */
  readonly entries: readonly string[]
  /** Requests that were wanted and are not among them, since there was no room. */
  readonly dropped: number
  /** All that was asked for was told. */
  readonly over: boolean
}

/** The same of all workers. */
export interface SeenByAll extends Seen {
  /** Ids of the workers that are looked at. */
  readonly workers: readonly string[]
  /** Those that cannot be, each told once. */
  readonly unable: readonly UnableWorker[]
}

export interface UnableWorker {
  readonly worker: string
  readonly reason: string
}

/** A request with the times of its phases. All times are ms since its head was complete. */
export interface TraceRecord {
  readonly requestId: string
  /** Of the trace that the request is recorded in; '' when it is in none. Left out by an older build. */
  readonly traceId?: string
  readonly worker: string
  readonly listener: string
  /** As the access log would show it; '' on a Unix socket, and where it is not to be shown. */
  readonly client: string
  readonly method: string
  readonly host: string
  /** As it came, secrets in the query replaced. */
  readonly target: string
  readonly version: string
  /** When its head was complete, in ms since 1970. */
  readonly startedAt: number
  /** 0: nothing was sent. */
  readonly status: number
  readonly flag: string
  readonly durationMs: number
  readonly bytesReceived: number
  readonly bytesSent: number
  readonly upgraded: boolean
  /** The answer was made here, by a hook or as an error page. */
  readonly ownAnswer: boolean
  readonly hooks: readonly TracedHook[]
  /** Hooks that were called and are not among them: there are only so many rows. */
  readonly hooksLeftOut: number
  readonly attempts: readonly TracedAttempt[]
  readonly error: TracedError | null
}

/** All calls of one hook within an attempt, or before the first. */
export interface TracedHook {
  /** As messages name it: `requestFilter of module auth`. */
  readonly hook: string
  /** The first call began. */
  readonly startedMs: number
  /** Of all calls together, waits for promises included. */
  readonly ms: number
  readonly calls: number
  /** It gave a promise. */
  readonly waited: boolean
  /** It gave nothing by the end of the request. */
  readonly unsettled: boolean
  readonly threw: boolean
}

/** null: it did not come to that. */
export interface TracedAttempt {
  readonly number: number
  readonly peer: string
  readonly startedMs: number
  readonly connectedMs: number | null
  readonly reused: boolean
  /** 'h1', 'h2'; '' without a connection. */
  readonly protocol: string
  readonly sentMs: number | null
  readonly firstByteMs: number | null
  readonly endedMs: number
  readonly status: number
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly error: TracedError | null
  /** Another attempt followed, after this long; null: none did. */
  readonly retriedAfterMs: number | null
}

export interface TracedError {
  readonly kind: string
  readonly source: string
  readonly message: string
  /** '': no hook is to blame. */
  readonly hook: string
  /** `/app/proxy.ts:41:9`; '' where it is in no file of the application. */
  readonly at: string
}

const ID_LENGTH = 64
const TEXT_LENGTH = 1024
const LIST_LENGTH = 32
const COUNT_MAX = 1_000_000
const KINDS: readonly string[] = ['tail', 'trace'] satisfies LookKind[]

/**
 * Checked, since it comes from a process that is not ours. What this build does not know is refused, too: to ignore a condition
 * would show requests that nobody asked for.
 */
export function readLookOrder(given: unknown): LookOrder | { readonly problem: string } {
  if (!isObject(given)) return { problem: 'it is no object' }
  const { id, kind, match, count } = given
  if (!isText(id, ID_LENGTH) || id === '') return { problem: 'its id is no short text' }
  if (typeof kind !== 'string' || !KINDS.includes(kind)) return { problem: `this build cannot look at '${String(kind)}'` }
  if (!isWhole(count) || count > COUNT_MAX) return { problem: `its count is no number up to ${COUNT_MAX}` }
  if (!isObject(match)) return { problem: 'it has no conditions' }
  for (const [name, value] of Object.entries(match)) {
    const check = CONDITIONS[name as keyof RequestMatch]
    if (!Object.hasOwn(CONDITIONS, name)) return { problem: `this build does not know the condition '${name.slice(0, ID_LENGTH)}'` }
    if (!check(value)) return { problem: `the condition '${name}' is not what it should be` }
  }
  return { id, kind: kind as LookKind, count, match: match as RequestMatch }
}

type Fields = Readonly<Record<string, unknown>>

const isName = (value: unknown): boolean => isText(value, TEXT_LENGTH)

const CONDITIONS: { readonly [Name in keyof Required<RequestMatch>]: (value: unknown) => boolean } = {
  listener: isName,
  method: isName,
  host: isName,
  path: isName,
  headers: value => isList(value, one => isPair(one, isName)),
  statuses: value => isList(value, one => isPair(one, isWhole)),
  flags: value => isList(value, isName),
  slowMs: value => typeof value === 'number' && value >= 0,
}

function isObject(value: unknown): value is Fields { return typeof value === 'object' && value !== null && !Array.isArray(value) }
function isText(value: unknown, longest: number): value is string { return typeof value === 'string' && value.length <= longest }
function isWhole(value: unknown): value is number { return Number.isInteger(value) && (value as number) >= 0 }

function isList(value: unknown, check: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length <= LIST_LENGTH && value.every(check)
}

function isPair(value: unknown, check: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length === 2 && value.every(check)
}
