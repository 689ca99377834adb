/**
 * What a worker tells its supervisor of a fault that somebody has to mend: plain facts, bounded in size, and nothing of a client
 * but the ids of its request. No header, cookie, body, query or address is in it; what an application writes into the message of
 * an error is its own, but queries and the client's address are cut out of that, too.
 *
 * A report comes from a process that runs code of others, so whoever takes one reads it with `readFault`.
 */
import { describeError, nameOfError } from '../errors/describe-error.ts'

/**
 * `hook`: an error of a hook, or of another callback of the application. `request`: a request failed inside the proxy, and no
 * hook was it. `rejection`: a promise that nobody handled. `uncaught`: an error that nothing caught, while the worker ends
 * because of one before.
 */
export const FAULT_KINDS = ['hook', 'request', 'rejection', 'uncaught'] as const
export type FaultKind = (typeof FAULT_KINDS)[number]

/** Where it happened; what is not known is left out. */
export interface FaultPlace {
  readonly service?: string
  readonly listener?: string
  /** Name of the upstream. */
  readonly peer?: string
  readonly requestId?: string
  /** Of the trace that the request belongs to, and of the span that it came from (W3C Trace Context). */
  readonly traceId?: string
  readonly spanId?: string
}

export interface FaultReport extends FaultPlace {
  readonly kind: FaultKind
  /** Class of what was thrown, or kind of a ProxyError: `TypeError`, `HOOK_TIMEOUT`. */
  readonly name: string
  readonly message: string
  /** Lines of a stack without the message, those of its causes below it; '' when there are none. */
  readonly stack: string
  /** The hook (`requestFilter of module auth`), or for a rejection the function; ''. */
  readonly where: string
  /** So often since the report before of the same kind, name and place. */
  readonly count: number
  /** Nothing but a count: what it was has been told. */
  readonly again?: boolean
}

const MAX_MESSAGE_LENGTH = 1_000
const MAX_STACK_LENGTH = 8_000
const MAX_NAME_LENGTH = 200
/** What is looked at of a stack: the message comes first in it. */
const MAX_READ_LENGTH = 32_000

/** What can be said of something thrown. Never throws. @param client address that must not be in the text; '' for none */
export function wordsOf(thrown: unknown, client = ''): Pick<FaultReport, 'name' | 'message' | 'stack'> {
  const { message, stack } = describeError(thrown)
  return { name: short(nameOfError(thrown)), message: harmless(message, client), stack: framesOf(stack, client) }
}

/** A text without queries, credentials in urls and the client's address; not long, on one line. */
export function harmless(text: string, client = ''): string {
  const shown = text.slice(0, 2 * MAX_MESSAGE_LENGTH)
  const anonymous = client === '' ? shown : shown.replaceAll(client, '(client)')
  return anonymous
    .replaceAll(/\?[^\s"'`<>()]+/g, '?(query)')
    .replaceAll(/\/\/[^\s/@"'`]+@/g, '//(credentials)@')
    .replaceAll(/\p{Cc}+/gu, ' ')
    .slice(0, MAX_MESSAGE_LENGTH)
}

/** The lines of a stack that name places, and what its causes are called. */
export function framesOf(stack: string, client = ''): string {
  const from = Math.max(0, stack.search(/^ +at /m))
  const lines = stack.slice(from, from + MAX_READ_LENGTH).split('\n').flatMap(line => {
    if (/^ +at /.test(line)) return [line.slice(0, 2 * MAX_NAME_LENGTH)]
    return line.startsWith(CAUSE) ? [CAUSE + harmless(line.slice(CAUSE.length), client)] : []
  })
  return lines.join('\n').slice(0, MAX_STACK_LENGTH)
}

/** Begins the part of a stack that is about a cause (describe-error.ts). */
export const CAUSE = 'because of '

function short(text: string): string { return text.slice(0, MAX_NAME_LENGTH).replaceAll(/\p{Cc}+/gu, ' ') }

const PLACE_FIELDS = ['service', 'listener', 'peer', 'requestId', 'traceId', 'spanId'] as const satisfies readonly (keyof FaultPlace)[]

/** One that another process sent: checked, and cut to size once more. @returns null for what is none */
export function readFault(given: object): FaultReport | null {
  const { kind, name, message, stack, where, count, again, ...rest } = given as Readonly<Record<keyof FaultReport, unknown>>
  const known = FAULT_KINDS.find(one => one === kind)
  if (known === undefined || typeof name !== 'string' || typeof message !== 'string' || typeof stack !== 'string') return null
  if (typeof where !== 'string' || typeof count !== 'number' || !(count >= 1)) return null
  const place: Partial<Record<keyof FaultPlace, string>> = {}
  for (const field of PLACE_FIELDS) {
    const value = (rest as Readonly<Record<string, unknown>>)[field]
    if (typeof value === 'string' && value !== '') place[field] = short(value)
  }
  return {
    kind: known, name: short(name), message: harmless(message), stack: framesOf(stack), where: short(where), count: Math.floor(count),
    ...place, ...again === true ? { again } : {},
  }
}
