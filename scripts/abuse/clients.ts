/** What attackers are made of: bare connections, many of them, at a rate or all at once. */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** Dials under way at once. */
const DIALS_AT_ONCE = 64
const ANSWER_MAX_MS = 10_000

/** A connection that never complains: whoever attacks expects to be cut. */
export function dial(port: number): net.Socket {
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => {})
  return socket
}

/** Resolves when the connection is there, or refused. */
export function connected(socket: net.Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true))
    socket.once('close', () => resolve(false))
  })
}

/** @returns those that got in. Each is given to `onOpen` as soon as it is there. */
export async function dialMany(port: number, count: number, onOpen: (socket: net.Socket) => void): Promise<net.Socket[]> {
  const sockets: net.Socket[] = []
  let begun = 0
  async function dialer(): Promise<void> {
    while (begun < count) {
      begun++
      const socket = dial(port)
      if (!await connected(socket)) continue
      sockets.push(socket)
      onOpen(socket)
    }
  }
  await Promise.all(Array.from({ length: DIALS_AT_ONCE }, dialer))
  return sockets
}

/** Calls `each` so many times a second, for so long; what it returns is not waited for. @returns how often. */
export async function atRate(perSecond: number, seconds: number, each: (index: number) => void): Promise<number> {
  const startMs = performance.now()
  let done = 0
  while (performance.now() - startMs < seconds * 1000) {
    while (startMs + done * 1000 / perSecond <= performance.now()) each(done++)
    await delay(2)
  }
  return done
}

/** One request on a connection of its own; all that came until the answer was whole, the connection ended, or 10 s passed. */
export function exchange(port: number, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = dial(port)
    let text = ''
    const timer = setTimeout(() => socket.destroy(), ANSWER_MAX_MS)
    socket.on('data', (chunk) => { text += chunk.toString('latin1') })
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(text)
    })
    socket.write(bytes)
  })
}

export function get(path: string, fields = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: attacker\r\n${fields}\r\n`
}

export const CLOSE = 'Connection: close\r\n'

export function statusOf(answer: string): number { return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0) }

/** What the origin behind the attacked instance has seen; asked directly. */
export async function counters(originPort: number): Promise<{ smuggled: number; h2c: number; open: number; requests: number }> {
  const answer = await fetch(`http://127.0.0.1:${originPort}/counters`, { headers: { Connection: 'close' } })
  return await answer.json() as { smuggled: number; h2c: number; open: number; requests: number }
}

/** Honest requests, one after the other on each of some connections. */
export async function askMany(port: number, connections: number, each: number): Promise<void> {
  await Promise.all(Array.from({ length: connections }, () => new Promise<void>((resolve) => {
    const socket = dial(port)
    let left = each
    const ask = (): void => {
      if (left-- > 0) socket.write(get('/victim'))
      else socket.destroy()
    }
    // An answer is so short that it comes in one piece.
    socket.on('connect', ask).on('data', ask).on('close', () => resolve())
  })))
}
