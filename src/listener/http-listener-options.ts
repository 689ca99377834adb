/**
 * What a listener for HTTP may be told, in one flat object: the transport's part, what holds for every version of HTTP,
 * and what HTTP/1 adds. An operator sets the same options in the `listeners` section of the configuration.
 */
import { defaultsOf, resolveOptions, type OptionTable } from '../primitives/option-table.ts'
import { HTTP1_SERVER_OPTIONS, type Http1ServerOptions } from '../protocols/http1/http1-options.ts'
import { LISTENER_OPTIONS, type ListenerOptions } from './listener-options.ts'

/** All that a listener of an HTTP proxy may be told: `addTcp(address, options)`, and `listener` of `httpProxyService`. */
export interface HttpListenerOptions extends ListenerOptions, Http1ServerOptions {}
export type ResolvedHttpListenerOptions = Readonly<Required<HttpListenerOptions>>

export const HTTP_LISTENER_OPTIONS = { ...LISTENER_OPTIONS, ...HTTP1_SERVER_OPTIONS } satisfies OptionTable<HttpListenerOptions>

export const HTTP_LISTENER_DEFAULTS: ResolvedHttpListenerOptions = defaultsOf<HttpListenerOptions>(HTTP_LISTENER_OPTIONS)

/** Complete and checked. @param base what holds where `options` say nothing. @throws OptionError with every mistake there is */
export function resolveHttpListenerOptions(
  options: HttpListenerOptions = {}, base: ResolvedHttpListenerOptions = HTTP_LISTENER_DEFAULTS,
): ResolvedHttpListenerOptions {
  return resolveOptions<HttpListenerOptions>('listener', HTTP_LISTENER_OPTIONS, options, base)
}
