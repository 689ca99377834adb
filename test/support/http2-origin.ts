/**
 * An origin of HTTP/2, of Node.js: `/` says who asked, `/upload` the SHA-256 of what came, `/messages` sends back what comes and
 * `grpc-status: 0` behind its end, `/ws` is a WebSocket that does (RFC 8441); everything else is 404.
 */
import { createHash } from 'node:crypto'
import http2, { type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type net from 'node:net'

export const HTTP2_SETTINGS: http2.Settings = { enableConnectProtocol: true }

/** By prior knowledge. */
export function createHttp2Origin(): http2.Http2Server {
  const server = http2.createServer({ settings: HTTP2_SETTINGS })
  server.on('stream', answerStream)
  return server
}

/** One that speaks both versions on one port, as a first byte says. Neither of the two listens itself. */
export function choosesVersion(server: net.Server, http1: net.Server, overHttp2: http2.Http2Server): void {
  server.on('connection', (socket: net.Socket) => {
    socket.on('error', () => { /* A client that left. */ })
    socket.once('readable', () => {
      const bytes = socket.read() as Buffer | null
      if (bytes === null) return
      // No method of HTTP/1 that is used here begins so.
      const chosen = bytes.subarray(0, 4).toString('latin1') === 'PRI ' ? overHttp2 : http1
      socket.unshift(bytes)
      chosen.emit('connection', socket)
    })
  })
}

export function answerStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.on('error', () => { /* A client that lost interest. */ })
  // Told of in a later turn than it came.
  if (stream.destroyed) return
  switch (headers[':path']) {
    case '/':
      stream.respond({ ':status': 200 })
      stream.end(String(headers['x-who'] ?? 'nobody'))
      return
    case '/upload': {
      const hash = createHash('sha256')
      stream.on('data', (bytes: Buffer) => { hash.update(bytes) })
      stream.once('end', () => {
        if (stream.destroyed) return
        stream.respond({ ':status': 200 })
        stream.end(hash.digest('hex'))
      })
      return
    }
    case '/messages':
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.pipe(stream)
      return
    case '/ws':
      if (headers[':protocol'] !== 'websocket') {
        stream.respond({ ':status': 400 }, { endStream: true })
        return
      }
      stream.respond({ ':status': 200 })
      echoFrames(stream)
      return
    default:
      stream.respond({ ':status': 404 }, { endStream: true })
  }
}

/** Frames of a client, without their masks. A Close comes back and ends the stream. */
function echoFrames(stream: ServerHttp2Stream): void {
  let held: Buffer = Buffer.alloc(0)
  stream.on('data', (bytes: Buffer) => {
    held = Buffer.concat([held, bytes])
    for (let frame = frameIn(held); frame !== null; frame = frameIn(held)) {
      held = held.subarray(frame.length)
      if (stream.writable) stream.write(frame.answer)
      if (frame.opcode === CLOSE) stream.end()
    }
  })
  stream.once('end', () => stream.end())
}

const CLOSE = 0x8

interface Frame { readonly opcode: number; readonly answer: Buffer; readonly length: number }

/** One whole masked frame from the front (RFC 6455 5.2); null when more bytes are needed. */
function frameIn(bytes: Buffer): Frame | null {
  if (bytes.length < 2) return null
  const short = bytes[1]! & 0x7f, extra = short === 126 ? 2 : short === 127 ? 8 : 0
  if (bytes.length < 2 + extra) return null
  const size = extra === 2 ? bytes.readUInt16BE(2) : extra === 8 ? Number(bytes.readBigUInt64BE(2)) : short
  const start = 2 + extra + 4
  if (bytes.length < start + size) return null
  const answer = Buffer.alloc(2 + extra + size)
  bytes.copy(answer, 0, 0, 2 + extra)
  answer[1]! &= 0x7f
  for (let at = 0; at < size; at++) answer[2 + extra + at] = bytes[start + at]! ^ bytes[start - 4 + (at & 3)]!
  return { opcode: bytes[0]! & 0xf, answer, length: start + size }
}
