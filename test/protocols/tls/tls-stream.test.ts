import assert from 'node:assert/strict'
import { once } from 'node:events'
import { fstatSync } from 'node:fs'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import tls from 'node:tls'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { MemoryStream } from '../../../src/protocols/memory-stream.ts'
import { TcpStream } from '../../../src/protocols/tcp/tcp-stream.ts'
import { tlsSelfTest } from '../../../src/protocols/tls/tls-self-test.ts'
import { acceptTls, connectTls, useOnread, type HandshakeOwner, type TlsStream } from '../../../src/protocols/tls/tls-stream.ts'
import { clientContext, Collector, Line, serverContext, SILENT, testCa, tlsSides } from '../../support/tls-sides.ts'
import { within } from '../../support/wait-for.ts'

const NUMBERS = Array.from({ length: 60_000 }, (_, index) => String(index)).join(' ')

/** Both ways in which a connection may be read. */
const WAYS = [['onread', true], ["'data'", false]] as const

function reading(t: TestContext, viaOnread: boolean): void {
  useOnread(viaOnread)
  t.after(() => useOnread(true))
}

function isOpen(descriptor: number): boolean {
  try {
    fstatSync(descriptor)
    return true
  } catch {
    return false
  }
}

test('tls stream: this Node.js reads TLS through onread, and tells a cut from an end', async () => assert.equal(await tlsSelfTest(), true))

for (const [name, viaOnread] of WAYS) {
  test(`tls stream: through ${name}, what was written arrives whatever a callback pauses and resumes, and nothing stays held`, async t => {
    reading(t, viaOnread)
    const before = heldBytes.now
    const { client, server, serverOwner } = await tlsSides(t)
    let pieces = 0
    serverOwner.onPiece = ({ stream }) => {
      stream.pause()
      // Every third time resumed within the callback that paused it, then soon, then later: records come meanwhile.
      if (++pieces % 3 === 0) stream.resume()
      else if (pieces % 3 === 1) process.nextTick(() => stream.resume())
      else setImmediate(() => stream.resume())
    }
    client.writeBytes(Buffer.from(NUMBERS))
    assert.equal(await within('all bytes', serverOwner.whole(NUMBERS.length)), NUMBERS)
    client.end()
    server.end()
    await within('both ends', Promise.all([serverOwner.closed.promise, serverOwner.ended.promise]))
    assert.deepEqual(serverOwner.events, ['end', 'closed'])
    assert.equal(heldBytes.now, before)
  })

  test(`tls stream: through ${name}, a paused owner is told nothing, neither bytes nor the end behind them`, async t => {
    reading(t, viaOnread)
    const { client, server, serverOwner } = await tlsSides(t)
    let pieces = 0
    serverOwner.onPiece = ({ stream }) => {
      pieces++
      stream.pause()
    }
    client.writeBytes(Buffer.alloc(50_000, 'x'))
    client.end()
    while (pieces < 4) {
      const seen = pieces
      await within('a piece', serverOwner.whole(seen * 16_384 + 1))
      for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve))
      assert.deepEqual([pieces, serverOwner.events, server.paused], [seen + 1, [], true])
      server.resume()
    }
    await within('the end', serverOwner.ended.promise)
    assert.equal(serverOwner.text.length, 50_000)
  })
}

test('tls stream: bytes in a buffer of its own stay untouched while the owner keeps the stream paused', async t => {
  const { client, serverOwner } = await tlsSides(t)
  let kept: { buffer: Buffer; from: number; to: number; text: string } | null = null
  let checked = 0
  serverOwner.onPiece = ({ stream }, buffer, from, to) => {
    stream.receiveBuffer!.useOwnBuffer()
    if (!stream.receiveBuffer!.ownsBuffer) return
    stream.pause()
    kept = { buffer, from, to, text: buffer.latin1Slice(from, to) }
    // The reserve is the owner's, too.
    buffer.fill(0, from - 20, from)
    buffer.fill(0, to, to + 20)
    setImmediate(() => setImmediate(() => {
      assert.equal(kept!.buffer.latin1Slice(kept!.from, kept!.to), kept!.text)
      checked++
      stream.resume()
    }))
  }
  client.writeBytes(Buffer.from(NUMBERS))
  assert.equal(await within('all bytes', serverOwner.whole(NUMBERS.length)), NUMBERS)
  assert.ok(checked > 5)
})

test('tls stream: a buffer that was given up is not read into again', async t => {
  const { client, serverOwner } = await tlsSides(t)
  const kept: { bytes: Buffer; text: string }[] = []
  serverOwner.onPiece = ({ stream }, buffer, from, to) => {
    const own = stream.receiveBuffer!
    if (own.ownsBuffer && own.giveUpBuffer()) kept.push({ bytes: buffer.subarray(from, to), text: buffer.latin1Slice(from, to) })
    else own.useOwnBuffer()
  }
  client.writeBytes(Buffer.from(NUMBERS))
  await within('all bytes', serverOwner.whole(NUMBERS.length))
  assert.ok(kept.length > 5)
  for (const { bytes, text } of kept) assert.equal(bytes.toString('latin1'), text)
})

test('tls stream: bytes arrive in order whatever pieces the line cuts them into', async t => {
  for (const pieceBytes of [1, 2, 3, 5, 6, 7, 16, 23, 100, 1_000, 16_405, 16_407]) {
    await t.test(`${pieceBytes} bytes at a time`, async inner => {
      const text = NUMBERS.slice(0, pieceBytes < 16 ? 3_000 : 100_000)
      const { client, server, clientOwner, serverOwner } = await tlsSides(inner, { line: new Line(pieceBytes) })
      client.writeText(text)
      assert.equal(await within('the request', serverOwner.whole(text.length)), text)
      server.writeText('answer: ')
      server.writeBytes(Buffer.from(text))
      assert.equal(await within('the answer', clientOwner.whole(8 + text.length)), `answer: ${text}`)
    })
  }
})

test('tls stream: records of one byte each', async t => {
  const { client, serverOwner } = await tlsSides(t)
  for (const char of NUMBERS.slice(0, 2_000)) client.socket.write(char)
  assert.equal(await within('all bytes', serverOwner.whole(2_000)), NUMBERS.slice(0, 2_000))
})

test('tls stream: each side ends for itself, and reads on', async t => {
  const { client, server, clientOwner, serverOwner } = await tlsSides(t)
  const { descriptor } = server
  client.writeText('question')
  client.end()
  await within("the client's end", serverOwner.ended.promise)
  assert.equal(serverOwner.text, 'question')
  server.writeText('answer')
  await within('the answer', clientOwner.whole(6))
  assert.deepEqual([clientOwner.events, serverOwner.events], [[], ['end']])
  server.end()
  await within('both gone', Promise.all([clientOwner.closed.promise, serverOwner.closed.promise]))
  assert.deepEqual([clientOwner.events, serverOwner.events], [['end', 'closed'], ['end', 'closed']])
  assert.deepEqual([server.descriptor, server.destroyed, isOpen(descriptor)], [-1, true, false])
})

test('tls stream: a reset is seen as one, and closes the descriptor', async t => {
  const { client, server, clientOwner, serverOwner } = await tlsSides(t)
  const { descriptor } = server
  assert.equal(isOpen(descriptor), true)
  server.destroy(true)
  await within('both gone', Promise.all([clientOwner.closed.promise, serverOwner.closed.promise]))
  assert.deepEqual([clientOwner.events, serverOwner.events], [['ECONNRESET'], ['closed']])
  assert.equal(isOpen(descriptor), false)
  assert.equal(client.destroyed, true)
})

test('tls stream: a reset behind a FIN still closes the connection', async t => {
  const { client, server, serverOwner } = await tlsSides(t)
  client.socket.on('error', () => { /* Cut is cut. */ })
  server.writeText('bye')
  server.end()
  server.destroy(true)
  await within('the end of the connection', serverOwner.closed.promise)
})

test('tls stream: an end without close_notify is an error to a client and FIN to a server', async t => {
  const toClient = new Line(), first = await tlsSides(t, { line: toClient })
  first.server.writeText('half an ans')
  await within('the beginning', first.clientOwner.whole(11))
  toClient.toClient!.end()
  await within('the cut', first.clientOwner.closed.promise)
  assert.deepEqual(first.clientOwner.events, ['ERR_TLS_CUT'])
  const toServer = new Line(), second = await tlsSides(t, { line: toServer })
  second.client.writeText('question')
  await within('the question', second.serverOwner.whole(8))
  toServer.toServer!.end()
  await within('the end', second.serverOwner.ended.promise)
  assert.deepEqual(second.serverOwner.events, ['end'])
})

test('tls stream: a record that was changed on the way closes the connection, with its descriptor', async t => {
  const line = new Line(), { server, serverOwner } = await tlsSides(t, { line })
  const { descriptor } = server
  line.toServer!.write(Buffer.concat([Buffer.from([0x17, 3, 3, 0, 40]), Buffer.alloc(40, 7)]))
  await within('the end', serverOwner.closed.promise)
  assert.match(serverOwner.events[0]!, /^ERR_SSL_/)
  assert.equal(isOpen(descriptor), false)
})

test('tls stream: what the kernel took at once is not queued, what it did not is, until it has', async t => {
  const { client, server, clientOwner, serverOwner } = await tlsSides(t)
  client.writeText('x')
  client.flush()
  assert.equal(client.bytesQueued, 0)
  await within('a byte', serverOwner.whole(1))
  server.pause()
  client.writeBytes(Buffer.alloc(30_000_000, 'y'))
  assert.ok(client.bytesQueued > 1_000_000)
  assert.ok(client.bytesTaken < client.bytesWritten)
  const held = heldBytes.now
  assert.ok(held > 1_000_000)
  server.resume()
  await within('room', clientOwner.drained.promise)
  assert.deepEqual([client.bytesQueued, client.bytesTaken], [0, 30_000_001])
  await within('all bytes', serverOwner.whole(30_000_001))
})

test('tls stream: what is written behind a write under way is copied, until that is too much, and leaves in order', async t => {
  const before = heldBytes.now
  const { client, clientOwner, serverOwner } = await tlsSides(t)
  const bytes = Buffer.alloc(20_000)
  for (const char of 'abcd') {
    client.writeBytes(bytes.fill(char))
    // It is free again.
    assert.equal(client.bytesQueued, 0)
    client.writeText(char.toUpperCase())
    client.flush()
  }
  bytes.fill('!')
  const kept = Buffer.alloc(20_000, 'e')
  client.writeBytes(kept)
  assert.ok(client.bytesQueued >= 20_000)
  await within('room', clientOwner.drained.promise)
  assert.equal(client.bytesQueued, 0)
  const text = await within('all bytes', serverOwner.whole(100_004))
  assert.equal(text, [...'abcd'].map(char => char.repeat(20_000) + char.toUpperCase()).join('') + 'e'.repeat(20_000))
  assert.equal(heldBytes.now, before)
})

test('tls stream: what was copied leaves also when the stream is closed in the same turn', async t => {
  const { server, clientOwner, serverOwner } = await tlsSides(t)
  for (let count = 0; count < 3; count++) server.writeBytes(Buffer.alloc(20_000, 'x'))
  server.destroy()
  assert.deepEqual([server.destroyed, server.socket.destroyed], [true, false])
  server.writeText('behind it')
  await within('both ends', Promise.all([clientOwner.closed.promise, serverOwner.closed.promise]))
  assert.deepEqual([clientOwner.text, serverOwner.events], ['x'.repeat(60_000), ['closed']])
})

test('tls stream: to a stream with a buffer of its own full records come together, and none waits for longer than the turn', async t => {
  const { client, serverOwner } = await tlsSides(t)
  const sizes: number[] = []
  serverOwner.onPiece = ({ stream }, _buffer, from, to) => {
    stream.receiveBuffer!.useOwnBuffer()
    sizes.push(to - from)
  }
  for (const bytes of [10, 16_384, 3 * 16_384, 1_000_000, 16_384 * 40]) {
    const whole = serverOwner.whole(serverOwner.text.length + bytes)
    client.writeBytes(Buffer.alloc(bytes, 'x'))
    await within(`${bytes} bytes`, whole)
  }
  assert.ok(sizes.length < 70, `${sizes.length} pieces`)
  assert.ok(Math.max(...sizes) === 65_536)
})

test('tls stream: an answer that came before the other side closed is read, though nothing can be written any more', async t => {
  const { client, server, clientOwner } = await tlsSides(t)
  client.pause()
  server.writeText('413 go away')
  server.flush()
  server.end()
  server.socket.once('finish', () => server.destroy(true))
  await within('the close', once(server.socket, 'close'))
  for (let count = 0; count < 20 && client.lostReader === null && !client.destroyed; count++) {
    client.writeBytes(Buffer.alloc(100_000))
    await new Promise(resolve => setImmediate(resolve))
  }
  client.resume()
  await within('the end', clientOwner.closed.promise)
  assert.ok(clientOwner.text === '413 go away' || clientOwner.events.includes('ECONNRESET'))
})

test('tls stream: the digest has the addresses of the connection, and the facts of TLS', async t => {
  const device = testCa.issue({ names: ['device-1'] })
  const { client, server } = await tlsSides(t, {
    server: {
      secureContext: tls.createSecureContext({ cert: serverCert.cert, key: serverCert.key, ca: testCa.cert }),
      requestCert: true, ALPNProtocols: ['http/1.1'],
    },
    client: {
      secureContext: tls.createSecureContext({ ca: testCa.cert, cert: device.cert, key: device.key }), ALPNProtocols: ['http/1.1'],
    },
  })
  const { tls: facts, remoteIp, remotePort, localAddress } = server.digest
  assert.deepEqual({ ...facts!, client: null, cipher: '', handshakeMs: 0 }, {
    version: 'TLSv1.3', cipher: '', alpn: 'http/1.1', serverName: 'a.test', resumed: false, handshakeMs: 0, client: null,
  })
  assert.match(facts!.cipher, /^TLS_/)
  const { fingerprint, subject, altNames } = facts!.client!
  assert.deepEqual([fingerprint, subject, altNames], [device.x509.fingerprint256, device.x509.subject, 'DNS:device-1'])
  assert.equal(server.verifyError, '')
  assert.deepEqual([remoteIp, `127.0.0.1:${remotePort}`], ['127.0.0.1', client.digest.localAddress])
  assert.equal(localAddress, client.digest.remoteAddress)
  assert.equal(client.digest.tls!.client, null)
})

const serverCert = testCa.issue({ names: ['a.test'] })

test('tls stream: a client that begins to negotiate anew is turned away', async t => {
  const { server, clientOwner, serverOwner, client } = await tlsSides(t, {
    client: { secureContext: tls.createSecureContext({ ca: testCa.cert, maxVersion: 'TLSv1.2' }) },
  })
  assert.equal(server.digest.tls!.version, 'TLSv1.2')
  client.socket.renegotiate({}, () => {})
  await within('the end', Promise.all([serverOwner.closed.promise, clientOwner.closed.promise]))
  assert.equal(server.destroyed, true)
})

/** An accepted connection of `speak`, with the outcome of its handshake. */
async function half(t: TestContext, speak: (client: net.Socket) => void): Promise<{
  readonly stream: TlsStream; readonly client: net.Socket; readonly failed: Promise<Error | null>; readonly told: () => number
}> {
  const failed = Promise.withResolvers<Error | null>(), made = Promise.withResolvers<TlsStream>()
  let told = 0
  const owner: HandshakeOwner = {
    onSecure() { told++ },
    onHandshakeFailed(error) {
      told++
      failed.resolve(error)
    },
  }
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, accepted => {
    made.resolve(acceptTls(TcpStream.accept(accepted, SILENT), null, { secureContext: serverContext }, owner))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1', () => speak(client))
  client.on('error', () => { /* As the case may be. */ })
  t.after(() => {
    client.destroy()
    server.close()
  })
  return { stream: await within('the connection', made.promise), client, failed: failed.promise, told: () => told }
}

test('tls stream: plain HTTP, garbage and an early end fail the handshake, each in its way', async t => {
  const http = await half(t, client => client.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'))
  assert.equal((await within('http', http.failed) as NodeJS.ErrnoException).code, 'ERR_SSL_HTTP_REQUEST')
  const garbage = await half(t, client => client.write(Buffer.alloc(100, 0xff)))
  assert.match((await within('garbage', garbage.failed) as NodeJS.ErrnoException).code!, /^ERR_SSL_/)
  const gone = await half(t, client => client.end())
  await within('the end', gone.failed)
  for (const { stream } of [http, garbage, gone]) assert.deepEqual([stream.destroyed, stream.descriptor], [true, -1])
})

test('tls stream: a handshake that stands still is cancelled without a word, and leaves no descriptor', async t => {
  const { client, stream, told } = await half(t, socket => socket.write(Buffer.from([0x16, 3, 1, 1, 0, 1, 0])))
  const { descriptor } = stream
  assert.equal(isOpen(descriptor), true)
  const closed = new Promise(resolve => { client.on('close', resolve) })
  stream.cancelHandshake()
  stream.cancelHandshake()
  await within('the close', closed)
  assert.deepEqual([told(), isOpen(descriptor)], [0, false])
})

test('tls stream: bytes that were read before the handshake belong to it', async t => {
  assert.equal((await withEarlyBytes(t)).digest.tls!.serverName, 'a.test')
})

test('tls stream: the name that the context was chosen by is the name, whatever OpenSSL is told later', async t => {
  assert.equal((await withEarlyBytes(t, 'b.test')).digest.tls!.serverName, 'b.test')
  assert.equal((await withEarlyBytes(t, '')).digest.tls!.serverName, '')
})

async function withEarlyBytes(t: TestContext, serverName?: string): Promise<TlsStream> {
  const secure = Promise.withResolvers<TlsStream>()
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, accepted => {
    const tcp = TcpStream.accept(accepted, {
      ...SILENT,
      onBytes(buffer, from, to) {
        const early = Buffer.from(buffer.subarray(from, to))
        const owner = { onSecure: secure.resolve, onHandshakeFailed: secure.reject }
        acceptTls(tcp, early, { secureContext: serverContext }, owner, serverName)
      },
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const client = tls.connect({ port: (server.address() as net.AddressInfo).port, host: '127.0.0.1', ca: testCa.cert, servername: 'a.test' })
  t.after(() => client.destroy())
  const stream = await within('the handshake', secure.promise)
  t.after(() => stream.destroy())
  return stream
}

test('tls stream: TLS lies on other TLS, and an end below is an error above', async t => {
  const outer = await tlsSides(t)
  const { descriptor } = outer.client
  const { server, client, serverOwner, clientOwner } = await overStreams(t, outer.server, outer.client)
  client.writeBytes(Buffer.from(NUMBERS))
  assert.equal(await within('the request', serverOwner.whole(NUMBERS.length)), NUMBERS)
  server.writeText('answer')
  assert.equal(await within('the answer', clientOwner.whole(6)), 'answer')
  assert.deepEqual([client.descriptor, client.digest.remoteIp], [descriptor, '127.0.0.1'])
  server.destroy(true)
  await within('the end', clientOwner.closed.promise)
  assert.notEqual(clientOwner.events[0], 'end')
  assert.equal(isOpen(descriptor), false)
})

test('tls stream: TLS lies on any other stream', async t => {
  const [a, b] = MemoryStream.pair('memory', '192.0.2.1')
  const { server, client, serverOwner, clientOwner } = await overStreams(t, a, b)
  client.writeBytes(Buffer.from(NUMBERS))
  assert.equal(await within('the request', serverOwner.whole(NUMBERS.length)), NUMBERS)
  server.writeText('answer')
  assert.equal(await within('the answer', clientOwner.whole(6)), 'answer')
  assert.deepEqual([server.digest.remoteIp, server.digest.localAddress, server.descriptor], ['192.0.2.1', 'memory', -1])
  client.end()
  await within('the end', serverOwner.ended.promise)
  server.end()
  await within('both gone', Promise.all([serverOwner.closed.promise, clientOwner.closed.promise]))
  assert.deepEqual([a.destroyed, b.destroyed], [true, true])
})

async function overStreams(t: TestContext, a: Parameters<typeof acceptTls>[0], b: Parameters<typeof acceptTls>[0]): Promise<{
  server: TlsStream; client: TlsStream; serverOwner: Collector; clientOwner: Collector
}> {
  const serverOwner = new Collector(), clientOwner = new Collector()
  const server = Promise.withResolvers<TlsStream>(), client = Promise.withResolvers<TlsStream>()
  const made = [
    acceptTls(a, null, { secureContext: serverContext }, {
      onSecure(stream) {
        stream.owner = serverOwner
        server.resolve(stream)
      },
      onHandshakeFailed: server.reject,
    }),
    connectTls(b, null, 'a.test', { secureContext: clientContext }, {
      onSecure(stream) {
        stream.owner = clientOwner
        client.resolve(stream)
      },
      onHandshakeFailed: client.reject,
    }),
  ]
  t.after(() => { for (const stream of made) stream.destroy() })
  made[1]!.startClient()
  const [above, below] = await within('both handshakes', Promise.all([server.promise, client.promise]))
  return { server: above, client: below, serverOwner, clientOwner }
}
