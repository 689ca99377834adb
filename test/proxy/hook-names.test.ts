/** Names of hooks that are none, and values that are no hooks: refused when the service is made, by class and name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { culpritOf } from '../../src/errors/culprit.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { HOOKS, type ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { HttpProxy, httpProxyService } from '../../src/server/http-proxy-service.ts'
import type { Tracer } from '../../src/telemetry/tracer.ts'

const app = { newCtx: () => undefined, upstreamPeer: () => new HttpPeer('127.0.0.1:1') }

/** The lines with which an application is refused; none: it is not. */
function refusals(given: unknown): string[] {
  try {
    httpProxyService(given as ProxyHttp)
    return []
  } catch (error) {
    assert.ok(error instanceof TypeError)
    return error.message.split('\n')
  }
}

test('hook names: a misspelt hook of a class is refused with class, name and what would do, wherever it is inherited from', () => {
  class Gateway {
    newCtx(): undefined { return undefined }
    upstreamPeer(): HttpPeer { return new HttpPeer('127.0.0.1:1') }
    requestFiler(): void {}
  }
  class Authenticated extends Gateway {
    readonly responsefilter = (): void => {}
  }
  const line = 'has requestFiler(), which is no hook; call it requestFilter, or _requestFiler if it is a method of your own'
  assert.deepEqual(refusals(new Gateway()), [`class Gateway ${line}`])
  assert.deepEqual(refusals(new Authenticated()), [
    'class Authenticated has responsefilter(), which is no hook; call it responseFilter, or _responsefilter if it is a method of your own',
    `class Authenticated ${line}`,
  ])
  assert.deepEqual(refusals({ ...app, requestFiler() {} }), [`the application ${line}`])
})

test('hook names: every hook with a letter left out is refused, and every hook is not', () => {
  for (const hook of HOOKS) {
    const misspelt = hook.slice(0, 4) + hook.slice(5)
    const given: Record<string, unknown> = { ...app, [misspelt]() {} }
    assert.equal(refusals(given).length, 1, misspelt)
    assert.deepEqual(refusals({ ...app, [hook]: app[hook as keyof typeof app] ?? (() => {}) }), [], hook)
  }
})

test('hook names: methods and data of one\'s own are let through, and no getter is asked', () => {
  class Own implements ProxyHttp<undefined> {
    readonly upstreamPeers = [new HttpPeer('127.0.0.1:1')]
    readonly requestFilters = new Map()
    newCtx(): undefined { return undefined }
    upstreamPeer(): HttpPeer { return this.upstreamPeers[0]! }
    get requestFiler(): never { throw new Error('asked') }
    _requestFilter(): void {}
    doRequestFilter(): void {}
    login(): void {}
    newState(): void {}
  }
  assert.deepEqual(refusals(new Own()), [])
  assert.deepEqual(refusals(Object.assign(Object.create(null) as object, app)), [])
})

test('hook names: what has to be there and is not is said, with the method that was nearly called so', () => {
  assert.deepEqual(refusals({ upstream: app.upstreamPeer }), [
    'the application has no upstreamPeer(session, ctx); it says where a request goes; it has upstream()',
  ])
  assert.deepEqual(refusals({ newCtx: app.newCtx, UpstreamPeer: app.upstreamPeer }), [
    'the application has UpstreamPeer(), which is no hook; call it upstreamPeer, or _UpstreamPeer if it is a method of your own',
  ])
})

test('hook names: an application that is none is said', () => {
  class Gateway { newCtx(): undefined { return undefined } }
  assert.deepEqual(refusals(Gateway), ['the application is a class or function; use an object: new Gateway()'])
  assert.deepEqual(refusals(undefined), ['the application is undefined; use an object with upstreamPeer'])
  assert.deepEqual(refusals({ ...app, requestFilter: 'no' }), ['requestFilter of the application is "no"; use a method'])
  const line = 'keepsLength of the application has respose; use request and response'
  assert.deepEqual(refusals({ ...app, keepsLength: { respose: true } }), [line])
})

test('hook names: modules are looked at in the same way, and hooks of the other kind have no place', () => {
  class Gzip { newState(): undefined { return undefined } }
  const gzip = { name: 'gzip', requestFilters() {}, oder: 1, logging() {} }
  assert.deepEqual(refusals({ ...app, modules: [gzip, { requestFilter() {} }, Gzip, 7] }), [
    'module gzip has requestFilters(), which is no hook; call it requestFilter, or _requestFilters if it is a method of your own',
    'module gzip has oder, which nothing asks for; call it order',
    'module gzip has logging(), a hook that only an application has; call it _logging if it is a method of your own',
    'modules[1] of the application has no name; messages name it by that',
    'modules[2] of the application is a class or function; use an object: new Gzip()',
    'modules[3] of the application is 7; use a module',
  ])
  assert.deepEqual(refusals({ ...app, module: [], keepLength: {}, responseDone() {} }), [
    'the application has module, which nothing asks for; call it modules',
    'the application has keepLength, which nothing asks for; call it keepsLength',
    'the application has responseDone(), a hook that only a module has; call it _responseDone if it is a method of your own',
  ])
})

test('hook names: a misspelt callback of a tracer is refused', () => {
  const tracer = { exchangeEnd() {} } as Tracer
  assert.throws(() => httpProxyService(app, { tracers: [tracer] }), {
    message: 'a tracer has exchangeEnd(), which is no callback; call it exchangeEnded, or _exchangeEnd if it is its own',
  })
})

test('hook names: a service says which hooks and modules it has, and which methods are none', () => {
  const module: HttpModule = { name: 'm', order: 1, newState: () => 0, responseFilter() {} }
  const given = { ...app, requestFilter: () => 'continue', lookUp() {}, _private() {}, modules: [module] }
  const service = new HttpProxy(given as ProxyHttp, {})
  assert.deepEqual(service.parts(), {
    hooks: ['newCtx', 'requestFilter', 'upstreamPeer'], otherMethods: ['lookUp'],
    modules: [{ name: 'm', hooks: ['newState', 'responseFilter'], otherMethods: [] }],
  })
})

test('hook names: an error about a method says which one it is, so that its place can be shown', () => {
  const errorOf = (app: unknown): unknown => {
    try { httpProxyService(app as ProxyHttp) } catch (error) { return error }
    return null
  }
  const module = { name: 'm', responseFiler() {} }
  const app = { requestFiler() {}, upstreamPear() {}, upstreamPeer() {} }
  assert.equal(culpritOf(errorOf(app)), app.requestFiler)
  assert.equal(culpritOf(errorOf({ upstreamPeer() {}, modules: [module] })), module.responseFiler)
  for (const other of [null, {}, { upstreamPeer: 5 }, { upstreamPeer() {}, keepsLenght: {} }]) {
    const error = errorOf(other)
    assert.ok(error instanceof TypeError)
    assert.equal(culpritOf(error), null)
  }
  assert.equal(culpritOf(null), null)
})
