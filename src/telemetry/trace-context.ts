/**
 * The texts that carry a trace from hop to hop, read and written: `traceparent` and `tracestate` (W3C Trace Context, level 1 and what
 * level 2 adds), and B3 in its two forms. And the decision that follows from the id of a trace alone, so that every proxy on its way
 * comes to the same one.
 *
 * Whatever a client sends is read in one walk, nothing throws, and what breaks a rule counts as not sent. Fields of requests are
 * trace-propagation.ts.
 */

/** A span of whoever sent the request, and what it decided. */
export interface TraceParent {
  /** 32 hexadecimal digits in lower case; '': B3 brought a decision and no ids. */
  readonly traceId: string
  /** 16 hexadecimal digits in lower case; '' as `traceId`. */
  readonly spanId: string
  /** Whether the trace is recorded; null: B3 leaves that to whoever comes next. */
  readonly sampled: boolean | null
  /** B3: recorded, and by no means left out further on. */
  readonly debug: boolean
  /** Level 2 of W3C: the sender says that the trace id is random, which whoever sends it on has to repeat. */
  readonly random: boolean
}

/** `00-` trace id `-` span id `-` flags. */
const TRACEPARENT_LENGTH = 55
const TRACE_ID_LENGTH = 32
const SPAN_ID_LENGTH = 16
/** Trace ids of B3 may be half as long. */
const SHORT_TRACE_ID_LENGTH = 16

/** The only number that is no version. */
const NO_VERSION = 0xff
const FLAG_SAMPLED = 0x01
const FLAG_RANDOM = 0x02

const DASH = 0x2d, COMMA = 0x2c, EQUALS = 0x3d, BLANK = 0x20, TAB = 0x09

/** @returns null for what is none: W3C Trace Context 3.2 */
export function readTraceparent(text: string): TraceParent | null {
  if (text.length < TRACEPARENT_LENGTH) return null
  const version = hexByte(text, 0), flags = hexByte(text, 53)
  if (version === -1 || version === NO_VERSION || flags === -1) return null
  if (text.charCodeAt(2) !== DASH || text.charCodeAt(35) !== DASH || text.charCodeAt(52) !== DASH) return null
  // Later versions may have more behind it, apart from it by a dash.
  const isWhole = text.length === TRACEPARENT_LENGTH
  if (!isWhole && (version === 0 || text.charCodeAt(TRACEPARENT_LENGTH) !== DASH)) return null
  const traceId = text.slice(3, 35), spanId = text.slice(36, 52)
  if (!isId(traceId) || !isId(spanId)) return null
  // What other bits of later versions mean is not known, and is not sent on.
  return { traceId, spanId, sampled: (flags & FLAG_SAMPLED) !== 0, debug: false, random: (flags & FLAG_RANDOM) !== 0 }
}

/** Of a span that is recorded, in version 00. */
export function writeTraceparent(traceId: string, spanId: string, random: boolean): string {
  return `00-${traceId}-${spanId}-${random ? '03' : '01'}`
}

/** Members of a `tracestate`, and characters of a key and of a value (W3C Trace Context 3.3.1). */
const MAX_STATE_MEMBERS = 32
const MAX_STATE_PART = 256

/** Whether all of it is as it has to be; otherwise all of it is to be left out. Several lines are one, with commas between them. */
export function isTracestate(text: string): boolean {
  const keys = new Set<string>()
  for (let from = 0; from <= text.length;) {
    let end = text.indexOf(',', from)
    if (end === -1) end = text.length
    let start = from, stop = end
    while (start < stop && isBlank(text.charCodeAt(start))) start++
    while (stop > start && isBlank(text.charCodeAt(stop - 1))) stop--
    // Between two commas there may be nothing.
    if (start < stop) {
      const equals = text.indexOf('=', start)
      if (equals === -1 || equals >= stop || !isStateKey(text, start, equals) || !isStateValue(text, equals + 1, stop)) return false
      const key = text.slice(start, equals)
      if (keys.has(key) || keys.size === MAX_STATE_MEMBERS) return false
      keys.add(key)
    }
    from = end + 1
  }
  return keys.size > 0
}

function isBlank(code: number): boolean { return code === BLANK || code === TAB }

function isStateKey(text: string, from: number, to: number): boolean {
  if (to === from || to - from > MAX_STATE_PART || !isLetterOrDigit(text.charCodeAt(from))) return false
  for (let at = from + 1; at < to; at++) {
    const code = text.charCodeAt(at)
    // _ - * / @
    if (!isLetterOrDigit(code) && code !== 0x5f && code !== DASH && code !== 0x2a && code !== 0x2f && code !== 0x40) return false
  }
  return true
}

function isLetterOrDigit(code: number): boolean { return (code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39) }

/** Blanks are part of it, but for those at its end, which were taken off. */
function isStateValue(text: string, from: number, to: number): boolean {
  if (to === from || to - from > MAX_STATE_PART) return false
  for (let at = from; at < to; at++) {
    const code = text.charCodeAt(at)
    if (code < BLANK || code > 0x7e || code === COMMA || code === EQUALS) return false
  }
  return true
}

const DECIDED = { traceId: '', spanId: '', random: false } as const
const NOT_SAMPLED: TraceParent = { ...DECIDED, sampled: false, debug: false }
const SAMPLED: TraceParent = { ...DECIDED, sampled: true, debug: false }
const DEBUG: TraceParent = { ...DECIDED, sampled: true, debug: true }

/** The field `b3`: ids with or without a decision, or a decision alone. @returns null for what is none */
export function readB3(text: string): TraceParent | null {
  const decision = decisionOf(text)
  if (decision !== null) return decision
  const traceLength = text.charCodeAt(SHORT_TRACE_ID_LENGTH) === DASH ? SHORT_TRACE_ID_LENGTH : TRACE_ID_LENGTH
  const spanAt = traceLength + 1, spanEnd = spanAt + SPAN_ID_LENGTH
  if (text.length < spanEnd || text.charCodeAt(traceLength) !== DASH) return null
  const traceId = longId(text.slice(0, traceLength)), spanId = text.slice(spanAt, spanEnd)
  if (!isId(traceId) || !isId(spanId)) return null
  if (text.length === spanEnd) return { traceId, spanId, sampled: null, debug: false, random: false }
  const said = decisionOf(text.slice(spanEnd + 1, spanEnd + 2))
  if (said === null || text.charCodeAt(spanEnd) !== DASH) return null
  const restAt = spanEnd + 2
  if (text.length !== restAt && !isParentOfB3(text, restAt)) return null
  return { traceId, spanId, sampled: said.sampled, debug: said.debug, random: false }
}

/** The span above it, which only its own recorder has a use for. */
function isParentOfB3(text: string, from: number): boolean {
  return text.length === from + 1 + SPAN_ID_LENGTH && text.charCodeAt(from) === DASH && isId(text.slice(from + 1))
}

function decisionOf(text: string): TraceParent | null {
  switch (text) {
    case '0': return NOT_SAMPLED
    case '1': return SAMPLED
    case 'd': return DEBUG
    default: return null
  }
}

/** The values of the fields `X-B3-...`; undefined for what is not there. */
export interface B3Fields {
  readonly traceId: string | undefined
  readonly spanId: string | undefined
  readonly sampled: string | undefined
  readonly flags: string | undefined
}

/** @returns null when they say nothing */
export function readB3Fields({ traceId, spanId, sampled, flags }: B3Fields): TraceParent | null {
  const debug = flags === '1', decided = debug ? true : sampledOf(sampled)
  const isShort = traceId?.length === SHORT_TRACE_ID_LENGTH, isLong = traceId?.length === TRACE_ID_LENGTH
  if (traceId !== undefined && spanId !== undefined && (isShort || isLong) && spanId.length === SPAN_ID_LENGTH) {
    const id = longId(traceId)
    if (isId(id) && isId(spanId)) return { traceId: id, spanId, sampled: decided, debug, random: false }
  }
  if (decided === null) return null
  return debug ? DEBUG : decided ? SAMPLED : NOT_SAMPLED
}

/** Early senders wrote words. */
function sampledOf(text: string | undefined): boolean | null {
  return text === '1' || text === 'true' ? true : text === '0' || text === 'false' ? false : null
}

/** The field `b3` of a span that is recorded. @param parentId the span above it */
export function writeB3(traceId: string, spanId: string, parentId: string, debug: boolean): string {
  return `${traceId}-${spanId}-${debug ? 'd' : '1'}-${parentId}`
}

function longId(id: string): string { return id.padStart(TRACE_ID_LENGTH, '0') }

/** Lower-case hexadecimal digits, not all of them 0. */
function isId(id: string): boolean {
  let some = false
  for (let at = 0; at < id.length; at++) {
    const digit = hexDigit(id.charCodeAt(at))
    if (digit === -1) return false
    if (digit !== 0) some = true
  }
  return some
}

function hexByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at)), low = hexDigit(text.charCodeAt(at + 1))
  return high === -1 || low === -1 ? -1 : high * 16 + low
}

/** Digits in upper case are none. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  return code >= 0x61 && code <= 0x66 ? code - 0x57 : -1
}

// ---- the decision by id

/**
 * What is random in a trace id is its last 56 bits (level 2 of W3C, and consistent sampling of OpenTelemetry). The first 52 of them fit
 * a number exactly: 13 digits from here on.
 */
export const RANDOM_DIGITS_AT = 18
const RANDOM_DIGITS_END = 31
const RANDOM_RANGE = 2 ** 52

/** What the random part of an id has to reach, so that this share of all ids does. @param ratio 0 to 1 */
export function samplingThreshold(ratio: number): number { return Math.round((1 - ratio) * RANDOM_RANGE) }

/** Whoever has the same ratio, or a greater one, says yes to the same ids. */
export function isSampled(traceId: string, threshold: number): boolean {
  return Number.parseInt(traceId.slice(RANDOM_DIGITS_AT, RANDOM_DIGITS_END), 16) >= threshold
}
