/** Proves what a TcpStream takes of `net.Socket` that is not public, and has public ways beside it. */
import net from 'node:net'
import { TcpStream, useDirectWrites, useOnread } from './tcp-stream.ts'

let tested: Promise<boolean> | null = null

/**
 * Proves once a process that an accepted socket can be read through `onread`, and written past its queue; without the one
 * `'data'` is used, without the other the queue. Resolves to whether both hold.
 */
export function selfTest(): Promise<boolean> { return tested ??= test() }

async function test(): Promise<boolean> {
  if (await proves()) return true
  useDirectWrites(false)
  if (await proves()) return false
  useOnread(false)
  // Both may have failed for the first reason.
  useDirectWrites(true)
  useDirectWrites(await proves())
  return false
}

async function proves(): Promise<boolean> {
  try { return await probe() } catch { return false }
}

/** A loopback pair: bytes both ways, then FIN from either side must all arrive through the stream. */
async function probe(): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const server = net.createServer({ pauseOnConnect: true }, accepted => {
    let got = ''
    const stream = TcpStream.accept(accepted, {
      onBytes(buffer, from, to) {
        got += buffer.latin1Slice(from, to)
        if (got !== 'ping') return
        // The three ways of writing.
        stream.writeText('p')
        stream.flush()
        stream.writeBytes(Buffer.from('o'))
        stream.writeText('n')
        stream.writeBytes(Buffer.from('g'))
      },
      onEnd() { stream.end() },
      onDrained() {},
      onClosed(error) {
        if (error === null && got === 'ping') resolve(true)
        else reject(error ?? new Error(`read ${got}`))
      },
    })
  })
  server.on('error', reject)
  const limit = setTimeout(() => reject(new Error('self-test timed out')), 2000)
  // Exclusive: within a cluster worker Node would otherwise ask a primary that gives out no sockets.
  server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1', () => client.write('ping'))
    let answer = ''
    client.on('data', chunk => {
      answer += chunk.toString()
      if (answer === 'pong') client.end()
      else if (!'pong'.startsWith(answer)) reject(new Error(`wrong bytes: ${answer}`))
    })
    client.on('error', reject)
  })
  try { return await promise } finally {
    clearTimeout(limit)
    net.Server.prototype.close.call(server)
  }
}
