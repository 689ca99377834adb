/**
 * A listening service that speaks just enough HTTP/1.1 to test processes with: GET only, no bodies, one request at a
 * time per connection. How it accepts, drains and counts is that of every service (src/server/listening-base.ts); in a
 * drain an answer says `Connection: close` and a lingering close follows.
 *
 *   /            the worker's pid               /slow?ms=N    the same after N ms
 *   /crash       throws                         /spin?ms=N    blocks the event loop
 *   /exit?code=N ends the process               /argv         the application's arguments
 *   /environment names of our own variables    /reject       the pid, and a promise that is rejected and forgotten
 */
import { LISTENER_DEFAULTS, LISTENER_OPTIONS } from '../../src/listener/listener-options.ts'
import type { ListenerOptions, ResolvedListenerOptions } from '../../src/listener/listener-options.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { resolveOptions } from '../../src/primitives/option-table.ts'
import type { ByteStream, StreamOwner } from '../../src/protocols/byte-stream.ts'
import type { AcceptingListener, DownstreamConnection } from '../../src/protocols/http-connection.ts'
import type { AcceptFacts } from '../../src/server/accept-pipeline.ts'
import type { Drain } from '../../src/server/drain.ts'
import { ListeningBase, type ServiceCore } from '../../src/server/listening-base.ts'
import type { ListenerSpec } from '../../src/server/service.ts'

const BACKLOG = 511

export class PlainService extends ListeningBase<ListenerOptions, ResolvedListenerOptions> {
  constructor(name: string, ...addresses: readonly string[]) {
    super(name, new PlainCore())
    for (const address of addresses) {
      if (address.startsWith('unix:')) this.addUnix(address, { backlog: BACKLOG })
      else this.addTcp(address, { backlog: BACKLOG })
    }
  }
}

class PlainCore implements ServiceCore<ListenerOptions, ResolvedListenerOptions> {
  readonly ticker = new Ticker()
  readonly tracers = null
  readonly faults = null
  draining = false
  drain: Drain | null = null
  active = 0
  exchanges = 0

  resolve(options: ListenerOptions, base: ResolvedListenerOptions | null): ResolvedListenerOptions {
    return resolveOptions<ListenerOptions>('listener', LISTENER_OPTIONS, options, base ?? LISTENER_DEFAULTS)
  }
  stages(): readonly [] { return [] }
  handshakeTimeoutMs(): number { return 0 }
  start(): void {}
  open(stream: ByteStream, _facts: AcceptFacts, listener: ListenerSpec): PlainConnection {
    return new PlainConnection(stream, listener.name, this)
  }
  uncounted(): readonly [] { return [] }
  tunnels(): readonly [] { return [] }
  counts(): { activeExchanges: number; exchanges: number } { return { activeExchanges: this.active, exchanges: this.exchanges } }
  random(): number { return Math.random() }
  spare(): void {}
  speaksForMany(): boolean { return false }
  close(): void {}
}

const State = { Idle: 0, Active: 1, Linger: 2, Closed: 3 } as const
type State = (typeof State)[keyof typeof State]

class PlainConnection implements DownstreamConnection, StreamOwner {
  readonly protocol = 'plain'
  readonly stream: ByteStream
  readonly listener: string
  readonly #core: PlainCore
  facts: object | null = null
  acceptedBy: AcceptingListener | null = null
  countedAs = ''
  requests = 0
  #state: State = State.Idle
  #received = ''
  #ended = false
  bookNewer: DownstreamConnection | null = null
  bookOlder: DownstreamConnection | null = null
  listNewer: DownstreamConnection | null = null
  listOlder: DownstreamConnection | null = null
  inList: object | null = null

  constructor(stream: ByteStream, listener: string, core: PlainCore) {
    this.stream = stream
    this.listener = listener
    this.#core = core
  }

  get active(): number { return this.#state === State.Active ? 1 : 0 }
  get tunnels(): number { return 0 }
  get idle(): boolean { return this.#state === State.Idle }
  get lingering(): boolean { return this.#state === State.Linger }
  get parting(): boolean { return false }

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Linger) return
    this.#received += buffer.latin1Slice(from, to)
    this.#next()
  }

  onEnd(): void {
    this.#ended = true
    if (this.#state !== State.Active) this.stream.end()
  }

  onDrained(): void {}

  onClosed(): void {
    if (this.#state === State.Active) this.#core.active--
    this.#state = State.Closed
    this.acceptedBy?.onClosed(this)
  }

  #next(): void {
    if (this.#state !== State.Idle) return
    const end = this.#received.indexOf('\r\n\r\n')
    if (end === -1) return
    const head = this.#received.slice(0, end)
    this.#received = this.#received.slice(end + 4)
    this.#state = State.Active
    this.acceptedBy?.onActive(this)
    this.requests++
    this.#core.active++
    this.#core.exchanges++
    this.#answer(head)
  }

  #respond(head: string, body: string): void {
    if (this.#state !== State.Active) return
    const close = /\r\nconnection: close/i.test(head) || this.#core.draining
    const fields = `Content-Length: ${Buffer.byteLength(body)}\r\n${close ? 'Connection: close\r\n' : ''}`
    this.stream.writeText(`HTTP/1.1 200 OK\r\n${fields}\r\n${body}`)
    this.#state = State.Idle
    this.#core.active--
    this.acceptedBy?.onIdle(this)
    if (close) this.closeIdle()
    else if (this.#ended) this.stream.end()
    else this.#next()
    this.#core.drain?.look()
  }

  #answer(head: string): void {
    const { pathname, searchParams } = new URL(head.split(' ', 2)[1] ?? '/', 'http://plain.invalid')
    const number = (name: string): number => Number(searchParams.get(name) ?? '0')
    const pid = String(process.pid)
    switch (pathname) {
      case '/slow':
        setTimeout(() => this.#respond(head, pid), number('ms'))
        break
      case '/environment': {
        // What of our own an application, and with it its children, would see.
        const ours = Object.keys(process.env).filter(name => /^CIRQUE_ROLE|^NODE_UNIQUE_ID|^NODE_CHANNEL|^NODE_COMPILE_CACHE/.test(name))
        this.#respond(head, ours.join() || 'none')
        break
      }
      case '/argv':
        this.#respond(head, JSON.stringify(process.argv.slice(1)))
        break
      case '/crash': throw new Error('crashed on request')
      case '/reject':
        void Promise.reject(new Error('forgotten on request'))
        this.#respond(head, pid)
        break
      case '/exit': process.exit(number('code')); break
      case '/spin': {
        const until = performance.now() + number('ms')
        while (performance.now() < until);
        this.#respond(head, pid)
        break
      }
      default: this.#respond(head, pid)
    }
  }

  /** FIN, then read and drop until the client's FIN, so that pipelined bytes do not turn the close into a reset. */
  closeIdle(): void {
    if (this.#state !== State.Idle) return
    this.#state = State.Linger
    this.acceptedBy?.onActive(this)
    this.stream.end()
    setTimeout(() => this.stream.destroy(), 1_000).unref()
  }

  drain(): void { /* the core says it */ }
  cut(): void { this.stream.destroy(true) }
  destroy(): void { this.stream.destroy(this.#state === State.Active) }
}
