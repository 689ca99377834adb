/** Modules and filters that set fields: CORS, security headers, the canonical host. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { canonicalHost } from '../../src/kit/canonical-host.ts'
import { schemeOf } from '../../src/kit/client-scheme.ts'
import { cors, type CorsOptions } from '../../src/kit/cors.ts'
import { securityHeaders } from '../../src/kit/security-headers.ts'
import { ResponseHead } from '../../src/http/message-head.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import type { InjectResponse } from '../../src/server/inject.ts'
import { ask, requestOf, trustedSession } from './requests.ts'

type Fields = Readonly<Record<string, string | string[]>>

/** Through a module, to an origin that answers with `answer`. */
function through(module: HttpModule, headers: Fields, method = 'GET', answer: Fields = {}, target = '/'): Promise<InjectResponse> {
  const filter = () => 'continue' as const
  return ask(filter, { method, headers: headers as Record<string, string>, target }, { modules: [module] }, {
    origin: () => ({ headers: answer as Record<string, string>, body: '' }),
  })
}

function corsFields({ headers }: InjectResponse): Record<string, string | string[]> {
  const all = Object.entries(headers.toObject()).filter(([name]) => name === 'vary' || name.startsWith('access-control-'))
  return Object.fromEntries(all.map(([name, value]) => [name.replace('access-control-', ''), value]))
}

const APP = 'https://app.example'
const PREFLIGHT = { Origin: APP, 'Access-Control-Request-Method': 'PUT', 'Access-Control-Request-Headers': 'x-token' }

test('cors: pages of listed origins may read answers, those of others may not, and caches keep them apart', async () => {
  const module = cors({ origins: [APP, 'http://localhost:5173'], credentials: true, exposedHeaders: ['X-Total'] })
  const allowed = { 'allow-origin': APP, 'allow-credentials': 'true', 'expose-headers': 'X-Total', vary: 'Origin' }
  assert.deepEqual(corsFields(await through(module, { Origin: APP })), allowed)
  const others = [
    'https://evil.example', 'null', 'http://app.example', `${APP}.evil.example`, `${APP}/`, 'HTTPS://APP.EXAMPLE', `${APP}:443`, '*',
    `${APP}, https://evil.example`, '',
  ]
  for (const origin of others) assert.deepEqual(corsFields(await through(module, { Origin: origin })), { vary: 'Origin' }, origin)
  assert.deepEqual(corsFields(await through(module, { Origin: [APP, APP] })), { vary: 'Origin' })
  assert.deepEqual(corsFields(await through(module, {})), { vary: 'Origin' })
})

test('cors: what the origin server says is removed, and its Vary stays', async () => {
  const module = cors({ origins: [APP] })
  const answer = {
    'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Credentials': 'true', 'Access-Control-Expose-Headers': '*',
  }
  assert.deepEqual(corsFields(await through(module, { Origin: 'https://evil.example' }, 'GET', answer)), { vary: 'Origin' })
  assert.deepEqual(corsFields(await through(module, { Origin: APP }, 'GET', answer)), { 'allow-origin': APP, vary: 'Origin' })
  assert.deepEqual(corsFields(await through(module, {}, 'GET', { Vary: 'Accept' })).vary, ['Accept', 'Origin'])
  for (const vary of ['accept, ORIGIN', '*']) assert.deepEqual(corsFields(await through(module, {}, 'GET', { Vary: vary })).vary, vary)
})

test('cors: a preflight request is answered here, and says what is allowed to those who may ask', async () => {
  const module = cors({ origins: [APP], methods: ['PUT'], headers: ['X-Token', 'Authorization'], maxAgeS: 60 })
  const answer = await through(module, PREFLIGHT, 'OPTIONS')
  assert.deepEqual([answer.status, corsFields(answer)], [204, {
    'allow-origin': APP, 'allow-methods': 'GET, HEAD, POST, PUT', 'allow-headers': 'X-Token, Authorization', 'max-age': '60',
    vary: 'Origin',
  }])
  const refused = await through(module, { ...PREFLIGHT, Origin: 'https://evil.example' }, 'OPTIONS')
  assert.deepEqual([refused.status, corsFields(refused)], [403, { vary: 'Origin' }])
  // OPTIONS that is no preflight is the origin server's.
  assert.equal((await through(module, { Origin: APP }, 'OPTIONS', { 'X-Own': '1' })).headers.get('x-own'), '1')
})

test('cors: any origin without credentials, one by a function, and some requests only', async () => {
  assert.deepEqual(corsFields(await through(cors({ origins: '*' }), { Origin: 'null' })), { 'allow-origin': '*' })
  const ask = cors({ origins: origin => origin.endsWith('.example'), credentials: true })
  assert.equal(corsFields(await through(ask, { Origin: 'https://x.example' }))['allow-origin'], 'https://x.example')
  // A sandboxed frame of anybody has the origin null: with credentials no function is asked about it.
  const yes = cors({ origins: () => true, credentials: true })
  assert.equal(corsFields(await through(yes, { Origin: 'null' }))['allow-origin'], undefined)
  // Nor about what is no origin, which would come back in the answer.
  for (const origin of ['*', 'https://*', 'https://a.example, *', 'https://a.example/', 'a.example', 'https://', '"']) {
    assert.deepEqual(corsFields(await through(yes, { Origin: origin })), { vary: 'Origin' }, origin)
  }
  for (const origin of ['capacitor://localhost', 'https://[::1]:8443', 'moz-extension://6f2c-11']) {
    assert.equal(corsFields(await through(yes, { Origin: origin }))['allow-origin'], origin)
  }
  assert.equal(corsFields(await through(cors({ origins: ['null'] }), { Origin: 'null' }))['allow-origin'], 'null')
  // A promise is true in every condition.
  const later = cors({ origins: (async () => false) as unknown as () => boolean })
  assert.equal((await through(later, { Origin: APP })).status, 500)
  const some = cors({ origins: [APP], applies: session => session.request.path.startsWith('/api/') })
  assert.deepEqual(corsFields(await through(some, { Origin: APP }, 'GET', {}, '/')), {})
  assert.equal(corsFields(await through(some, { Origin: APP }, 'GET', {}, '/api/x'))['allow-origin'], APP)
  assert.equal((await through(some, PREFLIGHT, 'OPTIONS', { 'X-Own': '1' }, '/')).headers.get('x-own'), '1')
})

test('cors: error pages are marked as well, so that a script sees the status', async () => {
  const answer = await ask(() => { throw new Error('planned') }, { headers: { Origin: APP } }, { modules: [cors({ origins: [APP] })] })
  assert.deepEqual([answer.status, corsFields(answer)['allow-origin']], [500, APP])
})

test('cors: options that would let anybody read with credentials are refused, and so is what is no origin', () => {
  const wrong: readonly CorsOptions[] = [
    { origins: '*', credentials: true }, { origins: ['null'], credentials: true }, { origins: ['https://app.example/'] },
    { origins: ['app.example'] }, { origins: ['https://App.example'] }, { origins: ['*'] }, { origins: ['https://a.example:443'] },
    { origins: [APP], methods: ['P UT'] }, { origins: [APP], methods: ['patch'] },
    { origins: [APP], credentials: true, headers: ['*'] }, { origins: [APP], credentials: true, exposedHeaders: ['X-A', '*'] },
    { origins: [APP], credentials: true, methods: ['*'] }, { origins: [APP], maxAgeS: -1 }, {} as CorsOptions,
  ]
  for (const options of wrong) assert.throws(() => cors(options), OptionError, JSON.stringify(options))
})

test('security headers: answers get those that they have not, lose those that tell too much, error pages too', async () => {
  const module = securityHeaders({ contentSecurityPolicy: "default-src 'self'" })
  const origin = { 'X-Frame-Options': 'DENY', Server: 'nginx/1.2.3', 'X-Powered-By': 'PHP' }
  const { headers } = await through(module, {}, 'GET', origin)
  const names = ['content-security-policy', 'x-frame-options', 'x-content-type-options', 'referrer-policy', 'server', 'x-powered-by']
  const expected = ["default-src 'self'", 'DENY', 'nosniff', 'strict-origin-when-cross-origin', undefined, undefined]
  assert.deepEqual(names.map(name => headers.get(name)), expected)
  const page = await ask(() => { throw new Error('planned') }, {}, { modules: [module] })
  assert.deepEqual([page.status, page.headers.get('x-frame-options')], [500, 'SAMEORIGIN'])
  const bare = securityHeaders({ frameOptions: '', nosniff: false, referrerPolicy: '', removes: [] })
  assert.equal((await through(bare, {}, 'GET', { Server: 'x' })).headers.get('server'), 'x')
})

test('security headers: HSTS is promised to those who came by https alone (RFC 6797 7.2)', async () => {
  const { responseFilter } = securityHeaders({ hstsMaxAgeS: 31_536_000, hstsSubdomains: true, hstsPreload: true })
  const hsts = async (headers: Record<string, string>): Promise<string | undefined> => {
    const response = ResponseHead.build(200)
    await responseFilter!(trustedSession(requestOf('/', headers)).session, response, undefined)
    return response.headers.get('strict-transport-security')
  }
  assert.equal(await hsts({}), undefined)
  assert.equal(await hsts({ 'X-Forwarded-Proto': 'http' }), undefined)
  assert.equal(await hsts({ 'X-Forwarded-Proto': 'https' }), 'max-age=31536000; includeSubDomains; preload')
  for (const options of [{ hstsPreload: true }, { contentSecurityPolicy: 'a\r\nb' }, { removes: ['a b'] }, { hstsMaxAgeS: -1 }]) {
    assert.throws(() => securityHeaders(options), OptionError)
  }
})

test('scheme: a trusted hop says how the client came, and nobody else', async () => {
  const behind = (proto: string): string => schemeOf(trustedSession(requestOf('/', { 'X-Forwarded-Proto': proto })).session)
  assert.deepEqual(['https', 'HTTPS, http', 'http', 'ftp', ''].map(behind), ['https', 'https', 'http', 'http', 'http'])
  const forwarded = (value: string): string => schemeOf(trustedSession(requestOf('/', { Forwarded: value })).session)
  const values = ['for=192.0.2.1;proto=https', 'proto="HTTPS", for=10.0.0.1;proto=http', 'for=1;Proto=http', 'proto=ftp', '']
  assert.deepEqual(values.map(forwarded), ['https', 'https', 'http', 'http', 'http'])
  await ask(session => {
    // As an earlier filter might have set it.
    session.request.headers.set('X-Forwarded-Proto', 'https')
    assert.equal(schemeOf(session), 'http')
    return 'continue'
  })
})

test('canonical host: others are sent to the one name, with path and query, and whatever Host says is in no answer', async () => {
  const canonical = canonicalHost({ host: 'www.example.com', from: ['Example.com'] })
  const location = async (host: string, target = '/a?b=c'): Promise<unknown> => {
    const answer = await ask(canonical, { headers: { host }, target })
    return answer.status === 308 ? answer.headers.get('location') : answer.status
  }
  for (const host of ['example.com', 'EXAMPLE.com:8080', 'example.com.']) {
    assert.equal(await location(host), 'http://www.example.com/a?b=c', host)
  }
  const others = ['www.example.com', 'WWW.example.com:80', 'evil.example', 'example.com.evil.example']
  for (const host of others) assert.equal(await location(host), 200)
  // Behind the one name nothing is another host.
  assert.equal(await location('example.com', '//evil.example/'), 'http://www.example.com//evil.example/')
})

test('canonical host: a name that browsers write in another way is refused, as it would be sent to itself for ever', async () => {
  for (const host of ['www.example.com.', 'www.example.com.:8443', '[0:0::1]', '0x7f.1', '%61.example']) {
    assert.throws(() => canonicalHost({ host }), /canonicalHost\.host is .*; use a host name as browsers write it/, host)
  }
  for (const host of ['WWW.Example.com:8443', '[::1]:8443', '127.0.0.1', 'xn--bcher-kva.example', 'a_b.example']) {
    const canonical = canonicalHost({ host }), sent = await ask(canonical, { headers: { host: 'other.example' } })
    const { host: asked } = new URL(sent.headers.get('location')!)
    assert.equal((await ask(canonical, { headers: { host: asked } })).status, 200, host)
  }
})

test('canonical host: all others where none is named, and those who came by http where https is asked for', async () => {
  const secure = canonicalHost({ host: 'www.example.com:8443', scheme: 'https', status: 301 })
  const location = (host: string, proto: string): unknown => {
    const { session, answers } = trustedSession(requestOf('/', { host, 'X-Forwarded-Proto': proto }))
    if (secure(session) === 'continue') return 200
    return answers.map(([status, fields]) => `${status} ${(fields as { Location: string }).Location}`).join()
  }
  assert.equal(location('evil.example', 'https'), '301 https://www.example.com:8443/')
  assert.equal(location('www.example.com', 'http'), '301 https://www.example.com:8443/')
  assert.equal(location('www.example.com', 'https'), 200)
  const options = await ask(secure, { method: 'OPTIONS', target: '*', headers: { host: 'evil.example' } })
  assert.equal(options.headers.get('location'), undefined)
  for (const host of ['', 'a b', 'a/b', 'http://a', 'user@a']) assert.throws(() => canonicalHost({ host }), OptionError)
  for (const from of ['a:80', 'a.example.']) assert.throws(() => canonicalHost({ host: 'a', from: [from] }), OptionError, from)
})
