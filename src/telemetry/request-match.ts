/**
 * Whether a request is one that an operator wants to see (`RequestMatch`). What can be known when a request comes and what is known
 * at its end are asked apart, so that a probe records nothing that it would throw away.
 *
 * Patterns come from an operator, texts from anybody: a comparison goes back at most to the last `*`, so it costs no more than the
 * product of both lengths, and nothing is compiled into an expression.
 */
import { asciiLower } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'
import type { RequestMatch } from '../ipc/looking.ts'

export class Matcher {
  readonly #match: RequestMatch
  readonly #host: string

  constructor(match: RequestMatch) {
    this.#match = match
    this.#host = asciiLower(match.host ?? '')
  }

  /** Nothing is said of requests themselves: heads that were refused before they became one are wanted as well. */
  get wantsRefused(): boolean {
    const { method, host, path, headers } = this.#match
    return method === undefined && host === undefined && path === undefined && headers === undefined
  }

  listensOn(listener: string): boolean {
    const wanted = this.#match.listener
    return wanted === undefined || globMatches(wanted, listener) || globMatches(wanted, listener.slice(listener.indexOf('/') + 1))
  }

  /** What a request asks for. */
  asks(request: Readonly<RequestHead>): boolean {
    const { method, host, path, headers } = this.#match
    if (method !== undefined && !globMatches(method, request.method)) return false
    if (path !== undefined && !globMatches(path, request.path)) return false
    if (host !== undefined && !this.#isFor(request.authority)) return false
    for (const [name, value] of headers ?? []) {
      if (!request.headers.getAll(name).some(one => globMatches(value, one))) return false
    }
    return true
  }

  #isFor(authority: string): boolean {
    const given = asciiLower(authority)
    return globMatches(this.#host, given) || globMatches(this.#host, given.replace(/:\d*$/, ''))
  }

  /** How it ended. @param status that the client was sent; 0: none */
  ended(status: number, flag: string, durationMs: number): boolean {
    const { statuses, flags, slowMs } = this.#match
    if (statuses !== undefined && !statuses.some(([min, max]) => status >= min && status <= max)) return false
    if (flags !== undefined && !flags.includes(flag)) return false
    return slowMs === undefined || durationMs >= slowMs
  }
}

/** `*` stands for any text, also for none and for one with slashes; everything else for itself. */
export function globMatches(pattern: string, text: string): boolean {
  let at = 0, inPattern = 0
  /** Where the last star stands, and where the text behind what it stands for begins. */
  let star = -1, behind = 0
  while (at < text.length) {
    if (pattern[inPattern] === '*') {
      star = inPattern++
      behind = at
    } else if (inPattern < pattern.length && pattern[inPattern] === text[at]) {
      inPattern++
      at++
    } else if (star !== -1) {
      inPattern = star + 1
      at = ++behind
    } else return false
  }
  while (pattern[inPattern] === '*') inPattern++
  return inPattern === pattern.length
}
