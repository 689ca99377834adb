/**
 * Limits of a client's connection in HTTP/2 that are about time, about what is held, and about who is not to be hit: each with what
 * passes it, and with what comes close and is no attack.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FieldLines } from '../../../src/http/field-lines.ts'
import { ResponseHead } from '../../../src/http/message-head.ts'
import { BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { ErrorCode, Flag, frame, FrameType, GET, H2World, POST, PREFACE, type Fields } from './server-world.ts'

const { Cancel, EnhanceYourCalm, FlowControlError, RefusedStream } = ErrorCode

function uint32(value: number): string { return value.toString(16).padStart(8, '0') }
function windowUpdate(stream: number, bytes: number): Buffer { return frame(FrameType.WindowUpdate, 0, stream, uint32(bytes)) }
function reset(stream: number, code = 8): Buffer { return frame(FrameType.RstStream, 0, stream, uint32(code)) }
function setting(id: number, value: number): Buffer {
  return frame(FrameType.Settings, 0, 0, id.toString(16).padStart(4, '0') + uint32(value))
}
const PING = frame(FrameType.Ping, 0, 0, '0011223344556677')
/** GET of `/` without a word for the table. */
const PLAIN = Buffer.concat([Buffer.from('8286840109', 'hex'), Buffer.from('a.example')])
/** A literal to be indexed, `b` of 3900 bytes: with it the table of 4096 has no other. */
const BOMB = Buffer.concat([Buffer.from('4001627fbd1d', 'hex'), Buffer.alloc(3900, 0x78)])
const id = (at: number): number => at * 2 + 1

/** Begins an answer, and writes some of it. */
function write(world: H2World, at: number, body: string): void {
  const { session } = world.owners[at]!
  if (!session.responseStarted) session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
  session.writeBody(Buffer.from(body), 0, body.length, true)
}

describe('http2 limits: what is held', () => {
  const large: Fields = [...GET, ['x-a', 'a'.repeat(8000)], ['x-b', 'b'.repeat(8000)]]

  it('heads of requests under way are bounded together; those that are refused may come again when others are over', async () => {
    const world = await H2World.open({ http2: { maxHeldHeadBytes: 65_536 } })
    await world.say(...[1, 3, 5, 7, 9].map(stream => world.head(stream, large)), world.head(11))
    assert.deepEqual(world.takeWords(), [`reset 9 ${RefusedStream}`])
    const [{ limit, status }] = world.refusals as [typeof world.refusals[0]]
    assert.deepEqual([world.owners.length, limit, status], [5, 'held-head-bytes', 431])
    world.owners[0]!.answer()
    await world.say(world.head(13, large))
    assert.equal(world.owners.length, 6)
  })

  it('a stream that was reset holds its head until its exchange is over', async () => {
    const world = await H2World.open({ http2: { maxHeldHeadBytes: 65_536 } })
    await world.say(...[1, 3, 5, 7].map(stream => world.head(stream, large)))
    for (const owner of world.owners) owner.onDownstreamFault = error => { owner.faults.push(error) }
    await world.say(...[1, 3, 5, 7].map(stream => reset(stream)), world.head(9, large))
    assert.deepEqual(world.words, [`reset 9 ${RefusedStream}`])
    for (const owner of world.owners) owner.release()
    await world.say(world.head(11, large))
    assert.equal(world.owners.length, 5)
  })

  it('the bomb, a large field of the table in every head: it is held once a stream and no further', async () => {
    const world = await H2World.open()
    // Into the table once: from then on one byte is 3900.
    await world.say(frame(FrameType.Headers, 5, 1, Buffer.concat([PLAIN, BOMB, Buffer.alloc(7, 0xbe)])))
    for (let at = 1; at < 100; at++) {
      await world.say(frame(FrameType.Headers, 5, id(at), Buffer.concat([PLAIN, Buffer.alloc(8, 0xbe)])))
    }
    const held = world.owners.length
    assert.ok(held > 20 && held * 8 * 3900 < 1_048_576, `${held} heads are held`)
    assert.equal(world.refusals.at(-1)?.limit, 'held-head-bytes')
    assert.equal(world.goAwayCode, -1)
  })

  it('places are those of streams and of exchanges together, each counted once', async () => {
    const world = await H2World.open({ http2: { maxConcurrentStreams: 4 } })
    await world.say(setting(4, 0), ...[1, 3, 5, 7].map(stream => world.head(stream)))
    for (const owner of world.owners) owner.onDownstreamFault = error => { owner.faults.push(error) }
    // Two are answered and wait for a window; two are reset and have an exchange.
    for (const owner of world.owners.slice(0, 2)) owner.answer(200, 'waits')
    await world.say(reset(5), reset(7), world.head(9))
    assert.ok(world.takeWords().includes(`reset 9 ${RefusedStream}`))
    world.owners[2]!.release()
    await world.say(world.head(11), world.head(13))
    assert.ok(world.takeWords().includes(`reset 13 ${RefusedStream}`))
    await world.say(windowUpdate(1, 100))
    await world.say(world.head(15))
    assert.equal(world.owners.length, 6)
  })
})

describe('http2 limits: time', () => {
  it('an exchange of which nothing passes either way is reset', async () => {
    const world = await H2World.open({ http: { streamIdleTimeoutMs: 20_000, bodyIdleTimeoutMs: 100_000 } })
    await world.say(world.head(1, POST, 0), world.head(3, POST, 0))
    for (let waited = 0; waited < 60_000; waited += 15_000) {
      await world.wait(15_000)
      if (waited % 30_000 === 0) write(world, 1, 'something')
      else await world.say(world.data(3, 'x'))
    }
    assert.deepEqual(world.words.filter(word => word.startsWith('reset')), [`reset 1 ${Cancel}`])
    assert.equal(world.owners[0]!.faults[0]!.limit, 'stream-idle-timeout')
    assert.equal(world.connection.active, 1)
    await world.wait(21_000)
    assert.ok(world.words.includes(`reset 3 ${Cancel}`))
    const off = await H2World.open({ http: { streamIdleTimeoutMs: 0 } })
    await off.say(off.head(1))
    await off.wait(1_000_000)
    assert.equal(off.connection.active, 1)
  })

  it('a frame of which only a part came has the time of a head, were it of its own head', async () => {
    const whole = frame(0x99, 0, 0, Buffer.alloc(100))
    for (const part of [PING.subarray(0, 1), PING.subarray(0, 8), PING.subarray(0, 16), whole.subarray(0, 9), whole.subarray(0, 50)]) {
      const world = await H2World.open()
      await world.say(part)
      await world.wait(9000)
      assert.equal(world.goAwayCode, -1)
      await world.wait(2000)
      assert.equal(world.goAwayCode, EnhanceYourCalm)
      assert.equal(world.refusals[0]!.limit, 'head-timeout')
    }
  })

  it('a DATA frame that nobody waits for has the time of a pause in a body, and one of an open stream that stream\'s', async () => {
    const begun = frame(FrameType.Data, 0, 1, Buffer.alloc(1000)).subarray(0, 500)
    const world = await H2World.open({ http: { bodyIdleTimeoutMs: 5000 } })
    await world.say(world.head(1, POST, 0))
    world.owners[0]!.answer(403)
    await world.say(begun)
    await world.wait(6000)
    assert.equal(world.goAwayCode, EnhanceYourCalm)
    assert.deepEqual([world.refusals[0]!.kind, world.refusals[0]!.limit], ['READ_TIMEOUT', 'body-idle-timeout'])
    const open = await H2World.open({ http: { bodyIdleTimeoutMs: 5000, minBodyBytesPerSecond: 0 } })
    await open.say(open.head(1, POST, 0), begun)
    for (let waited = 0; waited < 30_000; waited += 3000) {
      await open.wait(3000)
      await open.say(Buffer.alloc(1))
    }
    assert.equal(open.owners[0]!.faults.length, 0)
    await open.wait(6000)
    assert.equal(open.owners[0]!.faults[0]!.limit, 'body-idle-timeout')
  })

  it('a window that opens a byte now and then: of a stream, that stream is reset, and it counts', async () => {
    const world = await H2World.open()
    await world.say(setting(4, 0), world.head(1), world.head(3))
    world.owners[0]!.answer(200, 'x'.repeat(50_000))
    for (let waited = 0; waited < 40_000; waited += 1000) {
      await world.say(windowUpdate(1, 1))
      await world.wait(1000)
    }
    assert.ok(world.words.includes(`reset 1 ${Cancel}`))
    assert.equal(world.goAwayCode, -1)
    assert.equal(world.connection.active, 1, 'the other goes on')
    for (let at = 2; at < 400 && world.goAwayCode === -1; at++) {
      await world.say(world.head(id(at)))
      world.owners.at(-1)!.answer(200, 'x')
      if (at % 50 === 0) await world.wait(33_000)
    }
    await world.wait(33_000)
    assert.equal(world.owners.at(-1)!.session.bytesQueued, 0)
  })

  it('a window of the connection that opens a byte now and then ends the connection', async () => {
    const world = await H2World.open()
    await world.say(setting(4, 1_000_000), ...[1, 3, 5].map(stream => world.head(stream)))
    for (const owner of world.owners) owner.answer(200, 'x'.repeat(50_000))
    for (let waited = 0; waited < 40_000 && world.goAwayCode === -1; waited += 1000) {
      await world.say(windowUpdate(0, 1))
      await world.wait(1000)
    }
    assert.equal(world.goAwayCode, EnhanceYourCalm)
    assert.equal(world.refusals.at(-1)!.limit, 'send-bytes-per-second')
    const never = await H2World.open({ http: { minSendBytesPerSecond: 0, sendTimeoutMs: 5000 } })
    await never.say(setting(4, 1_000_000), never.head(1))
    never.owners[0]!.answer(200, 'x'.repeat(100_000))
    await never.wait(8000)
    assert.deepEqual([never.goAwayCode, never.refusals.at(-1)!.limit], [EnhanceYourCalm, 'send-timeout'])
  })

  it('a slow reader of a hundred answers is slow in all of them, and loses none', async () => {
    const world = await H2World.open({ kernelBytes: 4000 })
    await world.say(setting(4, 1_000_000), windowUpdate(0, 10_000_000))
    for (let at = 0; at < 100; at++) await world.say(world.head(id(at)))
    world.pair.far.pause()
    for (const owner of world.owners) owner.answer(200, 'x'.repeat(20_000))
    // 20,000 bytes a second, and so 200 for each.
    for (let second = 0; second < 130; second++) {
      world.clock.advance(1000)
      for (let part = 0; part < 5; part++) {
        world.pair.far.resume()
        world.pair.near.deliver(4000)
        world.pair.far.pause()
      }
      await world.settle()
    }
    world.pair.far.resume()
    await world.settle()
    assert.equal(world.words.filter(word => word.startsWith('reset')).length, 0)
    for (let at = 0; at < 100; at++) assert.equal(world.frames.bodies.get(id(at))?.length, 20_000)
  })
})

describe('http2 limits: what is counted', () => {
  it('small answers go before what is left of large ones, which go on all the same', async () => {
    const world = await H2World.open({ kernelBytes: 20_000 })
    await world.say(setting(4, 10_000_000), windowUpdate(0, 100_000_000))
    await world.say(...Array.from({ length: 40 }, (_, at) => world.head(id(at))))
    world.pair.far.pause()
    for (const owner of world.owners.slice(0, 20)) owner.answer(200, 'x'.repeat(300_000))
    await world.settle()
    for (const owner of world.owners.slice(20)) owner.answer(200, 'small')
    world.pair.far.resume()
    for (let round = 0; round < 100; round++) await world.settle()
    const isLong = (word: string): boolean => /^data \d+ 16384$/.test(word), isSmall = (word: string): boolean => word.endsWith(' 5 end')
    const first = world.words.findIndex(isSmall), last = world.words.findLastIndex(isSmall)
    assert.equal(world.words.filter(isSmall).length, 20)
    assert.ok(world.words.slice(0, first).filter(isLong).length <= 6, 'none but those that were joined already')
    assert.equal(world.words.slice(first, last).filter(isLong).length, 6, 'large ones are not starved')
    for (let at = 0; at < 20; at++) assert.equal(world.frames.bodies.get(id(at))?.length, 300_000)
  })

  it('a client that stays with frames that make no sense is asked to leave before it is cut', async () => {
    const world = await H2World.open()
    await world.say(world.head(1), ...Array.from({ length: 760 }, () => frame(0x99, 0, 0)))
    assert.deepEqual(world.takeWords(), ['goaway 2147483647 0', 'ping'])
    world.owners[0]!.answer()
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 200 end'])
    await world.say(...Array.from({ length: 300 }, () => frame(0x99, 0, 0)))
    assert.equal(world.goAwayCode, EnhanceYourCalm)
  })

  const NO_SENSE: Readonly<Record<string, Buffer>> = {
    'SETTINGS that acknowledge nothing': frame(FrameType.Settings, Flag.Ack, 0),
    'PING that answers nothing': frame(FrameType.Ping, Flag.Ack, 0, '0011223344556677'),
    'GOAWAY again and again': frame(FrameType.GoAway, 0, 0, '0000000000000000'),
    'RST_STREAM behind the end': reset(1),
    'frames of types that are reserved or old': frame(0x0a, 0, 0),
  }
  for (const [what, bytes] of Object.entries(NO_SENSE)) {
    it(`${what} without end`, async () => {
      const world = await H2World.open()
      await world.say(world.head(1))
      world.owners[0]!.answer()
      for (let round = 0; round < 30 && world.goAwayCode <= 0; round++) await world.say(...Array.from({ length: 50 }, () => bytes))
      assert.deepEqual([world.goAwayCode, world.refusals.at(-1)!.limit], [EnhanceYourCalm, 'glitches'])
    })
  }

  it('DATA of padding alone is empty, and one that is none', async () => {
    const padded = frame(FrameType.Data, Flag.Padded, 1, Buffer.from([255, ...Buffer.alloc(255)]))
    const world = await H2World.open()
    await world.say(world.head(1, POST, 0), ...Array.from({ length: 101 }, () => padded))
    assert.deepEqual([world.goAwayCode, world.refusals.at(-1)!.limit], [EnhanceYourCalm, 'empty-data'])
    const ends = await H2World.open()
    for (let at = 0; at < 300; at++) {
      await ends.say(ends.head(id(at), POST, 0), ends.data(id(at), '', Flag.EndStream))
      ends.owners[at]!.answer()
    }
    assert.equal(ends.goAwayCode, -1)
  })

  it('DATA behind RST_STREAM: what its window had room for may come, and no more', async () => {
    const world = await H2World.open({ http2: { streamWindowBytes: 65_535 } })
    await world.say(world.head(1, POST, 0), world.data(1, 'x'.repeat(100)))
    world.owners[0]!.answer(403)
    await world.settle()
    for (let sent = 0; sent < 4; sent++) await world.say(world.data(1, 'x'.repeat(16_000)))
    assert.equal(world.goAwayCode, -1)
    await world.say(world.data(1, 'x'.repeat(2000)))
    assert.equal(world.goAwayCode, FlowControlError)
  })

  it('RST_STREAM of an answer that is whole here and was not sent is a reset like others', async () => {
    const world = await H2World.open()
    await world.say(setting(4, 0))
    for (let at = 0; at < 400 && world.goAwayCode === -1; at++) {
      await world.say(world.head(id(at)))
      world.owners[at]!.answer(200, 'never sent')
      await world.say(reset(id(at)))
    }
    assert.deepEqual([world.goAwayCode, world.refusals.at(-1)!.limit], [EnhanceYourCalm, 'resets'])
  })

  it('streams that are served whole pay for those that are reset, and for late frames', async () => {
    const world = await H2World.open()
    for (let at = 0; at < 1500; at += 2) {
      await world.say(world.head(id(at)), world.head(id(at + 1)))
      world.owners.at(-2)!.answer()
      await world.say(reset(id(at)), reset(id(at + 1)), windowUpdate(id(at), 10))
    }
    assert.equal(world.goAwayCode, -1)
    assert.equal(world.refusals.length, 0)
  })

  it('a window smaller than the first one holds from its acknowledgement on (RFC 9113 6.9.2)', async () => {
    const world = new H2World({ http2: { streamWindowBytes: 1000 }, flows: false })
    const early = [1, 2, 3].map(() => world.data(1, 'x'.repeat(16_000)))
    await world.say(PREFACE, frame(FrameType.Settings, 0, 0), world.head(1, POST, 0), ...early)
    assert.ok(!world.words.some(word => word.startsWith('reset')))
    await world.say(frame(FrameType.Settings, Flag.Ack, 0), world.head(3, POST, 0), world.data(3, 'y'.repeat(1000)))
    world.owners[0]!.session.resumeRequest()
    await world.settle()
    assert.equal(world.owners[0]!.body.length, 48_000)
    assert.equal(world.takeWords().at(-1), 'window 1 48000', 'from -47000 to 1000')
    await world.say(world.data(3, 'y'), world.data(1, 'x'.repeat(1000)))
    assert.deepEqual(world.words.filter(word => word.startsWith('reset')), [`reset 3 ${FlowControlError}`])
    await world.say(world.data(1, 'x'.repeat(1001)))
    assert.equal(world.words.at(-1), `reset 1 ${FlowControlError}`)
    const ends = new H2World({ http2: { streamWindowBytes: 1000 }, flows: false })
    await ends.say(PREFACE, frame(FrameType.Settings, 0, 0), ends.head(1, POST, 0), early[0]!, frame(FrameType.Settings, Flag.Ack, 0))
    await ends.say(ends.data(1, '', Flag.EndStream))
    ends.owners[0]!.session.resumeRequest()
    assert.deepEqual([ends.owners[0]!.body.length, ends.owners[0]!.ended], [16_000, true], 'an end needs no window')
  })
})
