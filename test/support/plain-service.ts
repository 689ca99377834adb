/**
 * A listening service that speaks just enough HTTP/1.1 to test processes with: GET only, no bodies, one request at a
 * time per connection. It follows the drain rules: an idle connection is kept for its next request, which is answered
 * with `Connection: close` and followed by a lingering close.
 *
 *   /            the worker's pid               /slow?ms=N    the same after N ms
 *   /crash       throws                         /spin?ms=N    blocks the event loop
 *   /exit?code=N ends the process               /argv         the application's arguments
 *   /environment names of our own variables
 */
import net from 'node:net'
import { parseListenAddress } from '../../src/ipc/listen-address.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import type { DrainRequest, ListenerSpec, ListeningService, RunningListener, ServiceStats } from '../../src/server/service.ts'

const LINGER_MS = 1_000

/** On stop, how long a connection that has not asked yet is waited for, in ms. */
const FIRST_REQUEST_MS = 1_000

/** On stop, how long an idle connection is kept for a request that is on its way, in ms; no longer than there is time. */
const STOP_IDLE_MS = 300

/** Variables of our own that an application is not to see. */
const OWN_VARIABLES = /^CIRQUE_ROLE|^NODE_UNIQUE_ID|^NODE_CHANNEL/

interface Connection {
  readonly socket: net.Socket
  received: string
  active: boolean
  lingering: boolean
  asked: boolean
}

export class PlainService implements ListeningService {
  readonly kind = 'listening'
  readonly name: string
  readonly listeners: readonly ListenerSpec[]
  readonly #connections = new Set<Connection>()
  #exchanges = 0
  #draining: DrainRequest | null = null
  #keepsIdle = false
  #drained = Promise.withResolvers<{ cut: number }>()
  #timers: NodeJS.Timeout[] = []

  constructor(name: string, ...addresses: readonly string[]) {
    this.name = name
    this.listeners = addresses.flatMap(text => {
      const parsed = parseListenAddress(text)
      return parsed.map((address, index) => {
        const family = parsed.length > 1 && index > 0 ? '#v6' : ''
        return { name: `${name}/${text}${family}`, address, options: { backlog: 511 } }
      })
    })
  }

  start(): void {}

  bind(spec: ListenerSpec): RunningListener {
    return { spec, createAcceptor: () => net.createServer({ noDelay: true, allowHalfOpen: true }, socket => this.#onConnection(socket)) }
  }

  drain(request: DrainRequest): Promise<{ cut: number }> {
    this.#draining = request
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers = [setTimeout(() => this.#cut(), request.hardDrainMs)]
    if (request.mode === 'retire') this.#timers.push(setTimeout(() => this.#closeIdle(), request.idleDrainMs))
    else {
      this.#keepsIdle = true
      this.#timers.push(setTimeout(() => {
        this.#keepsIdle = false
        this.#lookDrained()
      }, Math.min(STOP_IDLE_MS, request.hardDrainMs / 4)))
    }
    this.#lookDrained()
    return this.#drained.promise
  }

  stats(): ServiceStats {
    let active = 0
    for (const connection of this.#connections) if (connection.active) active++
    const connections = this.#connections.size
    return { ...NO_COUNTS, connections, idleConnections: connections - active, activeExchanges: active, exchanges: this.#exchanges }
  }

  close(): void { this.#cut() }

  #onConnection(socket: net.Socket): void {
    const connection: Connection = { socket, received: '', active: false, lingering: false, asked: false }
    this.#connections.add(connection)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      if (connection.lingering) return
      connection.received += text
      this.#next(connection)
    })
    socket.on('end', () => { if (!connection.active) socket.end() })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#connections.delete(connection)
      this.#lookDrained()
    })
  }

  #next(connection: Connection): void {
    if (connection.active) return
    const end = connection.received.indexOf('\r\n\r\n')
    if (end === -1) return
    const head = connection.received.slice(0, end)
    connection.received = connection.received.slice(end + 4)
    connection.active = true
    connection.asked = true
    this.#exchanges++
    const target = head.split(' ', 2)[1] ?? '/'
    const { pathname, searchParams } = new URL(target, 'http://plain.invalid')
    const closeWanted = /\r\nconnection: close/i.test(head)
    const respond = (body: string): void => {
      const close = closeWanted || this.#draining !== null
      const fields = `Content-Length: ${Buffer.byteLength(body)}\r\n${close ? 'Connection: close\r\n' : ''}`
      connection.socket.write(`HTTP/1.1 200 OK\r\n${fields}\r\n${body}`)
      connection.active = false
      if (close) this.#linger(connection)
      else if (connection.socket.readableEnded) connection.socket.end()
      else this.#next(connection)
      this.#lookDrained()
    }
    const number = (name: string): number => Number(searchParams.get(name) ?? '0')
    switch (pathname) {
      case '/slow': setTimeout(respond, number('ms'), String(process.pid)); break
      // What of our own an application, and with it its children, would see.
      case '/environment': respond(Object.keys(process.env).filter(name => OWN_VARIABLES.test(name)).join() || 'none'); break
      case '/argv': respond(JSON.stringify(process.argv.slice(1))); break
      case '/crash': throw new Error('crashed on request')
      case '/exit': process.exit(number('code')); break
      case '/spin': {
        const until = performance.now() + number('ms')
        while (performance.now() < until);
        respond(String(process.pid))
        break
      }
      default: respond(String(process.pid))
    }
  }

  /** FIN, then read and drop until the client's FIN, so that pipelined bytes do not turn the close into a reset. */
  #linger(connection: Connection): void {
    connection.lingering = true
    connection.socket.end()
    setTimeout(() => connection.socket.destroy(), LINGER_MS).unref()
  }

  #closeIdle(): void {
    for (const connection of this.#connections) {
      if (connection.active || connection.lingering) continue
      if (connection.asked) this.#linger(connection)
      else this.#timers.push(setTimeout(() => { if (!connection.active) this.#linger(connection) }, FIRST_REQUEST_MS))
    }
  }

  #lookDrained(): void {
    if (this.#draining === null) return
    // On stop idle connections wait only as long as something is in flight.
    const isIdle = ![...this.#connections].some(connection => connection.active)
    if (this.#draining.mode === 'stop' && !this.#keepsIdle && isIdle) this.#closeIdle()
    if (this.#connections.size === 0) {
      for (const timer of this.#timers) clearTimeout(timer)
      this.#drained.resolve({ cut: 0 })
    }
  }

  #cut(): void {
    const cut = this.stats().activeExchanges
    for (const { socket } of this.#connections) socket.resetAndDestroy()
    for (const timer of this.#timers) clearTimeout(timer)
    this.#drained.resolve({ cut })
  }
}
