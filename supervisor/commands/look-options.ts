/** Which requests `tail` and `trace` show, and for how long: options of the command line, and what they are for workers. */
import type { Command } from 'commander'
import { parseDuration } from '../../src/config/units.ts'
import { FLAGS } from '../../src/errors/access-flags.ts'
import type { RequestMatch } from '../../src/ipc/looking.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import { shared, type Shared } from './shared-options.ts'

export interface LookFlags extends Shared {
  readonly status?: string
  readonly flag?: string
  readonly slow?: string
  readonly method?: string
  readonly path?: string
  readonly host?: string
  readonly listener?: string
  readonly header?: readonly string[]
  readonly for?: string
}

/** As one number or a hundred of them: `404`, `5xx`, `500-503`. */
const STATUSES = /^(?:([1-9])xx|(\d{3})(?:-(\d{3}))?|0)$/i
const FIELD_FORM = "use a name and a value: 'x-tenant: acme*'"
const MAX_LENGTH = 1024
const MAX_LIST = 32

export function lookOptions(command: Command): Command {
  return shared(command)
    .option('--status <statuses>', 'only these statuses: 404, 5xx, 500-503, 4xx,5xx; 0: the client was sent none')
    .option('--flag <flags>', 'only these flags of the access log: UC, or UC,UT')
    .option('--slow <duration>', 'only what took as long or longer: 200ms')
    .option('--method <method>', 'only this method')
    .option('--path <glob>', "only paths like this, without the query: '/api/*', in which * is any text")
    .option('--host <glob>', "only for this host: 'example.com', '*.example.com'")
    .option('--listener <glob>', "only by this listener: its name, or its address as written: '0.0.0.0:6188'")
    .option('--header <field>', "only with such a field: 'x-tenant: acme*'; several: all of them", collect)
    .option('--for <duration>', 'ends after so long: 30s (default: with Ctrl-C)')
}

export function collect(value: string, before: readonly string[] = []): readonly string[] { return [...before, value] }

/** @throws OptionError with every option that would not do */
export function matchOf(flags: LookFlags): RequestMatch {
  const mistakes: OptionError[] = []
  const read = <T>(name: keyof LookFlags, parse: (text: string) => T | null, remedy: string): T | undefined => {
    const given = flags[name] as string | undefined
    if (given === undefined) return undefined
    const parsed = given.length > MAX_LENGTH ? null : parse(given)
    if (parsed === null) mistakes.push(OptionError.of(`--${name}`, given, remedy))
    return parsed ?? undefined
  }
  const text = (given: string): string | null => given === '' ? null : given
  const match: RequestMatch = defined({
    statuses: read('status', list(rangeOf), 'use statuses such as 404, 5xx or 500-503, with commas between them'),
    flags: read('flag', list(flagOf), `use flags of the access log, with commas between them: ${Object.keys(FLAGS).join(' ')}`),
    slowMs: read('slow', parseDuration, 'use a duration such as 200ms'),
    method: read('method', given => /^[\w*!#$%&'+.^`|~-]+$/.test(given) ? given : null, 'use a method such as POST'),
    path: read('path', given => /^[/*]/.test(given) ? given : null, 'use a path that begins with /, or with *'),
    host: read('host', text, 'use a host such as example.com'),
    listener: read('listener', text, 'use the name or the address of a listener, as cirque status shows them'),
    headers: headersOf(flags.header ?? [], mistakes),
  })
  if (mistakes.length > 0) throw new OptionError(mistakes.flatMap(({ mistakes: all }) => all))
  return match
}

function headersOf(given: readonly string[], mistakes: OptionError[]): RequestMatch['headers'] {
  const fields = given.flatMap(text => {
    const field = fieldOf(text)
    if (field === null || text.length > MAX_LENGTH) mistakes.push(OptionError.of('--header', text, FIELD_FORM))
    return field === null ? [] : [field]
  })
  if (fields.length > MAX_LIST) mistakes.push(OptionError.of('--header', fields.length, `use at most ${MAX_LIST} of them`))
  return fields.length === 0 ? undefined : fields
}

/** `name: value`, or `name:value`. */
export function fieldOf(text: string): [name: string, value: string] | null {
  const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([^]*)$/.exec(text) ?? []
  return name === undefined ? null : [name, value!.trimEnd()]
}

function list<T>(parse: (text: string) => T | null): (text: string) => T[] | null {
  return text => {
    const parsed = text.split(',').map(part => parse(part.trim()))
    return parsed.length > MAX_LIST || parsed.includes(null) ? null : parsed as T[]
  }
}

function rangeOf(text: string): [number, number] | null {
  const match = STATUSES.exec(text)
  if (match === null) return null
  const [, hundred, from, to] = match
  if (hundred !== undefined) return [Number(hundred) * 100, Number(hundred) * 100 + 99]
  const range: [number, number] = [Number(from ?? 0), Number(to ?? from ?? 0)]
  return range[0] <= range[1] ? range : null
}

function flagOf(text: string): string | null {
  const flag = text.toUpperCase()
  return Object.hasOwn(FLAGS, flag) ? flag : null
}

/** Without the keys that say nothing. */
function defined(match: { readonly [Key in keyof RequestMatch]: RequestMatch[Key] | undefined }): RequestMatch {
  return Object.fromEntries(Object.entries(match).filter(([, value]) => value !== undefined)) as RequestMatch
}

/** @returns Infinity when nothing is said */
export function durationOf(given: string | undefined): number {
  if (given === undefined) return Infinity
  const ms = parseDuration(given)
  if (ms === null || ms === 0) throw OptionError.of('--for', given, 'use a duration such as 30s')
  return ms
}

/** @returns 0 when nothing is said */
export function countOf(name: string, given: string | undefined): number {
  if (given === undefined) return 0
  const count = /^\d{1,6}$/.test(given) ? Number(given) : 0
  if (count === 0) throw OptionError.of(name, given, 'use a whole number from 1 to 999999')
  return count
}
