/** Receivers of syslog for tests: they keep the messages, and can be stopped, started again at the same place, and be slow. */
import dgram from 'node:dgram'
import { once } from 'node:events'
import net from 'node:net'
import type { TestContext } from 'node:test'

/** A message of RFC 5424, taken apart. */
export interface SyslogMessage {
  readonly facility: number
  readonly severity: number
  readonly time: string
  readonly host: string
  readonly tag: string
  readonly pid: string
  readonly about: string
  readonly text: string
}

const MESSAGE = /^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) (\d+) ([!-~]{1,32}) - ([^]*)$/

/** @throws when it is none */
export function readMessage(message: string): SyslogMessage {
  const match = MESSAGE.exec(message)
  if (match === null) throw new Error(`no message of RFC 5424: ${JSON.stringify(message)}`)
  const [, priority, time = '', host = '', tag = '', pid = '', about = '', text = ''] = match
  return { facility: Math.floor(Number(priority) / 8), severity: Number(priority) % 8, time, host, tag, pid, about, text }
}

/** Messages by counted octets over TCP. */
export class TcpReceiver {
  readonly messages: string[] = []
  /** Connections that were ever taken. */
  connections = 0
  /** Bytes are left unread. */
  paused = false
  port = 0
  #server: net.Server | null = null
  readonly #sockets = new Set<net.Socket>()

  static async start(t: TestContext): Promise<TcpReceiver> {
    const receiver = new TcpReceiver()
    await receiver.start()
    t.after(() => receiver.stop())
    return receiver
  }

  get address(): string { return `syslog:tcp:127.0.0.1:${this.port}` }

  /** At the port that it had before, if it had one. */
  async start(): Promise<void> {
    const server = this.#server = net.createServer(socket => this.#accept(socket))
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as net.AddressInfo).port
  }

  async stop(): Promise<void> {
    const server = this.#server
    if (server === null) return
    this.#server = null
    for (const socket of this.#sockets) socket.resetAndDestroy()
    server.close()
    await once(server, 'close')
  }

  resume(): void {
    this.paused = false
    for (const socket of this.#sockets) socket.resume()
  }

  #accept(socket: net.Socket): void {
    this.connections++
    this.#sockets.add(socket)
    let rest = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk])
      for (;;) {
        const blank = rest.indexOf(' ')
        const length = Number(rest.toString('latin1', 0, Math.max(blank, 0)))
        if (blank === -1 || rest.length < blank + 1 + length) return
        this.messages.push(rest.toString('utf8', blank + 1, blank + 1 + length))
        rest = rest.subarray(blank + 1 + length)
      }
    })
    socket.on('error', () => { /* It is gone, then. */ })
    socket.on('close', () => this.#sockets.delete(socket))
    if (this.paused) socket.pause()
  }
}

/** A message a datagram. */
export class UdpReceiver {
  readonly messages: string[] = []
  port = 0
  #socket: dgram.Socket | null = null

  static async start(t: TestContext): Promise<UdpReceiver> {
    const receiver = new UdpReceiver()
    await receiver.start()
    t.after(() => receiver.stop())
    return receiver
  }

  get address(): string { return `syslog:udp:127.0.0.1:${this.port}` }

  async start(): Promise<void> {
    const socket = this.#socket = dgram.createSocket('udp4')
    socket.on('message', message => { this.messages.push(message.toString()) })
    socket.bind(this.port, '127.0.0.1')
    await once(socket, 'listening')
    this.port = socket.address().port
  }

  async stop(): Promise<void> {
    const socket = this.#socket
    if (socket === null) return
    this.#socket = null
    socket.close()
    await once(socket, 'close')
  }
}
