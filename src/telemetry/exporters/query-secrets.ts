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

const AMPERSAND = 0x26, EQUALS = 0x3D, PERCENT = 0x25

/** Which keys hold secrets, and texts without them. */
export class QuerySecrets {
  /** In lower case. */
  readonly #keys = new Set(SECRET_QUERY_KEYS)
  #longestKey = LONGEST_KEY
  /** A key that is longer cannot be one of them, even with each letter percent-encoded. */
  #longestWrittenKey = 3 * LONGEST_KEY

  /** From now on also the values of these. @param keys of printable ASCII */
  add(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#keys.add(key.toLowerCase())
      this.#longestKey = Math.max(this.#longestKey, key.length)
    }
    this.#longestWrittenKey = 3 * this.#longestKey
  }

  /** All of these, and some more. */
  with(keys: readonly string[]): QuerySecrets {
    if (keys.length === 0) return this
    const more = new QuerySecrets()
    more.add(this.#keys)
    more.add(keys)
    return more
  }

  /** The same query with `***` for values of those keys. */
  hideInQuery(query: string): string {
    let out = '', copied = 0
    let start = 0, equals = -1, encoded = false
    for (let at = 0; at <= query.length; at++) {
      const code = at === query.length ? AMPERSAND : query.charCodeAt(at)
      if (code === EQUALS && equals === -1) equals = at
      else if (code === PERCENT && equals === -1) encoded = true
      else if (code === AMPERSAND) {
        if (equals !== -1 && equals + 1 < at && this.#isSecretKey(query, start, equals, encoded)) {
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
  hideInUrl(url: string): string {
    const query = url.indexOf('?')
    return query === -1 ? url : url.slice(0, query + 1) + this.hideInQuery(url.slice(query + 1))
  }

  #isSecretKey(query: string, from: number, to: number, encoded: boolean): boolean {
    const length = to - from
    if (length === 0 || length > (encoded ? this.#longestWrittenKey : this.#longestKey)) return false
    const key = query.slice(from, to)
    // Percent-encoded letters spell the same key for the origin.
    return this.#keys.has((encoded ? decoded(key) : key).toLowerCase())
  }
}

/** Of this process: whoever shows a query shows it without these. The operator's keys are added when they are known. */
export const QUERY_SECRETS = new QuerySecrets()

/** The same query with `***` for values of keys that hold secrets. */
export function withoutSecrets(query: string): string { return QUERY_SECRETS.hideInQuery(query) }

/** The same address with its query, if any, treated so. */
export function urlWithoutSecrets(url: string): string { return QUERY_SECRETS.hideInUrl(url) }

/** With its ASCII characters decoded; others are in no key that is looked for. */
function decoded(key: string): string {
  return key.replaceAll(/%([2-7][\da-f])/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
}
