/** Origins that speak TLS in one way or another, right and wrong, on loopback. */
import { once } from 'node:events'
import net from 'node:net'
import type { TestContext } from 'node:test'
import tls from 'node:tls'

export interface Origin {
  readonly port: number
  /** `127.0.0.1:port` */
  readonly authority: string
  /** Connections so far. */
  readonly connections: number
  /** Handshakes that were done, in order: whether each took an earlier session up again. */
  readonly resumed: boolean[]
  /** Resolves when all connections are gone. */
  gone(): Promise<void>
  /** The next handshakes are made with another certificate. */
  replace(options: tls.SecureContextOptions): void
}

class Listening implements Origin {
  readonly port: number
  readonly authority: string
  connections = 0
  readonly resumed: boolean[] = []
  readonly open = new Set<net.Socket>()
  readonly #waits: (() => void)[] = []
  readonly #server: net.Server

  constructor(server: net.Server) {
    this.#server = server
    this.port = (server.address() as net.AddressInfo).port
    this.authority = `127.0.0.1:${this.port}`
  }

  replace(options: tls.SecureContextOptions): void { (this.#server as tls.Server).setSecureContext(options) }

  add(socket: net.Socket): void {
    this.connections++
    this.open.add(socket)
    socket.on('error', () => { /* As the case may be. */ })
    socket.on('close', () => {
      this.open.delete(socket)
      if (this.open.size === 0) for (const wait of this.#waits.splice(0)) wait()
    })
  }

  async gone(): Promise<void> {
    if (this.open.size > 0) await new Promise<void>(resolve => { this.#waits.push(resolve) })
  }
}

async function listen(t: TestContext, server: net.Server): Promise<Listening> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = new Listening(server)
  server.on('connection', (socket: net.Socket) => origin.add(socket))
  t.after(() => {
    for (const socket of origin.open) socket.destroy()
    server.close()
  })
  return origin
}

/** @param serve each connection after its handshake; left out: it waits for bytes and keeps them */
export async function tlsOrigin(t: TestContext, options: tls.TlsOptions, serve: (socket: tls.TLSSocket) => void = idle): Promise<Origin> {
  const server = tls.createServer(options)
  const origin = await listen(t, server)
  server.on('tlsClientError', () => { /* As the case may be. */ })
  server.on('secureConnection', socket => {
    origin.resumed.push(socket.isSessionReused())
    socket.on('error', () => { /* As the case may be. */ })
    serve(socket)
  })
  return origin
}

function idle(socket: tls.TLSSocket): void { socket.resume() }

/** Answers each request, of which there is one a read, with 200 and its path. */
export function answer(socket: tls.TLSSocket): void {
  socket.on('data', (chunk: Buffer) => {
    const path = /^[A-Z]+ (\S+)/.exec(chunk.toString('latin1'))?.[1] ?? '?'
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`)
  })
}

/** Speaks no TLS. */
export function plainOrigin(t: TestContext, serve: (socket: net.Socket) => void): Promise<Origin> {
  return listen(t, net.createServer(serve))
}

/** A CONNECT proxy: over TLS when it has `options`. `asked` gets what it was asked for. */
export async function connectProxy(t: TestContext, options: tls.TlsOptions | null, asked: string[] = []): Promise<Origin> {
  const serve = (socket: net.Socket): void => {
    socket.once('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1'), port = Number(/^CONNECT \S+:(\d+) /.exec(text)![1])
      asked.push(text.split(' ', 2)[1]!)
      const onward = net.connect(port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.pipe(onward)
        onward.pipe(socket)
      })
      onward.on('error', () => socket.destroy())
      socket.on('close', () => onward.destroy())
      onward.on('close', () => socket.destroy())
    })
  }
  return options === null ? plainOrigin(t, serve) : tlsOrigin(t, options, serve)
}
