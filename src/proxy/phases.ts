/**
 * The plan of phases: which hooks an application and its modules have, worked out once per service, so that a request
 * pays one comparison with null for a hook that is absent.
 */
import type { HttpModule } from '../modules/http-module.ts'
import { HOOKS, type ProxyHttp } from './proxy-http.ts'

export interface PhasePlan<Ctx> {
  readonly app: ProxyHttp<Ctx>
  /** Descending by order. */
  readonly modules: readonly HttpModule[]
  readonly requestModules: readonly HttpModule[] | null
  readonly responseModules: readonly HttpModule[] | null
  readonly doneModules: readonly HttpModule[] | null
  readonly requestBodyModules: readonly HttpModule[] | null
  readonly responseBodyModules: readonly HttpModule[] | null
  readonly trailerModules: readonly HttpModule[] | null
  /** Something may look at, or change, each piece of the body. */
  readonly filtersRequestBody: boolean
  readonly filtersResponseBody: boolean
  /** The body filters there are keep the number of bytes. */
  readonly requestKeepsLength: boolean
  readonly responseKeepsLength: boolean
  /** Absent hooks are false, so that the engine asks a plain field. */
  readonly has: Readonly<Record<(typeof HOOKS)[number], boolean>>
}

/** @throws TypeError when the application lacks a required hook, or has one that is no function. */
export function planPhases<Ctx>(app: ProxyHttp<Ctx>): PhasePlan<Ctx> {
  const has = Object.fromEntries(HOOKS.map(name => [name, app[name] !== undefined])) as Record<(typeof HOOKS)[number], boolean>
  for (const name of HOOKS) {
    if (has[name] && typeof app[name] !== 'function') throw new TypeError(`${name} of the application is ${typeof app[name]}; use a method`)
  }
  if (!has.upstreamPeer) throw new TypeError('the application has no upstreamPeer(session, ctx); it says where a request goes')
  if (!has.newCtx) throw new TypeError('the application has no newCtx(); return undefined when a request needs no state')
  const modules = [...app.modules ?? []].sort((a, b) => (b.order ?? 0) - (a.order ?? 0))
  const having = (hook: keyof HttpModule): readonly HttpModule[] | null => {
    const found = modules.filter(module => typeof module[hook] === 'function')
    return found.length === 0 ? null : found
  }
  const requestBodyModules = having('requestBodyFilter'), responseBodyModules = having('responseBodyFilter')
  const keep = (found: readonly HttpModule[] | null): boolean => found === null || found.every(module => module.keepsLength === true)
  return {
    app,
    modules,
    requestModules: having('requestFilter'),
    responseModules: having('responseFilter'),
    doneModules: having('responseDone'),
    requestBodyModules,
    responseBodyModules,
    trailerModules: having('responseTrailerFilter'),
    filtersRequestBody: requestBodyModules !== null || has.requestBodyFilter || has.requestTrailerFilter,
    filtersResponseBody: responseBodyModules !== null || has.upstreamResponseBodyFilter || has.responseBodyFilter ||
      has.upstreamResponseTrailerFilter || has.responseTrailerFilter || having('responseTrailerFilter') !== null,
    requestKeepsLength: keep(requestBodyModules) && (!has.requestBodyFilter || app.keepsLength?.request === true),
    responseKeepsLength: keep(responseBodyModules) && having('responseTrailerFilter') === null && !has.responseTrailerFilter &&
      (!(has.upstreamResponseBodyFilter || has.responseBodyFilter) || app.keepsLength?.response === true),
    has,
  }
}

/** Whether a hook gave a promise: then, and only then, somebody waits. */
export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}
