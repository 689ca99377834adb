/**
 * Holds the import table: which folder may import which, which ways are shut besides, where vendors may be named, what
 * entry points import first, and that no imports form a cycle.
 * Type imports count for the table, because a type from below is a dependency of the reader all the same. They do not
 * count for cycles: they are gone before anything is loaded, and the tracer's types are open to every folder while
 * their own fields name types of those folders.
 *
 * `node scripts/check-imports.ts [root]` prints one `file:line: what was found, what would do` a fault and exits with 1.
 */
import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import path from 'node:path'
import { importsOf, isFile, listTypeScript, printFinding, type Finding, type ImportSite } from './source-text.ts'

/** A path that ends with a slash is a folder and all below it; others are one file. */
export interface Row {
  readonly where: readonly string[]
  /** What files of the row may import, besides the row itself. */
  readonly may: readonly string[]
}

const ANYONE = ['src/runtime-check.ts']
const BASE = ['src/errors/', 'src/primitives/']
const FOUNDATION = [...BASE, 'src/certificates/', 'src/http/', 'src/config/', 'src/ipc/']
const COUNTING = [...FOUNDATION, 'src/telemetry/']
const PROTOCOLS = [...COUNTING, 'src/protocols/']
const PEERS = [...PROTOCOLS, 'src/peer/']
const POOLS = [...PEERS, 'src/pool/']
const TRANSPORT = [...POOLS, 'src/connector/', 'src/listener/']
/**
 * Options of listeners: plain data that stands beside what it describes and imports nothing but primitives and words, so that the
 * configuration, far below, can offer each option without naming it again.
 */
const OPTION_TABLES = [
  'src/protocols/http-options.ts', 'src/protocols/http1/http1-options.ts', 'src/protocols/http2/http2-options.ts',
  'src/listener/listener-options.ts', 'src/listener/http-listener-options.ts', 'src/listener/tls-listener-options.ts',
]
const CAPABILITIES = [...TRANSPORT, 'src/load-balancing/', 'src/limits/', 'src/cache/', 'src/modules/']

/**
 * The first row that fits a file counts, so single files stand before their folders. docs/architecture.md shows the table
 * (scripts/generated-tables.ts makes it).
 */
export const ROWS: readonly Row[] = [
  { where: ['src/runtime-check.ts'], may: [] },
  { where: BASE, may: [] },
  { where: ['src/certificates/'], may: BASE },
  { where: OPTION_TABLES, may: [...BASE, 'src/certificates/'] },
  { where: ['src/config/'], may: [...BASE, 'src/http/', 'src/ipc/', ...OPTION_TABLES] },
  { where: ['src/http/', 'src/ipc/'], may: [...BASE, 'src/config/'] },
  { where: ['src/prove/'], may: [...BASE, 'src/http/', 'src/config/', 'src/protocols/'] },
  { where: ['src/telemetry/tracer.ts'], may: [] },
  { where: ['src/telemetry/exporters/'], may: COUNTING },
  { where: ['src/telemetry/'], may: FOUNDATION },
  { where: ['src/protocols/'], may: COUNTING },
  { where: ['src/peer/'], may: PROTOCOLS },
  { where: ['src/pool/'], may: PEERS },
  { where: ['src/connector/'], may: POOLS },
  { where: ['src/listener/'], may: POOLS },
  { where: ['src/load-balancing/', 'src/limits/', 'src/cache/', 'src/modules/'], may: TRANSPORT },
  { where: ['src/proxy/'], may: CAPABILITIES },
  { where: ['src/server/'], may: [...CAPABILITIES, 'src/proxy/'] },
  { where: ['src/kit/'], may: [...BASE, 'src/certificates/', 'src/http/', 'src/modules/'] },
  { where: ['src/index.ts'], may: ['src/'] },
  { where: ['create/template/'], may: [] },
  { where: ['create/'], may: [] },
  {
    where: ['supervisor/'],
    may: [
      ...FOUNDATION.filter(folder => folder !== 'src/http/'), 'create/', 'src/telemetry/exporters/', 'src/telemetry/metric-slots.ts',
      // Knows nothing of requests, and whoever dials the control sockets brings lines about as clients do.
      'src/telemetry/repeated-lines.ts',
    ],
  },
  { where: ['workers/'], may: ['src/'] },
  // As applications do: by the name of the package (VENDORS).
  { where: ['examples/'], may: [] },
  { where: ['test/', 'scripts/'], may: ['create/', 'src/', 'supervisor/', 'workers/', 'examples/', 'test/', 'scripts/'] },
]

interface ClosedWay {
  readonly where: readonly string[]
  readonly never: readonly string[]
  readonly why: string
}

/** Ways that the table above leaves open and that are shut all the same, for types too. */
export const CLOSED_WAYS: readonly ClosedWay[] = [
  {
    where: ['src/pool/', 'src/proxy/'], never: ['src/protocols/http1/'],
    why: 'serves every protocol: let the session do what only its protocol asks for',
  },
]

/**
 * Types of these may be imported from anywhere, and they may import types of anything in src/: what a tracer is told, and
 * what modules and access logs see of an exchange.
 */
const OPEN_TYPES = ['src/telemetry/tracer.ts', 'src/proxy/session.ts']
/** Only these may name the package's edge. */
const EDGE_READERS = ['test/', 'scripts/']
/** Exporters name vendors, so they are wired in from outside: only these may import them. */
const EXPORTERS = ['src/telemetry/exporters/']
const EXPORTER_READERS = ['supervisor/', 'workers/', ...EDGE_READERS, 'src/proxy/', 'src/server/', 'src/index.ts']

/** Where processes and users enter: too old a Node.js must be told before anything else of ours runs. */
const ENTRIES = ['src/index.ts', 'src/kit/index.ts', 'supervisor/cli.ts', 'supervisor/main.ts', 'workers/main.ts', 'workers/describe.ts']
const ENTRY_GUARD = 'src/runtime-check.ts'

/** Vendors by package name, `scope/*` for a whole scope; whatever is not here is for test/, scripts/ and what a project is made from. */
const VENDORS: Readonly<Record<string, readonly string[]>> = {
  'prom-client': ['src/telemetry/exporters/'],
  '@sentry/*': ['src/telemetry/exporters/'],
  '@opentelemetry/*': ['src/telemetry/exporters/', 'workers/instrument.ts'],
  'cirque': ['examples/'],
  'zod': ['src/config/'],
  'yaml': ['src/config/'],
  '@fastify/send': ['src/kit/static-files.ts'],
  'commander': ['supervisor/cli.ts', 'supervisor/commands/'],
}
const VENDOR_FREE = ['create/template/', 'test/', 'scripts/']

/** An import of node:http evaluates getters of its that load undici: 19 MB and 76 ms of CPU for each process (**measured**). */
const LOADED_LATE = { where: [], why: "it costs every process 19 MB; take it from process.getBuiltinModule('node:http') where it is used" }
/** Built-in modules that only some files may load. */
const BUILTINS: Readonly<Record<string, { readonly where: readonly string[]; readonly why: string }>> = {
  'node:ffi': { where: ['src/ipc/system-calls.ts'], why: 'native calls live in src/ipc/system-calls.ts' },
  'node:cluster': {
    where: ['supervisor/process-host.ts', 'workers/'],
    why: 'only supervisor/process-host.ts forks, and only workers/ know that they were forked',
  },
  'node:http': LOADED_LATE, 'node:https': LOADED_LATE,
  'node:zlib': {
    where: [], why: "it costs every process 0.9 MB and 4 ms; take it from process.getBuiltinModule('node:zlib') where it is used",
  },
  'node:util': {
    where: ['supervisor/'],
    why: "an import evaluates getters that cost every process 0.5 MB and 3 ms; take it from process.getBuiltinModule('node:util')",
  },
}
/** Folders that are handed open streams and open none; `node:net` is there for its address functions. */
const SOCKETLESS = ['src/errors/', 'src/primitives/', 'src/certificates/', 'src/http/', 'src/config/', 'src/ipc/']
const SOCKET_MODULES: ReadonlySet<string> = new Set(['node:net', 'node:tls', 'node:http', 'node:https', 'node:http2', 'node:dgram'])
const ADDRESS_NAMES: ReadonlySet<string> = new Set(['isIP', 'isIPv4', 'isIPv6', 'BlockList', 'SocketAddress'])

function covers(places: readonly string[], file: string): boolean {
  return places.some(place => place.endsWith('/') ? file.startsWith(place) : file === place)
}

function vendorPlaces(name: string): readonly string[] | undefined {
  return VENDORS[name] ?? VENDORS[`${name.split('/')[0]}/*`]
}

/** `@scope/name/sub` and `name/sub` less what follows the package's name. */
function packageName(specifier: string): string {
  return specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
}

interface Edge { readonly to: string; readonly line: number }

export function checkImports(root: string): Finding[] {
  const findings: Finding[] = []
  const graph = new Map<string, Edge[]>()
  for (const file of listTypeScript(root)) {
    const edges: Edge[] = []
    graph.set(file, edges)
    const row = ROWS.find(({ where }) => covers(where, file))
    if (row === undefined) {
      findings.push({ file, line: 1, text: 'stands in no row of the import table; move it, or give it a row in scripts/check-imports.ts' })
      continue
    }
    const sites = importsOf(readFileSync(path.join(root, file), 'utf8'))
    if (ENTRIES.includes(file)) {
      const first = sites.find(site => !site.typeOnly)
      const fine = first !== undefined && !first.dynamic && path.posix.join(path.posix.dirname(file), first.specifier) === ENTRY_GUARD
      const text = `does not import ${ENTRY_GUARD} before everything else; let that be its first import`
      if (!fine) findings.push({ file, line: first?.line ?? 1, text })
    }
    for (const site of sites) {
      if (site.specifier.startsWith('.')) {
        const to = path.posix.join(path.posix.dirname(file), site.specifier)
        const fault = relativeFault(root, file, row, to, site)
        if (fault !== null) findings.push({ file, line: site.line, text: fault })
        if (!site.typeOnly) edges.push({ to, line: site.line })
      } else {
        const fault = packageFault(file, site)
        if (fault !== null) findings.push({ file, line: site.line, text: fault })
      }
    }
  }
  return [...findings, ...cyclesOf(graph)]
}

function relativeFault(root: string, file: string, row: Row, to: string, site: ImportSite): string | null {
  if (!isFile(path.join(root, to))) return `imports ${site.specifier}, which is no file; name an existing file with its extension`
  if (to.endsWith('.json')) {
    if (covers([...VENDOR_FREE, 'supervisor/cli.ts'], file)) return null
    return `imports ${to}; read it where it is needed, or keep the value in a .ts file`
  }
  if (path.posix.basename(to) === 'index.ts' && !covers(EDGE_READERS, file)) {
    return `imports ${to}, which is for the package's edge only; import the file itself`
  }
  if (covers(ANYONE, to)) return null
  const closed = CLOSED_WAYS.find(way => covers(way.where, file) && covers(way.never, to))
  if (closed !== undefined) return `imports ${to}${site.typeOnly ? ' (type)' : ''}; ${closed.where.join(' ')} ${closed.why}`
  if (site.typeOnly && (covers(OPEN_TYPES, to) || (covers(OPEN_TYPES, file) && to.startsWith('src/')))) return null
  if (covers(row.where, to)) return null
  // `src/telemetry/` in a row means that folder without its exporters.
  const shut = covers(EXPORTERS, to) && !covers(EXPORTER_READERS, file)
  if (covers(row.may, to) && !shut) return null
  const may = row.may.length === 0 ? 'nothing else of ours' : row.may.join(' ')
  return `imports ${to}${site.typeOnly ? ' (type)' : ''}; ${row.where.join(' ')} may import ${may}`
}

function packageFault(file: string, site: ImportSite): string | null {
  const { specifier } = site
  if (isBuiltin(specifier) || specifier.startsWith('node:')) {
    if (!specifier.startsWith('node:')) return `imports ${specifier}; write node:${specifier}`
    const rule = BUILTINS[specifier]
    if (rule !== undefined && !site.typeOnly && !covers([...rule.where, ...VENDOR_FREE], file)) return `imports ${specifier}; ${rule.why}`
    if (!site.typeOnly && SOCKET_MODULES.has(specifier) && covers(SOCKETLESS, file) && !site.names.every(name => ADDRESS_NAMES.has(name))) {
      const remedy = `take an open stream, import its type, or name only ${[...ADDRESS_NAMES].join(', ')}`
      return `imports ${specifier}; ${SOCKETLESS.join(' ')} open no sockets: ${remedy}`
    }
    return null
  }
  if (covers(VENDOR_FREE, file)) return null
  const name = packageName(specifier)
  const places = vendorPlaces(name)
  if (places === undefined) {
    const free = VENDOR_FREE.join(' ')
    return `imports the package ${name}; only ${free} may name packages that are not in the table of scripts/check-imports.ts`
  }
  return covers(places, file) ? null : `imports the package ${name}; only ${places.join(' ')} may name it`
}

/** One finding a cycle, at the first import of it; every file belongs to one cycle at most (strongly connected components, Tarjan 1972). */
function cyclesOf(graph: ReadonlyMap<string, readonly Edge[]>): Finding[] {
  const findings: Finding[] = []
  const order = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const onStack = new Set<string>()

  const visit = (file: string): void => {
    const index = order.size
    order.set(file, index)
    low.set(file, index)
    stack.push(file)
    onStack.add(file)
    for (const { to } of graph.get(file) ?? []) {
      if (!order.has(to)) {
        visit(to)
        low.set(file, Math.min(low.get(file) ?? 0, low.get(to) ?? 0))
      } else if (onStack.has(to)) {
        low.set(file, Math.min(low.get(file) ?? 0, order.get(to) ?? 0))
      }
    }
    if (low.get(file) !== index) return
    const members = stack.splice(stack.lastIndexOf(file))
    for (const member of members) onStack.delete(member)
    const first = members.toSorted()[0] ?? file
    const ring = shortestRing(graph, first, new Set(members))
    if (ring === null) return
    const line = graph.get(first)?.find(({ to }) => to === (ring[1] ?? first))?.line ?? 1
    const remedy = 'move what they share to a file that imports neither, or import the type alone'
    findings.push({ file: first, line, text: `is part of an import cycle: ${ring.join(' -> ')}; ${remedy}` })
  }
  for (const file of graph.keys()) if (!order.has(file)) visit(file)
  return findings
}

/** The shortest way from `first` back to itself inside `members`; null when there is none. */
function shortestRing(graph: ReadonlyMap<string, readonly Edge[]>, first: string, members: ReadonlySet<string>): string[] | null {
  const ways: string[][] = [[first]]
  const seen = new Set<string>()
  for (let way = ways.shift(); way !== undefined; way = ways.shift()) {
    for (const { to } of graph.get(way.at(-1) ?? first) ?? []) {
      if (to === first) return [...way, first]
      if (!members.has(to) || seen.has(to)) continue
      seen.add(to)
      ways.push([...way, to])
    }
  }
  return null
}

if (import.meta.main) {
  const findings = checkImports(path.resolve(process.argv[2] ?? path.join(import.meta.dirname, '..')))
  for (const finding of findings) console.error(printFinding(finding))
  process.exitCode = findings.length === 0 ? 0 : 1
}
