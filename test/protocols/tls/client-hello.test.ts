import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import fc from 'fast-check'
import { BUFFER_RESERVE } from '../../../src/protocols/byte-stream.ts'
import { ClientHelloReader, MAX_HELLO_BYTES, type HelloVerdict } from '../../../src/protocols/tls/client-hello.ts'

/** What OpenSSL sends first. */
async function helloOf(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = tls.connect({ host: '127.0.0.1', port: (server.address() as net.AddressInfo).port, ...options })
  client.on('error', () => { /* nobody answers */ })
  const [socket] = await once(server, 'connection') as [net.Socket]
  const [hello] = await once(socket, 'data') as [Buffer]
  client.destroy()
  socket.destroy()
  server.close()
  return hello
}

/** The same message in records of `size` bytes. */
function inRecords(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5), records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part)
  }
  return Buffer.concat(records)
}

function read(...pieces: readonly Buffer[]): { verdict: HelloVerdict; name: string; bytes: Buffer } {
  const reader = new ClientHelloReader()
  let verdict: HelloVerdict = 'more'
  for (const piece of pieces) {
    if (verdict !== 'more') break
    verdict = reader.add(piece, 0, piece.length)
  }
  return { verdict, name: reader.serverName, bytes: reader.bytes.subarray(BUFFER_RESERVE, -BUFFER_RESERVE) }
}

const hello = await helloOf({ servername: 'A.Example.Test', ALPNProtocols: ['h2', 'http/1.1'] })

test('client hello: the name is read, in lower case, and all bytes are kept', () => {
  const { verdict, name, bytes } = read(hello)
  assert.deepEqual([verdict, name], ['read', 'a.example.test'])
  assert.deepEqual(bytes, hello)
})

test('client hello: no name, and a TLS 1.2 client', async () => {
  assert.deepEqual(read(await helloOf({})).name, '')
  assert.deepEqual(read(await helloOf({ servername: 'b.test', maxVersion: 'TLSv1.2' })).name, 'b.test')
})

test('client hello: at every split point the rest is waited for', () => {
  for (let at = 1; at < hello.length; at++) {
    assert.equal(read(hello.subarray(0, at)).verdict, 'more', `${at}`)
    assert.deepEqual(read(hello.subarray(0, at), hello.subarray(at)), { verdict: 'read', name: 'a.example.test', bytes: hello })
  }
})

test('client hello: byte by byte, in records of every size', () => {
  for (const size of [1, 2, 3, 4, 5, 7, 64, 100, 1000]) {
    const bytes = inRecords(hello, size)
    assert.equal(read(...Array.from(bytes, byte => Buffer.from([byte]))).name, 'a.example.test', `${size}`)
    assert.equal(read(bytes).name, 'a.example.test', `${size}`)
  }
})

test('client hello: a request of HTTP is seen by its first byte; anything else is left to OpenSSL', () => {
  assert.equal(read(Buffer.from('GET / HTTP/1.1\r\n')).verdict, 'plain')
  assert.equal(read(Buffer.from('P')).verdict, 'plain')
  const all = [
    '\x00', '\x80\x2e\x01\x03', '\x15\x03\x01\x00\x02\x02\x28', '\x16\x02\x00\x00\x01', '\x16\x03\x01\x00\x00',
    '\x16\x03\x01\x00\x01\x02',
  ]
  for (const odd of all) {
    assert.match(read(Buffer.from(odd, 'latin1')).verdict, /read|more/)
    assert.equal(read(Buffer.concat([Buffer.from(odd, 'latin1'), Buffer.alloc(16)])).name, '')
  }
})

test('client hello: one without end is let go, and is not held further', () => {
  const message = Buffer.concat([hello.subarray(0, 5), Buffer.from([1, 0, 0x3f, 0xf0]), Buffer.alloc(MAX_HELLO_BYTES + 5000)])
  const endless = inRecords(message, 1000)
  const reader = new ClientHelloReader()
  let verdict: HelloVerdict = 'more', at = 0
  for (; verdict === 'more' && at < endless.length; at += 100) verdict = reader.add(endless, at, Math.min(at + 100, endless.length))
  assert.equal(verdict, 'read')
  assert.ok(at <= MAX_HELLO_BYTES + 200)
  // Too long by its own word.
  assert.equal(read(Buffer.from([22, 3, 1, 0, 4, 1, 1, 0, 0])).verdict, 'read')
})

test('client hello: whatever bytes come, it reads on or ends, and never throws', () => {
  const change = fc.tuple(fc.nat(hello.length - 1), fc.nat(255))
  fc.assert(fc.property(fc.array(change, { maxLength: 12 }), fc.nat(hello.length), (changes, cut) => {
    const bytes = Buffer.from(hello)
    for (const [at, value] of changes) bytes[at] = value
    const { verdict, name } = read(bytes.subarray(0, cut), bytes.subarray(cut))
    assert.ok(verdict === 'more' || verdict === 'read' || verdict === 'plain')
    assert.match(name, /^[a-z0-9._-]*$/)
  }), { numRuns: 2000 })
})
