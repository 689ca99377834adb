/**
 * The CONNECT exchange with a proxy, over a stream that is connected to it already (RFC 9110 9.3.6, RFC 9112 3.2.3).
 *
 *   Asking --2xx--> Open: the stream belongs to the waiter, with the bytes that came behind the head
 *      |
 *      +--other status, malformed or too large head, end--> Failed: the stream is destroyed
 *
 * Any 2xx makes a tunnel, whatever Content-Length or Transfer-Encoding say: a client MUST ignore them there (9.3.6), and
 * a proxy that sends a body anyway is caught by its bytes, which no protocol in the tunnel expects.
 * Has no clock: who dials limits the time and calls `cancel`.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import { isAuthority } from '../http/authority.ts'
import { checkField } from '../http/header-map.ts'
import type { ResponseHead } from '../http/message-head.ts'
import type { ConnectProxy, Peer } from '../peer/peer.ts'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'
import { HEAD_FAULTS, HeadParser, Parsed, limitOfResponse } from '../protocols/http1/parser.ts'
import { tracerFaults } from '../telemetry/tracer-group.ts'

export interface TunnelWaiter {
  /** `early`: a copy of what came behind the head, or null. */
  onTunnelOpen(stream: ByteStream, early: Buffer | null): void
  onTunnelFailed(error: ProxyError): void
}

/** The request that asks for the tunnel. @throws TypeError on a host or field that must not be written. */
export function connectRequest(proxy: ConnectProxy, extra: Peer['options']['extraProxyHeaders']): string {
  const authority = proxy.host.includes(':') ? `[${proxy.host}]:${proxy.port}` : `${proxy.host}:${proxy.port}`
  if (!isAuthority(authority)) throw new TypeError(`connectProxy asks for ${JSON.stringify(authority)}, which is no host and port`)
  let text = `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n`
  for (const fields of [proxy.headers, extra]) {
    for (const [name, value] of fields) {
      checkField(name, value)
      text += `${name}: ${value}\r\n`
    }
  }
  return `${text}\r\n`
}

const TunnelState = { Asking: 0, Over: 1 } as const
type TunnelState = (typeof TunnelState)[keyof typeof TunnelState]

export class ConnectTunnel implements StreamOwner {
  #state: TunnelState = TunnelState.Asking
  readonly #stream: ByteStream
  readonly #peer: Peer
  readonly #waiter: TunnelWaiter
  readonly #parser: HeadParser
  #interims = 0

  /**
   * Takes the stream over and asks at once. `peer.connectProxy` is not null.
   * @throws TypeError on what must not be asked for; the stream is then still the caller's
   */
  constructor(stream: ByteStream, peer: Peer, waiter: TunnelWaiter) {
    const request = connectRequest(peer.connectProxy!, peer.options.extraProxyHeaders)
    const { maxResponseHeadBytes, maxResponseHeaderCount } = peer.options
    this.#stream = stream
    this.#peer = peer
    this.#waiter = waiter
    this.#parser = new HeadParser('response', {
      maxHeadBytes: maxResponseHeadBytes,
      maxHeaderCount: maxResponseHeaderCount,
      maxHeaderLineBytes: maxResponseHeadBytes,
      maxMethodBytes: 0,
      maxUriBytes: 0,
    })
    stream.owner = this
    stream.writeText(request)
    stream.flush()
  }

  /** Ends it without a callback. */
  cancel(): void {
    if (this.#end()) this.#stream.destroy(true)
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    while (this.#state === TunnelState.Asking && from < to) {
      const result = this.#parser.parse(buffer, from, to)
      if (result === Parsed.More) return
      if (result !== Parsed.Done) {
        const { text, limit } = HEAD_FAULTS[result]!
        this.#fail(`answered CONNECT with a bad head: ${text}`, 'always', limitOfResponse(limit))
        return
      }
      const head = this.#parser.takeResponse()
      this.#parser.reset()
      from = this.#parser.consumedTo
      this.#take(head, buffer, from, to)
    }
  }

  onEnd(): void { this.#fail('closed the connection before it answered CONNECT', 'always') }
  onDrained(): void {}
  onClosed(error: Error | null): void { this.#fail('closed the connection before it answered CONNECT', 'always', '', error) }

  #take(head: ResponseHead, buffer: Buffer, from: number, to: number): void {
    const { status } = head
    if (status >= 200 && status < 300) {
      this.#end()
      const { onConnectResponse } = this.#peer.options
      // It only watches: what it throws changes nothing.
      if (onConnectResponse !== null) try { onConnectResponse(head) } catch { tracerFaults.count++ }
      this.#waiter.onTunnelOpen(this.#stream, from < to ? Buffer.from(buffer.subarray(from, to)) : null)
    } else if (status < 200 && status !== 101) {
      const { maxInterimResponses } = this.#peer.options
      if (++this.#interims <= maxInterimResponses) return
      this.#fail(`sent more than ${maxInterimResponses} interim answers to CONNECT`, 'always', 'interim-responses')
    } else {
      // What it refuses now it will refuse again; a fault of its own may pass.
      this.#fail(`answered CONNECT with ${status} ${head.reason}`.trimEnd(), status < 500 ? 'never' : 'always')
    }
  }

  #fail(what: string, retry: 'always' | 'never', limit = '', cause: Error | null = null): void {
    if (!this.#end()) return
    this.#stream.destroy(true)
    const text = `${this.#peer.name}: the proxy ${what}`
    this.#waiter.onTunnelFailed(new ProxyError('CONNECT_PROXY_FAILED', 'upstream', text, { retry, limit, cause: cause ?? undefined }))
  }

  /** @returns false when it was over already. */
  #end(): boolean {
    if (this.#state === TunnelState.Over) return false
    this.#state = TunnelState.Over
    return true
  }
}
