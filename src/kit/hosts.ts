/**
 * The host that a request is for, and what an application has for each host: what nginx calls server names.
 * Host is a client's own word: it chooses among what the application wrote down, and is put into nothing.
 */
import { asciiLower } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'

/** The host of a request in lower case, without port and without the dot at its end; '' when there is none. IPv6 is in brackets. */
export function hostOf(request: RequestHead): string {
  const authority = asciiLower(request.authority)
  const colon = authority.lastIndexOf(':')
  const host = colon > authority.lastIndexOf(']') ? authority.slice(0, colon) : authority
  return host.endsWith('.') ? host.slice(0, -1) : host
}

/** No name is longer (RFC 1035 2.3.4). Host may be, and each of its labels would be looked up with all behind it. */
const MAX_HOST_CHARS = 253

/** A host name, or `*.` and one; an IP address. */
const HOST_PATTERN = /^(?:(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?|\[[0-9a-f:.]+\])$/

/**
 * A value for each host:
 *
 *   const sites = new Hosts({ 'example.com': shop, '*.example.com': tenants })
 *   const site = sites.of(session.request)
 *
 * An exact name wins, then the longest `*.name`, which stands for any number of labels and not for the name itself. How many there
 * are costs nothing: a look-up for each label of the host.
 */
export class Hosts<T> {
  readonly #exact = new Map<string, T>()
  /** By what stands behind the asterisk, its dot included. */
  readonly #below = new Map<string, T>()

  /** @throws TypeError on what is no host name, and on one that is there twice */
  constructor(values: Readonly<Record<string, T>>) {
    for (const [pattern, value] of Object.entries(values)) {
      const lower = asciiLower(pattern)
      if (!HOST_PATTERN.test(lower)) {
        throw new TypeError(`hosts: ${JSON.stringify(pattern)} is no host name; use one without port, or *. before one`)
      }
      const [map, key] = lower.startsWith('*.') ? [this.#below, lower.slice(1)] : [this.#exact, lower]
      if (map.has(key)) throw new TypeError(`hosts: ${JSON.stringify(pattern)} is there twice, in other letters`)
      map.set(key, value)
    }
  }

  /** What there is for the host of `request`; undefined when there is nothing. */
  of(request: RequestHead): T | undefined {
    const host = hostOf(request), exact = this.#exact.get(host)
    if (exact !== undefined || this.#below.size === 0 || host.length > MAX_HOST_CHARS) return exact
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      const value = dot === 0 ? undefined : this.#below.get(host.slice(dot))
      if (value !== undefined) return value
    }
    return undefined
  }
}
