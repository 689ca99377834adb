/**
 * The plan of phases: which hooks an application and its modules have, worked out once per service, so that a request
 * pays one comparison with null for a hook that is absent, and a chunk of a body neither a closure nor a list.
 *
 * Filters of a response are two lists, upstream side and downstream side, since a cache stands between them: what an origin
 * sends passes both, what a cache kept passes the second, and an answer of our own passes the modules alone.
 */
import type { HttpModule } from '../modules/http-module.ts'
import { BodyStage, type ChunkFilter, type StageFilter, type TrailerFilter } from './body-stage.ts'
import { checkHooks } from './hook-names.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'
import type { AskedFilter, Session } from './session.ts'

/** What hooks and modules are called with. */
export interface PhaseSubject<Ctx> extends Session {
  readonly ctx: Ctx
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
  /** No code of the application runs between a connection and the head of the request on it. */
  readonly sendsAtOnce: boolean
  /** None runs between the head of an origin's answer and its end: what comes in one read has passed within it. */
  readonly answersAtOnce: boolean
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
  const ofModules = moduleStage<Ctx>(modules, 'responseBodyFilter', 'responseTrailerFilter')
  const downstream = appStage(app, has, 'response', 'responseBodyFilter', 'responseTrailerFilter').join(ofModules)
  const upstream = moduleStage<Ctx>(modules, 'upstreamResponseBodyFilter', null)
    .join(appStage(app, has, 'response', 'upstreamResponseBodyFilter', 'upstreamResponseTrailerFilter'))
  const ofRequest = moduleStage<Ctx>(modules, 'requestBodyFilter', null)
    .join(appStage(app, has, 'request', 'requestBodyFilter', 'requestTrailerFilter'))
  const upstreamResponseModules = having('upstreamResponseFilter'), responseBody = upstream.join(downstream).used
  const filtersAnswers = has.adjustUpstreamModules || has.upstreamResponseFilter || has.responseFilter
  return {
    app,
    modules,
    requestModules,
    upstreamRequestModules,
    upstreamResponseModules,
    responseModules,
    doneModules: having('responseDone'),
    requestBody: ofRequest.used,
    responseBody: { origin: responseBody, stored: downstream.used, own: ofModules.used },
    sendsAtOnce: !has.connectedToUpstream && !has.upstreamRequestFilter && upstreamRequestModules === null,
    answersAtOnce: !filtersAnswers && upstreamResponseModules === null && responseModules === null && responseBody === null,
    has,
  }
}

type Has = PhasePlan<unknown>['has']
type Stage<Ctx> = BodyStage<PhaseSubject<Ctx>>
type BodyFilterName = 'requestBodyFilter' | 'upstreamResponseBodyFilter' | 'responseBodyFilter'
type TrailerFilterName = 'requestTrailerFilter' | 'upstreamResponseTrailerFilter' | 'responseTrailerFilter'

/** The filters of the application that have one of these names. `direction`: whose length they may keep. */
function appStage<Ctx>(
  app: ProxyHttp<Ctx>, has: Has, direction: 'request' | 'response', body: BodyFilterName, trailers: TrailerFilterName,
): Stage<Ctx> {
  const keepsLength = app.keepsLength?.[direction] === true
  const use = (filter: AskedFilter): Pick<StageFilter<PhaseSubject<Ctx>, unknown>, 'use' | 'useHook'> => ({
    use: has.bodyUse ? session => app.bodyUse!(session, filter, session.ctx) : null, useHook: 'bodyUse',
  })
  return new BodyStage(
    has[body] ? [{
      filter: (session, chunk, last) => app[body]!(session, chunk, last, session.ctx), hook: body, keepsLength, ...use(body),
    }] : [],
    has[trailers] ? [{
      filter: (session, fields) => app[trailers]!(session, fields, session.ctx), hook: trailers,
      // Only what is told to the client may be a last piece of the body.
      ...trailers === 'responseTrailerFilter' ? { keepsLength: false, ...use(trailers) } : { keepsLength: true, use: null, useHook: '' },
    }] : [],
  )
}

/** The same of all modules. */
function moduleStage<Ctx>(modules: readonly HttpModule[], body: BodyFilterName, trailers: 'responseTrailerFilter' | null): Stage<Ctx> {
  const filter = <Filter>(module: HttpModule, hook: AskedFilter, keepsLength: boolean, call: Filter) => ({
    filter: call, hook: hookOfModule(hook, module), keepsLength, useHook: hookOfModule('bodyUse', module),
    use: module.bodyUse === undefined ? null
      : (session: PhaseSubject<Ctx>): unknown => module.bodyUse!(session, hook, session.moduleState(module)),
  })
  const chunks = modules.filter(module => module[body] !== undefined).map(module =>
    filter<ChunkFilter<PhaseSubject<Ctx>>>(module, body, module.keepsLength === true, (session, chunk, last) =>
      module[body]!(session, chunk, last, session.moduleState(module))))
  if (trailers === null) return new BodyStage(chunks, [])
  return new BodyStage(chunks, modules.filter(module => module[trailers] !== undefined).map(module =>
    filter<TrailerFilter<PhaseSubject<Ctx>>>(module, trailers, false, (session, fields) =>
      module[trailers]!(session, fields, session.moduleState(module)))))
}

/** A module's hook, as messages name it. */
export function hookOfModule(hook: string, { name }: HttpModule): string { return `${hook}${OF_MODULE}${name}` }

const OF_MODULE = ' of module '

/** What has hooks. */
export interface Hooked {
  readonly app: object
  readonly modules: readonly HttpModule[]
}

/** The hook that messages name like this; null for what is none. */
export function hookNamed({ app, modules }: Hooked, text: string): Function | null {
  const [hook = '', ...rest] = text.split(OF_MODULE)
  const owner = rest.length === 0 ? app : modules.find(({ name }) => name === rest.join(OF_MODULE))
  const found = (owner as Readonly<Record<string, unknown>> | undefined)?.[hook]
  return typeof found === 'function' ? found : null
}
