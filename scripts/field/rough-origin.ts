/**
 * An origin that does whatever it is asked to, well or badly, in a process of its own:
 *
 *   node rough-origin.ts PORT...        listens on each; prints `listening`
 *
 *   /small                 a short answer
 *   /slow?ms=N             the same after a while
 *   /never                 nothing, for as long as the connection lives
 *   /endless               a body without an end, as fast as it is read
 *   /pieces?ms=N           a body of ten pieces, N ms apart
 *   /upload                reads a body and says how many bytes came
 *   /early                 answers 413 at once and closes without reading
 *   /fields                the fields of the request, as JSON
 *   /names                 a head whose Connection names thousands of fields
 *   /trickle               a head, one byte each 200 ms, without an end
 *   /reset-head /reset-body   a reset before, and within the answer
 *   /short                 fewer bytes than announced, then FIN
 *   /counters              what this port has seen, as JSON
 *   Upgrade                101 after `?ms=N`, then everything is sent back
 *
 * Every request whose target holds `smuggled` counts: no client asks for that in the open.
 */
import { createHash } from 'node:crypto'
import http from 'node:http'
import net from 'node:net'
import type { Duplex } from 'node:stream'

export interface OriginCounters { readonly smuggled: number; readonly h2c: number; readonly open: number; readonly requests: number }

const PIECE = Buffer.alloc(65_536, 'cirque ')
const PIECES = 10
const NAMES = 15_000
const FIELDS = 90
const TRICKLE_MS = 200
/** Longer than a proxy keeps idle connections, so that it is never the origin who closes one. */
const KEEP_ALIVE_MS = 120_000

function serve(port: number): Promise<void> {
  let smuggled = 0
  let h2c = 0
  let requests = 0
  const open = new Set<Duplex>()
  const server = http.createServer({ maxHeaderSize: 1024 * 1024, requestTimeout: 0 }, (request, response) => {
    requests++
    const url = new URL(request.url ?? '/', 'http://origin.invalid')
    if (url.href.includes('smuggled')) smuggled++
    if (request.headers.upgrade === 'h2c') h2c++
    response.on('error', () => {})
    const seen: OriginCounters = { smuggled, h2c, open: open.size, requests }
    if (url.pathname === '/counters') answer(response, JSON.stringify(seen))
    else respond(url, request, response)
  })
  server.on('connection', (socket) => {
    open.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
  })
  server.on('upgrade', (request, socket) => {
    requests++
    if (request.headers.upgrade === 'h2c') h2c++
    upgrade(request, socket)
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  server.keepAliveTimeout = KEEP_ALIVE_MS
  server.maxRequestsPerSocket = 0
  return new Promise((resolve) => { server.listen({ port, host: '127.0.0.1', backlog: 4096 }, resolve) })
}

function answer(response: http.ServerResponse, body: string, status = 200): void {
  response.writeHead(status, { 'Content-Length': Buffer.byteLength(body) }).end(body)
}

function respond(url: URL, request: http.IncomingMessage, response: http.ServerResponse): void {
  const { socket } = request
  const ms = Number(url.searchParams.get('ms') ?? 0)
  switch (url.pathname) {
    case '/slow':
      setTimeout(() => answer(response, 'late'), ms)
      return
    case '/never':
      return
    case '/endless':
      response.writeHead(200, { 'Content-Length': Number.MAX_SAFE_INTEGER })
      pump(response)
      return
    case '/pieces':
      pieces(response, ms)
      return
    case '/upload':
      upload(request, response)
      return
    case '/fields':
      answer(response, JSON.stringify(request.headers))
      return
    case '/early':
      socket.end('HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      return
    case '/names': {
      const fields = Array.from({ length: FIELDS }, (_, at) => `x-field-${at}: ${at}\r\n`).join('')
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: ${'a,'.repeat(NAMES)}b\r\n${fields}\r\nok`)
      response.detachSocket(socket)
      return
    }
    case '/trickle':
      trickle(socket)
      return
    case '/reset-head':
      if (socket instanceof net.Socket) socket.resetAndDestroy()
      return
    case '/reset-body':
      response.writeHead(200, { 'Content-Length': PIECE.length * 2 })
      response.write(PIECE, () => { if (socket instanceof net.Socket) socket.resetAndDestroy() })
      return
    case '/short':
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort')
      return
    default:
      answer(response, 'x'.repeat(80))
  }
}

function pump(response: http.ServerResponse): void {
  while (!response.destroyed && response.write(PIECE));
  if (!response.destroyed) response.once('drain', () => pump(response))
}

function pieces(response: http.ServerResponse, ms: number): void {
  response.writeHead(200, { 'Content-Length': PIECES * 1000 })
  let left = PIECES
  const timer = setInterval(() => {
    response.write(PIECE.subarray(0, 1000))
    if (--left > 0 && !response.destroyed) return
    clearInterval(timer)
    response.end()
  }, ms)
}

function upload(request: http.IncomingMessage, response: http.ServerResponse): void {
  let bytes = 0
  request.on('error', () => {})
  request.on('data', (chunk: Buffer) => { bytes += chunk.length })
  request.on('end', () => answer(response, String(bytes)))
}

function trickle(socket: net.Socket): void {
  socket.write('HTTP/1.1 200 OK\r\nX-Long: ')
  const timer = setInterval(() => socket.write('x'), TRICKLE_MS)
  socket.on('close', () => clearInterval(timer))
}

/** RFC 6455 4.2.2. */
function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
}

function upgrade(request: http.IncomingMessage, socket: Duplex): void {
  const ms = Number(new URL(request.url ?? '/', 'http://origin.invalid').searchParams.get('ms') ?? 0)
  const key = request.headers['sec-websocket-key']
  const accept = key === undefined ? '' : `Sec-WebSocket-Accept: ${acceptOf(key)}\r\n`
  setTimeout(() => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${request.headers.upgrade}\r\n${accept}\r\n`)
    socket.pipe(socket)
  }, ms)
}

await Promise.all(process.argv.slice(2).map((port) => serve(Number(port))))
process.stdout.write('listening\n')
