/**
 * The end of a WebSocket's tunnel, on streams in memory and a clock that stands still: what each side is told, when, and
 * what it gets of bytes that were under way.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { closeFrame, FrameTracker } from '../../src/protocols/websocket/frames.ts'
import { Tunnel } from '../../src/proxy/tunnel.ts'
import { clientFrame, closeCode, FrameReader, Opcode } from '../../src/prove/websocket-frames.ts'
import { RelayWorld, type WorldOptions } from '../support/relay-world.ts'

/** The longest that a polite end may take, and a tick. */
const END_MS = 5000 + 2000 + 2000 + 100
const MASK = Buffer.from('37fa213d', 'hex')

class World extends RelayWorld {
  readonly tunnel: Tunnel

  constructor(options: WorldOptions & { earlyOfOrigin?: Buffer } = {}) {
    super(options)
    const client = { stream: this.clientPair.near, early: null, ended: false }
    const origin = { stream: this.originPair.near, early: options.earlyOfOrigin ?? null, ended: false }
    this.tunnel = new Tunnel(client, origin, this, this.ticker, { webSocket: true, idleTimeoutMs: 0 })
  }
}

/** What a client was sent: whole messages, then a Close with its code, or null. */
function readByClient(bytes: Buffer): { texts: string[]; code: number | null; whole: boolean } {
  const reader = new FrameReader(), messages = reader.feed(bytes)
  assert.equal(reader.fault, '')
  const closes = messages.filter(({ opcode }) => opcode === Opcode.Close)
  assert.ok(closes.length <= 1, 'more than one Close')
  if (closes.length === 1) assert.equal(messages.at(-1), closes[0], 'something came behind the Close')
  const texts = messages.filter(({ opcode }) => opcode < Opcode.Close).map(({ payload }) => payload.toString())
  return { texts, code: closes[0] === undefined ? null : closeCode(closes[0]), whole: reader.betweenMessages }
}

/** The same for an origin: frames of a client, all masked. */
function readByOrigin(bytes: Buffer): ReturnType<typeof readByClient> {
  const tracker = new FrameTracker(true)
  tracker.scan(bytes, 0, bytes.length)
  assert.equal(tracker.fault, 0)
  return readByClient(unmask(bytes))
}

function unmask(bytes: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const short = bytes[at + 1]! & 0x7f, extra = short === 126 ? 2 : short === 127 ? 8 : 0
    const size = extra === 2 ? bytes.readUInt16BE(at + 2) : extra === 8 ? Number(bytes.readBigUInt64BE(at + 2)) : short
    const header = Buffer.from(bytes.subarray(at, at + 2 + extra)), start = at + 2 + extra + 4
    header[1] = header[1]! & 0x7f
    const mask = bytes.subarray(start - 4, start)
    parts.push(header, Buffer.from(bytes.subarray(start, start + size).map((byte, index) => byte ^ mask[index & 3]!)))
    at = start + size
  }
  return Buffer.concat(parts)
}

/** Ours, or an answer. */
function isOneClose(bytes: Buffer): boolean { return bytes.equals(echoOfOrigin) || bytes.equals(closeFrame(1001, 'going away', null)) }

function serverFrame(text: string, first = 0x81): Buffer {
  const size = Buffer.byteLength(text)
  return Buffer.concat([Buffer.from(size < 126 ? [first, size] : [first, 126, size >> 8, size & 0xff]), Buffer.from(text)])
}

const textOfClient = (text: string): Buffer => clientFrame(Opcode.Text, Buffer.from(text), MASK)
const echoOfClient = closeFrame(1001, '', MASK)
const echoOfOrigin = closeFrame(1001, '', null)

test('tunnel: between messages both sides get one Close 1001 at once, FIN when they answered, and nobody is cut', () => {
  const world = new World()
  world.client.send(textOfClient('up'))
  world.origin.send(serverFrame('down'))
  world.settle()
  world.tunnel.close()
  world.settle()
  assert.deepEqual(readByClient(world.client.received), { texts: ['down'], code: 1001, whole: true })
  assert.deepEqual(readByOrigin(world.origin.received), { texts: ['up'], code: 1001, whole: true })
  assert.ok(unmask(world.origin.received).toString('latin1').endsWith('going away'))
  assert.deepEqual([world.client.ended, world.origin.ended], [false, false])
  world.client.send(echoOfClient)
  world.settle()
  assert.deepEqual([world.client.ended, world.origin.ended], [true, false])
  world.origin.send(echoOfOrigin)
  world.settle()
  assert.equal(world.origin.ended, true)
  world.client.stream.end()
  world.origin.stream.end()
  world.settle()
  assert.deepEqual([world.client.error, world.origin.error], [null, null])
  // The answers went nowhere: each had its Close already.
  assert.deepEqual(world.outcome, { fromClient: textOfClient('up').length, fromOrigin: serverFrame('down').length, error: null })
  assert.equal(readByOrigin(world.origin.received).code, 1001)
  world.assertOver()
})

test('tunnel: the masks of two Closes towards origins differ', () => {
  const masks = new Set(Array.from({ length: 8 }, () => {
    const world = new World()
    world.tunnel.close()
    world.settle()
    return world.origin.received.subarray(2, 6).toString('hex')
  }))
  assert.ok(masks.size > 6)
})

test('tunnel: a Close waits for the end of the frame under way, at every point of it, and what follows is thrown away', () => {
  const frame = serverFrame('x'.repeat(200)), masked = textOfClient('y'.repeat(200))
  for (let cut = 1; cut < frame.length; cut++) {
    const world = new World()
    world.origin.send(frame.subarray(0, cut))
    world.client.send(masked.subarray(0, cut))
    world.settle()
    world.tunnel.close()
    world.settle()
    assert.equal(world.client.received.length, cut)
    assert.equal(world.origin.received.length, cut)
    world.pass(4000)
    world.origin.send(Buffer.concat([frame.subarray(cut), serverFrame('late'), echoOfOrigin]))
    world.client.send(Buffer.concat([masked.subarray(cut), textOfClient('late'), echoOfClient]))
    world.settle()
    assert.deepEqual(readByClient(world.client.received), { texts: ['x'.repeat(200)], code: 1001, whole: true }, `cut at ${cut}`)
    assert.deepEqual(readByOrigin(world.origin.received), { texts: ['y'.repeat(200)], code: 1001, whole: true }, `cut at ${cut}`)
    assert.deepEqual([world.client.ended, world.origin.ended], [true, true])
  }
})

test('tunnel: a message of many fragments is awaited; past its time the Close goes between two of them', () => {
  for (const inTime of [true, false]) {
    const world = new World()
    world.origin.send(serverFrame('one,', 0x01))
    world.settle()
    world.tunnel.close()
    world.settle()
    assert.equal(readByClient(world.client.received).code, null)
    assert.equal(readByOrigin(world.origin.received).code, 1001)
    if (!inTime) world.pass(5100)
    else {
      world.origin.send(Buffer.concat([serverFrame('', 0x89), serverFrame('two', 0x80), serverFrame('late')]))
      world.settle()
    }
    const { texts, code } = readByClient(world.client.received)
    assert.deepEqual([texts, code], [inTime ? ['one,two'] : [], 1001])
  }
})

test('tunnel: a frame that does not end in time ends in FIN without a Close, and the other side is closed in order', () => {
  const world = new World(), frame = serverFrame('x'.repeat(200))
  world.origin.send(frame.subarray(0, 100))
  world.settle()
  world.tunnel.close()
  world.settle()
  assert.equal(readByOrigin(world.origin.received).code, 1001)
  world.pass(4900)
  assert.equal(world.client.ended, false)
  world.pass(200)
  assert.equal(world.client.ended, true)
  assert.deepEqual(world.client.received, frame.subarray(0, 100))
  assert.equal(world.origin.ended, false)
  // Late bytes are read, so that nothing turns into a reset, and go nowhere.
  world.origin.send(Buffer.concat([frame.subarray(100), echoOfOrigin]))
  world.settle()
  assert.equal(world.origin.ended, true)
  world.client.stream.end()
  world.origin.stream.end()
  world.settle()
  assert.equal(world.client.received.length, 100)
  assert.deepEqual([world.client.error, world.origin.error], [null, null])
  world.assertOver()
})

for (const silent of ['client', 'origin', 'both'] as const) {
  test(`tunnel: whoever does not answer a Close gets FIN after 2 s, and is cut 2 s later (${silent})`, () => {
    const world = new World()
    world.tunnel.close()
    world.settle()
    if (silent === 'client') world.origin.send(echoOfOrigin)
    if (silent === 'origin') world.client.send(echoOfClient)
    world.settle()
    assert.deepEqual([world.client.ended, world.origin.ended], [silent === 'origin', silent === 'client'])
    world.pass(1900)
    assert.equal(world.client.ended && world.origin.ended, false)
    world.pass(200)
    assert.deepEqual([world.client.ended, world.origin.ended], [true, true])
    assert.equal(world.outcome, null)
    world.pass(1800)
    assert.equal(world.outcome, null)
    world.pass(300)
    assert.equal(world.outcome!.error, null)
    assert.deepEqual([world.client.closed, world.origin.closed], [true, true])
    world.assertOver()
  })
}

test('tunnel: sides that close by themselves at the same moment are not told twice', () => {
  for (const who of ['client', 'origin', 'both'] as const) {
    const world = new World()
    if (who !== 'origin') world.client.send(closeFrame(1000, 'bye', MASK))
    if (who !== 'client') world.origin.send(closeFrame(1000, 'bye', null))
    world.settle()
    world.tunnel.close()
    world.settle()
    assert.equal(readByOrigin(world.origin.received).code, who === 'origin' ? 1001 : 1000)
    assert.equal(readByClient(world.client.received).code, who === 'client' ? 1001 : 1000)
    // Whoever said Close and was told has its FIN.
    assert.deepEqual([world.client.ended, world.origin.ended], [who !== 'origin', who !== 'client'])
    world.client.stream.end()
    world.origin.stream.end()
    world.settle()
    assert.deepEqual([world.client.error, world.origin.error], [null, null])
    world.assertOver()
  }
})

test('tunnel: a Close that crosses ours answers it, whatever its code', () => {
  const world = new World()
  world.client.send(closeFrame(1000, 'bye', MASK))
  world.origin.send(closeFrame(1000, 'bye', null))
  world.tunnel.close()
  world.settle()
  assert.equal(readByClient(world.client.received).code, 1001)
  assert.equal(readByOrigin(world.origin.received).code, 1001)
  assert.deepEqual([world.client.ended, world.origin.ended], [true, true])
})

test('tunnel: a Close cut in half when the tunnel closes passes whole, and is the only one', () => {
  const own = closeFrame(1000, 'bye', null)
  for (let cut = 1; cut < own.length; cut++) {
    const world = new World()
    world.origin.send(own.subarray(0, cut))
    world.settle()
    world.tunnel.close()
    world.origin.send(own.subarray(cut))
    world.settle()
    assert.deepEqual(world.client.received, own)
  }
})

test('tunnel: bytes that are no frames pass as they are, and end in FIN while the other direction is closed in order', () => {
  const world = new World()
  world.origin.send('what is this')
  world.client.send(textOfClient('up'))
  world.settle()
  world.origin.send(' and that')
  world.settle()
  assert.equal(world.client.text, 'what is this and that')
  world.tunnel.close()
  world.settle()
  assert.equal(world.client.text, 'what is this and that')
  assert.equal(world.client.ended, true)
  assert.equal(readByOrigin(world.origin.received).code, 1001)
  world.pass(END_MS)
  world.assertOver()
})

test('tunnel: a direction that stops being frames while its end is awaited gets FIN', () => {
  const world = new World()
  world.origin.send(serverFrame('a', 0x01))
  world.settle()
  world.tunnel.close()
  world.origin.send('nonsense')
  world.settle()
  assert.equal(world.client.ended, true)
  assert.ok(world.client.text.endsWith('nonsense'))
})

test('tunnel: a side that half-closed before is told nothing more, the other one gets its Close', () => {
  const world = new World()
  world.client.stream.end()
  world.settle()
  assert.equal(world.origin.ended, true)
  world.tunnel.close()
  world.settle()
  assert.equal(world.origin.received.length, 0)
  assert.equal(readByClient(world.client.received).code, 1001)
  assert.equal(world.client.ended, true)
  world.origin.stream.end()
  world.settle()
  assert.deepEqual([world.client.error, world.origin.error], [null, null])
  world.assertOver()
})

test('tunnel: a client that breaks after its Close does not take the answer of the origin with it', () => {
  const world = new World()
  world.tunnel.close()
  world.settle()
  world.client.stream.destroy(true)
  world.settle()
  assert.equal(world.origin.closed, false)
  assert.equal(readByOrigin(world.origin.received).code, 1001)
  world.origin.send(echoOfOrigin)
  world.settle()
  world.origin.stream.end()
  world.settle()
  assert.equal(world.origin.error, null)
  world.assertOver()
})

test('tunnel: a side that breaks once both were told to go is no error of the tunnel', () => {
  const world = new World()
  world.tunnel.close()
  world.settle()
  world.client.stream.destroy(true)
  world.settle()
  world.origin.send(echoOfOrigin)
  world.origin.stream.end()
  world.settle()
  assert.equal(world.outcome!.error, null)
  world.assertOver()
})

test('tunnel: a client that half-closed and then breaks breaks the origin too, as long as nothing closes', () => {
  const world = new World()
  world.client.stream.end()
  world.settle()
  world.client.stream.destroy(true)
  world.settle()
  assert.notEqual(world.origin.error, null)
  assert.notEqual(world.outcome!.error, null)
  world.assertOver()
})

test('tunnel: a client that breaks within a message while its end is awaited breaks the origin too', () => {
  const world = new World()
  world.client.send(textOfClient('hello').subarray(0, 5))
  world.settle()
  world.tunnel.close()
  world.settle()
  world.client.stream.destroy(true)
  world.settle()
  assert.notEqual(world.origin.error, null)
  assert.notEqual(world.outcome!.error, null)
  world.assertOver()
})

test('tunnel: a Close queues behind what a slow reader has not taken, and the reader gets it whole', () => {
  const world = new World({ clientKernelBytes: 1000 })
  const big = serverFrame('z'.repeat(60_000))
  world.clientPair.far.pause()
  world.origin.send(big)
  world.settle()
  world.tunnel.close()
  world.origin.send(echoOfOrigin)
  world.settle()
  world.pass(4500)
  world.clientPair.far.resume()
  world.settle()
  assert.deepEqual(readByClient(world.client.received), { texts: ['z'.repeat(60_000)], code: 1001, whole: true })
  world.client.send(echoOfClient)
  world.settle()
  assert.equal(world.client.ended, true)
  assert.equal(world.origin.ended, true)
})

test('tunnel: a reader that never reads does not keep a tunnel open', () => {
  const world = new World({ clientKernelBytes: 1000 })
  world.clientPair.far.pause()
  world.origin.send(serverFrame('z'.repeat(60_000)))
  world.settle()
  world.tunnel.close()
  world.pass(END_MS + 200)
  assert.equal(world.outcomes, 1)
  world.assertOver()
})

test('tunnel: early bytes are part of the stream of frames', () => {
  const frame = serverFrame('hello')
  const world = new World({ earlyOfOrigin: frame.subarray(0, 4) })
  world.tunnel.close()
  world.settle()
  assert.deepEqual(world.client.received, frame.subarray(0, 4))
  world.origin.send(frame.subarray(4))
  world.settle()
  assert.deepEqual(readByClient(world.client.received), { texts: ['hello'], code: 1001, whole: true })
})

const STEPS = ['up', 'down', 'upFlow', 'downFlow', 'read', 'pass'] as const
interface ModelStep { readonly t: (typeof STEPS)[number]; readonly n: number }

/** One step of a random history; frames that were sent are kept. */
function take(world: World, { t, n }: ModelStep, sent: { readonly up: Buffer[]; readonly down: Buffer[] }): void {
  const size = n % 9001
  switch (t) {
    case 'up': {
      const frame = textOfClient('u'.repeat(size))
      sent.up.push(frame)
      world.client.send(frame)
      break
    }
    case 'down': {
      const frame = serverFrame('d'.repeat(size), n === 8 ? 0x01 : 0x81)
      sent.down.push(frame)
      world.origin.send(frame)
      break
    }
    case 'upFlow':
      world.clientPair.far.deliver(n)
      break
    case 'downFlow':
      world.originPair.far.deliver(n)
      break
    case 'read':
      world.clientPair.near.deliver(n)
      world.originPair.near.deliver(n)
      break
    case 'pass':
      world.clock.advance(n % 1000)
      break
  }
}

/** Either what was sent up to some place, or whole frames and behind them one Close. */
function assertCutWell(received: Buffer, frames: Buffer[], masked: boolean): void {
  const whole = Buffer.concat(frames)
  if (whole.subarray(0, received.length).equals(received)) return
  const boundaries = [0]
  for (const frame of frames) boundaries.push(boundaries.at(-1)! + frame.length)
  const cutAtOneOfThem = boundaries.some(at => {
    if (!whole.subarray(0, at).equals(received.subarray(0, at))) return false
    const rest = received.subarray(at)
    return isOneClose(masked ? unmask(rest) : rest)
  })
  assert.ok(cutAtOneOfThem, 'bytes that nobody sent')
}

test('tunnel: whenever it closes, each side gets what was sent up to the end of a frame and one Close, or FIN alone', () => {
  const step: fc.Arbitrary<ModelStep> = fc.record({ t: fc.constantFrom(...STEPS), n: fc.constantFrom(1, 3, 8, 130, 5000, 100_000) })
  const steps = fc.array(step, { maxLength: 40 }), kernelBytes = fc.constantFrom(Infinity, 50, 3000)
  const property = fc.property(steps, steps, kernelBytes, kernelBytes, fc.boolean(), (before, after, toClient, toOrigin, answers) => {
    const world = new World({ clientKernelBytes: toClient, originKernelBytes: toOrigin }), sent = { up: [], down: [] }
    for (const one of before) take(world, one, sent)
    world.tunnel.close()
    for (const one of after) take(world, one, sent)
    world.settle()
    if (answers) {
      world.client.send(echoOfClient)
      world.origin.send(echoOfOrigin)
      world.settle()
    }
    world.pass(END_MS + 300)
    assertCutWell(world.client.received, sent.down, false)
    assertCutWell(world.origin.received, sent.up, true)
    world.assertOver()
  })
  fc.assert(property, { numRuns: 1000 })
})
