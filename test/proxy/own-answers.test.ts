/** Answers of filters and error pages take the way that an origin's answer takes: the same modules, delays, lengths. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { ResponseBody } from '../../src/proxy/session.ts'
import { inject, type InjectResponse } from '../../src/server/inject.ts'
import { FakeClock } from '../support/fake-clock.ts'

/** An application that answers itself, or lets an origin send the same. */
function answering(own: boolean, body: ResponseBody, modules: readonly HttpModule[]): Partial<ProxyHttp<undefined>> {
  return { modules, ...(own ? { requestFilter: session => session.respond(200, { 'Content-Length': '5' }, body) } : {}) }
}

async function ask(app: Partial<ProxyHttp<undefined>>, method = 'GET', clock?: FakeClock): Promise<InjectResponse> {
  const whole: ProxyHttp<undefined> = { newCtx: () => undefined, upstreamPeer: () => new HttpPeer('127.0.0.1:1'), ...app }
  const headers = { 'Content-Length': '5' }
  const origin = (): { headers: Record<string, string>; body: string } => ({ headers, body: method === 'HEAD' ? '' : 'hello' })
  return inject(whole, { method }, { origin, ...(clock === undefined ? {} : { clock }) })
}

const shout: HttpModule = {
  name: 'shout', keepsLength: true,
  responseBodyFilter: (_session, chunk) => Buffer.from(chunk.toString('latin1').toUpperCase(), 'latin1'),
}

for (const own of [true, false]) {
  const whose = own ? 'an answer of our own' : `an origin's answer`

  test(`own answers: ${whose} keeps its length where every filter of its body does, and is chunked otherwise`, async () => {
    const kept = await ask(answering(own, 'hello', [shout]))
    const lengthAndCoding = [kept.headers.get('content-length'), kept.headers.get('transfer-encoding')]
    assert.deepEqual([kept.body.toString(), ...lengthAndCoding], ['HELLO', '5', undefined])
    const changed = await ask(answering(own, 'hello', [{ ...shout, keepsLength: false }]))
    assert.deepEqual([changed.body.toString(), changed.headers.get('content-length')], ['HELLO', undefined])
    assert.equal(changed.headers.get('transfer-encoding'), 'chunked')
  })

  test(`own answers: HEAD promises what GET would: the length of ${whose}, unless a filter may change it`, async () => {
    const filtered = answering(own, 'hello', [{ ...shout, keepsLength: false }])
    assert.equal((await ask(answering(own, 'hello', []), 'HEAD')).headers.get('content-length'), '5')
    assert.equal((await ask(answering(own, 'hello', [shout]), 'HEAD')).headers.get('content-length'), '5')
    assert.equal((await ask(filtered, 'HEAD')).headers.get('content-length'), undefined)
    assert.equal((await ask(filtered, 'HEAD')).body.length, 0)
  })

  test(`own answers: a delay that a module asks for holds ${whose} for that time`, async () => {
    const clock = new FakeClock()
    let asked = 0, got: InjectResponse | null = null
    const slow: HttpModule = {
      name: 'slow',
      responseBodyFilter: (_session, chunk, last) => {
        asked++
        return last ? chunk : { chunk, delayMs: 700 }
      },
    }
    const answer = ask(answering(own, 'hello', [slow]), 'GET', clock).then(response => { got = response })
    const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })
    while (asked === 0) await turn()
    clock.advance(699)
    for (let i = 0; i < 5; i++) await turn()
    assert.equal(got, null)
    clock.advance(1)
    await answer
    assert.equal(got!.body.toString(), 'hello')
  })
}

test('own answers: text is told of by its length to HEAD as to GET', async () => {
  const app: Partial<ProxyHttp<undefined>> = { requestFilter: session => session.respond(200, {}, 'hello') }
  const [got, head] = [await ask(app), await ask(app, 'HEAD')]
  assert.deepEqual([got.headers.get('content-length'), head.headers.get('content-length'), head.body.length], ['5', '5', 0])
})

test('own answers: an iterated body is asked for piece by piece, passes the modules, and is told when it is given up', async () => {
  let pieces = 0, ended = ''
  async function* body(): AsyncGenerator<string> {
    try {
      for (; pieces < 3; pieces++) yield `piece ${pieces};`
      ended = 'whole'
    } finally {
      ended ||= 'given up'
    }
  }
  const whole = await ask({ modules: [shout], requestFilter: session => session.respond(200, {}, body()) })
  assert.deepEqual([whole.body.toString(), ended], ['PIECE 0;PIECE 1;PIECE 2;', 'whole'])
  pieces = 0
  ended = ''
  const breaks: HttpModule = { name: 'breaks', responseBodyFilter: () => { throw new Error('planned') } }
  await assert.rejects(ask({ modules: [breaks], suppressErrorLog: () => true, requestFilter: session => session.respond(200, {}, body()) }))
  assert.deepEqual([pieces, ended], [0, 'given up'])
})

test('own answers: the length of an iterated body may be said, and is held to', async () => {
  async function* body(): AsyncGenerator<string> {
    yield 'hel'
    yield 'lo'
  }
  const answering = (length: string): Partial<ProxyHttp<undefined>> => {
    return { suppressErrorLog: () => true, requestFilter: session => session.respond(200, { 'Content-Length': length }, body()) }
  }
  const whole = await ask(answering('5'))
  assert.deepEqual([whole.body.toString(), whole.headers.get('content-length')], ['hello', '5'])
  assert.equal(whole.headers.get('transfer-encoding'), undefined)
  assert.equal((await ask(answering('5'), 'HEAD')).headers.get('content-length'), '5')
  // What follows would be read as the next answer.
  assert.equal((await ask(answering('3'))).body.toString(), 'hel')
  await assert.rejects(ask(answering('6')), /CLOSED_EARLY|CONNECTION_RESET/)
  // What is no length says nothing.
  for (const odd of ['x', '-1', '5, 5']) {
    const chunked = await ask(answering(odd))
    assert.deepEqual([chunked.body.toString(), chunked.headers.get('transfer-encoding')], ['hello', 'chunked'], odd)
  }
  // A filter that may change it keeps no promise of others.
  assert.equal((await ask({ ...answering('5'), modules: [{ ...shout, keepsLength: false }] })).headers.get('transfer-encoding'), 'chunked')
})

test('own answers: a body that is never wanted is not asked for', async () => {
  let asked = false
  // oxlint-disable-next-line require-yield -- what matters is whether it starts
  async function* body(): AsyncGenerator<string> { asked = true }
  const head = await ask({ requestFilter: session => session.respond(200, {}, body()) }, 'HEAD')
  assert.deepEqual([head.status, asked], [200, false])
})

test('own answers: modules see an error page as they see any answer, and one that fails there cuts the connection', async () => {
  const fails: Partial<ProxyHttp<undefined>> = { requestFilter: () => { throw new Error('planned') }, suppressErrorLog: () => true }
  const shouted = await ask({ ...fails, modules: [shout] })
  assert.equal(shouted.status, 500)
  assert.match(shouted.body.toString(), /^500 INTERNAL SERVER ERROR\n/)
  const breaks: HttpModule = { name: 'breaks', responseFilter: () => { throw new Error('planned too') } }
  await assert.rejects(ask({ ...fails, modules: [breaks] }))
})
