/**
 * Clients that never repeat anything: some dial for every request, some keep their connection until they are told to
 * close it. Whatever is not a whole, right answer is counted by how it failed.
 */
import net from 'node:net'

export interface Ledger {
  ok: number
  readonly failed: Record<string, number>
  /** Bodies seen, by count; the plain service answers with its pid. */
  readonly bodies: Record<string, number>
  /** Each failed request: how, the local port of its connection (0: a Unix socket), and how many that had brought answers to before. */
  readonly lost: { readonly port: number; readonly how: string; readonly answered: number }[]
}

export interface LoadOptions {
  /** A port of the loopback interface, or the path of a Unix socket. */
  readonly to: number | string
  /** Clients that dial for every request. */
  readonly fresh: number
  /** Clients that keep their connection. */
  readonly keepAlive: number
  /** Pause of each client between an answer and its next request. ms */
  readonly pauseMs: number
}

export class SteadyLoad {
  readonly ledger: Ledger = { ok: 0, failed: {}, bodies: {}, lost: [] }
  readonly #options: LoadOptions
  #running = true
  readonly #clients: Promise<void>[]

  constructor(options: LoadOptions) {
    this.#options = options
    this.#clients = [
      ...Array.from({ length: options.fresh }, () => this.#client(false)),
      ...Array.from({ length: options.keepAlive }, () => this.#client(true)),
    ]
  }

  /** Every request that was begun is finished and counted. */
  async stop(): Promise<Ledger> {
    this.#running = false
    await Promise.all(this.#clients)
    return this.ledger
  }

  async #client(keepAlive: boolean): Promise<void> {
    while (this.#running) await this.#connection(keepAlive)
  }

  /** One connection, to its end. */
  #connection(keepAlive: boolean): Promise<void> {
    const { to, pauseMs } = this.#options
    const { promise, resolve } = Promise.withResolvers<void>()
    const socket = typeof to === 'number' ? net.connect({ port: to, host: '127.0.0.1', noDelay: true }) : net.connect({ path: to })
    let received = ''
    let waiting = true
    let done = false
    let localPort = 0
    let answered = 0
    const request = (): void => {
      waiting = true
      socket.write(`GET / HTTP/1.1\r\nHost: load\r\n${keepAlive ? '' : 'Connection: close\r\n'}\r\n`)
    }
    const end = (how: string): void => {
      if (done) return
      done = true
      if (how !== '') {
        this.ledger.failed[how] = (this.ledger.failed[how] ?? 0) + 1
        this.ledger.lost.push({ port: localPort, how, answered })
      }
      socket.destroy()
      if (this.#running) setTimeout(resolve, pauseMs)
      else resolve()
    }
    socket.setEncoding('latin1')
    socket.on('connect', () => {
      localPort = socket.localPort ?? 0
      request()
    })
    socket.on('data', chunk => {
      received += String(chunk)
      const head = received.indexOf('\r\n\r\n')
      if (head === -1) return
      const length = Number(/content-length: (\d+)/i.exec(received.slice(0, head))?.[1] ?? NaN)
      if (received.length < head + 4 + length) return
      const body = received.slice(head + 4)
      const close = /\r\nconnection: close/i.test(received.slice(0, head))
      if (!received.startsWith('HTTP/1.1 200 ') || body.length !== length) { end('wrong answer'); return }
      this.ledger.ok++
      answered++
      this.ledger.bodies[body] = (this.ledger.bodies[body] ?? 0) + 1
      received = ''
      waiting = false
      if (close || !this.#running) end('')
      else setTimeout(() => { if (!done) { if (this.#running) request(); else end('') } }, pauseMs)
    })
    socket.on('error', error => end(waiting ? (error as NodeJS.ErrnoException).code ?? error.message : ''))
    // An idle connection that the other side closes is no failure unless a request was on its way.
    socket.on('end', () => end(waiting ? 'closed early' : ''))
    socket.on('close', () => end(waiting ? 'closed early' : ''))
    return promise
  }
}
