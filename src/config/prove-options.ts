/**
 * What the proof client (src/prove) is told to do. Here, because the command line checks it before it starts the client,
 * and neither of them may import the other.
 */
import {
  count, defaultsOf, duration, flag, needed, number, OptionError, resolveOptions, size, text,
  type OptionTable,
} from '../primitives/option-table.ts'
import { parseDuration } from './units.ts'

export interface ProveOptions {
  /** Where the proxy listens: `http://host:port`, or `https://host:port` for clients over TLS, which do not look at its certificate. */
  url: string
  /** What fresh and keep-alive connections ask for; '' leaves both out. @default '/' */
  path?: string
  /** Path of a WebSocket that sends everything back; '' leaves it out. @default '' */
  ws?: string
  /**
   * Path of a long answer that is the same every time; '' leaves it out. Longer than the kernel's buffers, or nothing of
   * it is left to lose. @default ''
   */
  download?: string
  /** Path that takes a long POST; when its answer holds the SHA-256 of what came, that is compared. '' leaves it out. @default '' */
  upload?: string
  /**
   * Clients of HTTP/2 as well, by ALPN over TLS and by prior knowledge otherwise: requests for `path`, and for `upload` with short bodies,
   * as streams of one connection; with `ws` WebSockets on streams. @default false
   */
  http2?: boolean
  /**
   * Path that over HTTP/2 sends back each message of a stream as it comes and ends, behind the client's end, with a trailer
   * `grpc-status: 0`. '' leaves it out. @default ''
   */
  messages?: string
  /** How long to watch before the action, in ms; with no action this is left out. 0 begins with the action. @default 2000 */
  beforeMs?: number
  /** How long to watch after the action, in ms; with no action, in all. At least 100. @default 3000 */
  forMs?: number
  /**
   * Requests a second of fresh connections, the same of keep-alive connections; a fifth as many WebSocket messages. 0.1
   * to 5000. @default 100
   */
  rate?: number
  /** Keep-alive connections; a fifth as many WebSockets. @default 20 */
  connections?: number
  /**
   * How long keep-alive connections hold everything each way, in ms: on the loopback a request never meets a close on
   * its way. 0 holds nothing. @default 20
   */
  delayMs?: number
  /** Longest time without an answer, or without progress of a slow transfer, in ms. At least 50. @default 5000 */
  timeoutMs?: number
  /** Bytes of one slow upload. @default 8_388_608 */
  uploadBytes?: number
}
export type ResolvedProveOptions = Readonly<Required<ProveOptions>>

/** More than this from one process measures the client. */
const RATE_MAX = 5000
const CONNECTIONS_MAX = 5000
const HOUR_MS = 3_600_000

const PATH_FORM = 'a path that begins with / and holds visible ASCII only'
function isPath(path: string): boolean { return path === '' || /^\/[!-~]*$/.test(path) }

export const PROVE_OPTIONS = {
  url: needed(text('', 'http://host:port or https://host:port; paths have options of their own', url => addressIn(url) !== null)),
  path: text('/', PATH_FORM, isPath),
  ws: text('', PATH_FORM, isPath),
  download: text('', PATH_FORM, isPath),
  upload: text('', PATH_FORM, isPath),
  http2: flag(false),
  messages: text('', PATH_FORM, isPath),
  beforeMs: duration(2000, { max: HOUR_MS, zero: 'begins with the action' }),
  forMs: duration(3000, { min: 100, max: 24 * HOUR_MS }),
  rate: number(100, 0.1, RATE_MAX),
  connections: count(20, { max: CONNECTIONS_MAX }),
  delayMs: duration(20, { max: 1000, zero: 'holds nothing' }),
  timeoutMs: duration(5000, { min: 50, max: HOUR_MS / 6 }),
  uploadBytes: size(8_388_608, { max: 2 ** 40 }),
} satisfies OptionTable<ProveOptions>

export const PROVE_DEFAULTS: Omit<ResolvedProveOptions, 'url'> = defaultsOf<ProveOptions>(PROVE_OPTIONS)

/** Keep-alive connections are idle half of the time at least: a wait for a free one would be the client's own. */
const BUSY_FACTOR = 2
const ANSWER_MS = 10

/** @throws OptionError with every mistake there is */
export function resolveProveOptions(options: ProveOptions): ResolvedProveOptions {
  const resolved = resolveOptions<ProveOptions>('prove', PROVE_OPTIONS, options, PROVE_DEFAULTS as ResolvedProveOptions)
  const { connections, delayMs, download, messages, path, rate, upload, ws } = resolved
  if ([path, ws, download, upload, messages].every(name => name === '')) throw OptionError.of('prove.path', '', 'name at least one path')
  const rateMax = Math.floor(connections / BUSY_FACTOR * 1000 / (2 * delayMs + ANSWER_MS))
  if (rate > rateMax) {
    const held = `with ${connections} keep-alive connections, held for ${delayMs} ms each way`
    throw OptionError.of('prove.rate', rate, `${held}, use at most ${rateMax}, or more connections`)
  }
  return resolved
}

/** Options as the command line has them. */
export type ProveFlags = Readonly<Partial<
  Record<'url' | 'path' | 'ws' | 'download' | 'upload' | 'messages' | 'for' | 'rate' | 'connections', string> & { http2: boolean }
>>

/** @throws OptionError */
export function proveOptionsFromFlags(url: string, flags: ProveFlags): ResolvedProveOptions {
  const options: ProveOptions = { url }
  if (flags.http2 !== undefined) options.http2 = flags.http2
  for (const name of ['path', 'ws', 'download', 'upload', 'messages'] as const) if (flags[name] !== undefined) options[name] = flags[name]
  for (const name of ['rate', 'connections'] as const) if (flags[name] !== undefined) options[name] = Number(flags[name])
  if (flags.for !== undefined) {
    const forMs = parseDuration(flags.for)
    if (forMs === null) throw OptionError.of('--for', flags.for, 'use a duration such as 5s or 500ms')
    options.forMs = forMs
    // A short proof is short on both sides of the action.
    options.beforeMs = Math.min(PROVE_DEFAULTS.beforeMs, forMs)
  }
  return resolveProveOptions(options)
}

export interface ProofAddress {
  readonly host: string
  readonly port: number
  readonly authority: string
  readonly tls: boolean
}

/** Where a checked URL leads. */
export function proofAddress(url: string): ProofAddress { return addressIn(url)! }

function addressIn(url: string): ProofAddress | null {
  const parsed = URL.parse(url)
  if (parsed === null || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) return null
  if (parsed.username !== '' || parsed.pathname !== '/' || parsed.search !== '') return null
  const tls = parsed.protocol === 'https:', usual = tls ? 443 : 80
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1')
  return { host, port: parsed.port === '' ? usual : Number(parsed.port), authority: parsed.host, tls }
}
