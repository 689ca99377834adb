/**
 * The configuration of the processes: which sections it has, and what becomes of them. The options themselves are
 * described in tables beside their interfaces: the supervisor's in supervisor-options.ts, those of logs and limits in
 * this folder, those of listeners where listeners are (src/listener/http-listener-options.ts). What an application
 * decides (peers, hooks, services) is code.
 *
 * A key is written in the file without its unit (`hardDrain: 300s` for `hardDrainMs`), and means the same in the
 * environment (`CIRQUE_DRAIN_HARD_DRAIN`) and in a flag. load-config.ts reads the three sources, and
 * docs/configuration.md lists the keys.
 */
import { z } from 'zod'
import { HTTP_LISTENER_OPTIONS } from '../listener/http-listener-options.ts'
import { HTTP2_SERVER_OPTIONS } from '../protocols/http2/http2-options.ts'
import { TLS_LISTENER_OPTIONS } from '../listener/tls-listener-options.ts'
import type { AnyOptionTable, Option } from '../primitives/option-table.ts'
import { LIMIT_OPTIONS, type LimitOptions } from './limit-options.ts'
import { LOG_OPTIONS, type ResolvedLogOptions } from './log-options.ts'
import { sectionSchema } from './option-schema.ts'
import { SENTRY_OPTIONS, type ResolvedSentryOptions } from './sentry-options.ts'
import {
  DRAIN_OPTIONS, RESTART_OPTIONS, SUPERVISOR_OPTIONS, UPGRADE_OPTIONS,
  type ResolvedSupervisorOptions,
} from './supervisor-options.ts'
import { TLS_OPTIONS, type ResolvedTlsOptions } from './tls-options.ts'
import { TRACES_OPTIONS, type TracesOptions } from './traces-options.ts'
import type { ListenerOverrides } from './worker-settings.ts'
import { leavesOf, writable, writtenKey } from './written-options.ts'

/** The file that is read when none is named and it exists. */
export const CONFIG_FILE = 'cirque.yaml'

export interface ServerConfig {
  /** The file that was read; '' for none. */
  readonly file: string
  readonly supervisor: ResolvedSupervisorOptions
  readonly log: ResolvedLogOptions
  /** Where each key of it stands that was said, by its whole name: `{ 'log.access': 'cirque.yaml:4:11' }`; left out when there are none. */
  readonly logAt?: Readonly<Record<string, string>>
  /** What was said of traces; one that is left out may be said by a variable of OpenTelemetry. */
  readonly traces: Readonly<TracesOptions>
  /** Never to be shown, nor written anywhere: it may hold a secret. */
  readonly sentry: ResolvedSentryOptions
  readonly tls: ResolvedTlsOptions
  /** What was said of limits; one that is left out is as the application chose. */
  readonly limits: Readonly<LimitOptions>
  /** By name of the listener, `*` for all; a name counts more than `*`. */
  readonly listeners: Readonly<Record<string, ListenerOverrides>>
  /** Where each of those names stands, `cirque.yaml:4:3`; left out when there are none. */
  readonly listenersAt?: Readonly<Record<string, string>>
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

/** A section of the file. */
export interface Section {
  readonly name: string
  /** The interface that documents the options. */
  readonly declared: string
  /** By their names in code. */
  readonly table: AnyOptionTable
}

/** Sections that the environment and flags can set as well. What the supervisor has tables for are sections of their own. */
export const SECTIONS: readonly Section[] = [
  { name: 'supervisor', declared: 'SupervisorOptions', table: leavesOf(SUPERVISOR_OPTIONS) },
  { name: 'drain', declared: 'DrainOptions', table: DRAIN_OPTIONS },
  { name: 'restart', declared: 'RestartOptions', table: RESTART_OPTIONS },
  { name: 'upgrade', declared: 'UpgradeOptions', table: UPGRADE_OPTIONS },
  { name: 'log', declared: 'LogOptions', table: LOG_OPTIONS },
  { name: 'traces', declared: 'TracesOptions', table: TRACES_OPTIONS },
  { name: 'tls', declared: 'TlsOptions', table: TLS_OPTIONS },
  { name: 'limits', declared: 'LimitOptions', table: LIMIT_OPTIONS },
  { name: 'sentry', declared: 'SentryOptions', table: SENTRY_OPTIONS },
]

/** What the file may say of a listener: what is plain data among its options. */
export const LISTENER_SECTION: Section = { name: 'listeners.*', declared: 'HttpListenerOptions', table: writable(HTTP_LISTENER_OPTIONS) }

/** And of a listener for TLS, within that. */
export const TLS_SECTION: Section = { name: 'listeners.*.tls', declared: 'TlsListenerOptions', table: writable(TLS_LISTENER_OPTIONS) }

/** And of HTTP/2 on it. */
export const HTTP2_SECTION: Section = { name: 'listeners.*.http2', declared: 'Http2ServerOptions', table: writable(HTTP2_SERVER_OPTIONS) }

/** What the file alone can say, by the keys that it has there. */
export const LISTENER_SECTIONS: readonly Section[] = [
  { ...LISTENER_SECTION, table: leavesOf(LISTENER_SECTION.table) }, TLS_SECTION, HTTP2_SECTION,
]

export interface ConfigKey {
  /** As written: `drain.hardDrain`. */
  readonly key: string
  readonly section: Section
  /** Name in code. */
  readonly field: string
  readonly option: Option
}

function keysOf(section: Section): ConfigKey[] {
  const keyOf = (field: string, option: Option): string => `${section.name}.${writtenKey(field, option)}`
  return Object.entries(section.table).map(([field, option]) => ({ key: keyOf(field, option), section, field, option }))
}

/** Every key there is. */
export const CONFIG_KEYS: readonly ConfigKey[] = [...SECTIONS, ...LISTENER_SECTIONS].flatMap(keysOf)

const LISTENERS_SCHEMA = z.record(z.string().max(1024), sectionSchema(LISTENER_SECTION.table), {
  error: 'names of listeners with sections',
})

/** Of one source on its own: all keys may be missing, unknown ones may not be there. */
export const SOURCE_SCHEMA = z.strictObject({
  version: z.literal(1, { error: '1, the only version of this format' }).optional(),
  ...Object.fromEntries(SECTIONS.map(({ name, table }) => [name, sectionSchema(table).optional()])),
  listeners: LISTENERS_SCHEMA.optional(),
}, { error: 'sections such as supervisor, drain and log' })
