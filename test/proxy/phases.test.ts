import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { planPhases } from '../../src/proxy/phases.ts'
import { HOOKS, type ProxyHttp } from '../../src/proxy/proxy-http.ts'

const peer = new HttpPeer('127.0.0.1:1')
const bare: ProxyHttp = { newCtx: () => null, upstreamPeer: () => peer }

test('phases: hooks that the application does not have are false, the others true', () => {
  const { has } = planPhases({ ...bare, logging() {} })
  assert.deepEqual(Object.keys(has), [...HOOKS])
  assert.deepEqual(HOOKS.filter(name => has[name]), ['newCtx', 'upstreamPeer', 'logging'])
})

test('phases: hooks of a class are found on its prototype', () => {
  class App implements ProxyHttp {
    newCtx(): null { return null }
    upstreamPeer(): HttpPeer { return peer }
    requestFilter(): 'continue' { return 'continue' }
  }
  assert.equal(planPhases(new App()).has.requestFilter, true)
})

test('phases: an application without its required hooks, or with one that is no function, is refused by name', () => {
  const { newCtx } = bare
  assert.throws(() => planPhases({ newCtx } as unknown as ProxyHttp), /upstreamPeer/)
  assert.throws(() => planPhases({ ...bare, logging: 'yes' } as unknown as ProxyHttp), /logging of the application is "yes"; use a method/)
})

test('phases: modules run in descending order, equal ones as given, and only where they have the hook', () => {
  const named = (name: string, order?: number): HttpModule => {
    return { name, ...(order === undefined ? {} : { order }), requestFilter: () => 'continue' }
  }
  const plan = planPhases({ ...bare, modules: [named('a'), named('b', 5), named('c'), named('d', -1), { name: 'e', order: 9 }] })
  assert.deepEqual(plan.requestModules?.map(module => module.name), ['b', 'a', 'c', 'd'])
  assert.equal(plan.modules[0]!.name, 'e')
  assert.equal(plan.responseModules, null)
})

test('phases: whether the application has its turn within an attempt is known from its hooks', () => {
  const atOnce = (app: Partial<ProxyHttp>): boolean[] => {
    const { sendsAtOnce, answersAtOnce } = planPhases({ ...bare, ...app })
    return [sendsAtOnce, answersAtOnce]
  }
  const module = (hook: keyof HttpModule): Partial<ProxyHttp> => ({ modules: [{ name: 'any', [hook]() {} }] })
  assert.deepEqual(atOnce({ requestFilter: () => 'continue', requestBodyFilter: (_session, chunk) => chunk, logging() {} }), [true, true])
  for (const hook of ['connectedToUpstream', 'upstreamRequestFilter'] as const) {
    assert.deepEqual(atOnce({ [hook]() {} }), [false, true], hook)
  }
  assert.deepEqual(atOnce(module('upstreamRequestFilter')), [false, true])
  for (const hook of [
    'adjustUpstreamModules', 'upstreamResponseFilter', 'responseFilter', 'upstreamResponseBodyFilter', 'responseBodyFilter',
    'responseTrailerFilter',
  ] as const) assert.deepEqual(atOnce({ [hook]() {} }), [true, false], hook)
  for (const hook of ['upstreamResponseFilter', 'responseFilter', 'upstreamResponseBodyFilter', 'responseBodyFilter'] as const) {
    assert.deepEqual(atOnce(module(hook)), [true, false], hook)
  }
})

test('phases: a filtered body keeps its length only when every filter says so', () => {
  const body: HttpModule = { name: 'any', requestBodyFilter: (_session, chunk) => chunk, responseBodyFilter: (_session, chunk) => chunk }
  const keeping: HttpModule = { ...body, keepsLength: true }
  const same = (_session: unknown, chunk: Buffer): Buffer => chunk
  const filters = { requestBodyFilter: same, responseBodyFilter: same }
  const keeps = (app: Partial<ProxyHttp>): boolean[] => {
    const { requestBody, responseBody } = planPhases({ ...bare, ...app })
    // A body that is not filtered keeps its length as a matter of course.
    return [requestBody?.keepsLength ?? true, responseBody.origin?.keepsLength ?? true]
  }
  assert.deepEqual(keeps({}), [true, true])
  assert.deepEqual(keeps({ modules: [keeping] }), [true, true])
  assert.deepEqual(keeps({ modules: [keeping, body] }), [false, false])
  assert.deepEqual(keeps(filters), [false, false])
  assert.deepEqual(keeps({ ...filters, keepsLength: { request: true } }), [true, false])
  assert.deepEqual(keeps({ ...filters, keepsLength: { request: true, response: true }, responseTrailerFilter() {} }), [true, false])
})
