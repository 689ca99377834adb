/**
 * Small origin servers for the examples, on the loopback interface. Real origins are somebody else's processes.
 *
 * `npm run origins` starts three of them, `left`, `right` and `spare`, at 127.0.0.1:3001, 3002 and 3003, where the recipes look for
 * theirs. The load balancer has its own instead, on free ports: each worker starts them, and they end with it.
 *
 *   /                   a few lines: which origin answered, in which worker
 *   /slow[?ms=N]        the same after a while (2 s)
 *   /health             ok
 *   /status?code=N      that status; with &of=NAME from the origin of that name alone, and 200 from the others
 *   /page               a page of HTML with links to http://app.internal/
 *   /headers            the request as the origin received it, as JSON
 *   /echo               the request's body, with its type
 *   /upload             how many bytes came, and their SHA-256
 *   /download?bytes=N   N bytes (1 MiB)
 *   /events             server-sent events, one a second
 *   /ws                 WebSocket that sends everything back (RFC 6455)
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type http from 'node:http'
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import type { BackgroundService } from 'cirque'

/** Of `npm run origins`. */
const PORTS = { left: 3001, right: 3002, spare: 3003 }
const MAX_DELAY_MS = 60_000
const MAX_DOWNLOAD_BYTES = 1_073_741_824
const MIN_STATUS = 200
const MAX_STATUS = 599
const PIECE = Buffer.alloc(65_536, 'cirque ')
/** RFC 6455 1.3. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

export class DemoOrigins implements BackgroundService {
  readonly kind = 'background'
  readonly name = 'demo-origins'
  /** `127.0.0.1:port` of each, once started. */
  readonly addresses: string[] = []
  readonly #names: readonly string[]
  readonly #onStarted: (addresses: readonly string[]) => void

  constructor(names: readonly string[], onStarted: (addresses: readonly string[]) => void) {
    this.#names = names
    this.#onStarted = onStarted
  }

  async start(signal: AbortSignal): Promise<void> {
    for (const name of this.#names) {
      const origin = createOrigin(name)
      // Exclusive: in a worker, node:cluster would otherwise ask the supervisor for the socket, which gives out none.
      origin.listen({ host: '127.0.0.1', port: 0, exclusive: true })
      await once(origin, 'listening')
      this.addresses.push(`127.0.0.1:${(origin.address() as net.AddressInfo).port}`)
      signal.addEventListener('abort', () => {
        origin.close()
        origin.closeAllConnections()
      }, { once: true })
    }
    this.#onStarted(this.addresses)
  }
}

export function createOrigin(name: string): http.Server {
  // Not by import, which loads undici as well: 19 MB and 76 ms in every worker.
  const origin = process.getBuiltinModule('node:http').createServer((request, response) => {
    response.on('error', () => {}) // A reader that left in the middle is nobody's fault.
    void answer(name, request, response).catch((error: unknown) => { response.destroy(error as Error) })
  })
  origin.on('upgrade', (request, socket, head) => acceptWebSocket(request, socket, head))
  // Longer than the proxy keeps idle connections, so that it is never the origin who closes one.
  origin.keepAliveTimeout = 75_000
  return origin
}

async function answer(name: string, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://demo.invalid')
  switch (url.pathname) {
    case '/':
      sayHello(name, response)
      return
    case '/slow':
      await delay(numberIn(url, 'ms', 2000, MAX_DELAY_MS), response)
      sayHello(name, response)
      return
    case '/health':
      response.end('ok\n')
      return
    case '/status': {
      const of = url.searchParams.get('of') ?? name
      if (of === name) response.statusCode = Math.max(numberIn(url, 'code', 200, MAX_STATUS), MIN_STATUS)
      sayHello(name, response)
      return
    }
    case '/page':
      response.setHeader('content-type', 'text/html; charset=utf-8')
      response.write(`<!doctype html><title>${name}</title>\n`)
      response.end('<a href="http://app.internal/">Home</a> <a href="http://app.internal/page">Page</a>\n')
      return
    case '/headers':
      response.setHeader('content-type', 'application/json; charset=utf-8')
      const { method, url: target, httpVersion: version, headers } = request
      response.end(`${JSON.stringify({ origin: name, method, target, version, headers }, null, 2)}\n`)
      return
    case '/echo':
      response.setHeader('content-type', request.headers['content-type'] ?? 'application/octet-stream')
      if (request.headers['content-length'] !== undefined) response.setHeader('content-length', request.headers['content-length'])
      request.pipe(response)
      return
    case '/upload': {
      const hash = createHash('sha256')
      let bytes = 0
      for await (const chunk of request as AsyncIterable<Buffer>) {
        hash.update(chunk)
        bytes += chunk.length
      }
      response.setHeader('content-type', 'application/json; charset=utf-8')
      response.end(`${JSON.stringify({ origin: name, bytes, sha256: hash.digest('hex') })}\n`)
      return
    }
    case '/download':
      await sendBytes(numberIn(url, 'bytes', 1_048_576, MAX_DOWNLOAD_BYTES), response)
      return
    case '/events':
      sendEvents(name, response)
      return
    default:
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' })
      response.end(`${name} knows no ${url.pathname}; try /, /slow, /status, /page, /headers, /echo, /upload, /download, /events or /ws\n`)
  }
}

function sayHello(name: string, response: http.ServerResponse): void {
  response.setHeader('content-type', 'text/plain; charset=utf-8')
  const more = '/slow /status?code=503 /page /headers /echo /upload /download?bytes=1000 /events /ws'
  response.end(`Hello from origin ${name}, in process ${process.pid}, through Cirque.\nMore: ${more}\n`)
}

/** A whole number from the query, or what is usual; never more than `max`. */
function numberIn(url: URL, key: string, usual: number, max: number): number {
  const text = url.searchParams.get(key)
  return text !== null && /^\d{1,15}$/.test(text) ? Math.min(Number(text), max) : usual
}

/** Ends early when the client leaves. */
function delay(ms: number, response: http.ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms)
    response.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

async function sendBytes(bytes: number, response: http.ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes })
  for (let left = bytes; left > 0 && !response.destroyed; left -= PIECE.length) {
    const taken = response.write(left < PIECE.length ? PIECE.subarray(0, left) : PIECE)
    if (!taken) await drainedOrGone(response)
  }
  response.end()
}

async function drainedOrGone(response: http.ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  response.once('drain', resolve).once('close', resolve)
  await promise
  response.off('drain', resolve).off('close', resolve)
}

function sendEvents(name: string, response: http.ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' })
  let count = 0
  const send = (): void => { response.write(`id: ${count}\ndata: ${JSON.stringify({ origin: name, count: count++ })}\n\n`) }
  send()
  const timer = setInterval(send, 1000)
  response.once('close', () => clearInterval(timer))
}

// WebSocket.

/** Longest frame that is sent back; a demo needs no more. */
const MAX_FRAME_BYTES = 1_048_576
const OPCODE_CLOSE = 0x8
const OPCODE_PING = 0x9
const OPCODE_PONG = 0xA

function acceptWebSocket(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
  socket.on('error', () => {})
  const key = request.headers['sec-websocket-key']
  if (request.url?.split('?')[0] !== '/ws' || key === undefined || request.headers.upgrade?.toLowerCase() !== 'websocket') {
    socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    return
  }
  const accept = createHash('sha1').update(key + WEBSOCKET_GUID).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
  let held = head
  const take = (chunk: Buffer): void => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    for (let frame = readFrame(held); frame !== null; frame = readFrame(held)) {
      if (frame === 'broken') {
        socket.end(writeFrame(0x80 | OPCODE_CLOSE, Buffer.from([0x03, 0xEA]))) // 1002, protocol error.
        return
      }
      held = held.subarray(frame.length)
      const opcode = frame.first & 0xF
      if (opcode === OPCODE_PONG) continue
      // Fragments go back as the fragments they are.
      const taken = socket.write(writeFrame(opcode === OPCODE_PING ? 0x80 | OPCODE_PONG : frame.first, frame.payload))
      if (opcode === OPCODE_CLOSE) {
        socket.end()
        return
      }
      if (!taken) {
        socket.pause()
        socket.once('drain', () => socket.resume())
      }
    }
  }
  socket.on('data', take)
  socket.on('end', () => socket.end())
  if (head.length > 0) {
    held = Buffer.alloc(0)
    take(head)
  }
}

interface Frame { readonly first: number; readonly payload: Buffer; readonly length: number }

/** One whole masked frame from the front (RFC 6455 5.2); null when more bytes are needed. */
function readFrame(bytes: Buffer): Frame | 'broken' | null {
  if (bytes.length < 2) return null
  const first = bytes.readUInt8(0)
  const second = bytes.readUInt8(1)
  if ((first & 0x70) !== 0 || (second & 0x80) === 0) return 'broken'
  const short = second & 0x7F
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0
  if (bytes.length < 2 + lengthBytes) return null
  const size = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
  if (size > MAX_FRAME_BYTES) return 'broken'
  const start = 2 + lengthBytes + 4
  if (bytes.length < start + size) return null
  const payload = Buffer.from(bytes.subarray(start, start + size))
  for (let at = 0; at < size; at++) payload[at] = (payload[at] ?? 0) ^ (bytes[start - 4 + (at & 3)] ?? 0)
  return { first, payload, length: start + size }
}

function writeFrame(first: number, payload: Buffer): Buffer {
  const size = payload.length
  const head = Buffer.alloc(size < 126 ? 2 : size < 65_536 ? 4 : 10)
  head.writeUInt8(first, 0)
  head.writeUInt8(size < 126 ? size : size < 65_536 ? 126 : 127, 1)
  if (head.length === 4) head.writeUInt16BE(size, 2)
  else if (head.length === 10) head.writeBigUInt64BE(BigInt(size), 2)
  return Buffer.concat([head, payload])
}

if (import.meta.main) {
  for (const [name, port] of Object.entries(PORTS)) {
    createOrigin(name).listen(port, '127.0.0.1', () => { console.log(`${name} answers on http://127.0.0.1:${port}/`) })
  }
}
