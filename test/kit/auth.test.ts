/** Basic and Bearer (RFC 7617, RFC 6750). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { basicAuth, basicCredentials } from '../../src/kit/basic-auth.ts'
import { bearerAuth, type TokenVerdict } from '../../src/kit/bearer-auth.ts'
import { sameSecret, type Guard } from '../../src/kit/credentials.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import type { InjectResponse } from '../../src/server/inject.ts'
import { ask, fieldText, requestOf } from './requests.ts'

function basic(user: string, password: string): string { return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }

function through(guard: Guard, authorization?: string | readonly string[]): Promise<InjectResponse> {
  return ask(guard, authorization === undefined ? {} : { headers: { authorization: authorization as string } })
}

/** The Authorization field that the origin saw. */
function forwarded({ body }: InjectResponse): unknown { return JSON.parse(body.toString())[2]['authorization'] }

test('basic auth: a user with the right password passes, and the credentials end here', async () => {
  const guard = basicAuth({ users: { ada: 'open:sesame', 'grace hopper': 'ü' } })
  const ada = await through(guard, basic('ada', 'open:sesame'))
  assert.deepEqual([ada.status, forwarded(ada)], [200, undefined])
  assert.equal((await through(guard, basic('grace hopper', 'ü'))).status, 200)
  const unpadded = basic('ada', 'open:sesame').replace(/=+$/, '').replace('Basic', 'bAsIc  ')
  assert.equal((await through(guard, unpadded)).status, 200)
  const kept = basicAuth({ users: { ada: 'x' }, forwards: true })
  assert.equal(forwarded(await through(kept, basic('ada', 'x'))), basic('ada', 'x'))
})

test('basic auth: every other request is asked, with the realm as a quoted string', async () => {
  const guard = basicAuth({ realm: 'say "hi" \\o/', users: { ada: 'secret' } })
  const latin1 = `Basic ${Buffer.from('ada:secr\xe9t', 'latin1').toString('base64')}`
  const bad = [
    undefined, basic('ada', 'secret2'), basic('ada', ''), basic('bob', 'secret'), basic('', ''), basic('__proto__', 'secret'), 'Basic',
    'Basic !!!', 'Basic YWRh', `Basic ${Buffer.from('ada:secret').toString('base64')}, x`, 'Bearer YWRhOnNlY3JldA==', latin1,
    basic('ada\0', 'secret'), [basic('ada', 'secret'), basic('bob', 'secret')], `Basic${Buffer.from('ada:secret').toString('base64')}`,
    `\xa0${basic('ada', 'secret')}`, basic('ada', 'secret').replace(' ', '\t'), basic('ada', 'secret').replace(' ', ' \xa0'),
  ]
  for (const authorization of bad) {
    const { status, headers } = await through(guard, authorization)
    assert.equal(status, 401, String(authorization))
    assert.equal(headers.get('www-authenticate'), 'Basic realm="say \\"hi\\" \\\\o/", charset="UTF-8"')
  }
})

test('basic auth: a check is asked for users that are not listed, and only true lets them in', async () => {
  const asked: string[] = []
  const answers: Record<string, unknown> = { yes: true, later: Promise.resolve(true), one: 1, no: false, never: Promise.resolve('true') }
  const guard = basicAuth({
    users: { ada: 'secret' },
    check: (user, password) => {
      asked.push(`${user}:${password}`)
      return answers[user] as boolean
    },
  })
  const statuses = await Promise.all(Object.keys(answers).map(async user => (await through(guard, basic(user, 'p'))).status))
  assert.deepEqual(statuses, [200, 200, 401, 401, 401])
  assert.deepEqual([(await through(guard, basic('ada', 'wrong'))).status, asked.includes('ada:wrong')], [401, false])
})

test('basic auth: the name of who came in goes to the access log, unless it shall not', async () => {
  for (const logsUser of [true, false]) {
    const fields: unknown[] = []
    const exchange = (one: { logFields: ReadonlyMap<string, unknown> | null }): void => { fields.push(one.logFields?.get('user')) }
    const sink = { exchange, refused() {} }
    await ask(basicAuth({ users: { ada: 'x' }, logsUser }), { headers: { authorization: basic('ada', 'x') } }, {}, {
      service: { accessLog: sink as never },
    })
    assert.deepEqual(fields, [logsUser ? 'ada' : undefined])
  }
})

test('basic auth: what could let anybody in is refused when it is made, and no message shows a password', () => {
  assert.throws(() => basicAuth({}), /basicAuth\.users is a value of type object; use at least one user, or a check/)
  for (const users of [{ 'a:b': 'x' }, { 'a\n': 'x' }, { ada: '' }, { ada: 7 as unknown as string }, null as never]) {
    assert.throws(() => basicAuth({ users }), error => error instanceof OptionError && !error.message.includes('"x"'))
  }
  // As read from a file, which ends with a line break.
  assert.throws(() => basicAuth({ users: { ada: 'sesame\n' } }), ({ message }) => {
    return /a password without a line break .* for ada$/.test(message) && !message.includes('sesame')
  })
  for (const realm of ['a\nb', 'ü']) assert.throws(() => basicAuth({ realm, users: { a: 'b' } }), OptionError)
})

test('basic auth: any user without a colon and any password come through whole', () => {
  const text = fc.string({ unit: 'grapheme' }).filter(one => !/[\0-\x1f\x7f]/.test(one))
  fc.assert(fc.property(text.filter(one => !one.includes(':')), text, (user, password) => {
    assert.deepEqual(basicCredentials(requestOf('/', { authorization: basic(user, password) })), { user, password })
  }))
  fc.assert(fc.property(fieldText(), value => { basicCredentials(requestOf('/', { authorization: `Basic ${value}` })) }))
})

test('bearer auth: a good token passes and ends here, whatever its scheme is written like', async () => {
  const guard = bearerAuth({ tokens: ['abc.DEF-1~+/==', 'other'] })
  const passed = await through(guard, 'BEARER abc.DEF-1~+/==')
  assert.deepEqual([passed.status, forwarded(passed)], [200, undefined])
  assert.equal(forwarded(await through(bearerAuth({ tokens: ['t'], forwards: true }), 'Bearer t')), 'Bearer t')
})

test('bearer auth: the challenge says what was wrong, and to whom nothing was said nothing (RFC 6750 3.1)', async () => {
  const check = (token: string): TokenVerdict => token === 'other' && 'insufficient_scope'
  const guard = bearerAuth({ realm: 'a"b', scope: 'read write', tokens: ['good'], check })
  const challenge = 'Bearer realm="a\\"b", scope="read write"'
  const cases: readonly (readonly [string | readonly string[] | undefined, number, string])[] = [
    [undefined, 401, ''], ['Basic abc', 401, ''], ['Bearer bad', 401, ', error="invalid_token"'],
    ['Bearer', 400, ', error="invalid_request"'],
    ['Bearer a b', 400, ', error="invalid_request"'], ['Bearer a"b', 400, ', error="invalid_request"'],
    [['Bearer good', 'Bearer bad'], 400, ', error="invalid_request"'], ['Bearer other', 403, ', error="insufficient_scope"'],
  ]
  for (const [authorization, status, error] of cases) {
    const answer = await through(guard, authorization)
    assert.deepEqual([answer.status, answer.headers.get('www-authenticate')], [status, challenge + error], String(authorization))
  }
})

test('bearer auth: only true passes, and tokens that would not do are refused without being shown', async () => {
  for (const [answer, status] of [[Promise.resolve(true), 200], [1, 401], ['yes', 401], [Promise.resolve(undefined), 401]] as const) {
    assert.equal((await through(bearerAuth({ check: () => answer as unknown as boolean }), 'Bearer t')).status, status)
  }
  assert.throws(() => bearerAuth({}), /use at least one token, or a check/)
  for (const tokens of [['se cret'], [''], 'secret' as never]) {
    assert.throws(() => bearerAuth({ tokens }), error => error instanceof OptionError && !error.message.includes('se cret'))
  }
  for (const scope of ['a"b', 'a  b', ' a', 'a\tb']) assert.throws(() => bearerAuth({ scope, tokens: ['t'] }), OptionError)
})

test('secrets: they are the same when all of them is', () => {
  assert.equal(sameSecret('a', 'a'), true)
  for (const [one, other] of [['a', 'b'], ['a', 'aa'], ['', 'a'], ['ü', 'u']] as const) assert.equal(sameSecret(one, other), false)
})
