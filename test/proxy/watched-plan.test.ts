/** A plan that is watched is the same plan for the application. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { HOOKS, type ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session, Verdict } from '../../src/proxy/session.ts'
import { planPhases } from '../../src/proxy/phases.ts'
import { watchPlan, type HookObserver } from '../../src/proxy/watched-plan.ts'
import { get, post, startProxy } from '../support/proxy.ts'

interface State { count: number }

class Counting implements HttpModule<State> {
  readonly name = 'counting'
  made = 0
  newState(): State {
    this.made++
    return { count: 0 }
  }
  requestFilter(_session: Session, state: State): 'continue' {
    state.count++
    return 'continue'
  }
  responseFilter(session: Session, response: { headers: { set(name: string, value: string): unknown } }, state: State): void {
    response.headers.set('x-count', `${++state.count} ${session.moduleState<State>(this) === state}`)
  }
  responseBodyFilter(_session: Session, chunk: Buffer): Buffer { return chunk }
  responseDone(): void { /* It is called with the module's own state, too. */ }
}

class Watch implements HookObserver {
  readonly calls: string[] = []
  hookBegins(hook: string, session: Session): ReturnType<HookObserver['hookBegins']> {
    if (session.request.path === '/unseen') return null
    return {
      gave: (result, waited) => { this.calls.push(`${hook} gave ${typeof result}${waited ? ' later' : ''}`) },
      threw: (thrown, waited) => { this.calls.push(`${hook} threw ${(thrown as Error).message}${waited ? ' later' : ''}`) },
    }
  }
}

test('watched plan: answers, states of modules and Content-Length are what they are without', async t => {
  const module = new Counting()
  const hooks: Partial<ProxyHttp<undefined>> = {
    modules: [module], keepsLength: { response: true },
    requestFilter: async (session): Promise<Verdict> => {
      session.moduleState(module).count += 10
      return 'continue'
    },
    responseBodyFilter: (_session, chunk) => chunk,
    upstreamRequestFilter: (_session, request) => { request.headers.set('x-a', '1') },
  }
  const proxy = await startProxy(t, { hooks })
  const before = await proxy.exchange(get('/a'))
  const watch = new Watch()
  proxy.server.watch({ lines: null, tracers: [], hooks: watch })
  const during = await proxy.exchange(get('/a')), posted = await proxy.exchange(post('some text'))
  const unseen = await proxy.exchange(get('/unseen'))
  proxy.server.watch(null)
  const told = watch.calls.length
  const after = await proxy.exchange(get('/a'))
  assert.equal(watch.calls.length, told, 'nobody watches any more')
  for (const answer of [before, during, posted, unseen, after]) {
    assert.deepEqual([answer.status, answer.field('x-count')], [200, '12 true'])
    assert.equal(answer.framing, before.framing)
  }
  assert.equal(module.made, 5, 'one state an exchange')
  assert.deepEqual(watch.calls.slice(0, 4), [
    'requestFilter of module counting gave string', 'requestFilter gave string later', 'upstreamPeer gave object',
    'upstreamRequestFilter gave undefined',
  ])
  assert.ok(watch.calls.includes('responseDone of module counting gave undefined'))
})

test('watched plan: what a hook throws is told, and reaches the client as it does without', async t => {
  const watch = new Watch()
  const proxy = await startProxy(t, {
    hooks: {
      earlyRequestFilter: session => { if (session.request.path === '/now') throw new Error('at once') },
      requestFilter: async (session): Promise<Verdict> => {
        if (session.request.path === '/later') throw new Error('late')
        return 'continue'
      },
    },
  })
  proxy.server.watch({ lines: null, tracers: [], hooks: watch })
  assert.equal((await proxy.exchange(get('/now'))).status, 500)
  assert.equal((await proxy.exchange(get('/later'))).status, 500)
  const threw = watch.calls.filter(call => call.includes('threw'))
  assert.deepEqual(threw, ['earlyRequestFilter threw at once', 'requestFilter threw late later'])
})

test('watched plan: it has the hooks that the application has, methods of classes included, or those that are kept', () => {
  class App implements ProxyHttp<number> {
    readonly #peer = new HttpPeer('127.0.0.1:1')
    newCtx(): number { return 1 }
    upstreamPeer(): HttpPeer { return this.#peer }
    logging(): void { /* It has no private members to ask. */ }
  }
  const plan = planPhases(new App()), observer: HookObserver = { hookBegins: () => null }
  assert.deepEqual(watchPlan(plan, observer).has, plan.has)
  const kept = watchPlan(plan, observer, hook => hook !== 'logging')
  assert.deepEqual(HOOKS.filter(hook => kept.has[hook]), ['newCtx', 'upstreamPeer'])
  assert.equal(kept.app.newCtx?.(), 1)
  assert.ok(kept.app.upstreamPeer({} as Session, 1) instanceof HttpPeer)
})
