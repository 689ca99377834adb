/**
 * Variables of the environment whose names begin as ours do: which key one sets, which one was meant, and which belong to
 * others. Kubernetes makes variables for every Service of a namespace and Docker for every link, so that a Service called
 * `cirque-log` brings `CIRQUE_LOG_PORT=tcp://10.0.0.1:80`: names of that form are passed over.
 */
import { nearestWord } from '../primitives/nearest-word.ts'
import { CONFIG_FILE, CONFIG_KEYS, LISTENER_SECTIONS, SECTIONS, type ConfigKey } from './server-config.ts'

const PREFIX = 'CIRQUE_'
/** Variables of our own that set no key, and the values that they may have; null: any. */
const OTHER_VARIABLES: ReadonlyMap<string, readonly string[] | null> = new Map([
  ['CIRQUE_NODE', null], ['CIRQUE_SYSTEM_CALLS', ['on', 'off']],
])

/** Keys that every source can set. Listeners have names of their own and are set in the file. */
export const COMMON_KEYS: readonly ConfigKey[] = CONFIG_KEYS.filter(({ section }) => !LISTENER_SECTIONS.includes(section))

/** The name of a key in the environment: `drain.hardDrain` -> `CIRQUE_DRAIN_HARD_DRAIN`. */
export function variableName(key: string): string { return PREFIX + bareName(key) }

function bareName(key: string): string {
  return key.replaceAll(/[A-Z]/g, letter => `_${letter}`).replaceAll('.', '_').toUpperCase()
}

const VARIABLES: ReadonlyMap<string, ConfigKey> = new Map(COMMON_KEYS.map(known => [variableName(known.key), known]))
/** What may have been meant, by its name without the prefix, and without the section. */
const MEANT: ReadonlyMap<string, string> = new Map([
  ...CONFIG_KEYS.map(known => [bareName(known.key.slice(known.section.name.length + 1)), remedyFor(known)] as const).toReversed(),
  ...COMMON_KEYS.map(known => [bareName(known.key), remedyFor(known)] as const),
  ...[...OTHER_VARIABLES.keys()].map(name => [name.slice(PREFIX.length), name] as const),
])

function remedyFor({ key, section }: ConfigKey): string {
  return LISTENER_SECTIONS.includes(section) ? `${key} in ${CONFIG_FILE}, as no variable sets it` : variableName(key)
}

/** What a variable is to us. */
export type Variable =
  | { readonly kind: 'key'; readonly key: ConfigKey }
  /** It sets nothing and looks like one that would. */
  | { readonly kind: 'misspelt'; readonly remedy: string }
  /** It is one of ours, and its value means nothing. */
  | { readonly kind: 'wrong'; readonly expected: string }
  /** It begins as ours do, sets nothing, and looks like nothing that we know. */
  | { readonly kind: 'unknown' }
  /** Of another program, or read elsewhere. */
  | { readonly kind: 'passed-over' }

/** An empty variable counts as not set, as it does for most programs. */
export function readVariable(name: string, value: string | undefined): Variable {
  if (value === undefined || value === '' || !name.startsWith(PREFIX)) return { kind: 'passed-over' }
  const key = VARIABLES.get(name)
  if (key !== undefined) return { kind: 'key', key }
  const values = OTHER_VARIABLES.get(name)
  if (values !== undefined) {
    return values === null || values.includes(value) ? { kind: 'passed-over' } : { kind: 'wrong', expected: `one of ${values.join(', ')}` }
  }
  if (isLink(name, value)) return { kind: 'passed-over' }
  const bare = name.slice(PREFIX.length)
  const near = nearestWord(bare, [...MEANT.keys()])
  if (near !== null) return { kind: 'misspelt', remedy: MEANT.get(near)! }
  const section = SECTIONS.find(one => bare.startsWith(`${one.name.toUpperCase()}_`))
  if (section === undefined) return { kind: 'unknown' }
  const neighbours = COMMON_KEYS.filter(known => known.section === section).map(known => variableName(known.key))
  return { kind: 'misspelt', remedy: `one of ${neighbours.join(', ')}` }
}

/** Variables that begin as ours do and mean nothing to us, for a line in the log: others may know them. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(env).filter(([name, value]) => readVariable(name, value).kind === 'unknown').map(([name]) => name).sort()
}

/** How Kubernetes and Docker tell a container of its neighbours. */
function isLink(name: string, value: string): boolean {
  if (/_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$/.test(name)) return true
  if (/_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR|START|END|PORT_START|PORT_END))?$/.test(name)) return true
  if (name.endsWith('_PORT')) return /^(?:tcp|udp|sctp):\/\//.test(value)
  // Docker alone: the first and the last of neighbouring ports, `/container/alias`, and the other container's own environment.
  return (name.endsWith('_NAME') && value.startsWith('/')) || /_ENV_\w+$/.test(name)
}
