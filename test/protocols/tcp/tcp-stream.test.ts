import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import type { StreamOwner } from '../../../src/protocols/byte-stream.ts'
import { whileReading } from '../../../src/protocols/tcp/socket-turn.ts'
import { selfTest } from '../../../src/protocols/tcp/tcp-self-test.ts'
import { dialTcp, TcpStream, useDirectWrites } from '../../../src/protocols/tcp/tcp-stream.ts'
import { within } from '../../support/wait-for.ts'

/** Both ways in which an accepted connection may be read. */
const WAYS = [['onread', true], ["'data'", false]] as const

interface Accepted { readonly stream: TcpStream; readonly client: net.Socket }

/** Keeps what came; `onBytes` may do more before it is kept. */
class Collector implements StreamOwner {
  stream!: TcpStream
  text = ''
  readonly #onBytes: (collector: Collector) => void
  readonly #length: number
  readonly whole = Promise.withResolvers<string>()
  constructor(length: number, onBytes: (collector: Collector) => void = () => {}) {
    this.#length = length
    this.#onBytes = onBytes
  }
  onConnected(): void {}
  onBytes(buffer: Buffer, from: number, to: number): void {
    this.#onBytes(this)
    this.text += buffer.latin1Slice(from, to)
    if (this.text.length >= this.#length) this.whole.resolve(this.text)
  }
  onEnd(): void {}
  onDrained: () => void = () => {}
  onClosed: (error: Error | null) => void = () => {}
}

async function accept(t: TestContext, owner: Collector, viaOnread: boolean): Promise<Accepted> {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [accepted] = await once(server, 'connection') as [net.Socket]
  const stream = TcpStream.accept(accepted, owner, viaOnread)
  owner.stream = stream
  t.after(async () => {
    const closed = stream.socket.closed ? null : once(stream.socket, 'close')
    stream.destroy()
    client.destroy()
    server.close()
    await closed
  })
  return { stream, client }
}

test('tcp stream: this Node.js reads accepted connections through onread, and writes past the queue', async () => {
  assert.equal(await selfTest(), true)
})

for (const [name, viaOnread] of WAYS) {
  test(`tcp stream: bytes read through ${name} arrive in order whatever a read callback pauses and resumes`, async t => {
    const sent = Array.from({ length: 60_000 }, (_, index) => String(index)).join(' ')
    let reads = 0
    const owner = new Collector(sent.length, ({ stream }) => {
      stream.pause()
      // Every other time resumed within the callback that paused it, then outside of any.
      if (++reads % 2 === 0) stream.resume()
      else setImmediate(() => stream.resume())
    })
    const { client } = await accept(t, owner, viaOnread)
    client.write(sent)
    assert.equal(await within('all bytes', owner.whole.promise), sent)
  })
}

/** Writes `pieces` as `stream` lets it, in one of three ways each, and waits for the stream to be drained wherever it asks for that. */
async function writeAll(collector: Collector, pieces: readonly string[], obeys: boolean): Promise<void> {
  const { stream } = collector
  for (const [index, piece] of pieces.entries()) {
    if (index % 3 === 0) stream.writeBytes(Buffer.from(piece, 'latin1'))
    else stream.writeText(piece)
    if (index % 5 === 4) stream.flush()
    // Text that waits for the end of the turn does not count as queued.
    if (index % 7 === 6) await new Promise(setImmediate)
    if (obeys && stream.bytesQueued > 0) await new Promise<void>(resolve => { collector.onDrained = resolve })
  }
}

for (const direct of [true, false]) {
  const way = direct ? 'past the queue' : 'through the queue'
  const piecesOf = (most: number): string[] =>
    Array.from({ length: 120 }, (_, index) => String.fromCharCode(97 + index % 26).repeat(1 + (index * 7919) % most))

  for (const [most, obeys] of [[50, true], [200_000, true], [200_000, false]] as const) {
    const pace = obeys ? 'by one that waits when it should' : 'by one that does not wait'
    test(`tcp stream: up to ${most} bytes at a time, written ${way} ${pace}, arrive in order at a slow reader`, async t => {
      useDirectWrites(direct)
      t.after(() => useDirectWrites(true))
      const owner = new Collector(1), { stream, client } = await accept(t, owner, true)
      const pieces = piecesOf(most), whole = pieces.join('')
      let got = ''
      const ended = Promise.withResolvers<void>()
      client.on('data', chunk => {
        got += chunk.toString('latin1')
        // Slow enough for the kernel to have its buffers full.
        client.pause()
        setImmediate(() => client.resume())
      })
      client.on('end', () => ended.resolve())
      await writeAll(owner, pieces, obeys)
      stream.end()
      await within('the end', ended.promise)
      assert.equal(got, whole)
      assert.deepEqual([stream.bytesWritten, stream.bytesTaken, stream.bytesQueued], [whole.length, whole.length, 0])
    })
  }

  test(`tcp stream: what was written ${way} and not taken is counted as held, until it is taken or the connection is gone`, async t => {
    useDirectWrites(direct)
    t.after(() => useDirectWrites(true))
    const before = heldBytes.now, large = Buffer.alloc(16_000_000, 120)
    for (const end of ['taken', 'gone'] as const) {
      const owner = new Collector(1), { stream, client } = await accept(t, owner, true)
      const drained = new Promise<void>(resolve => { owner.onDrained = resolve })
      const closed = new Promise<unknown>(resolve => { owner.onClosed = resolve })
      client.on('error', () => { /* It was cut. */ })
      stream.writeText('head ')
      stream.writeBytes(large)
      assert.equal(stream.bytesQueued, large.length + 5)
      assert.equal(heldBytes.now - before, stream.bytesQueued)
      assert.ok(stream.bytesTaken < stream.bytesWritten)
      if (end === 'taken') {
        client.resume()
        await within('room', drained)
        assert.deepEqual([stream.bytesQueued, stream.bytesTaken, heldBytes.now - before], [0, large.length + 5, 0])
      } else {
        stream.destroy(true)
        await within('the end', closed)
        assert.equal(heldBytes.now, before)
      }
    }
  })

  test(`tcp stream: a write ${way} to a client that is gone closes the stream, with the reason`, async t => {
    useDirectWrites(direct)
    t.after(() => useDirectWrites(true))
    const owner = new Collector(1), { stream, client } = await accept(t, owner, true)
    const closed = new Promise<Error | null>(resolve => { owner.onClosed = resolve })
    stream.pause()
    client.resetAndDestroy()
    await once(client, 'close')
    const writing = setInterval(() => stream.writeBytes(Buffer.from('to nobody')), 1)
    const error = await within('the end', closed)
    clearInterval(writing)
    assert.match((error as NodeJS.ErrnoException).code!, /EPIPE|ECONNRESET/)
    assert.equal(stream.destroyed, true)
    stream.writeText('still')
    stream.flush()
    assert.equal(stream.bytesQueued, 0)
  })
}

test("tcp stream: one that is read through 'data' leaves the buffers of others alone", async t => {
  const other = 'answer '.repeat(20_000)
  const origin = net.createServer(socket => { socket.on('data', () => socket.write(other)) }).listen(0, '127.0.0.1')
  await once(origin, 'listening')
  t.after(() => origin.close())
  const dialledOwner = new Collector(other.length, ({ stream }) => stream.useOwnBuffer())
  const owner = new Collector(1_000, ({ stream }) => {
    stream.useOwnBuffer()
    assert.equal(stream.ownsBuffer, true)
    stream.useSharedBuffer()
  })
  const { client } = await accept(t, owner, false)
  client.write('x'.repeat(500))
  dialledOwner.stream = dialTcp(
    { address: { kind: 'tcp', host: '127.0.0.1', port: (origin.address() as net.AddressInfo).port } },
    dialledOwner,
  )
  t.after(() => dialledOwner.stream.destroy())
  assert.equal(dialledOwner.stream.ownsBuffer, false)
  dialledOwner.stream.writeText('go')
  client.write('x'.repeat(500))
  assert.equal(await within('the answer', dialledOwner.whole.promise), other)
  assert.equal(await within('the request', owner.whole.promise), 'x'.repeat(1_000))
})

test('tcp stream: a cut in the same turn as a FIN still closes the connection', async t => {
  const owner = new Collector(1)
  const closed = Promise.withResolvers<Error | null>()
  owner.onClosed = error => closed.resolve(error)
  const { stream, client } = await accept(t, owner, true)
  client.on('error', () => { /* Cut is cut. */ })
  client.resume()
  stream.writeText('bye')
  stream.end()
  stream.destroy(true)
  assert.equal(await within('the end of the connection', closed.promise), null)
})

test('tcp stream: what is late is looked at while many connections end as well', async t => {
  const ended: Promise<unknown>[] = []
  const clients: net.Socket[] = []
  for (let count = 0; count < 300; count++) {
    const owner = new Collector(1)
    ended.push(new Promise(resolve => { owner.onClosed = resolve }))
    clients.push((await accept(t, owner, true)).client)
  }
  let looked = 0
  whileReading(() => { looked++ })
  t.after(() => whileReading(() => {}))
  for (const client of clients) client.resetAndDestroy()
  await within('every end', Promise.all(ended))
  assert.ok(looked >= 1)
})
