/** Max-Forwards (RFC 9110 7.6.2): how many more proxies may pass an OPTIONS request on, counted down by each of them. */
import type { HeaderMap } from './header-map.ts'

const NAME = 'Max-Forwards'

/**
 * Counts `headers` down by one. Returns false when this hop has to answer in the place of the origin.
 * @throws RangeError on a value that is no number, or one beside another
 */
export function mayPassOn(headers: HeaderMap): boolean {
  const given = headers.getAll(NAME)
  if (given.length === 0) return true
  const [text] = given as [string]
  if (given.length > 1 || !/^[0-9]+$/.test(text)) throw new RangeError(`Max-Forwards is ${given.join(', ')}, which is no number`)
  const left = Number(text)
  if (left === 0) return false
  // A number that no path is as long as may be replaced by our largest (7.6.2).
  headers.set(NAME, String(Math.min(left, Number.MAX_SAFE_INTEGER) - 1))
  return true
}
