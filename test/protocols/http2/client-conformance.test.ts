/**
 * What an origin may get wrong in HTTP/2, or send to do harm, by sections: frames that break a rule of the connection end it, with the
 * code for that, and each exchange fails once; those that break a rule of a stream end that exchange alone. What a server has to hold
 * is conformance.test.ts.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { ErrorCode, Flag, frame, FrameType, type Fields } from './server-world.ts'
import { goAway, ofLength, reset, setting, windowUpdate, World } from './client-world.ts'

const { ProtocolError, StreamClosed, FlowControlError, FrameSizeError, CompressionError, EnhanceYourCalm, Cancel } = ErrorCode
const { Data, Headers, Priority, RstStream, Settings, PushPromise, Ping, GoAway, WindowUpdate, Continuation } = FrameType
const { EndStream, EndHeaders, Padded } = Flag

/** Frames of an origin that was asked for GET on stream 1 and 3, and for a POST on 5 whose body goes on. */
type Frames = (world: World) => readonly Buffer[]
const OK: Fields = [[':status', '200']]
const block = (hex: string, flags: number = EndHeaders): Buffer => frame(Headers, flags, 1, hex)

/** By the code of GOAWAY. */
const ENDS_CONNECTION: Readonly<Record<string, readonly [code: number, frames: Frames]>> = {
  '4.1: bytes of HTTP/1': [FrameSizeError, () => [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')]],
  '4.2: DATA over 2^14': [FrameSizeError, world => [world.head(1), world.data(1, 'x'.repeat(16_385))]],
  '4.2: HEADERS over 2^14': [FrameSizeError, () => [frame(Headers, EndHeaders, 1, Buffer.alloc(16_385, 0x88))]],
  '4.3: a block that cannot be decoded': [CompressionError, () => [block('ff')]],
  '4.3: a block that cannot be decoded, of a stream that was reset': [CompressionError, () => [frame(Headers, EndHeaders, 3, 'ff')]],
  '4.3: DATA between the parts of a block': [ProtocolError, world => [block('88', 0), world.data(1, 'x')]],
  '4.3: PING between the parts of a block': [ProtocolError, () => [block('88', 0), frame(Ping, 0, 0, '00'.repeat(8))]],
  '4.3: an unknown frame between the parts of a block': [ProtocolError, () => [block('88', 0), frame(0xff, 0, 0)]],
  '5.1: HEADERS of a stream that nobody opened': [ProtocolError, world => [world.head(9)]],
  '5.1: DATA of a stream that nobody opened': [ProtocolError, world => [world.data(9, 'x')]],
  '5.1: RST_STREAM of a stream that nobody opened': [ProtocolError, () => [reset(9, 0)]],
  '5.1: WINDOW_UPDATE of a stream that nobody opened': [ProtocolError, () => [windowUpdate(9, 1)]],
  '5.1.1: a stream of its own': [ProtocolError, world => [world.head(2)]],
  '5.1.1: DATA on a stream of its own': [ProtocolError, world => [world.data(2, 'x')]],
  '6.1: DATA on stream 0': [ProtocolError, () => [frame(Data, 0, 0, 'aa')]],
  '6.1: more padding than there is': [ProtocolError, world => [world.head(1), frame(Data, Padded, 1, '05aa')]],
  '6.2: HEADERS on stream 0': [ProtocolError, () => [frame(Headers, EndHeaders, 0, '88')]],
  '6.2: more padding than there is': [ProtocolError, () => [frame(Headers, EndHeaders | Padded, 1, '0588')]],
  '6.3: PRIORITY on stream 0': [ProtocolError, () => [frame(Priority, 0, 0, '0000000110')]],
  '6.4: RST_STREAM on stream 0': [ProtocolError, () => [reset(0, 0)]],
  '6.4: RST_STREAM of 3 bytes': [FrameSizeError, () => [frame(RstStream, 0, 1, '000000')]],
  '6.5: SETTINGS on a stream': [ProtocolError, () => [frame(Settings, 0, 1)]],
  '6.5: SETTINGS of 5 bytes': [FrameSizeError, () => [frame(Settings, 0, 0, '0001000000')]],
  '6.5: an acknowledgement with a payload': [FrameSizeError, () => [frame(Settings, Flag.Ack, 0, '000100000000')]],
  '6.5.2: ENABLE_PUSH of 1': [ProtocolError, () => [setting(2, 1)]],
  '6.5.2: a first window over 2^31-1': [FlowControlError, () => [setting(4, 0x8000_0000)]],
  '6.5.2: frames under 2^14': [ProtocolError, () => [setting(5, 16_383)]],
  '6.5.2: frames over 2^24-1': [ProtocolError, () => [setting(5, 16_777_216)]],
  '6.6: a push': [ProtocolError, () => [frame(PushPromise, EndHeaders, 1, '0000000288')]],
  '6.7: PING on a stream': [ProtocolError, () => [frame(Ping, 0, 1, '00'.repeat(8))]],
  '6.7: PING of 7 bytes': [FrameSizeError, () => [frame(Ping, 0, 0, '00'.repeat(7))]],
  '6.8: GOAWAY on a stream': [ProtocolError, () => [frame(GoAway, 0, 1, '00'.repeat(8))]],
  '6.8: GOAWAY of 7 bytes': [FrameSizeError, () => [frame(GoAway, 0, 0, '00'.repeat(7))]],
  '6.9: WINDOW_UPDATE of nothing': [ProtocolError, () => [windowUpdate(0, 0)]],
  '6.9: WINDOW_UPDATE of 3 bytes': [FrameSizeError, () => [frame(WindowUpdate, 0, 0, '000001')]],
  '6.9.1: more than the window of a stream that was reset': [FlowControlError, world => {
    return [world.head(3), ...Array.from({ length: 5 }, () => world.data(3, 'x'.repeat(16_000)))]
  }],
  '6.9.1: a window over 2^31-1': [FlowControlError, () => [windowUpdate(0, 0x7fff_ffff)]],
  '6.9.2: windows over 2^31-1 by SETTINGS': [FlowControlError, () => [windowUpdate(5, 0x7000_0000), setting(4, 0x7fff_ffff)]],
  '6.10: CONTINUATION without HEADERS': [ProtocolError, () => [frame(Continuation, EndHeaders, 1, '88')]],
  '6.10: CONTINUATION of another stream': [ProtocolError, () => [block('88', 0), frame(Continuation, EndHeaders, 3, '88')]],
  '6.10: CONTINUATION without end': [ProtocolError, () => {
    return [block('88', 0), ...Array.from({ length: 33 }, () => frame(Continuation, 0, 1))]
  }],
  '6.10: a block without end': [EnhanceYourCalm, () => {
    return [block('88', 0), ...Array.from({ length: 20 }, () => frame(Continuation, 0, 1, Buffer.alloc(16_000, 0x88)))]
  }],
  'RFC 7541 2.3.3: an index of nothing': [CompressionError, () => [block('88be')]],
  'RFC 7541 4.2: a table over its limit': [CompressionError, () => [block('3fe21f88')]],
  'RFC 7541 5.2: padding of zeros': [CompressionError, () => [block('8800047465737483495090')]],
  'RFC 7541 6.1: index 0': [CompressionError, () => [block('80')]],
  'RFC 8441 3: ENABLE_CONNECT_PROTOCOL of 2': [ProtocolError, () => [setting(8, 2)]],
}

/** By the code of RST_STREAM, and the kind of fault. */
const ENDS_STREAM: Readonly<Record<string, readonly [code: number, kind: string, frames: Frames]>> = {
  '5.1: HEADERS behind the end, while the request goes on': [StreamClosed, 'BAD_FRAMING', world => [
    world.head(5, OK, EndStream), world.head(5, OK, EndStream),
  ]],
  '5.1: DATA behind the end, while the request goes on': [StreamClosed, 'BAD_FRAMING', world => [
    world.head(5, OK, EndStream), world.data(5, 'x'),
  ]],
  '6.3: PRIORITY of 4 bytes': [FrameSizeError, 'BAD_FRAMING', () => [frame(Priority, 0, 5, '00000001')]],
  '6.9: WINDOW_UPDATE of nothing': [ProtocolError, 'BAD_FRAMING', () => [windowUpdate(5, 0)]],
  '6.9.1: more than its window': [FlowControlError, 'BAD_FRAMING', world => {
    return [world.head(5), ...Array.from({ length: 5 }, () => world.data(5, 'x'.repeat(16_000)))]
  }],
  '6.9.1: a window over 2^31-1': [FlowControlError, 'BAD_FRAMING', () => [windowUpdate(5, 0x7fff_ffff)]],
  '8.1: a body before its head': [ProtocolError, 'BAD_FRAMING', world => [world.data(5, 'x')]],
  '8.1: an end before its head': [ProtocolError, 'BAD_FRAMING', world => [world.data(5, '', EndStream)]],
  '8.1: a second head': [ProtocolError, 'BAD_FRAMING', world => [world.head(5), world.head(5)]],
  '8.1: an interim head with the end': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [[':status', '103']], EndStream)]],
  '8.1: interim heads without end': [Cancel, 'TOO_MANY_INTERIM', world => {
    return Array.from({ length: 1001 }, () => world.head(5, [[':status', '103']]))
  }],
  '8.1.1: less than was announced': [ProtocolError, 'BAD_FRAMING', world => [world.head(5, ofLength('5')), world.data(5, 'x', EndStream)]],
  '8.1.1: more than was announced': [ProtocolError, 'BAD_FRAMING', world => [world.head(5, ofLength('1')), world.data(5, 'xy')]],
  '8.1.1: nothing of what was announced': [ProtocolError, 'BAD_FRAMING', world => [world.head(5, ofLength('5'), EndStream)]],
  '8.1.1: a length that is none': [ProtocolError, 'BAD_FRAMING', world => [world.head(5, ofLength('+1'))]],
  '8.2.1: a name in upper case': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['X-A', 'b']])]],
  '8.2.1: an empty name': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['', 'b']])]],
  '8.2.1: a value with CR LF': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['x', 'a\r\nset-cookie: b']])]],
  '8.2.1: a value with NUL': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['x', 'a\0']])]],
  '8.2.1: a value with a blank before it': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['x', ' a']])]],
  '8.2.2: Connection': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['connection', 'close']])]],
  '8.2.2: Transfer-Encoding': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['transfer-encoding', 'chunked']])]],
  '8.2.2: Upgrade': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ['upgrade', 'h2c']])]],
  '8.3: :status behind other fields': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [['x', 'a'], ...OK])]],
  '8.3: a pseudo-field of requests': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, [':path', '/']])]],
  '8.3: a pseudo-field in trailers': [ProtocolError, 'BAD_FRAMING', world => [world.head(5), world.head(5, OK, EndStream)]],
  '8.3.2: no :status': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [['x', 'a']])]],
  '8.3.2: :status twice': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [...OK, ...OK])]],
  '8.3.2: a status of four digits': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [[':status', '2000']])]],
  '8.6: status 101': [ProtocolError, 'BAD_HEAD', world => [world.head(5, [[':status', '101']])]],
  '10.5.1: a head over its limit': [Cancel, 'HEAD_TOO_LARGE', world => [world.head(5, [...OK, ['x', 'a'.repeat(13_000)]])]],
  '10.5.1: more fields than allowed': [Cancel, 'HEAD_TOO_LARGE', world => {
    return [world.head(5, [...OK, ...Array.from({ length: 201 }, () => ['a', 'b'] as const)])]
  }],
}

async function asked(): Promise<{ world: World; all: ReturnType<World['ask']>[] }> {
  const world = await World.open({ h2StreamWindowBytes: 65_535, h2ConnectionWindowBytes: 131_072 })
  const limits = { maxResponseHeadBytes: 12_000 }
  const all = [world.ask({ limits }), world.ask({ limits }), world.ask({ method: 'POST', length: BODY_UNKNOWN, limits })]
  await world.say()
  world.takeWords()
  return { world, all }
}

describe('http2 origin, conformance: what ends the connection', () => {
  for (const [what, [code, frames]] of Object.entries(ENDS_CONNECTION)) {
    it(what, async () => {
      const { world, all } = await asked()
      all[1]!.session.abort()
      all[0]!.pauses = true
      await world.say(...frames(world))
      assert.equal(world.words.findLast(word => word.startsWith('goaway')), `goaway 0 ${code}`)
      assert.deepEqual(all.map(({ faults }) => faults.length), [1, 0, 1])
      assert.deepEqual([all[0]!.faults[0]!.kind, all[0]!.retry], ['BAD_FRAMING', 'never'])
      assert.deepEqual([world.pair.near.destroyed, world.ticker.size, heldBytes.now], [true, 0, 0])
    })
  }

  it('3.4: anything but SETTINGS first', async () => {
    for (const first of [goAway(0), frame(Ping, 0, 0, '00'.repeat(8)), frame(Settings, Flag.Ack, 0), frame(Data, 0, 1, 'aa')]) {
      const world = new World(), waiting = world.ask()
      await world.say(first)
      assert.equal(world.words.at(-1), `goaway 0 ${ProtocolError}`)
      assert.equal(waiting.faults.length, 1)
    }
  })
})

describe('http2 origin, conformance: what ends one exchange', () => {
  for (const [what, [code, kind, frames]] of Object.entries(ENDS_STREAM)) {
    it(what, async () => {
      const { world, all } = await asked(), [first, second, hit] = all as [typeof all[0], typeof all[0], typeof all[0]]
      hit.pauses = true
      await world.say(...frames(world))
      assert.deepEqual(world.words.filter(word => word.startsWith('reset')), [`reset 5 ${code}`])
      assert.deepEqual([hit.faults.length, hit.faults[0]!.kind, hit.retry, hit.ended], [1, kind, 'never', false])
      await world.say(world.head(1), world.data(1, 'fine', EndStream), world.head(3, [[':status', '204']], EndStream))
      assert.deepEqual([first.body, first.ended, second.ended, world.connection.active], ['fine', true, true, 0])
      assert.equal(heldBytes.now, 0)
    })
  }
})
