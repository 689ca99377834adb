/**
 * The plan of phases: which hooks an application and its modules have, worked out once per service, so that a request
 * pays one comparison with null for a hook that is absent, and a chunk of a body neither a closure nor a list.
 *
 * Filters of a response are two lists, upstream side and downstream side, since a cache stands between them: what an origin
 * sends passes both, what a cache kept passes the second, and an answer of our own passes the modules alone.
 */
import type { HeaderMap } from '../http/header-map.ts'
import type { HttpModule } from '../modules/http-module.ts'
import { checkHooks } from './hook-names.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'
import type { BodyResult, Session } from './session.ts'

/** What hooks and modules are called with. */
export interface PhaseSubject<Ctx> extends Session {
  readonly ctx: Ctx
}

export type ChunkFilter<Subject> = (subject: Subject, chunk: Buffer, last: boolean) => BodyResult | Promise<BodyResult>
/** What it returns is sent as the last piece of the body, instead of the trailers. */
export type TrailerFilter<Subject> = (subject: Subject, trailers: HeaderMap) => Buffer | void | Promise<Buffer | void>

/** Filters of one body, in their order. */
export interface BodyStage<Subject> {
  readonly filters: readonly ChunkFilter<Subject>[]
  readonly trailerFilters: readonly TrailerFilter<Subject>[]
  /** Names of both, in their order: who is to blame. */
  readonly hooks: readonly string[]
  readonly trailerHooks: readonly string[]
  /** The filters keep the number of bytes. */
  readonly keepsLength: boolean
}

/** Where an answer comes from, and so which filters it passes: those behind its place and all that follow. */
export type ResponseOrigin = 'origin' | 'stored' | 'own'

export interface PhasePlan<Ctx> {
  readonly app: ProxyHttp<Ctx>
  /** Descending by order. */
  readonly modules: readonly HttpModule[]
  readonly requestModules: readonly HttpModule[] | null
  readonly upstreamRequestModules: readonly HttpModule[] | null
  readonly upstreamResponseModules: readonly HttpModule[] | null
  readonly responseModules: readonly HttpModule[] | null
  readonly doneModules: readonly HttpModule[] | null
  /** What may look at, or change, the body of a request; null: nothing. */
  readonly requestBody: BodyStage<PhaseSubject<Ctx>> | null
  /** The same of a response, by where it comes from. */
  readonly responseBody: Readonly<Record<ResponseOrigin, BodyStage<PhaseSubject<Ctx>> | null>>
  /** Absent hooks are false, so that the engine asks a plain field. */
  readonly has: Readonly<Record<(typeof HOOKS)[number], boolean>>
}

/** @throws TypeError with all that is wrong about the hooks of the application and its modules, see hook-names.ts. */
export function planPhases<Ctx>(app: ProxyHttp<Ctx>): PhasePlan<Ctx> {
  checkHooks(app)
  const has = Object.fromEntries(HOOKS.map(name => [name, app[name] !== undefined])) as Record<(typeof HOOKS)[number], boolean>
  const modules = [...app.modules ?? []].sort((a, b) => (b.order ?? 0) - (a.order ?? 0))
  const having = (hook: keyof HttpModule): readonly HttpModule[] | null => {
    const found = modules.filter(module => typeof module[hook] === 'function')
    return found.length === 0 ? null : found
  }
  const requestModules = having('requestFilter'), upstreamRequestModules = having('upstreamRequestFilter')
  const responseModules = having('responseFilter')
  const ofModules = moduleResponseStage<Ctx>(modules)
  const downstream = joinStages(appResponseStage(app, has), ofModules)
  return {
    app,
    modules,
    requestModules,
    upstreamRequestModules,
    upstreamResponseModules: having('upstreamResponseFilter'),
    responseModules,
    doneModules: having('responseDone'),
    requestBody: usedStage(joinStages(moduleRequestStage<Ctx>(modules), appRequestStage(app, has))),
    responseBody: {
      origin: usedStage(joinStages(joinStages(moduleUpstreamResponseStage<Ctx>(modules), upstreamResponseStage(app, has)), downstream)),
      stored: usedStage(downstream),
      own: usedStage(ofModules),
    },
    has,
  }
}

type Has = PhasePlan<unknown>['has']
type Stage<Ctx> = BodyStage<PhaseSubject<Ctx>>

function appRequestStage<Ctx>(app: ProxyHttp<Ctx>, has: Has): Stage<Ctx> {
  return {
    filters: has.requestBodyFilter ? [(session, chunk, last) => app.requestBodyFilter!(session, chunk, last, session.ctx)] : [],
    trailerFilters: has.requestTrailerFilter ? [(session, trailers) => app.requestTrailerFilter!(session, trailers, session.ctx)] : [],
    hooks: has.requestBodyFilter ? ['requestBodyFilter'] : [],
    trailerHooks: has.requestTrailerFilter ? ['requestTrailerFilter'] : [],
    keepsLength: !has.requestBodyFilter || app.keepsLength?.request === true,
  }
}

function moduleRequestStage<Ctx>(modules: readonly HttpModule[]): Stage<Ctx> {
  const filtering = modules.filter(module => module.requestBodyFilter !== undefined)
  return {
    filters: filtering.map(module => (session, chunk, last) =>
      module.requestBodyFilter!(session, chunk, last, session.moduleState(module))),
    trailerFilters: [],
    hooks: filtering.map(module => hookOfModule('requestBodyFilter', module)),
    trailerHooks: [],
    keepsLength: filtering.every(module => module.keepsLength === true),
  }
}

/** Modules that look at what an origin sends, before the application does. */
function moduleUpstreamResponseStage<Ctx>(modules: readonly HttpModule[]): Stage<Ctx> {
  const filtering = modules.filter(module => module.upstreamResponseBodyFilter !== undefined)
  return {
    filters: filtering.map(module => (session, chunk, last) =>
      module.upstreamResponseBodyFilter!(session, chunk, last, session.moduleState(module))),
    trailerFilters: [],
    hooks: filtering.map(module => hookOfModule('upstreamResponseBodyFilter', module)),
    trailerHooks: [],
    keepsLength: filtering.every(module => module.keepsLength === true),
  }
}

/** Before a cache. */
function upstreamResponseStage<Ctx>(app: ProxyHttp<Ctx>, has: Has): Stage<Ctx> {
  const filters: ChunkFilter<PhaseSubject<Ctx>>[] = [], trailerFilters: TrailerFilter<PhaseSubject<Ctx>>[] = []
  if (has.upstreamResponseBodyFilter) {
    filters.push((session, chunk, last) => app.upstreamResponseBodyFilter!(session, chunk, last, session.ctx))
  }
  if (has.upstreamResponseTrailerFilter) {
    trailerFilters.push((session, trailers) => app.upstreamResponseTrailerFilter!(session, trailers, session.ctx))
  }
  return {
    filters, trailerFilters,
    hooks: filters.map(() => 'upstreamResponseBodyFilter'),
    trailerHooks: trailerFilters.map(() => 'upstreamResponseTrailerFilter'),
    keepsLength: !has.upstreamResponseBodyFilter || app.keepsLength?.response === true,
  }
}

/** Behind a cache. */
function appResponseStage<Ctx>(app: ProxyHttp<Ctx>, has: Has): Stage<Ctx> {
  const filters: ChunkFilter<PhaseSubject<Ctx>>[] = [], trailerFilters: TrailerFilter<PhaseSubject<Ctx>>[] = []
  if (has.responseBodyFilter) filters.push((session, chunk, last) => app.responseBodyFilter!(session, chunk, last, session.ctx))
  if (has.responseTrailerFilter) trailerFilters.push((session, trailers) => app.responseTrailerFilter!(session, trailers, session.ctx))
  // A trailer filter may add a last piece.
  const bodyKeepsLength = !has.responseBodyFilter || app.keepsLength?.response === true
  return {
    filters, trailerFilters,
    hooks: filters.map(() => 'responseBodyFilter'),
    trailerHooks: trailerFilters.map(() => 'responseTrailerFilter'),
    keepsLength: bodyKeepsLength && !has.responseTrailerFilter,
  }
}

function moduleResponseStage<Ctx>(modules: readonly HttpModule[]): Stage<Ctx> {
  const filtering = modules.filter(module => module.responseBodyFilter !== undefined)
  const filteringTrailers = modules.filter(module => module.responseTrailerFilter !== undefined)
  return {
    filters: filtering.map(module => (session, chunk, last) =>
      module.responseBodyFilter!(session, chunk, last, session.moduleState(module))),
    trailerFilters: filteringTrailers.map(module => (session, trailers) =>
      module.responseTrailerFilter!(session, trailers, session.moduleState(module))),
    hooks: filtering.map(module => hookOfModule('responseBodyFilter', module)),
    trailerHooks: filteringTrailers.map(module => hookOfModule('responseTrailerFilter', module)),
    keepsLength: filteringTrailers.length === 0 && filtering.every(module => module.keepsLength === true),
  }
}

function joinStages<Subject>(first: BodyStage<Subject>, second: BodyStage<Subject>): BodyStage<Subject> {
  return {
    filters: [...first.filters, ...second.filters],
    trailerFilters: [...first.trailerFilters, ...second.trailerFilters],
    hooks: [...first.hooks, ...second.hooks],
    trailerHooks: [...first.trailerHooks, ...second.trailerHooks],
    keepsLength: first.keepsLength && second.keepsLength,
  }
}

/** A module's hook, as messages name it. */
export function hookOfModule(hook: string, { name }: HttpModule): string { return `${hook} of module ${name}` }

/** Null when it has no filter at all. */
function usedStage<Subject>(stage: BodyStage<Subject>): BodyStage<Subject> | null {
  return stage.filters.length === 0 && stage.trailerFilters.length === 0 ? null : stage
}
