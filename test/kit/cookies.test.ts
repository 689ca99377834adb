import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { OptionError } from '../../src/primitives/option-table.ts'
import { cookiesOf, setCookie } from '../../src/kit/cookies.ts'
import { fieldText, requestOf } from './requests.ts'

function read(cookie: string | readonly string[]): Record<string, string> {
  return Object.fromEntries(cookiesOf(requestOf('/', { cookie })))
}

test('cookies: names and values are read as browsers send them, the first of a name counts', () => {
  assert.deepEqual(read('a=1; b=two=2;c="quoted"; a=other ; d='), { a: '1', b: 'two=2', c: 'quoted', d: '' })
  // HTTP/2 may send one field a cookie.
  assert.deepEqual(read(['a=1', 'b=2; a=3']), { a: '1', b: '2' })
  assert.deepEqual(read([]), {})
})

test('cookies: what is no cookie is passed over, and costs no other one', () => {
  assert.deepEqual(read('; ;;novalue; =noname; a=1;'), { a: '1' })
  assert.deepEqual(read('j={"a":1, "b":"ü"}; a=1'), { j: '{"a":1, "b":"ü"}', a: '1' })
  assert.deepEqual([...cookiesOf(requestOf('/', { cookie: '__proto__=1; constructor=2' }))], [['__proto__', '1'], ['constructor', '2']])
})

test('cookies: only blanks and tabs are around a name and a value, so that no other name becomes one with a prefix', () => {
  // What another host of the domain may set: no browser reads a prefix in it.
  assert.deepEqual(read('\xa0__Host-id=evil; \t __Host-id \t=\tgood '), { '\xa0__Host-id': 'evil', '__Host-id': 'good' })
  // 0xa0 is the second byte of the letter à.
  const letter = Buffer.from('à').toString('latin1')
  assert.deepEqual(read(`town=${letter}; ${letter}=1`), { town: letter, [letter]: '1' })
  assert.deepEqual(read(`a=${' '.repeat(5000)}; b= ${' \t'.repeat(2500)}x`), { a: '', b: 'x' })
})

test('cookies: those behind the four hundredth are not looked at', () => {
  const many = Array.from({ length: 5000 }, (_, index) => `c${index}=1`).join('; ')
  assert.equal(cookiesOf(requestOf('/', { cookie: many })).size, 400)
})

test('cookies: what is set comes back, and whatever else is sent beside it does no harm', () => {
  const char = fc.constantFrom(..."abc!#$%&'*+-.^_`|~019")
  const name = fc.string({ unit: char, minLength: 1, maxLength: 8 }), value = fc.string({ unit: char, maxLength: 8 })
  fc.assert(fc.property(name, value, fieldText(), (cookie, held, other) => {
    const pair = setCookie(cookie, held, { path: '/', secure: true }).split(';')[0]!
    assert.equal(cookiesOf(requestOf('/', { cookie: `${pair}; ${other}` })).get(cookie), held)
  }))
})

test('cookies: a cookie is set out of reach of scripts, other sites and plain connections unless it is said otherwise', () => {
  assert.equal(setCookie('id', 'x'), 'id=x; Path=/; Secure; HttpOnly; SameSite=Lax')
  assert.equal(
    setCookie('id', 'x', { path: '/a', domain: 'a.example', maxAgeS: 60, httpOnly: false, sameSite: 'None', partitioned: true }),
    'id=x; Path=/a; Domain=a.example; Max-Age=60; Secure; SameSite=None; Partitioned',
  )
  assert.equal(setCookie('id', '', { maxAgeS: 0, secure: false }),
    'id=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax')
})

test('cookies: nothing that is set can add an attribute or a second cookie', () => {
  for (const value of ['a;Domain=evil.example', 'a,b', 'a b', 'a"b', 'a\\b', 'a\r\nb', 'ü', '\u010d']) {
    assert.throws(() => setCookie('id', value), /cookie id: the value has .* encode it/)
    assert.match(setCookie('id', encodeURIComponent(value)), /^id=[\w%.]+; Path=\/; Secure/)
  }
  for (const name of ['', 'a b', 'a=b', 'a;b', 'ü']) assert.throws(() => setCookie(name, ''), /is not a token/)
  const wrong = [{ path: '/a; Domain=evil' }, { path: 'a' }, { domain: 'a;b' }, { domain: '.a' }, { maxAgeS: 1.5 }, { maxAgeS: 34_560_001 }]
  for (const options of wrong) assert.throws(() => setCookie('id', '', options), OptionError)
})

test('cookies: what browsers drop in silence is refused', () => {
  assert.throws(() => setCookie('__Host-id', '', { domain: 'a.example' }), /__Host- asks for the path \/ and no domain/)
  assert.throws(() => setCookie('__host-id', '', { path: '/a' }), /__Host-/)
  assert.throws(() => setCookie('__Secure-id', '', { secure: false }), /its prefix asks for secure: true/)
  assert.throws(() => setCookie('id', '', { secure: false, sameSite: 'None' }), /SameSite=None asks for secure/)
  assert.throws(() => setCookie('id', '', { secure: false, partitioned: true }), /partitioned asks for secure/)
  for (const name of ['__Http-id', '__Host-Http-id']) {
    assert.throws(() => setCookie(name, '', { httpOnly: false }), /its prefix asks for httpOnly: true/)
    assert.throws(() => setCookie(name, '', { secure: false }), /its prefix asks for secure: true/)
  }
  assert.throws(() => setCookie('__Host-Http-id', '', { path: '/a' }), /__Host- asks for the path/)
  assert.equal(setCookie('id', 'x'.repeat(4094)).length, 4097 + '; Path=/; Secure; HttpOnly; SameSite=Lax'.length)
  assert.throws(() => setCookie('id', 'x'.repeat(4095)), /cookie id: name and value have 4097 bytes; browsers keep 4096 at most/)
  assert.throws(() => setCookie('id', '', { path: `/${'x'.repeat(1024)}` }), OptionError)
  assert.throws(() => setCookie('id', '', { domain: `${'a.'.repeat(126)}ab` }), OptionError)
})
