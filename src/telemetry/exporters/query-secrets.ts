/**
 * Queries as logs may show them: values of keys that usually hold secrets are replaced. A query comes from anybody, so this
 * is one walk over it, without a search that runs past the pair at hand and without anything that throws.
 */

/** Keys whose values are not written, in lower case. */
export const SECRET_QUERY_KEYS: ReadonlySet<string> = new Set([
  'access_token', 'api_key', 'apikey', 'auth', 'client_secret', 'code', 'id_token', 'key', 'passwd', 'password', 'pwd', 'refresh_token',
  'secret', 'sig', 'signature', 'token', 'x-amz-credential', 'x-amz-security-token', 'x-amz-signature',
])

const LONGEST_KEY = Math.max(...[...SECRET_QUERY_KEYS].map(key => key.length))
/** A key that is longer cannot be one of them, even with each letter percent-encoded. */
const LONGEST_WRITTEN_KEY = 3 * LONGEST_KEY

const AMPERSAND = 0x26, EQUALS = 0x3D, PERCENT = 0x25

/** The same query with `***` for values of SECRET_QUERY_KEYS. */
export function withoutSecrets(query: string): string {
  let out = '', copied = 0
  let start = 0, equals = -1, encoded = false
  for (let at = 0; at <= query.length; at++) {
    const code = at === query.length ? AMPERSAND : query.charCodeAt(at)
    if (code === EQUALS && equals === -1) equals = at
    else if (code === PERCENT && equals === -1) encoded = true
    else if (code === AMPERSAND) {
      if (equals !== -1 && equals + 1 < at && isSecretKey(query, start, equals, encoded)) {
        out += `${query.slice(copied, equals + 1)}***`
        copied = at
      }
      start = at + 1
      equals = -1
      encoded = false
    }
  }
  return copied === 0 ? query : out + query.slice(copied)
}

/** The same address with its query, if any, treated so. */
export function urlWithoutSecrets(url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query + 1) + withoutSecrets(url.slice(query + 1))
}

function isSecretKey(query: string, from: number, to: number, encoded: boolean): boolean {
  const length = to - from
  if (length === 0 || length > (encoded ? LONGEST_WRITTEN_KEY : LONGEST_KEY)) return false
  const key = query.slice(from, to)
  // Percent-encoded letters spell the same key for the origin.
  return SECRET_QUERY_KEYS.has((encoded ? decoded(key) : key).toLowerCase())
}

/** With its ASCII characters decoded; others are in no key that is looked for. */
function decoded(key: string): string {
  return key.replaceAll(/%([2-7][\da-f])/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
}
