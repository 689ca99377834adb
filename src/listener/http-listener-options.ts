/**
 * What a listener for HTTP may be told, in one flat object: the transport's part, what holds for every version of HTTP,
 * what HTTP/1 adds, and HTTP/2 in a part of its own. An operator sets the same options in the `listeners` section of the configuration.
 */
import { defaultsOf, options as section, resolveOptions, type OptionTable } from '../primitives/option-table.ts'
import { HTTP1_SERVER_OPTIONS, type Http1ServerOptions } from '../protocols/http1/http1-options.ts'
import {
  HTTP2_SERVER_DEFAULTS, HTTP2_SERVER_OPTIONS, type Http2ServerOptions, type ResolvedHttp2ServerOptions,
} from '../protocols/http2/http2-options.ts'
import { LISTENER_OPTIONS, type ListenerOptions } from './listener-options.ts'
import { TLS_LISTENER_OPTIONS, type ResolvedTlsListenerOptions, type TlsListenerOptions } from './tls-listener-options.ts'

/** All that a listener of an HTTP proxy may be told: `addTcp(address, options)`, and `listener` of `httpProxyService`. */
export interface HttpListenerOptions extends ListenerOptions, Http1ServerOptions {
  /** What HTTP/2 is told besides. @default as in Http2ServerOptions */
  http2?: Http2ServerOptions
  /**
   * Of listeners for TLS, which `addTls` makes: what holds for each that does not say otherwise, where it stands in `listener` of
   * `httpProxyService`. Null: as the options of TLS are. @default null
   */
  tls?: TlsListenerOptions | null
}
export type ResolvedHttpListenerOptions = Readonly<Required<Omit<HttpListenerOptions, 'tls' | 'http2'>>> & {
  readonly http2: ResolvedHttp2ServerOptions
  /** Null: the listener speaks no TLS. */
  readonly tls: ResolvedTlsListenerOptions | null
}

export const HTTP_LISTENER_OPTIONS = {
  ...LISTENER_OPTIONS, ...HTTP1_SERVER_OPTIONS,
  http2: section<Http2ServerOptions>(HTTP2_SERVER_OPTIONS, HTTP2_SERVER_DEFAULTS),
  tls: section<TlsListenerOptions, null>(TLS_LISTENER_OPTIONS, null),
} satisfies OptionTable<HttpListenerOptions>

export const HTTP_LISTENER_DEFAULTS = defaultsOf<HttpListenerOptions>(HTTP_LISTENER_OPTIONS) as ResolvedHttpListenerOptions

/** Complete and checked. @param base what holds where `options` say nothing. @throws OptionError with every mistake there is */
export function resolveHttpListenerOptions(
  options: HttpListenerOptions = {}, base: ResolvedHttpListenerOptions = HTTP_LISTENER_DEFAULTS,
): ResolvedHttpListenerOptions {
  return resolveOptions<HttpListenerOptions>('listener', HTTP_LISTENER_OPTIONS, options, base) as ResolvedHttpListenerOptions
}
