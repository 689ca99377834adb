/**
 * Which hooks an application and its modules have, by name; asked once a service, when it is made. A hook is called only when
 * it has its name and is a function, so whatever was meant to be one is refused here: otherwise requests would pass without the
 * filter that somebody wrote.
 *
 * Invariant: nothing of the application is called, but for a getter that has the name of a hook. Methods of its own stay its own
 * (primitives/misspelt-name.ts says what a slip is), and are listed for whoever wants to look.
 */
import { blame } from '../errors/culprit.ts'
import { MODULE_HOOKS, type HttpModule } from '../modules/http-module.ts'
import { membersOf, misspeltName } from '../primitives/misspelt-name.ts'
import { nearestWord } from '../primitives/nearest-word.ts'
import { showValue } from '../primitives/option-table.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'

/** What an object is made of, as an operator wants to see it. */
export interface FoundHooks {
  /** In the order in which they run. */
  readonly hooks: readonly string[]
  /** Methods that are nobody's hooks, except those that begin with `_`. */
  readonly otherMethods: readonly string[]
}

export interface FoundApplication extends FoundHooks {
  /** In descending order. */
  readonly modules: readonly (FoundHooks & { readonly name: string })[]
}

type Kind = 'function' | 'list' | 'number' | 'object' | 'other'

/** What a kind of object may be asked for. */
interface Shape {
  readonly hooks: readonly string[]
  readonly others: Readonly<Record<string, Kind>>
  /** Hooks that only the other kind of object has, and what has them. */
  readonly foreign: readonly string[]
  readonly foreignOf: string
}

const APPLICATION: Shape = {
  hooks: HOOKS, others: { modules: 'list', keepsLength: 'object' },
  // An application may well have a state of its own to make.
  foreign: MODULE_HOOKS.filter(name => name !== 'newState' && !(HOOKS as readonly string[]).includes(name)), foreignOf: 'a module',
}
const MODULE: Shape = {
  hooks: MODULE_HOOKS, others: { order: 'number', keepsLength: 'other' },
  foreign: HOOKS.filter(name => !(MODULE_HOOKS as readonly string[]).includes(name)), foreignOf: 'an application',
}

/** @throws TypeError with a line for each name or value that would not do, and for each hook that has to be there and is not. */
export function checkHooks<Ctx>(app: ProxyHttp<Ctx>): void {
  const mistakes: string[] = [], misspelt: Function[] = []
  if (typeof app !== 'object' || app === null) {
    const found = typeof app === 'function' ? classGiven(app) : `${String(app)}; use an object with upstreamPeer`
    throw new TypeError(`the application is ${found}`)
  }
  const owner = ownerOf(app, 'the application')
  look(owner, app, APPLICATION, mistakes, misspelt)
  demand(owner, app, 'upstreamPeer', 'upstreamPeer(session, ctx); it says where a request goes', mistakes)
  for (const name of Object.keys(app.keepsLength ?? {})) {
    if (name !== 'request' && name !== 'response') mistakes.push(`keepsLength of ${owner} has ${name}; use request and response`)
  }
  const modules: unknown = app.modules ?? []
  if (!Array.isArray(modules)) mistakes.push(`modules of ${owner} is ${shown(modules)}; use a list of modules`)
  else for (const [at, module] of modules.entries()) checkModule(module, `modules[${at}] of ${owner}`, mistakes, misspelt)
  if (mistakes.length > 0) throw blame(new TypeError(mistakes.join('\n')), misspelt[0] ?? null)
}

function checkModule(module: unknown, place: string, mistakes: string[], misspelt: Function[]): void {
  if (typeof module !== 'object' || module === null) {
    const found = typeof module === 'function' ? classGiven(module) : `${shown(module)}; use a module`
    mistakes.push(`${place} is ${found}`)
    return
  }
  const { name } = module as HttpModule
  if (typeof name !== 'string' || name === '') {
    mistakes.push(`${place} has no name; messages name it by that`)
    return
  }
  look(`module ${name}`, module, MODULE, mistakes, misspelt)
}

/** What there is of hooks. Nothing is refused: `checkHooks` did. */
export function foundHooks<Ctx>(app: ProxyHttp<Ctx>, modules: readonly HttpModule[]): FoundApplication {
  return {
    ...found(membersOf(app), APPLICATION),
    modules: modules.map(module => ({ name: module.name, ...found(membersOf(module), MODULE) })),
  }
}

function found(members: ReadonlyMap<string, unknown>, { hooks, others }: Shape): FoundHooks {
  return {
    hooks: hooks.filter(name => members.has(name)),
    otherMethods: [...members.keys()].filter(name => {
      return typeof members.get(name) === 'function' && !hooks.includes(name) && !(name in others) && !name.startsWith('_')
    }),
  }
}

/** @param misspelt given the methods that have a name of their own by mistake */
function look(
  owner: string, object: object, { hooks, others, foreign, foreignOf }: Shape, mistakes: string[], misspelt: Function[],
): void {
  const known = [...hooks, ...Object.keys(others)], members = membersOf(object)
  for (const hook of hooks) {
    const value = (object as Record<string, unknown>)[hook]
    if (value !== undefined && typeof value !== 'function') mistakes.push(`${hook} of ${owner} is ${shown(value)}; use a method`)
  }
  for (const [name, value] of members) {
    const isMethod = typeof value === 'function'
    if (isMethod && foreign.includes(name)) {
      misspelt.push(value)
      mistakes.push(`${owner} has ${name}(), a hook that only ${foreignOf} has; call it _${name} if it is a method of your own`)
      continue
    }
    const meant = misspeltName(name, known, one => members.has(one))
    if (meant === null || kindOf(value) !== (others[meant] ?? 'function')) continue
    if (isMethod) misspelt.push(value)
    const text = isMethod ? `${name}(), which is no hook; call it ${meant}, or _${name} if it is a method of your own`
      : `${name}, which nothing asks for; call it ${meant}`
    mistakes.push(`${owner} has ${text}`)
  }
}

/** A required hook. Whatever was nearly called so has a line of its own already. */
function demand(owner: string, object: object, hook: string, wanted: string, mistakes: string[]): void {
  if ((object as Record<string, unknown>)[hook] !== undefined || mistakes.some(line => line.includes(`; call it ${hook}, `))) return
  const near = [...membersOf(object)].find(([name, value]) => typeof value === 'function' && nearestWord(name, [hook]) !== null)?.[0]
  mistakes.push(`${owner} has no ${wanted}${near === undefined ? '' : `; it has ${near}()`}`)
}

/** By the name of its class, unless it is a plain object. */
function ownerOf(object: object, otherwise: string): string {
  const { name } = (object as { constructor?: { name?: unknown } }).constructor ?? {}
  return typeof name === 'string' && name !== '' && name !== 'Object' ? `class ${name}` : otherwise
}

function kindOf(value: unknown): Kind {
  if (Array.isArray(value)) return 'list'
  switch (typeof value) {
    case 'function': case 'number': return typeof value as 'function' | 'number'
    case 'object': return value === null ? 'other' : 'object'
    default: return 'other'
  }
}

function shown(value: unknown): string { return typeof value === 'object' && value !== null ? 'an object' : showValue(value) }

function classGiven({ name }: Function): string {
  return `a class or function; use an object${name === '' ? '' : `: new ${name}()`}`
}
