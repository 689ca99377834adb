/**
 * What a worker is told of the configuration, as plain JSON: it travels in the answer to its first message and takes
 * effect before the application's services start. It counts over what the application's code says, as flags count over
 * the environment and the environment over the file: the operator has the last word.
 */
import type { LimitOptions } from './limit-options.ts'
import type { ResolvedLogOptions } from './log-options.ts'
import type { ResolvedTlsOptions } from './tls-options.ts'
import type { TracesOptions } from './traces-options.ts'

/** What the file may say of one listener; a key that is left out keeps what the application chose. */
export interface ListenerOverrides { readonly [option: string]: number | boolean | string | readonly string[] | ListenerOverrides }

export interface WorkerSettings {
  readonly log: ResolvedLogOptions
  /** Only what was said; left out by a supervisor that knows of none. */
  readonly traces?: Readonly<TracesOptions>
  /** Left out by a supervisor that knows of none. */
  readonly tls?: ResolvedTlsOptions
  /** Only what was said; the rest is as the application chose. */
  readonly limits: Readonly<LimitOptions>
  /** By name of the listener, `*` for all. */
  readonly listeners: Readonly<Record<string, ListenerOverrides>>
  /** Whether the supervisor wants to hear of faults, as it has somewhere to report them. Left out: it does not, or is of an older build. */
  readonly reportsFaults?: boolean
}

/** `:port` is two listeners; what is said of the first holds for the second as well. */
const SECOND_FAMILY = '/v6'

/**
 * The overrides that hold for one listener: those of `*`, then those of its own name, within a section as well.
 * @param secure it speaks TLS: what is said of that of `*` is not for others
 */
export function overridesFor(listeners: WorkerSettings['listeners'], name: string, secure = true): ListenerOverrides {
  const of = (key: string): ListenerOverrides | undefined => Object.hasOwn(listeners, key) ? listeners[key] : undefined
  const first = name.endsWith(SECOND_FAMILY) ? of(name.slice(0, -SECOND_FAMILY.length)) : undefined
  const { tls, ...plain } = of('*') ?? {}
  return together(together(tls === undefined || !secure ? plain : { ...plain, tls }, first ?? {}), of(name) ?? {})
}

/** @param over counts more */
function together(under: ListenerOverrides, over: ListenerOverrides): ListenerOverrides {
  const both = { ...under, ...over }
  for (const [name, value] of Object.entries(over)) {
    const below = under[name]
    if (isSection(value) && isSection(below)) both[name] = together(below, value)
  }
  return both
}

function isSection(value: ListenerOverrides[string] | undefined): value is ListenerOverrides {
  return typeof value === 'object' && !Array.isArray(value)
}

/** Names of overrides that fit none of these listeners: a slip of the pen that would leave a limit at its default. */
export function unknownListeners(listeners: WorkerSettings['listeners'], names: readonly string[]): readonly string[] {
  return Object.keys(listeners).filter(key => key !== '*' && !names.includes(key))
}
