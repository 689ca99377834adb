/**
 * Where errors are reported to, and how often; an operator sets it in the section `sentry`. Nothing is reported without a DSN.
 * The DSN is a secret: its descriptor says so, and no message shows it. load-config.ts reads it from where it may stand.
 */
import { count, defaultsOf, duration, path, secret, text, type OptionTable } from '../primitives/option-table.ts'

export interface SentryOptions {
  /**
   * DSN of a project of Sentry, which is a secret. 'off' reports nothing, whatever stands elsewhere. '': what `dsnFile` or the
   * variable SENTRY_DSN says; nothing is reported where neither says anything. @default ''
   */
  dsn?: string
  /** File whose only line is the DSN, such as a secret of Docker or Kubernetes. It takes the place of `dsn`. '': none. @default '' */
  dsnFile?: string
  /** Name of the environment that events belong to; the variable SENTRY_ENVIRONMENT sets it as well. @default 'production' */
  environment?: string
  /** Version that events belong to; the variable SENTRY_RELEASE sets it as well. '': the name of the release's folder. @default '' */
  release?: string
  /** Events of all kinds together in a minute; past it they are counted. At least 1. @default 30 */
  maxEventsPerMinute?: number
  /**
   * What happens again within this time is counted, and the next event of its kind tells how often, in ms. 0 makes an event of
   * each. @default 60_000
   */
  repeatAfterMs?: number
  /** Longest wait for events that are on their way when the supervisor ends or replaces itself, in ms. 0 does not wait. @default 2_000 */
  flushTimeoutMs?: number
}

/** `dsn` is '' where nothing is reported, and whole otherwise, wherever it came from. */
export type ResolvedSentryOptions = Readonly<Required<SentryOptions>>

/** The word that turns reports off. */
export const SENTRY_OFF = 'off'

const MAX_ENVIRONMENT_LENGTH = 64
const MAX_RELEASE_LENGTH = 200
const MAX_EVENTS_A_MINUTE = 6_000
const DSN_WANTED = 'a DSN such as https://KEY@HOST/PROJECT, or off'

export const SENTRY_OPTIONS = {
  dsn: secret(text('', DSN_WANTED, given => given === '' || given === SENTRY_OFF || isDsn(given))),
  dsnFile: path('', 'a file with a DSN', ['']),
  environment: text('production', `a name without blanks and slashes, of at most ${MAX_ENVIRONMENT_LENGTH} characters`, isEnvironment),
  release: text('', `a version without slashes, of at most ${MAX_RELEASE_LENGTH} characters`, given => given === '' || isRelease(given)),
  maxEventsPerMinute: count(30, { max: MAX_EVENTS_A_MINUTE }),
  repeatAfterMs: duration(60_000, { zero: 'makes an event of each' }),
  flushTimeoutMs: duration(2_000, { zero: 'does not wait' }),
} satisfies OptionTable<SentryOptions>

export const SENTRY_DEFAULTS: ResolvedSentryOptions = defaultsOf<SentryOptions>(SENTRY_OPTIONS)

/** The variables that other programs with reports know too; they count where no source of ours says anything. */
export const SENTRY_VARIABLES: Readonly<Record<string, 'dsn' | 'environment' | 'release'>> = {
  SENTRY_DSN: 'dsn', SENTRY_ENVIRONMENT: 'environment', SENTRY_RELEASE: 'release',
}

/** As Sentry's own library reads one, but with nothing left over: it would print one that it cannot read. */
export function isDsn(given: string): boolean {
  return /^https?:\/\/\w+(?::\w*)?@(?:\[[:.%\w]+\]|[\w.-]+)(?::\d{1,5})?\/(?:[\w.~-]+\/)*\d+$/.test(given) && URL.canParse(given)
}

/** What Sentry takes. */
function isEnvironment(given: string): boolean {
  return given !== '' && given.length <= MAX_ENVIRONMENT_LENGTH && !/[\s/]/.test(given) && given.toLowerCase() !== 'none'
}

export function isRelease(given: string): boolean {
  return given !== '' && given.length <= MAX_RELEASE_LENGTH && !/[\s/\\]/.test(given) && given !== '.' && given !== '..'
}
