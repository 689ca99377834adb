/**
 * Every option of the processes: meaning, unit, default, check. The supervisor's own are in supervisor-options.ts; logs,
 * limits of a worker and overrides of listeners are here. What an application decides (peers, hooks, services) is code.
 *
 * A key is written in the file without its unit (`hardDrain: 300s` for `hardDrainMs`), and means the same in the
 * environment (`CIRQUE_DRAIN_HARD_DRAIN`) and in a flag. The schema below is in the written form; its result has the
 * names and numbers of the code. load-config.ts reads the three sources, and docs/configuration.md lists the keys.
 */
import { z } from 'zod'
import {
  DRAIN_DEFAULTS, MAX_WORKERS, RESTART_DEFAULTS, SUPERVISOR_DEFAULTS, type DrainOptions,
  type ResolvedSupervisorOptions, type RestartOptions, type SupervisorOptions, UPGRADE_DEFAULTS, type UpgradeOptions,
} from './supervisor-options.ts'
import { DURATION_PATTERN, formatDuration, formatSize, parseDuration, parseSize, SIZE_PATTERN } from './units.ts'

export interface LogOptions {
  /** Least weight of a line in the process log: debug, info, warn, error. @default 'info' */
  level?: 'debug' | 'info' | 'warn' | 'error'
  /** Form of the process log: json, text, or auto, which is text on a terminal and JSON elsewhere. @default 'auto' */
  format?: 'auto' | 'text' | 'json'
  /** Where the process log goes: stderr, or a file that is appended to and reopened on SIGUSR1. @default 'stderr' */
  process?: string
  /**
   * Where the access log goes, a JSON line a request: stdout, off, or a file that is appended to and reopened on
   * SIGUSR1.
   * @default 'stdout'
   */
  access?: string
  /**
   * Lines that wait for a slow disk or reader, in bytes a worker; past it lines are dropped and counted. At least
   * 65,536.
   * @default 8_388_608
   */
  maxLogQueueBytes?: number
}
export type ResolvedLogOptions = Readonly<Required<LogOptions>>
export const LOG_DEFAULTS: ResolvedLogOptions = {
  level: 'info', format: 'auto', process: 'stderr', access: 'stdout', maxLogQueueBytes: 8_388_608,
}

/** Limits of one worker; N workers allow N times as much. */
export interface LimitOptions {
  /** Exchanges in flight at once; past it new requests are answered with 503. At least 1. @default 10_000 */
  maxActiveRequests?: number
}
export type ResolvedLimitOptions = Readonly<Required<LimitOptions>>
export const LIMIT_DEFAULTS: ResolvedLimitOptions = { maxActiveRequests: 10_000 }

/** What the file may say of one listener; a key that is left out keeps what the application chose. */
export type ListenerOverrides = Readonly<Record<string, number | boolean>>

export interface ServerConfig {
  /** The file that was read; '' for none. */
  readonly file: string
  readonly supervisor: ResolvedSupervisorOptions
  readonly log: ResolvedLogOptions
  /** What was said of limits; one that is left out is as the application chose. */
  readonly limits: Readonly<LimitOptions>
  /** By name of the listener, `*` for all; a name counts more than `*`. */
  readonly listeners: Readonly<Record<string, ListenerOverrides>>
}

export interface ConfigMistake {
  /** Dotted, as written in the file: `drain.hardDrain`. '' for the file as a whole. */
  readonly path: string
  readonly found: string
  readonly expected: string
  /** `cirque.yaml:4:9`, `CIRQUE_DRAIN_HARD_DRAIN`, `--workers`. */
  readonly where: string
}

export class ConfigError extends Error {
  readonly mistakes: readonly ConfigMistake[]

  constructor(mistakes: readonly ConfigMistake[]) {
    super(mistakes.map(formatMistake).join('\n'))
    this.name = 'ConfigError'
    this.mistakes = mistakes
  }
}

export function formatMistake({ where, path, found, expected }: ConfigMistake): string {
  return `${where}: ${path === '' ? '' : `${path}: `}found ${found}; expected ${expected}`
}

// Fields. Each takes the written form and gives the form of the code.

/** The longest wait that timers of Node can express, rounded down to whole days. */
const MAX_MS = 2_073_600_000
const MAX_BYTES = Number.MAX_SAFE_INTEGER

type Field = z.ZodType<number | boolean | string>

/** The end of a message: the bound, when there is one, and an example. */
function bounded(min: number, format: (value: number) => string, example: string): string {
  return min === 0 ? `such as ${example}, or 0` : `of at least ${format(min)}, such as ${example}`
}

/** `error` on every step, so that each fault of a value is one issue whose message says what would do. */
function duration(min = 0, example = '30s'): Field {
  const expected = `a duration with a unit (ms, s, m, h, d) ${bounded(min, formatDuration, example)}`
  return z.union([z.literal(0), z.literal('0'), z.string().regex(DURATION_PATTERN, { error: expected })], { error: expected })
    .transform(value => parseDuration(String(value)) ?? -1)
    .refine(ms => ms >= min && ms <= MAX_MS, {
      error: ms => typeof ms.input === 'number' && ms.input > MAX_MS ? `at most ${formatDuration(MAX_MS)}` : expected,
    })
}

function size(min = 0, example = '64KiB'): Field {
  const expected = `a size with a unit (B, kB, MB, GB, KiB, MiB, GiB) ${bounded(min, formatSize, example)}`
  return z.union([z.literal(0), z.literal('0'), z.string().regex(SIZE_PATTERN, { error: expected })], { error: expected })
    .transform(value => parseSize(String(value)) ?? -1)
    .refine(bytes => bytes >= min && bytes <= MAX_BYTES, { error: expected })
}

/** A whole number; environment and flags bring it as text. */
function count(min: number, max = 2_147_483_647): Field {
  const expected = `a whole number from ${min} to ${max}`
  return z.union([z.int({ error: expected }), z.string().regex(/^\d{1,15}$/, { error: expected })], { error: expected })
    .transform(Number)
    .refine(value => value >= min && value <= max, { error: expected })
}

function fraction(min: number, max: number): Field {
  const expected = `a number from ${min} to ${max}`
  return z.union([z.number(), z.string().regex(/^\d{1,9}(?:\.\d{1,9})?$/, { error: expected })], { error: expected })
    .transform(Number)
    .refine(value => value >= min && value <= max, { error: expected })
}

function choice(...words: readonly [string, ...string[]]): Field {
  return z.enum(words, { error: `one of ${words.join(', ')}` })
}

function yesOrNo(): Field {
  return z.union([z.boolean(), z.enum(['true', 'false'])], { error: 'true or false' })
    .transform(value => value === true || value === 'true')
}

const CONTROL_CHARACTER = /[\x00-\x1F\x7F]/

/** One line of text without control characters; numbers are text here, as for a numeric user. */
function text(what: string, minLength = 0): Field {
  return z.union([z.string(), z.int({ error: what })], { error: what }).transform(String)
    .refine(value => value.length >= minLength, { error: what })
    .refine(value => value.length <= 4096 && !CONTROL_CHARACTER.test(value), { error: `${what}, without control characters` })
}

function workers(): Field {
  const expected = `auto, or a whole number from 1 to ${MAX_WORKERS}`
  return z.union([z.literal('auto'), z.int({ error: expected }), z.string().regex(/^\d{1,3}$/, { error: expected })], { error: expected })
    .transform(value => value === 'auto' ? value : Number(value))
    .refine(value => value === 'auto' || (value >= 1 && value <= MAX_WORKERS), { error: expected })
}

type Fields<Options> = { readonly [Key in keyof Options]-?: Field }

const SUPERVISOR_FIELDS: Fields<Omit<SupervisorOptions, 'drain' | 'restart' | 'upgrade'>> = {
  workers: workers(),
  stateDir: text('a folder'),
  user: text('a user, by name or number'),
  group: text('a group, by name or number'),
  adminAddress: text('an address such as 127.0.0.1:9901 or unix:/run/cirque/admin.sock'),
  heartbeatMs: duration(10, '1s'),
  adoptAfterSilenceMs: duration(10, '3s'),
  abortAfterSilenceMs: duration(10, '10s'),
  killAfterAbortMs: duration(0, '1s'),
  readyTimeoutMs: duration(1, '15s'),
  describeTimeoutMs: duration(1, '15s'),
  ackTimeoutMs: duration(1, '2s'),
  emptyQueueMs: duration(0, '1s'),
  orphanPolicy: choice('auto', 'drain-after', 'keep'),
  orphanDrainAfterMs: duration(0, '10s'),
  maxControlMessageBytes: size(1024, '1MiB'),
  maxControlClients: count(1),
  controlTimeoutMs: duration(1, '10s'),
}

const DRAIN_FIELDS: Fields<DrainOptions> = {
  idleDrainMs: duration(0, '30s'),
  closeSpreadMs: duration(0, '5s'),
  softDrainMs: duration(0, '30s'),
  hardDrainMs: duration(0, '300s'),
  webSocketDrainMs: duration(0, '300s'),
  tunnelDrainMs: duration(0, '600s'),
  stopTimeoutMs: duration(0, '300s'),
  interruptTimeoutMs: duration(0, '3s'),
  lameDuckMs: duration(0, '10s'),
  maxDrainingGenerations: count(1),
}

const RESTART_FIELDS: Fields<RestartOptions> = {
  backoffMs: duration(0, '100ms'),
  backoffMsMax: duration(0, '30s'),
  backoffJitter: fraction(0, 1),
  forgetAfterMs: duration(0, '60s'),
  maxStartDeaths: count(1),
}

const UPGRADE_FIELDS: Fields<UpgradeOptions> = {
  soakMs: duration(0, '10s'),
  maxFaultShare: fraction(0, 1),
  minFaults: count(1),
  maxLoopLagMs: duration(0, '200ms'),
  bootTimeoutMs: duration(1, '5s'),
  adoptTimeoutMs: duration(1, '2s'),
}

const LOG_FIELDS: Fields<LogOptions> = {
  level: choice('debug', 'info', 'warn', 'error'),
  format: choice('auto', 'text', 'json'),
  process: text('stderr, or the path of a file', 1),
  access: text('stdout, off, or the path of a file', 1),
  maxLogQueueBytes: size(65_536, '8MiB'),
}

const LIMIT_FIELDS: Fields<LimitOptions> = {
  maxActiveRequests: count(1),
}

/**
 * Options of a listener that can be overridden: those of src/listener/listener-options.ts that are plain data. Named
 * again here because this folder stands above that one; scripts/check-lists.ts compares the two.
 */
export const LISTENER_FIELDS = {
  backlog: count(1, 65_535),
  maxConnections: count(0),
  maxConnectionsPerClient: count(0),
  maxUriBytes: size(256, '8KiB'),
  maxMethodBytes: size(1, '32B'),
  maxHeadBytes: size(1024, '32KiB'),
  maxHeaderCount: count(1),
  maxHeaderLineBytes: size(256, '16KiB'),
  maxChunkLineBytes: size(18, '256B'),
  maxChunkOverheadBytes: size(1024, '16KiB'),
  maxTrailerBytes: size(1, '8KiB'),
  maxTrailerCount: count(1),
  maxRequestBodyBytes: size(0, '1GiB'),
  maxRequestsPerConnection: count(0),
  maxConnectionAgeMs: duration(0, '1h'),
  headTimeoutMs: duration(1, '10s'),
  keepAliveTimeoutMs: duration(1, '30s'),
  bodyIdleTimeoutMs: duration(1, '60s'),
  minBodyBytesPerSecond: size(0, '500B'),
  sendTimeoutMs: duration(1, '60s'),
  minSendBytesPerSecond: size(0, '500B'),
  totalTimeoutMs: duration(0, '60s'),
  lingerIdleMs: duration(1, '5s'),
  lingerTotalMs: duration(1, '30s'),
  maxDiscardBytes: size(1, '256KiB'),
  allowConnect: yesOrNo(),
} as const satisfies Readonly<Record<string, Field>>

/** A section of the file: its fields by their names in the code, and their defaults. */
export interface Section {
  readonly name: string
  /** The interface that documents the fields. */
  readonly declared: string
  readonly fields: Readonly<Record<string, Field>>
  readonly defaults: Readonly<Record<string, unknown>>
}

export const SECTIONS: readonly Section[] = [
  { name: 'supervisor', declared: 'SupervisorOptions', fields: SUPERVISOR_FIELDS, defaults: SUPERVISOR_DEFAULTS },
  { name: 'drain', declared: 'DrainOptions', fields: DRAIN_FIELDS, defaults: DRAIN_DEFAULTS },
  { name: 'restart', declared: 'RestartOptions', fields: RESTART_FIELDS, defaults: RESTART_DEFAULTS },
  { name: 'upgrade', declared: 'UpgradeOptions', fields: UPGRADE_FIELDS, defaults: UPGRADE_DEFAULTS },
  { name: 'log', declared: 'LogOptions', fields: LOG_FIELDS, defaults: LOG_DEFAULTS },
  { name: 'limits', declared: 'LimitOptions', fields: LIMIT_FIELDS, defaults: LIMIT_DEFAULTS },
]

/** Keys whose value is a path, taken relative to the folder of the file that holds it. Words that are no path stay. */
export const PATH_KEYS: Readonly<Record<string, ReadonlySet<string>>> = {
  'supervisor.stateDir': new Set(['']),
  'log.process': new Set(['stderr']),
  'log.access': new Set(['stdout', 'off']),
}

/** `hardDrainMs` -> `hardDrain`, `backoffMsMax` -> `backoffMax`, `minBodyBytesPerSecond` -> `minBodyPerSecond`. */
export function writtenKey(key: string): string {
  return key.replace(/Ms(?=Max$|$)/, '').replace(/Bytes(?=PerSecond$|$)/, '')
}

/** The value of a field as one would write it in the file. */
export function writtenValue(key: string, value: unknown): string {
  if (typeof value === 'number' && /Ms(?:Max)?$/.test(key)) return formatDuration(value)
  if (typeof value === 'number' && /Bytes(?:PerSecond)?$/.test(key)) return formatSize(value)
  return value === '' ? '\'\'' : String(value)
}

export interface ConfigKey {
  readonly key: string
  /** Name of the interface that describes it, and of its field there. */
  readonly declared: string
  readonly field: string
  /** Default as written; '' for none. */
  readonly written: string
}

/** Every key with its default, as written, for the documentation. */
export const CONFIG_KEYS: readonly ConfigKey[] = [
  ...SECTIONS.flatMap(({ name, declared, fields, defaults }) => Object.keys(fields).map(field => ({
    key: `${name}.${writtenKey(field)}`, declared, field, written: writtenValue(field, defaults[field]),
  }))),
  ...Object.keys(LISTENER_FIELDS).map(field => ({
    key: `listeners.*.${writtenKey(field)}`, declared: 'ListenerOptions', field, written: '',
  })),
]

function sectionSchema(fields: Readonly<Record<string, Field>>): z.ZodObject {
  const optional = Object.entries(fields).map(([key, field]) => [writtenKey(key), field.optional()])
  return z.strictObject(Object.fromEntries(optional), { error: 'a section with keys' })
}

/** Of one source on its own: all keys may be missing, unknown ones may not be there. */
export const SOURCE_SCHEMA = z.strictObject({
  version: z.literal(1, { error: '1, the only version of this format' }).optional(),
  ...Object.fromEntries(SECTIONS.map(({ name, fields }) => [name, sectionSchema(fields).optional()])),
  listeners: z.record(z.string().max(1024), sectionSchema(LISTENER_FIELDS), { error: 'names of listeners with sections' }).optional(),
}, { error: 'sections such as supervisor, drain and log' })
