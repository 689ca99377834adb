/**
 * What the proof client (src/prove) is told to do. Here, because the command line checks it before it starts the client,
 * and neither of them may import the other.
 */
import { OptionError } from './supervisor-options.ts'
import { parseDuration } from './units.ts'

export interface ProveOptions {
  /** Where the proxy listens: `http://host:port`. */
  url: string
  /** What fresh and keep-alive connections ask for; '' leaves both out. @default '/' */
  path?: string
  /** Path of a WebSocket that sends everything back; '' leaves it out. @default '' */
  ws?: string
  /**
   * Path of a long answer that is the same every time; '' leaves it out. Longer than the kernel's buffers, or nothing
   * of it is left to lose.
   * @default ''
   */
  download?: string
  /** Path that takes a long POST; when its answer holds the SHA-256 of what came, that is compared. '' leaves it out. @default '' */
  upload?: string
  /** How long to watch before the action, in ms; with no action this is left out. @default 2000 */
  beforeMs?: number
  /** How long to watch after the action, in ms; with no action, in all. @default 3000 */
  forMs?: number
  /** Requests a second of fresh connections, the same of keep-alive connections; a fifth as many WebSocket messages. @default 100 */
  rate?: number
  /** Keep-alive connections; a fifth as many WebSockets. @default 20 */
  connections?: number
  /**
   * How long keep-alive connections hold everything each way, in ms: on the loopback a request never meets a close on
   * its way. 0: not at all.
   * @default 20
   */
  delayMs?: number
  /** Longest time without an answer, or without progress of a slow transfer, in ms. @default 5000 */
  timeoutMs?: number
  /** Bytes of one slow upload. @default 8_388_608 */
  uploadBytes?: number
}
export type ResolvedProveOptions = Readonly<Required<ProveOptions>>

export const PROVE_DEFAULTS: Omit<ResolvedProveOptions, 'url'> = {
  path: '/', ws: '', download: '', upload: '', beforeMs: 2000, forMs: 3000, rate: 100, connections: 20, delayMs: 20,
  timeoutMs: 5000, uploadBytes: 8_388_608,
}

/** More than this from one process measures the client. */
const RATE_MAX = 5000
const CONNECTIONS_MAX = 5000

/** Keep-alive connections are idle half of the time at least: a wait for a free one would be the client's own. */
const BUSY_FACTOR = 2
const ANSWER_MS = 10

const PATHS = ['path', 'ws', 'download', 'upload'] as const

/** @throws OptionError */
export function resolveProveOptions(options: ProveOptions): ResolvedProveOptions {
  const resolved = { ...PROVE_DEFAULTS, ...options }
  proofAddress(resolved.url)
  for (const name of PATHS) {
    if (resolved[name] === '' || /^\/[!-~]*$/.test(resolved[name])) continue
    throw new OptionError(`prove.${name}`, resolved[name], 'use a path that begins with / and holds visible ASCII only')
  }
  if (PATHS.every(name => resolved[name] === '')) throw new OptionError('prove.path', '', 'name at least one path')
  within(resolved, 'rate', 0.1, RATE_MAX)
  within(resolved, 'connections', 1, CONNECTIONS_MAX)
  within(resolved, 'beforeMs', 0, 3_600_000)
  within(resolved, 'forMs', 100, 86_400_000)
  within(resolved, 'delayMs', 0, 1000)
  within(resolved, 'timeoutMs', 50, 600_000)
  within(resolved, 'uploadBytes', 1, 2 ** 40)
  const rateMax = Math.floor(resolved.connections / BUSY_FACTOR * 1000 / (2 * resolved.delayMs + ANSWER_MS))
  if (resolved.rate > rateMax) {
    const held = `with ${resolved.connections} keep-alive connections, held for ${resolved.delayMs} ms each way`
    throw new OptionError('prove.rate', resolved.rate, `${held}, use at most ${rateMax}, or more connections`)
  }
  return resolved
}

/** Options as the command line has them. */
export type ProveFlags = Readonly<Partial<Record<'url' | 'path' | 'ws' | 'download' | 'upload' | 'for' | 'rate' | 'connections', string>>>

/** @throws OptionError */
export function proveOptionsFromFlags(url: string, flags: ProveFlags): ResolvedProveOptions {
  const options: ProveOptions = { url }
  for (const name of ['path', 'ws', 'download', 'upload'] as const) if (flags[name] !== undefined) options[name] = flags[name]
  for (const name of ['rate', 'connections'] as const) if (flags[name] !== undefined) options[name] = Number(flags[name])
  if (flags.for !== undefined) {
    const forMs = parseDuration(flags.for)
    if (forMs === null) throw new OptionError('--for', flags.for, 'use a duration such as 5s or 500ms')
    options.forMs = forMs
    // A short proof is short on both sides of the action.
    options.beforeMs = Math.min(PROVE_DEFAULTS.beforeMs, forMs)
  }
  return resolveProveOptions(options)
}

export interface ProofAddress { readonly host: string; readonly port: number; readonly authority: string }

/** @throws OptionError */
export function proofAddress(url: string): ProofAddress {
  const parsed = URL.parse(url)
  if (parsed === null || parsed.protocol !== 'http:' || parsed.username !== '' || parsed.pathname !== '/' || parsed.search !== '') {
    throw new OptionError('prove.url', url, 'use http://host:port; paths have options of their own')
  }
  return { host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'), port: parsed.port === '' ? 80 : Number(parsed.port), authority: parsed.host }
}

type NumberOption = 'rate' | 'connections' | 'beforeMs' | 'forMs' | 'delayMs' | 'timeoutMs' | 'uploadBytes'

function within(options: ResolvedProveOptions, name: NumberOption, least: number, most: number): void {
  const value = options[name]
  const whole = name !== 'rate'
  if (value >= least && value <= most && (!whole || Number.isInteger(value))) return
  throw new OptionError(`prove.${name}`, value, `use a ${whole ? 'whole ' : ''}number from ${least} to ${most}`)
}
