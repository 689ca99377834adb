/**
 * Which route a path belongs to. Routes stand in a tree of segments, so that a match costs a look-up for each segment of the path,
 * however many routes there are; a path without parameters in its route costs one.
 *
 *   /            ├─ users ─┬─ :id ── posts        GET /users/:id/posts
 *                │         └─ *                   /users/*
 *                └─ health                        /health
 *
 * From left to right a segment that is written out wins over a parameter, and either over `*`: of prefixes the longest, as in nginx.
 *
 * Routes decide who is asked for a password, so a path must not match one of them here and mean another one behind us. Segments are
 * compared decoded (`/%61dmin` is `/admin`), empty ones between two slashes are none, and what origins read in different ways is
 * refused with 400: an encoded slash or backslash, dot segments where the service leaves those alone, and a semicolon that decides.
 * Servlet containers cut a segment at it (`/admin;x` is `/admin`, `/a/..;/admin` as well), others do not: such a path is let through
 * where it has the same route either way. A path whose route does not know the method is refused with 405 and does not fall to a wider
 * route. Capitals and small letters differ (RFC 3986 6.2.2.1), though not for every origin: docs/kit.md says what follows from it.
 */
import type { RequestHead } from '../http/message-head.ts'
import type { Session } from '../proxy/session.ts'
import { isMethodName } from './method-name.ts'

/** Values of the parameters of a route, by name. Decoded; one that is no UTF-8 stays as it was sent. */
export type RouteParams = Readonly<Record<string, string>>

/** What a request matched. */
export interface MatchedRoute<T> {
  /** Tells it from an `UnmatchedRoute`. */
  readonly found: true
  /** What was added with the route. */
  readonly value: T
  /** The path of the route, as it was added: for logs and metrics, where the path itself would be endless. */
  readonly pattern: string
  /** Empty for a route without parameters. */
  readonly params: RouteParams
  /** What `*` stands for, without the slash before it, as it was sent: a path for static files, or for another origin. '' without a `*`. */
  readonly rest: string
}

/** Why a request matched nothing. */
export interface UnmatchedRoute {
  /** Tells it from a `MatchedRoute`. */
  readonly found: false
  /** 404: there is no such route; 405: not for this method; 400: the path has two readings. */
  readonly status: 400 | 404 | 405
  /** Answers with that status, and with Allow where it asks for that (RFC 9110 15.5.6). */
  respond(session: Session): 'responded'
}

/** What one match gave. */
export type RouteMatch<T> = MatchedRoute<T> | UnmatchedRoute

/** A route, behind its path. */
interface Leaf<T> {
  readonly pattern: string
  /** Names of the parameters on the way to it. */
  readonly names: readonly string[]
  /** By method; '' stands for those that have none of their own. */
  readonly values: Map<string, { readonly value: T }>
}

/** What begins with the segments that lead here. */
interface Node<T> {
  readonly children: Map<string, Node<T>>
  parameter: Node<T> | null
  /** The path ends here. */
  exact: Leaf<T> | null
  /** `*`: the path ends here, or goes on. */
  prefix: Leaf<T> | null
}

/** What most paths have none of: whatever is not to be compared as it is. */
const UNUSUAL = /%|\/\/|\/\.|;/
/** Slash and backslash, encoded; NUL has no place in a path (the parser refuses it, a filter may have set it). */
const TWO_READINGS = /%(?:2f|5c|00)/i
/**
 * Encoded octets that are UTF-8 (RFC 3629 4), and whatever is not encoded: what decodeURIComponent() takes. To ask costs a hundredth of
 * its throw, which a client could have for each segment of a path. No two branches begin alike, so it takes one look at each octet.
 */
const UTF8 = new RegExp(`^(?:${[
  '[^%]', '%[0-7]x', '%(?:c[2-9a-f]|dx)T', '%e0%[ab]xT', '%e[1-9a-cef]TT', '%ed%[89]xT', '%f0%[9ab]xTT', '%f[1-3]TTT', '%f4%8xTT',
].join('|').replaceAll('T', '%[89ab]x').replaceAll('x', '[0-9a-f]')})*$`, 'i')
const NO_PARAMS: RouteParams = Object.freeze(Object.create(null) as RouteParams)

/**
 * Routes with a value of your own for each: settings, a filter, a balancer.
 *
 *   const routes = new Router<Route>()
 *     .add('/health', { answer: 'ok' })
 *     .add('GET /users/:id', { upstream: users })
 *     .add('/api/*', { upstream: api })
 *   const match = routes.match(session.request)
 *   if (!match.found) return match.respond(session)
 */
export class Router<T> {
  readonly #root: Node<T> = nodeOf()
  /** Whole paths, as they are written, of routes without parameters. */
  readonly #whole = new Map<string, Leaf<T>>()

  /**
   * Adds a route.
   *
   *   /health           this path and no other; `/health/` is another one
   *   /api/*            /api, /api/ and everything below, and not /apis
   *   /users/:id        a parameter, which is one segment, and not an empty one
   *   GET,POST /form    for these methods alone; GET stands for HEAD as well, unless that has a route of its own
   *
   * @param route segments are written as they are when decoded
   * @throws TypeError on a path that makes no sense, and on a route that is there already
   */
  add(route: string, value: T): this {
    const { methods, path, segments } = parseRoute(route)
    const names: string[] = []
    let node = this.#root
    for (const segment of segments) {
      if (segment === '*') break
      if (segment.startsWith(':')) {
        names.push(segment.slice(1))
        node = node.parameter ??= nodeOf()
        continue
      }
      let child = node.children.get(segment)
      if (child === undefined) node.children.set(segment, child = nodeOf())
      node = child
    }
    if (new Set(names).size < names.length) throw new TypeError(`route ${JSON.stringify(route)} has two parameters of one name`)
    const end = segments.at(-1) === '*' ? 'prefix' : 'exact'
    const leaf = node[end] ??= { pattern: path, names, values: new Map() }
    if (leaf.names.join() !== names.join()) {
      throw new TypeError(`route ${JSON.stringify(route)} is ${JSON.stringify(leaf.pattern)} with other names; use the same names`)
    }
    for (const method of methods) {
      if (leaf.values.has(method)) throw new TypeError(`route ${JSON.stringify(route)} is there already`)
      leaf.values.set(method, { value })
    }
    if (end === 'exact' && names.length === 0) this.#whole.set(path, leaf)
    return this
  }

  /** The route of a request, by its path and method. A target that is no path, such as `*`, has none. */
  match(request: RequestHead): RouteMatch<T> {
    const { path, method } = request
    const whole = this.#whole.get(path)
    if (whole !== undefined && !UNUSUAL.test(path)) return matched(whole, method, NO_PARAMS, '')
    if (path.charCodeAt(0) !== 0x2f) return NOT_FOUND
    const sent = path.slice(1).split('/')
    let segments = sent, cut = sent
    if (UNUSUAL.test(path)) {
      if (TWO_READINGS.test(path)) return TWO_WAYS
      withoutEmpty(sent)
      segments = cut = sent.map(decoded)
      if (segments.some(segment => segment.includes(';'))) withoutEmpty(cut = segments.map(beforeSemicolon))
      if (cut.some(segment => segment === '.' || segment === '..')) return TWO_WAYS
    }
    const found = find(this.#root, segments, 0)
    if (cut !== segments && find(this.#root, cut, 0)?.leaf !== found?.leaf) return TWO_WAYS
    if (found === null) return NOT_FOUND
    const { leaf, at, values } = found
    return matched(leaf, method, leaf.names.length === 0 ? NO_PARAMS : paramsOf(leaf.names, values), sent.slice(at).join('/'))
  }
}

function nodeOf<T>(): Node<T> { return { children: new Map(), parameter: null, exact: null, prefix: null } }

interface Found<T> {
  readonly leaf: Leaf<T>
  /** Where the rest begins. */
  readonly at: number
  /** Of parameters, the last first. */
  readonly values: string[]
}

/** Each node is looked at once at most: how long it takes is bounded by the routes, whatever the path is. */
function find<T>(node: Node<T>, segments: readonly string[], at: number): Found<T> | null {
  if (at === segments.length) {
    const leaf = node.exact ?? node.prefix
    return leaf === null ? null : { leaf, at, values: [] }
  }
  const segment = segments[at]!
  const child = node.children.get(segment)
  const below = child === undefined ? null : find(child, segments, at + 1)
  if (below !== null) return below
  if (node.parameter !== null && segment !== '') {
    const inside = find(node.parameter, segments, at + 1)
    if (inside !== null) {
      inside.values.push(segment)
      return inside
    }
  }
  return node.prefix === null ? null : { leaf: node.prefix, at, values: [] }
}

function paramsOf(names: readonly string[], values: readonly string[]): RouteParams {
  const params: Record<string, string> = Object.create(null)
  for (const [index, name] of names.entries()) params[name] = values[names.length - 1 - index]!
  return params
}

function matched<T>(leaf: Leaf<T>, method: string, params: RouteParams, rest: string): RouteMatch<T> {
  const { values, pattern } = leaf
  const held = values.get(method) ?? (method === 'HEAD' ? values.get('GET') : undefined) ?? values.get('')
  return held === undefined ? notAllowed(values) : { found: true, value: held.value, pattern, params, rest }
}

/** Empty segments between two slashes go; one at the end says that the path ends with a slash, and stays. */
function withoutEmpty(segments: string[]): void {
  let kept = 0
  for (let at = 0; at < segments.length; at++) {
    if (segments[at] !== '' || at === segments.length - 1) segments[kept++] = segments[at]!
  }
  segments.length = kept
}

/** As a servlet container reads a segment: what stands behind the semicolon are parameters of it (RFC 3986 3.3). */
function beforeSemicolon(segment: string): string {
  const at = segment.indexOf(';')
  return at === -1 ? segment : segment.slice(0, at)
}

/** What is no UTF-8 is no segment that was written out. */
function decoded(segment: string): string {
  return segment.includes('%') && UTF8.test(segment) ? decodeURIComponent(segment) : segment
}

function unmatched(status: 400 | 404 | 405, fields: Readonly<Record<string, string>>): UnmatchedRoute {
  return { found: false, status, respond: session => session.respond(status, fields) }
}

const NOT_FOUND = unmatched(404, {})
const TWO_WAYS = unmatched(400, {})

function notAllowed(values: ReadonlyMap<string, unknown>): UnmatchedRoute {
  const methods = [...values.keys()]
  if (values.has('GET') && !values.has('HEAD')) methods.push('HEAD')
  return unmatched(405, { Allow: methods.join(', ') })
}

function parseRoute(route: string): { methods: readonly string[]; path: string; segments: readonly string[] } {
  const refuse = (text: string): never => { throw new TypeError(`route ${JSON.stringify(route)} ${text}`) }
  if (typeof route !== 'string') return refuse('is no text; use a path such as /api/*')
  const blank = route.indexOf(' ')
  const methods = blank === -1 ? [''] : route.slice(0, blank).split(','), path = route.slice(blank + 1)
  const bad = blank === -1 ? undefined : methods.find(method => !isMethodName(method))
  if (bad !== undefined) return refuse(`has ${JSON.stringify(bad)} before the path; use methods in capitals, such as GET,POST`)
  if (!path.startsWith('/')) return refuse('does not begin with a slash; use a path such as /api/*')
  if (/[?#\\\0]/.test(path)) return refuse('has a ?, a #, a backslash or NUL; use a path, whose segments are written decoded')
  if (path.includes(';')) return refuse('has a semicolon, at which some origins cut a segment; use :name or * for one that has it')
  const segments = path.slice(1).split('/')
  for (const [index, segment] of segments.entries()) {
    const last = index === segments.length - 1
    if (segment === '' && !last) return refuse('has two slashes in a row; use one')
    if (segment === '.' || segment === '..') return refuse('has a dot segment; use the path that it leads to')
    if (/%[0-9a-f]{2}/i.test(segment)) return refuse('is encoded; write it decoded')
    if (segment.includes('*') && (segment !== '*' || !last)) return refuse('has a * that is not the last segment; use :name for one')
    const misnamed = segment.startsWith(':') && !/^:[A-Za-z_]\w*$/.test(segment)
    if (misnamed) return refuse(`has the parameter ${segment}; use letters, digits and _`)
  }
  return { methods, path, segments }
}
