/**
 * Whatever comes in place of a handshake: the connection ends, with an alert where there is one for it, its counts are given back,
 * and the next client is served. Descriptors are back to where they were.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import net from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { gone, helloOf, TlsProxy } from '../support/tls-proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const ca = makeTestCa(), site = ca.issue({ names: ['a.test'] })
const RUNS = 2000
/** Connections open at the same time. */
const TOGETHER = 20

function openDescriptors(): number { return readdirSync('/proc/self/fd').length }

/** Sends pieces, each in a turn of its own, then FIN. Resolves to what came back, when the connection is gone. */
async function send(proxy: TlsProxy, pieces: readonly Buffer[], keepsOpen = false): Promise<Buffer> {
  const socket = net.connect({ host: '127.0.0.1', port: proxy.port, noDelay: true }), isGone = gone(socket), answer: Buffer[] = []
  socket.on('data', (data: Buffer) => { answer.push(data) })
  for (const piece of pieces) {
    if (socket.destroyed) break
    socket.write(piece)
    await new Promise(setImmediate)
  }
  if (!keepsOpen) socket.end()
  await isGone
  return Buffer.concat(answer)
}

/** Level and description of the alert that an answer begins with; '' for none. */
function alertOf(answer: Buffer): string { return answer[0] === 21 ? `${answer[5]} ${answer[6]}` : '' }

const hello = await helloOf({ servername: 'a.test', ALPNProtocols: ['http/1.1'] })
const older = await helloOf({ servername: 'a.test', maxVersion: 'TLSv1.2' })

function inRecords(bytes: Buffer, size: number): Buffer {
  const message = bytes.subarray(5), records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part)
  }
  return Buffer.concat(records)
}

test('hostile handshakes: each gets its alert or is cut, and the next client is served', async t => {
  const before = heldBytes.now
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  const whole = async (pieces: readonly Buffer[]): Promise<string> => alertOf(await send(proxy, pieces, true))
  // Nothing that a handshake could be made of.
  assert.equal(await whole([Buffer.from('\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10'.padEnd(48, '\x01'), 'latin1')]), '2 70')
  assert.notEqual(await whole([Buffer.from([22, 3, 1, 0, 32, 2, 0, 0, 28]), Buffer.alloc(28)]), '')
  assert.notEqual(await whole([Buffer.from([23, 3, 3, 0, 16]), Buffer.alloc(16)]), '')
  // Some empty records are none that OpenSSL minds: it answers the hello behind them.
  assert.equal((await send(proxy, [Buffer.from([22, 3, 1, 0, 0, 22, 3, 1, 0, 0]), hello]))[0], 22)
  await proxy.settled()
  assert.equal(proxy.handshakes.at(-1)!.serverName, 'a.test')
  // A record, and a message, that are longer than any may be.
  assert.notEqual(await whole([Buffer.from([22, 3, 1, 0xff, 0xff]), Buffer.alloc(66_000)]), '')
  const endless = Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0x00, 1, 0xff, 0xff, 0xff]), Buffer.alloc(16_380)])
  assert.notEqual(await whole([endless, ...Array.from({ length: 10 }, () => endless)]), '')
  // It goes, or its line is cut, in the middle.
  for (const at of [0, 1, 5, 6, 100, hello.length - 1, hello.length]) assert.notEqual((await send(proxy, [hello.subarray(0, at)]))[0], 23)
  const cut = net.connect({ host: '127.0.0.1', port: proxy.port }), isGone = gone(cut)
  cut.write(hello)
  cut.once('data', () => { cut.resetAndDestroy() })
  await isGone
  await proxy.settled()
  assert.ok(proxy.results.length >= 12 && !proxy.results.includes('ok') && !proxy.results.includes('internal'), proxy.results.join())
  assert.equal((await proxy.get('a.test')).status, 200)
  assert.equal(heldBytes.now, before)
})

test('hostile handshakes: pieces of one byte, and records of one, are a handshake like any other', async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  for (const bytes of [hello, older]) {
    for (const pieces of [Array.from(bytes, byte => Buffer.from([byte])), [inRecords(bytes, 7)], [inRecords(bytes, 100)]]) {
      const socket = net.connect({ host: '127.0.0.1', port: proxy.port, noDelay: true }), isGone = gone(socket)
      const first = new Promise<Buffer>(resolve => { socket.once('data', resolve) })
      for (const piece of pieces) {
        socket.write(piece)
        await new Promise(setImmediate)
      }
      // ServerHello.
      assert.deepEqual([...(await first).subarray(0, 1), (await first)[5]], [22, 2])
      socket.destroy()
      await isGone
    }
  }
})

test(`hostile handshakes: ${RUNS} of them, changed at random, leave nothing behind`, async t => {
  const proxy = await TlsProxy.start(t, { certificates: [site] })
  await proxy.get('a.test')
  await proxy.settled()
  const before = openDescriptors(), change = fc.tuple(fc.nat(hello.length - 1), fc.nat(255))
  const sample = fc.sample(fc.record({
    kind: fc.constantFrom('changed', 'short', 'hole', 'noise', 'behind'), base: fc.constantFrom(hello, older), twice: fc.boolean(),
    changes: fc.array(change, { minLength: 1, maxLength: 6 }),
    from: fc.nat(hello.length), length: fc.nat(hello.length), cut: fc.nat(hello.length),
  }), RUNS)
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < sample.length) {
      const { base, changes, from, length, cut, twice, kind } = sample[next++]!
      let bytes = Buffer.from(base)
      const headers = Buffer.from(changes.flatMap(([at, value]) => [at % 4 + 20, 3, 3, 0, value]))
      if (kind === 'noise') bytes = Buffer.from(changes.flatMap(([at, value]) => [value, at & 0xff]))
      else if (kind === 'behind') bytes = Buffer.concat([bytes, headers])
      else if (kind === 'short') bytes = bytes.subarray(0, length)
      else if (kind === 'hole') bytes = Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + (length >> 3))])
      else for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
      const pieces = [bytes.subarray(0, cut), bytes.subarray(cut), ...twice ? [bytes] : []].filter(piece => piece.length > 0)
      await send(proxy, pieces)
    }
  }
  await Promise.all(Array.from({ length: TOGETHER }, worker))
  await proxy.settled()
  await waitFor('descriptors to be closed', () => openDescriptors() <= before, { seen: openDescriptors })
  assert.equal(proxy.handshakes.length, RUNS + 1)
  assert.ok(!proxy.results.includes('internal'), 'none of them is our fault')
  assert.deepEqual(proxy.lines.filter(({ level }) => level === 'error'), [])
  assert.equal((await proxy.get('a.test')).status, 200)
})
