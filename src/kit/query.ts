/**
 * The query of a request as the form encoding of the WHATWG URL standard reads it (`application/x-www-form-urlencoded`, URL 5.1): a plus
 * is a blank, a percent sign that starts no octet stays, what is no UTF-8 becomes U+FFFD. Nothing in it can throw but their number.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { RequestHead } from '../http/message-head.ts'

/** What a form of a thousand fields needs, and far from what 16 kB of `&` would make. */
const MAX_PARAMETERS = 1000

const AMPERSAND = 0x26

/**
 * The parameters of the request's query, in their order, decoded. A copy: what is changed in it reaches nobody before `setQuery`.
 * @throws ProxyError (400) when there are more than 1000
 */
export function queryOf(request: RequestHead): URLSearchParams {
  const { query } = request
  let parameters = 1
  for (let at = 0; at < query.length; at++) {
    if (query.charCodeAt(at) !== AMPERSAND || ++parameters <= MAX_PARAMETERS) continue
    throw new ProxyError('BAD_HEAD', 'downstream', `the query has more than ${MAX_PARAMETERS} parameters`, {
      status: 400, limit: 'query-parameters',
    })
  }
  return new URLSearchParams(query)
}

/** Puts `parameters` in the place of the request's query; without any, the question mark goes as well. */
export function setQuery(request: RequestHead, parameters: URLSearchParams): void {
  const query = parameters.toString()
  request.target = query === '' ? request.path : `${request.path}?${query}`
}
