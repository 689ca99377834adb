/**
 * Tables of the documentation that are made from the code, each between two marks of its page: options of the processes,
 * fields and flags of the access log, attributes of spans, limits with their defaults, which folder may import which.
 * check-lists.ts compares them with the pages, or writes them there.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { allowedValues, writtenValue } from '../src/config/written-options.ts'
import type { Option } from '../src/primitives/option-table.ts'
import { operatorWords, type OperatorKey } from './operator-words.ts'
import { declaredInterfaces, inheritedFields, type InterfaceField } from './source-text.ts'

export interface GeneratedTable {
  readonly page: string
  readonly name: string
  /** The file whose change changes the table. */
  readonly source: string
  readonly lines: readonly string[]
}

export function tableMarks(name: string): readonly [begin: string, end: string] {
  return [`<!-- begin: ${name} -->`, `<!-- end: ${name} -->`]
}

const CONFIG_SOURCE = 'src/config/server-config.ts'
const ACCESS_SOURCE = 'src/telemetry/exporters/access-line.ts'
const FLAG_SOURCE = 'src/errors/access-flags.ts'
const METRIC_SOURCE = 'src/ipc/metric-table.ts'
const COMPAT_SOURCE = 'supervisor/compat-names.ts'
const SPAN_SOURCE = 'src/telemetry/exporters/span-attributes.ts'
const IMPORT_SOURCE = 'scripts/check-imports.ts'
const REFERENCE_PAGE = 'docs/telemetry.md'
const SEEN: readonly string[] = [ACCESS_SOURCE, FLAG_SOURCE, METRIC_SOURCE, SPAN_SOURCE]
/** Without it no options are described. */
const LIMIT_SOURCE = 'src/primitives/option-table.ts'

interface LimitTable {
  /** As the mark in docs/limits.md has it. */
  readonly name: string
  readonly file: string
  /** The interface whose own fields are listed, and the table that describes them. */
  readonly declared: string
  readonly table: string
}

const LIMIT_TABLES: readonly LimitTable[] = [
  { name: 'limits of listeners', file: 'src/listener/listener-options.ts', declared: 'ListenerOptions', table: 'LISTENER_OPTIONS' },
  {
    name: 'limits of handshakes', file: 'src/listener/tls-listener-options.ts',
    declared: 'TlsListenerOptions', table: 'TLS_LISTENER_OPTIONS',
  },
  { name: 'limits of requests', file: 'src/protocols/http-options.ts', declared: 'HttpServerOptions', table: 'HTTP_SERVER_OPTIONS' },
  {
    name: 'limits of HTTP/1 requests', file: 'src/protocols/http1/http1-options.ts',
    declared: 'Http1ServerOptions', table: 'HTTP1_SERVER_OPTIONS',
  },
  {
    name: 'limits of HTTP/2 requests', file: 'src/protocols/http2/http2-options.ts',
    declared: 'Http2ServerOptions', table: 'HTTP2_SERVER_OPTIONS',
  },
  {
    name: 'limits of responses', file: 'src/protocols/http1/http1-options.ts',
    declared: 'Http1ClientOptions', table: 'HTTP1_CLIENT_OPTIONS',
  },
  { name: 'limits of peers', file: 'src/peer/peer-options.ts', declared: 'PeerOptions', table: 'PEER_OPTIONS' },
  { name: 'limits of the pool', file: 'src/pool/pool-options.ts', declared: 'PoolOptions', table: 'POOL_OPTIONS' },
  { name: 'limits of names', file: 'src/connector/resolver.ts', declared: 'ResolverOptions', table: 'RESOLVER_OPTIONS' },
  {
    name: 'limits of load balancers', file: 'src/load-balancing/load-balancer.ts',
    declared: 'LoadBalancerOptions', table: 'LOAD_BALANCER_OPTIONS',
  },
  { name: 'limits of workers', file: 'src/config/limit-options.ts', declared: 'LimitOptions', table: 'LIMIT_OPTIONS' },
  { name: 'limits of services', file: 'src/server/http-proxy-options.ts', declared: 'HttpProxyOptions', table: 'HTTP_PROXY_OPTIONS' },
]

/** Tables whose source exists; a tree without it has nothing to describe. */
export async function generatedTables(root: string): Promise<GeneratedTable[]> {
  const tables: GeneratedTable[] = []
  const has = (file: string): boolean => existsSync(path.join(root, file))
  const load = async (file: string): Promise<Record<string, unknown>> => await import(pathToFileURL(path.join(root, file)).href)
  if (has(CONFIG_SOURCE)) tables.push(...optionTables(root, await load(CONFIG_SOURCE)))
  if (has(ACCESS_SOURCE)) tables.push(fieldTable(root, await load(ACCESS_SOURCE)))
  if (has(FLAG_SOURCE)) tables.push(flagTable(await load(FLAG_SOURCE)))
  if (has(METRIC_SOURCE)) tables.push(...metricTables(await load(METRIC_SOURCE)))
  if (has(COMPAT_SOURCE)) tables.push(compatTable(await load(COMPAT_SOURCE)))
  if (has(SPAN_SOURCE)) tables.push(...spanTables(await load(SPAN_SOURCE)))
  // All that there is to see has one page besides those that explain it.
  const seen = has(REFERENCE_PAGE) ? tables.filter(({ source }) => SEEN.includes(source)) : []
  tables.push(...seen.map(table => ({ ...table, page: REFERENCE_PAGE })))
  if (has(IMPORT_SOURCE)) tables.push(importTable(await load(IMPORT_SOURCE), has))
  if (has(LIMIT_SOURCE)) for (const limits of LIMIT_TABLES) tables.push(limitTable(root, limits, await load(limits.file)))
  return tables
}

/** The doc comment as it reads in a table: without @default, and without the bars that would end a cell. */
function meaningOf(field: InterfaceField | undefined): string {
  return (field?.doc ?? '').replace(/\s*@default\s.*$/, '').replaceAll('|', '\\|')
}

interface DescribedKey extends OperatorKey {
  readonly section: { readonly name: string; readonly declared: string }
  readonly option: Option
}

function optionTables(root: string, module: Readonly<Record<string, unknown>>): GeneratedTable[] {
  const keys = module['CONFIG_KEYS'] as readonly DescribedKey[]
  const declared = declaredInterfaces(root)
  const tables = new Map<string, string[]>()
  for (const { key, section, field, option } of keys) {
    const interfaceText = declared.get(section.declared)
    const fields = interfaceText === undefined ? [] : [...inheritedFields(interfaceText, declared) ?? [], ...interfaceText.fields]
    const meaning = operatorWords(meaningOf(fields.find(({ name }) => name === field)), key, keys)
    const nameOf = (other: string): string => keys.find(known => known.section === section && known.field === other)?.key ?? other
    const name = section.name.replace(/\..*$/, '')
    const lines = tables.get(name) ?? ['| key | default | allowed | meaning |', '|---|---|---|---|']
    lines.push(`| \`${key}\` | \`${writtenValue(option, option.default)}\` | ${allowedValues(option, nameOf)} | ${meaning} |`)
    tables.set(name, lines)
  }
  return [...tables].map(([name, lines]) => ({ page: 'docs/configuration.md', name: `options of ${name}`, source: CONFIG_SOURCE, lines }))
}

function fieldTable(root: string, module: Readonly<Record<string, unknown>>): GeneratedTable {
  const record = declaredInterfaces(root).get('AccessRecord')
  const lines = ['| field | meaning |', '|---|---|']
  for (const name of module['ACCESS_FIELDS'] as readonly string[]) {
    lines.push(`| \`${name}\` | ${meaningOf(record?.fields.find(field => field.name === name))} |`)
  }
  return { page: 'docs/access-log.md', name: 'fields', source: ACCESS_SOURCE, lines }
}

function flagTable(module: Readonly<Record<string, unknown>>): GeneratedTable {
  const flags = module['FLAGS'] as Readonly<Record<string, string>>
  const rows = Object.entries(flags).map(([flag, meaning]) => `| \`${flag}\` | ${meaning} |`)
  return { page: 'docs/access-log.md', name: 'flags', source: FLAG_SOURCE, lines: ['| flag | meaning |', '|---|---|', ...rows] }
}

interface DescribedMetric {
  readonly kind: string
  readonly labels: readonly string[]
  readonly help: string
  readonly name?: string
  /** Values of its label, where those are a closed list. */
  readonly counts?: Readonly<Record<string, string>>
}

function metricTables(module: Readonly<Record<string, unknown>>): GeneratedTable[] {
  const tables = {
    'traffic': 'TRAFFIC_METRICS', 'services': 'COUNT_METRICS', 'workers': 'PROCESS_METRICS', 'the supervisor': 'SUPERVISOR_METRICS',
  }
  return Object.entries(tables).map(([of, exported]) => {
    const metrics = module[exported] as Readonly<Record<string, DescribedMetric>>
    const rows = Object.entries(metrics).map(([key, metric]) => metricRow(key, metric))
    return {
      page: 'docs/metrics.md', name: `metrics of ${of}`, source: METRIC_SOURCE,
      lines: ['| metric | kind | labels | meaning |', '|---|---|---|---|', ...rows],
    }
  })
}

interface DescribedName {
  readonly name: string
  readonly kind: string
  readonly labels: readonly string[]
  readonly from: Readonly<Record<string, number>>
  readonly differs: string
}

function compatTable(module: Readonly<Record<string, unknown>>): GeneratedTable {
  const lines = ['| name | kind | labels | from | differs |', '|---|---|---|---|---|']
  const names = module['COMPAT_NAMES'] as Readonly<Record<string, readonly DescribedName[]>>
  const quoted = (words: readonly string[]): string => words.map(word => `\`${word}\``).join(', ')
  for (const { name, kind, labels, from, differs } of Object.values(names).flat()) {
    const line = `| \`${name}\` | ${kind} | ${quoted(labels)} | ${quoted(Object.keys(from))} | ${differs} |`
    // A family may be made by several rows.
    if (!lines.includes(line)) lines.push(line)
  }
  return { page: 'docs/metrics.md', name: 'names of other proxies', source: COMPAT_SOURCE, lines }
}

function metricRow(key: string, { kind, labels, help, name = key, counts = {} }: DescribedMetric): string {
  const values = Object.values(counts).map(value => `\`${value}\``).join(', ')
  const shown = labels.map(label => `\`${label}\`${values === '' ? '' : `: ${values}`}`).join(', ')
  return `| \`${name}\` | ${kind} | ${shown} | ${help} |`
}

/** What spans have: attributes, and moments within them. */
function spanTables(module: Readonly<Record<string, unknown>>): GeneratedTable[] {
  const tableOf = (name: string, rows: unknown): GeneratedTable => ({
    page: 'docs/traces.md', name, source: SPAN_SOURCE, lines: [
      '| name | spans | meaning |', '|---|---|---|',
      ...Object.entries(rows as Readonly<Record<string, { of: string; meaning: string }>>).map(([key, { of, meaning }]) => {
        return `| \`${key}\` | ${of} | ${meaning} |`
      }),
    ],
  })
  return [tableOf('span attributes', module['SPAN_ATTRIBUTES']), tableOf('span events', module['SPAN_EVENTS'])]
}

/** Folders in backticks, as few as say it: one whose parent is named as well is left out. */
function places(paths: readonly string[]): string {
  const named = paths.filter(place => !paths.some(other => other !== place && other.endsWith('/') && place.startsWith(other)))
  return named.length === 0 ? 'nothing of ours' : named.map(place => `\`${place.replace(/\/$/, '')}\``).join(' ')
}

function isSingleFile(place: string): boolean { return !place.endsWith('/') }
function isAmong(some: readonly string[], all: readonly string[]): boolean { return some.every(one => all.includes(one)) }

interface ImportRow { readonly where: readonly string[]; readonly may: readonly string[] }

/** @param has whether a file is there: places kept for files to come are not shown */
function importTable(module: Readonly<Record<string, unknown>>, has: (file: string) => boolean): GeneratedTable {
  const shown = (place: string): boolean => !isSingleFile(place) || has(place)
  const rows = (module['ROWS'] as readonly ImportRow[]).map(row => ({ where: row.where.filter(shown), may: row.may.filter(shown) }))
  const lines = ['| row | files of | may import, besides the row itself |', '|---|---|---|']
  for (const [index, { where, may }] of rows.entries()) {
    // A row that may import all of an earlier one and more is said by that one's number.
    const grown = rows.findLastIndex((row, before) => before < index && row.may.length > 3 && isAmong(row.may, may))
    const more = grown < 0 ? may : may.filter(place => !rows[grown]!.may.includes(place))
    // Neither are the files of a row of single files named again.
    const files = rows.findIndex(row => row.where.length > 1 && row.where.every(isSingleFile) && isAmong(row.where, more))
    const rest = files < 0 ? more : more.filter(place => !rows[files]!.where.includes(place))
    const parts = [
      ...(grown < 0 ? [] : [`what row ${grown + 1} may`]), ...(rest.length === 0 && grown >= 0 ? [] : [places(rest)]),
      ...(files < 0 ? [] : [`the files of row ${files + 1}`]),
    ]
    const said = parts.join(', and ')
    lines.push(`| ${index + 1} | ${places(where)} | ${said} |`)
  }
  return { page: 'docs/architecture.md', name: 'import table', source: IMPORT_SOURCE, lines }
}

const NUMERIC: ReadonlySet<string> = new Set(['duration', 'size', 'rate', 'count', 'number'])
/** What bounds something, among numbers that only set something up. */
const BOUNDS = /^(?:max|min|backlog)|Timeout|Idle|Total|Percent/
/** Setting up sockets is no bound. */
const NO_BOUNDS = /^(?:local|tcp)/

function limitTable(root: string, { name, file, declared, table }: LimitTable, module: Readonly<Record<string, unknown>>): GeneratedTable {
  const described = module[table] as Readonly<Record<string, Option>>
  const lines = ['| option | default | past it |', '|---|---|---|']
  for (const field of declaredInterfaces(root).get(declared)?.fields ?? []) {
    const option = described[field.name]
    if (option === undefined || !NUMERIC.has(option.kind) || option.awaits !== '') continue
    if (!BOUNDS.test(field.name) || NO_BOUNDS.test(field.name)) continue
    const meaning = meaningOf(field).replaceAll(/[,;] in (?:ms|bytes(?: a second)?)(?=[.,;]|$)/g, '')
    lines.push(`| \`${field.name}\` | ${writtenValue(option, option.default)} | ${meaning} |`)
  }
  return { page: 'docs/limits.md', name, source: file, lines }
}
