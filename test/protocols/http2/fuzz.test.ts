/**
 * Bytes and orders of events that nobody thought of, in memory and on a clock of the test's own: frames to either role, header blocks,
 * and exchanges between our two roles in random interleavings. Whatever comes, nothing throws, a connection goes on or ends, bodies are
 * byte for byte what was sent on their stream (frame-oracle.ts reads it with code of its own), and nothing is left behind.
 *
 *   CIRQUE_HTTP2_FUZZ_CASES=200000   how many cases, a quarter for each of the four: `npm run fuzz:http2`
 *   CIRQUE_HTTP2_FUZZ_SEED=1         the same cases again
 *   CIRQUE_HTTP2_FUZZ_ONLY=123       one of them alone
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FieldLines } from '../../../src/http/field-lines.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead, ResponseHead } from '../../../src/http/message-head.ts'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { HTTP1_CLIENT_DEFAULTS, HTTP1_SERVER_DEFAULTS } from '../../../src/protocols/http1/http1-options.ts'
import { BODY_UNKNOWN, type DownstreamSession } from '../../../src/protocols/http-session.ts'
import { Http2ClientConnection } from '../../../src/protocols/http2/client-connection.ts'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../src/protocols/http2/hpack-encoder.ts'
import { HTTP2_SERVER_DEFAULTS } from '../../../src/protocols/http2/http2-options.ts'
import { Http2ServerConnection } from '../../../src/protocols/http2/server-connection.ts'
import type { Http2ServerSession } from '../../../src/protocols/http2/server-session.ts'
import { Dice } from '../../support/dice.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair } from '../../support/memory-stream.ts'
import { setupFor } from '../../support/request-setup.ts'
import { Asked, World } from './client-world.ts'
import { bodiesOf, PlainHpack } from './frame-oracle.ts'
import { Flag, frame, FrameType, H2World, PREFACE, TestOwner, turn } from './server-world.ts'

const CASES = Number(process.env['CIRQUE_HTTP2_FUZZ_CASES'] ?? 4000)
const SEED = Number(process.env['CIRQUE_HTTP2_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const ONLY = process.env['CIRQUE_HTTP2_FUZZ_ONLY'] === undefined ? null : Number(process.env['CIRQUE_HTTP2_FUZZ_ONLY'])
const EACH = Math.ceil(CASES / 4)

/** Runs the cases of one fuzzer, each with numbers of its own. */
async function run(each: (dice: Dice) => Promise<void> | void): Promise<void> {
  for (let at = ONLY ?? 0; at < (ONLY === null ? EACH : ONLY + 1); at++) {
    try { await each(new Dice(SEED + at * 7919)) } catch (error) {
      throw new Error(`again with CIRQUE_HTTP2_FUZZ_SEED=${SEED} CIRQUE_HTTP2_FUZZ_ONLY=${at}`, { cause: error })
    }
  }
}

// ---- bytes

function some(dice: Dice, most: number): Buffer { return Buffer.from(Array.from({ length: dice.below(most + 1) }, () => dice.below(256))) }

function changed(dice: Dice, bytes: Buffer): Buffer {
  let out = Buffer.from(bytes)
  for (let times = dice.below(4); times > 0 && out.length > 0; times--) {
    const at = dice.below(out.length), more = at + 1 + dice.below(8)
    switch (dice.below(6)) {
      case 0: out[at]! ^= 1 << dice.below(8); break
      case 1: out[at] = dice.pick([0, 1, 0x7f, 0x80, 0xff]); break
      case 2: out = Buffer.concat([out.subarray(0, at), out.subarray(more)]); break
      case 3: out = Buffer.concat([out.subarray(0, more), out.subarray(at)]); break
      case 4: out = Buffer.concat([out.subarray(0, at), some(dice, 6), out.subarray(at)]); break
      default: out = out.subarray(0, at); break
    }
  }
  return out
}

const VALUES = [0, 1, 2, 100, 16_383, 16_384, 65_535, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
function uint32(value: number): string { return value.toString(16).padStart(8, '0') }

/** A frame as an ordinary sender would write it, or nearly. @param head writes a message's head */
function anyFrame(dice: Dice, streams: readonly number[], head: (stream: number, flags: number) => Buffer): Buffer {
  const stream = dice.pick(streams), end = dice.below(3) === 0 ? Flag.EndStream : 0
  switch (dice.below(14)) {
    case 0: case 1: case 2: return head(stream, end)
    case 3: case 4: case 5: return frame(FrameType.Data, end, stream, Buffer.from(`${stream}`.padEnd(dice.below(40), '0123456789')))
    case 6: {
      const padding = dice.below(6)
      const payload = Buffer.concat([Buffer.from([padding]), some(dice, 20), Buffer.alloc(padding)])
      return frame(FrameType.Data, end | Flag.Padded, stream, payload)
    }
    case 7: return frame(FrameType.RstStream, 0, stream, uint32(dice.below(14)))
    case 8: return frame(FrameType.WindowUpdate, 0, dice.pick([0, stream]), uint32(dice.pick(VALUES)))
    case 9: {
      const entry = `000${dice.below(10)}${uint32(dice.pick(VALUES))}`
      return frame(FrameType.Settings, dice.below(2), 0, dice.below(2) === 0 ? '' : entry)
    }
    case 10: return frame(FrameType.Ping, dice.below(2), 0, '0011223344556677')
    case 11: return frame(FrameType.Priority, 0, stream, uint32(dice.pick([0, stream])) + '10')
    case 12: return frame(FrameType.GoAway, 0, 0, uint32(dice.pick([0, 1, 0x7fff_ffff])) + uint32(dice.below(14)))
    default: return frame(dice.below(16), dice.below(256), dice.pick([0, stream]), some(dice, 30))
  }
}

/** Some frames, a header block in parts among them, with a few bytes changed. */
function anyFrames(dice: Dice, streams: readonly number[], head: (stream: number, flags: number) => Buffer): Buffer {
  const frames = Array.from({ length: dice.below(25) }, () => {
    const each = anyFrame(dice, streams, head)
    if (each[3] !== FrameType.Headers || dice.below(4) !== 0) return dice.below(8) === 0 ? changed(dice, each) : each
    const stream = each.readUInt32BE(5), cut = 9 + dice.below(each.length - 8)
    return Buffer.concat([
      frame(FrameType.Headers, each[4]! & ~Flag.EndHeaders, stream, each.subarray(9, cut)),
      frame(FrameType.Continuation, Flag.EndHeaders, stream, each.subarray(cut)),
    ])
  })
  const bytes = Buffer.concat(frames)
  return dice.below(4) === 0 ? changed(dice, bytes) : bytes
}

function isPrefix(part: string, whole: string, what: string): void {
  if (!whole.startsWith(part)) assert.equal(part, whole.slice(0, part.length), what)
}

test('http2 fuzz: frames to a server', () => run(async dice => {
  const flows = dice.below(3) > 0, answersFaults = dice.below(3) > 0, kernelBytes = dice.pick([Infinity, Infinity, 500])
  const world = new H2World({ flows, answersFaults, kernelBytes })
  const methods = ['GET', 'POST', 'PUT', 'HEAD', 'CONNECT'], lengths = ['', '', '0', '5', '40']
  const head = (stream: number, flags: number): Buffer => {
    const length = dice.pick(lengths), fields = [
      [':method', dice.pick(methods)], [':scheme', 'http'], [':path', '/'], [':authority', 'a.example'], ['x-a', String(dice.below(9))],
      ...length === '' ? [] : [['content-length', length] as const],
    ] as const
    return world.head(stream, dice.below(12) === 0 ? fields.slice(dice.below(5)) : fields, flags)
  }
  const bytes = Buffer.concat([
    dice.below(30) === 0 ? changed(dice, PREFACE) : PREFACE, frame(FrameType.Settings, 0, 0),
    anyFrames(dice, [1, 1, 3, 5, 7, 9, 2, 0], head),
  ])
  world.client.send(bytes)
  const piece = dice.pick([1, 7, 50, Infinity])
  while (world.client.stream.deliver(piece) > 0) {
    if (dice.below(20) === 0) await turn()
    const owner = world.owners[dice.below(world.owners.length + 1)]
    if (owner === undefined || owner.faults.length > 0) continue
    switch (dice.below(6)) {
      case 0: owner.session.resumeRequest(); break
      case 1: owner.session.pauseRequest(); break
      case 2: owner.answer(200, 'answer', dice.below(2) === 0 ? null : HeaderMap.from({ 'x-sum': '6' })); break
      case 3: world.clock.advance(1000); break
    }
  }
  await world.settle()
  const sent = bodiesOf(bytes.subarray(PREFACE.length))
  for (const owner of world.owners) {
    isPrefix(owner.body, sent.get((owner.session as Http2ServerSession).id) ?? '', 'a body is what came on its stream')
    assert.ok(owner.faults.length <= 1, 'an exchange fails once')
  }
  assert.ok(!world.words.some(word => word.startsWith('broken')), world.words.join(', '))
  await world.end()
  for (const owner of world.owners) owner.release()
  assert.deepEqual([world.connection.active, world.closed, world.ticker.size, heldBytes.now], [0, 1, 0, 0])
}))

test('http2 fuzz: frames to a client', () => run(async dice => {
  const world = new World({ h2StreamWindowBytes: dice.pick([65_535, 1000]) }, dice.pick([Infinity, Infinity, 500])), asked: Asked[] = []
  const whole = new Set<unknown>()
  for (let count = 1 + dice.below(4); count > 0; count--) {
    const length = dice.pick([0, 0, 5, BODY_UNKNOWN]), method = length === 0 ? dice.pick(['GET', 'HEAD']) : 'POST'
    const each = world.ask({ method, length })
    each.pauses = dice.below(4) === 0
    asked.push(each)
    if (length === 0) whole.add(each.session)
  }
  const head = (stream: number, flags: number): Buffer => {
    const status = dice.pick(['200', '200', '204', '304', '103', '100', '500']), length = dice.pick(['', '', '0', '5', '40'])
    const lengthField = length === '' ? [] : [['content-length', length] as const]
    return world.head(stream, [[':status', status], ['x-a', String(dice.below(9))], ...lengthField], flags)
  }
  const bytes = Buffer.concat([
    dice.below(10) === 0 ? Buffer.alloc(0) : frame(FrameType.Settings, 0, 0), anyFrames(dice, [1, 1, 3, 3, 5, 7, 9, 2, 0], head),
  ])
  await world.say()
  world.origin.send(bytes)
  const piece = dice.pick([1, 7, 50, Infinity])
  while (world.origin.stream.deliver(piece) > 0) {
    if (dice.below(20) === 0) await turn()
    const { session, faults } = dice.pick(asked)
    switch (dice.below(6)) {
      case 0: session.resumeResponse(); break
      case 1: session.pauseResponse(); break
      case 2: session.writeBody(Buffer.from('abcde'), 0, 1 + dice.below(5), true); break
      case 3:
        session.endRequest(null)
        if (faults.length === 0) whole.add(session)
        break
      case 4: if (dice.below(4) === 0) session.abort(); break
      case 5: world.clock.advance(1000); break
    }
  }
  await world.say()
  const sent = bodiesOf(bytes)
  for (const [at, each] of asked.entries()) {
    isPrefix(each.body, sent.get(at * 2 + 1) ?? '', 'a body is what came on its stream')
    assert.ok(each.faults.length <= 1, 'an exchange fails once')
    if (!each.ended || !whole.has(each.session)) continue
    assert.ok(each.faults.every(({ kind }) => kind === 'LENGTH_MISMATCH'), 'it ends, or it fails')
  }
  world.origin.stream.destroy()
  await world.say()
  for (const { session } of asked) session.abort()
  assert.equal(world.connection.active, 0)
  world.connection.close()
  await world.say()
  assert.deepEqual([world.ticker.size, heldBytes.now], [0, 0])
}))

test('http2 fuzz: header blocks', () => run(dice => {
  const encoder = new HpackEncoder(), ours = new HpackDecoder(), plain = new PlainHpack()
  const names = ['cookie', 'x-a', ':path', 'accept', 'x'.repeat(dice.below(300)), '', 'Über']
  for (let blocks = 1 + dice.below(6); blocks > 0; blocks--) {
    encoder.length = 0
    if (dice.below(6) === 0) encoder.limitTable(dice.pick([0, 64, 4096]))
    encoder.begin()
    for (let left = dice.below(8); left > 0; left--) {
      encoder.field(dice.pick(names), some(dice, dice.pick([0, 3, 40])).toString('latin1'))
    }
    const written = Buffer.from(encoder.bytes.subarray(0, encoder.length))
    const block = dice.below(5) === 0 ? some(dice, 40) : dice.below(2) === 0 ? changed(dice, written) : written
    const fields: (readonly [string, string])[] = []
    const isBlock = ours.decode(block, 0, block.length, { onField: ({ name, value }) => { fields.push([name, value]) } })
    assert.deepEqual(isBlock ? fields : null, plain.decode(block))
    if (!isBlock) return
    assert.equal(ours.size, plain.size)
    assert.ok(ours.size <= 4096)
  }
}))

// ---- both roles

interface Stream {
  readonly asked: Asked
  owner: TestOwner | null
  sent: string
  written: string
  requestEnded: boolean
  answerBegun: boolean
  answerEnded: boolean
  /** Somebody has cut it: what came is a part of what was sent. */
  cut: boolean
}

/** Bytes that say whose they are. */
function bytesOf(stream: number, from: number, count: number): string {
  let text = ''
  while (text.length < count) text += `<${stream}:${from + text.length}>`
  return text.slice(0, count)
}

/** Our client and our server at the ends of one connection. */
class BothRoles {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly streams: Stream[] = []
  readonly pair: MemoryPair
  readonly client: Http2ClientConnection
  readonly server: Http2ServerConnection
  readonly draining = false
  refused = 0

  constructor(dice: Dice) {
    this.pair = new MemoryPair({ kernelBytes: dice.pick([Infinity, 3000, 20_000]) })
    const http2 = {
      ...HTTP2_SERVER_DEFAULTS, streamWindowBytes: dice.pick([300, 20_000, 262_144]), connectionWindowBytes: dice.pick([65_535, 1_048_576]),
      maxStreamsPerRead: dice.pick([1, 32]),
    }
    this.server = new Http2ServerConnection(this.pair.far, 'test', { ...HTTP1_SERVER_DEFAULTS, http2 }, this, this.ticker)
    this.pair.far.owner = this.server
    this.client = new Http2ClientConnection(this.pair.near, this.ticker, {
      maxH2Streams: 100, h2StreamWindowBytes: dice.pick([300, 20_000, 262_144]), h2ConnectionWindowBytes: dice.pick([65_535, 1_048_576]),
      h2PingIntervalMs: 0, h2PingTimeoutMs: 5000,
    }, false)
  }

  onRequest(session: DownstreamSession): TestOwner {
    const owner = new TestOwner(session, true, false)
    this.streams[Number(session.request.headers.get('x-at'))]!.owner = owner
    return owner
  }
  onRefused(): void { this.refused++ }

  ask(hasBody: boolean): void {
    const asked = new Asked(), length = hasBody ? BODY_UNKNOWN : 0, at = String(this.streams.length)
    asked.session = this.client.begin(asked, HTTP1_CLIENT_DEFAULTS)
    this.streams.push({
      asked, owner: null, sent: '', written: '', requestEnded: !hasBody, answerBegun: false, answerEnded: false, cut: false,
    })
    const head = RequestHead.build(hasBody ? 'POST' : 'GET', '/', HeaderMap.from([['Host', 'a.example'], ['x-at', at]]))
    asked.session.writeHead(head, setupFor(length))
    if (!hasBody) asked.session.endRequest(null)
  }

  async settle(): Promise<void> {
    // A server that has begun enough requests in one read goes on with it in the next turn.
    for (let moved = -1; moved !== this.pair.near.bytesRead + this.pair.far.bytesRead || this.pair.far.paused;) {
      moved = this.pair.near.bytesRead + this.pair.far.bytesRead
      this.pair.settle()
      await turn()
      this.pair.settle()
      await turn()
    }
  }
}

function act(dice: Dice, world: BothRoles): void {
  const { streams } = world, at = dice.below(streams.length + 1), stream = streams[at]
  if (stream === undefined) {
    if (world.client.capacity > 0 && streams.length < 12) world.ask(dice.below(2) === 0)
    return
  }
  const { asked, owner } = stream, { session } = asked, id = at * 2 + 1
  if (stream.cut) return
  switch (dice.below(11)) {
    case 0: case 1: case 2: {
      if (stream.requestEnded || stream.sent.length > 30_000) break
      const text = bytesOf(id, stream.sent.length, 1 + dice.below(dice.pick([10, 3000]))), isOwned = dice.below(2) === 0
      const buffer = Buffer.from(text)
      stream.sent += text
      session.writeBody(buffer, 0, buffer.length, isOwned)
      if (!isOwned) buffer.fill(0)
      break
    }
    case 3:
      if (stream.requestEnded) break
      stream.requestEnded = true
      session.endRequest(dice.below(2) === 0 ? null : HeaderMap.from({ 'x-sum': '1' }))
      break
    case 4: case 5: case 6: {
      if (owner === null || stream.answerEnded || owner.faults.length > 0 || stream.written.length > 60_000) break
      if (!stream.answerBegun) owner.session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
      stream.answerBegun = true
      const text = bytesOf(id, stream.written.length, 1 + dice.below(dice.pick([10, 9000])))
      stream.written += text
      owner.session.writeBody(Buffer.from(text), 0, text.length, true)
      break
    }
    case 7:
      if (owner === null || !stream.answerBegun || stream.answerEnded || owner.faults.length > 0) break
      // What it has not read of the request it does not want: the client is told so, and may not have sent all.
      if (!owner.ended) stream.cut = true
      stream.answerEnded = true
      owner.session.endResponse(dice.below(2) === 0 ? null : HeaderMap.from({ 'x-sum': '1' }))
      owner.release()
      break
    case 8:
      if (dice.below(2) === 0) owner?.session.pauseRequest()
      else session.pauseResponse()
      break
    case 9:
      if (dice.below(2) === 0) owner?.session.resumeRequest()
      else session.resumeResponse()
      break
    default:
      if (dice.below(6) !== 0) break
      stream.cut = true
      if (dice.below(2) === 0) session.abort()
      else if (owner !== null && !stream.answerEnded) {
        owner.session.abort()
        owner.release()
      }
  }
}

test('http2 fuzz: exchanges between both roles, in random interleavings', () => run(async dice => {
  const world = new BothRoles(dice), { pair, streams } = world
  for (let actions = dice.below(80); actions > 0; actions--) {
    switch (dice.below(6)) {
      case 0: pair.near.deliver(dice.pick([1, 100, 5000])); break
      case 1: pair.far.deliver(dice.pick([1, 100, 5000])); break
      case 2: if (dice.below(3) === 0) await turn(); break
      default: act(dice, world)
    }
  }
  for (let round = 0; round < 3; round++) {
    for (const { asked, owner } of streams) {
      asked.session.resumeResponse()
      owner?.session.resumeRequest()
    }
    await world.settle()
  }
  for (const [at, { asked, owner, sent, written, requestEnded, answerEnded, cut }] of streams.entries()) {
    isPrefix(owner?.body ?? '', sent, `what ${at} sent`)
    isPrefix(asked.body, written, `what ${at} got`)
    if (cut) continue
    assert.equal(owner!.body, sent, `all that ${at} sent`)
    assert.equal(asked.body, written, `all that ${at} got`)
    assert.deepEqual([owner!.ended, asked.ended], [requestEnded, answerEnded], `both ends of ${at}`)
    assert.deepEqual([owner!.faults, asked.faults], [[], []])
  }
  assert.equal(world.refused, 0)
  assert.ok(!pair.near.destroyed && !pair.far.destroyed, 'the connection goes on')
  world.client.close()
  await world.settle()
  for (const { asked, owner } of streams) {
    asked.session.abort()
    owner?.release()
  }
  assert.deepEqual([world.client.active, world.server.active, world.ticker.size, heldBytes.now], [0, 0, 0, 0])
}))
