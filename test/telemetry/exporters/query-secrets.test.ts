import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { QuerySecrets, SECRET_QUERY_KEYS, urlWithoutSecrets, withoutSecrets } from '../../../src/telemetry/exporters/query-secrets.ts'

test('query secrets: values of secret keys are not written, in a query and in an address', () => {
  const table: readonly (readonly [string, string])[] = [
    ['', ''], ['a=1&b=2', 'a=1&b=2'], ['token=abc', 'token=***'],
    ['a=1&access_token=x.y.z&b=2', 'a=1&access_token=***&b=2'], ['TOKEN=a&Api_Key=b', 'TOKEN=***&Api_Key=***'],
    ['token=', 'token='], ['token', 'token'], ['tokens=1', 'tokens=1'], ['t%6Fken=abc', 't%6Fken=***'],
    ['%E0%A4%A=1&sig=2', '%E0%A4%A=1&sig=***'], ['a=token=1', 'a=token=1'],
    ['&&token=1&&', '&&token=***&&'], ['password=a=b&x', 'password=***&x'], ['a&b=1&code=9', 'a&b=1&code=***'],
  ]
  for (const [query, written] of table) assert.equal(withoutSecrets(query), written, query)
  assert.equal(urlWithoutSecrets('https://x/?token=1&a=2'), 'https://x/?token=***&a=2')
  assert.equal(urlWithoutSecrets('https://x/token=1'), 'https://x/token=1')
})

test('query secrets: a query without secrets comes out as it went in', () => {
  fc.assert(fc.property(
    fc.string({ unit: fc.constantFrom('a', '=', '&', '%', '4'), maxLength: 30 }),
    query => withoutSecrets(query) === query,
  ))
})

test('query secrets: whatever stands around a pair, the secret is gone and nothing else is', () => {
  const key = fc.constantFrom(...SECRET_QUERY_KEYS, 'a', '', 'tokens', '%', 'x'.repeat(70))
  const written = fc.tuple(key, fc.array(fc.boolean(), { minLength: 25, maxLength: 25 })).map(([name, encoded]) => (
    [name, [...name].map((char, at) => encoded[at] ? `%${char.charCodeAt(0).toString(16)}` : char).join('')] as const
  ))
  const pair = fc.record({ key: written, value: fc.option(fc.string({ unit: fc.constantFrom('s', '=', '%', '?'), maxLength: 5 })) })
  fc.assert(fc.property(fc.array(pair, { maxLength: 8 }), pairs => {
    const query = pairs.map(({ key: [, text], value }) => value === null ? text : `${text}=${value}`).join('&')
    const expected = pairs.map(({ key: [name, text], value }) => {
      if (value === null) return text
      return `${text}=${SECRET_QUERY_KEYS.has(name) && value !== '' ? '***' : value}`
    }).join('&')
    assert.equal(withoutSecrets(query), expected)
  }))
})

/** A text that counts how often it is looked at. */
class WatchedText {
  looks = 0
  readonly #text: string
  constructor(text: string) { this.#text = text }
  get length(): number { return this.#text.length }
  charCodeAt(at: number): number { this.looks++; return this.#text.charCodeAt(at) }
  slice(from: number, to?: number): string { this.looks += (to ?? this.length) - from; return this.#text.slice(from, to) }
  indexOf(part: string, from: number): number {
    const found = this.#text.indexOf(part, from)
    this.looks += (found === -1 ? this.length : found) - from
    return found
  }
}

test('query secrets: what is looked at grows with the query, whatever it is made of', () => {
  for (const unit of ['&', '=', '%', '&=', 'a&', '%=1&', 'token=1&', 't%6Fken=1&', 'a=&', `${'a'.repeat(60)}=1&`]) {
    const text = new WatchedText(unit.repeat(Math.ceil(8192 / unit.length)))
    withoutSecrets(text as unknown as string)
    assert.ok(text.looks <= 4 * text.length, `${unit}: ${text.looks} looks at ${text.length} characters`)
  }
})

test('query secrets: keys that are added are hidden in whatever case they are written, and those that everybody has stay so', () => {
  const key = fc.stringMatching(/^[!#$'()*+,./0-9:;<>?@A-Z[\]^_`a-z{|}~-]{1,64}$/)
  fc.assert(fc.property(key, fc.boolean(), (name, upper) => {
    const secrets = new QuerySecrets().with([name]), written = upper ? name.toUpperCase() : name.toLowerCase()
    const other = name.toLowerCase() === 'a' ? '***' : '1'
    assert.equal(secrets.hideInQuery(`a=1&${written}=secret&token=secret`), `a=${other}&${written}=***&token=***`)
    const encoded = [...written].map(char => `%${char.charCodeAt(0).toString(16)}`).join('')
    assert.equal(secrets.hideInUrl(`/?${encoded}=secret`), `/?${encoded}=***`)
  }))
  assert.equal(withoutSecrets('session=abc'), 'session=abc')
})

test('query secrets: keys may be added later, to those of the whole process as well', () => {
  const secrets = new QuerySecrets()
  assert.equal(secrets.with([]), secrets)
  const more = secrets.with(['one'])
  secrets.add(['TWO'])
  assert.equal(secrets.hideInQuery('one=1&two=2&token=3'), 'one=1&two=***&token=***')
  assert.equal(more.hideInQuery('one=1&two=2&token=3'), 'one=***&two=2&token=***')
})
