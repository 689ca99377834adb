/** Handshakes of which one side sends what it likes, and then nothing more: each ends, and leaves nothing. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import tls from 'node:tls'
import fc from 'fast-check'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { dialTcp, TcpStream } from '../../../src/protocols/tcp/tcp-stream.ts'
import { acceptTls, connectTls, type HandshakeOwner, type TlsStream } from '../../../src/protocols/tls/tls-stream.ts'
import { clientContext, serverContext, SILENT, testSite } from '../../support/tls-sides.ts'
import { within } from '../../support/wait-for.ts'

/** Changes at places that are given as parts of a thousand. */
type Change =
  | { readonly kind: 'set'; readonly at: number; readonly byte: number }
  | { readonly kind: 'cut'; readonly at: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'length'; readonly at: number; readonly length: number }

const at = fc.integer({ min: 0, max: 999 })
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at, byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at }),
  fc.record({ kind: fc.constant('insert' as const), at, bytes: fc.uint8Array({ maxLength: 50 }) }),
  fc.record({ kind: fc.constant('length' as const), at, length: fc.nat(65_535) }),
)
const changes = fc.array(change, { minLength: 1, maxLength: 5 })

function changed(bytes: Buffer, all: readonly Change[]): Buffer {
  let made = Buffer.from(bytes)
  for (const one of all) {
    const place = Math.floor(one.at * made.length / 1000)
    switch (one.kind) {
      case 'set': if (made.length > 0) made[place] = one.byte; break
      case 'cut': made = made.subarray(0, place); break
      case 'insert': made = Buffer.concat([made.subarray(0, place), one.bytes, made.subarray(place)]); break
      case 'length': if (place + 2 <= made.length) made.writeUInt16BE(one.length, place)
    }
  }
  return made
}

async function listen(t: TestContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return (server.address() as net.AddressInfo).port
}

/** The first bytes that come to this socket. */
async function firstBytes(socket: net.Socket): Promise<Buffer> {
  const [bytes] = await once(socket, 'data') as [Buffer]
  return bytes
}

/** What a client says first. */
async function clientHello(t: TestContext): Promise<Buffer> {
  const server = net.createServer(), port = await listen(t, server)
  const accepted = once(server, 'connection') as Promise<[net.Socket]>
  const client = tls.connect({ port, host: '127.0.0.1', servername: 'a.test' }).on('error', () => { /* Nobody answers. */ })
  const [socket] = await accepted, hello = await firstBytes(socket)
  client.destroy()
  return hello
}

/** What a server answers to it. */
async function serverFlight(t: TestContext, hello: Buffer): Promise<Buffer> {
  const server = tls.createServer({ cert: testSite.cert, key: testSite.key }).on('tlsClientError', () => { /* It goes no further. */ })
  const client = net.connect(await listen(t, server), '127.0.0.1', () => client.write(hello))
  const flight = await firstBytes(client)
  client.destroy()
  return flight
}

class Outcome implements HandshakeOwner {
  readonly ended = Promise.withResolvers<string>()
  onSecure(stream: TlsStream): void {
    stream.destroy()
    this.ended.resolve('secure')
  }
  onHandshakeFailed(error: Error | null): void { this.ended.resolve((error as NodeJS.ErrnoException | null)?.code ?? 'closed') }
}

const RUNS = 150

test('handshake fuzz: hellos of every sort', async t => {
  const hello = await clientHello(t)
  let outcome = new Outcome(), stream: TlsStream | null = null
  const port = await listen(t, net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, accepted => {
    stream = acceptTls(TcpStream.accept(accepted, SILENT), null, { secureContext: serverContext }, outcome)
  }))
  await fc.assert(fc.asyncProperty(changes, async all => {
    outcome = new Outcome()
    const client = net.connect(port, '127.0.0.1', () => client.end(changed(hello, all))).on('error', () => { /* As it comes. */ }).resume()
    const closed = new Promise(resolve => { client.on('close', resolve) })
    assert.notEqual(await within('the end of the handshake', outcome.ended.promise), 'secure')
    await within('the close', closed)
    assert.deepEqual([stream!.destroyed, stream!.descriptor, heldBytes.now], [true, -1, 0])
  }), { numRuns: RUNS })
})

test('handshake fuzz: answers of every sort', async t => {
  const flight = await serverFlight(t, await clientHello(t))
  let answer = flight
  const port = await listen(t, net.createServer(socket => {
    socket.on('error', () => { /* As it comes. */ })
    socket.once('data', () => socket.end(answer))
  }))
  await fc.assert(fc.asyncProperty(changes, async all => {
    answer = changed(flight, all)
    const outcome = new Outcome()
    let stream: TlsStream | null = null
    const tcp: TcpStream = dialTcp({ address: { kind: 'tcp', host: '127.0.0.1', port } }, {
      ...SILENT,
      onConnected() {
        stream = connectTls(tcp, null, 'a.test', { secureContext: clientContext }, outcome)
        stream.startClient()
      },
    })
    assert.notEqual(await within('the end of the handshake', outcome.ended.promise), 'secure')
    assert.deepEqual([stream!.destroyed, stream!.descriptor, heldBytes.now], [true, -1, 0])
  }), { numRuns: RUNS })
})
