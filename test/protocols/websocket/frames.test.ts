/**
 * Frame boundaries of RFC 6455: where they are however the bytes are cut, which bytes are no frames, and what a Close
 * of ours looks like.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { closeFrame, FrameFault, FrameTracker, Opcode } from '../../../src/protocols/websocket/frames.ts'

/** RFC 6455 5.7. */
const EXAMPLES: readonly { what: string; bytes: Buffer; masked: boolean; endsMessage: boolean }[] = [
  { what: 'an unmasked text', bytes: hex('81 05 48 65 6c 6c 6f'), masked: false, endsMessage: true },
  { what: 'a masked text', bytes: hex('81 85 37 fa 21 3d 7f 9f 4d 51 58'), masked: true, endsMessage: true },
  { what: 'a first fragment', bytes: hex('01 03 48 65 6c'), masked: false, endsMessage: false },
  { what: 'a last fragment', bytes: hex('80 02 6c 6f'), masked: false, endsMessage: true },
  { what: 'a ping', bytes: hex('89 05 48 65 6c 6c 6f'), masked: false, endsMessage: true },
  { what: 'a masked pong', bytes: hex('8a 85 37 fa 21 3d 7f 9f 4d 51 58'), masked: true, endsMessage: true },
  { what: '256 bytes', bytes: Buffer.concat([hex('82 7e 01 00'), Buffer.alloc(256, 0x88)]), masked: false, endsMessage: true },
  {
    what: '64 KiB', bytes: Buffer.concat([hex('82 7f 00 00 00 00 00 01 00 00'), Buffer.alloc(65_536, 0x88)]),
    masked: false, endsMessage: true,
  },
]

function hex(text: string): Buffer { return Buffer.from(text.replaceAll(' ', ''), 'hex') }

interface FrameSpec { readonly opcode: number; readonly last: boolean; readonly size: number; readonly reserved: number }

function frame({ opcode, last, size, reserved }: FrameSpec, masked: boolean): Buffer {
  const header = [(last ? 0x80 : 0) | reserved << 4 | opcode]
  const bit = masked ? 0x80 : 0
  if (size < 126) header.push(bit | size)
  else if (size < 65_536) header.push(bit | 126, size >> 8, size & 0xff)
  else header.push(bit | 127, 0, 0, 0, 0, size >>> 24, size >> 16 & 0xff, size >> 8 & 0xff, size & 0xff)
  // Payload and mask are full of what looks like headers of Close frames.
  return Buffer.concat([Buffer.from(header), Buffer.alloc(size + (masked ? 4 : 0), 0x88)])
}

const frameSpec = (masked: boolean): fc.Arbitrary<{ spec: FrameSpec; bytes: Buffer }> => fc.record({
  opcode: fc.constantFrom(Opcode.Continuation, Opcode.Text, Opcode.Binary, Opcode.Ping, Opcode.Pong), last: fc.boolean(),
  size: fc.constantFrom(0, 1, 4, 125, 126, 127, 65_535, 65_536, 70_000), reserved: fc.nat({ max: 7 }),
}).map(given => {
  const control = given.opcode >= Opcode.Close
  const spec = { ...given, last: given.last || control, size: control ? Math.min(given.size, 125) : given.size }
  return { spec, bytes: frame(spec, masked) }
})

for (const { what, bytes, masked, endsMessage } of EXAMPLES) {
  test(`WebSocket frames: ${what} (RFC 6455 5.7) ends with its last byte, wherever it is cut`, () => {
    const points = bytes.length < 1000 ? bytes.keys() : [1, 2, 5, 9, 10, 11, 40_000, bytes.length - 1]
    for (const point of points) {
      const tracker = new FrameTracker(masked)
      tracker.scan(bytes, 0, point)
      assert.equal(tracker.betweenFrames, point === 0, `cut at ${point}`)
      tracker.scan(bytes, point, bytes.length)
      assert.deepEqual(
        [tracker.betweenFrames, tracker.betweenMessages, tracker.fault, tracker.closeSeen],
        [true, endsMessage, FrameFault.None, false],
        `cut at ${point}`,
      )
    }
  })
}

test('WebSocket frames: one byte at a time is as good as all at once', () => {
  const tracker = new FrameTracker(false), ends: number[] = []
  const bytes = Buffer.concat([
    frame({ opcode: 2, last: true, size: 300, reserved: 4 }, false),
    frame({ opcode: 9, last: true, size: 0, reserved: 0 }, false),
    frame({ opcode: 1, last: true, size: 65_536, reserved: 0 }, false),
  ])
  for (const at of bytes.keys()) {
    tracker.scan(bytes, at, at + 1)
    if (tracker.betweenFrames) ends.push(at + 1)
  }
  assert.deepEqual(ends, [304, 306, bytes.length])
})

for (const masked of [true, false]) {
  const side = masked ? 'of a client' : 'of a server'
  test(`WebSocket frames: every end of a message is found in any stream ${side}, however it is cut`, () => {
    const someFrames = fc.array(frameSpec(masked), { minLength: 1, maxLength: 6 })
    fc.assert(fc.property(someFrames, fc.array(fc.nat({ max: 200_000 }), { maxLength: 12 }), (frames, cuts) => {
      const wanted: number[] = []
      let at = 0, inMessage = false
      for (const { spec, bytes } of frames) {
        at += bytes.length
        if (spec.opcode < Opcode.Close) inMessage = !spec.last
        if (!inMessage) wanted.push(at)
      }
      const whole = Buffer.concat(frames.map(({ bytes }) => bytes)), tracker = new FrameTracker(masked), found: number[] = []
      let from = 0
      for (const to of [...cuts.filter(cut => cut < whole.length).sort((a, b) => a - b), whole.length]) {
        while (from < to) {
          const end = tracker.scanMessage(whole, from, to)
          assert.ok(end > from && end <= to)
          if (tracker.betweenMessages) found.push(end)
          else assert.equal(end, to)
          from = end
        }
      }
      assert.deepEqual(found, wanted)
      assert.equal(tracker.fault, FrameFault.None)
      assert.equal(tracker.betweenFrames, true)
    }), { numRuns: 300 })
  })
}

test('WebSocket frames: arbitrary bytes never throw, never go past their end, and a fault is for good', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.boolean(), fc.nat({ max: 60 }), (given, masked, cut) => {
    const bytes = Buffer.from(given), tracker = new FrameTracker(masked)
    let at = 0
    while (at < bytes.length) {
      const to = at < cut ? Math.min(cut, bytes.length) : bytes.length
      const end = tracker.scanMessage(bytes, at, to)
      assert.ok(end > at && end <= to)
      at = end
    }
    const { fault } = tracker
    tracker.scan(hex('8100'), 0, 2)
    if (fault !== FrameFault.None) assert.deepEqual([tracker.fault, tracker.betweenFrames, tracker.betweenMessages], [fault, false, false])
  }), { numRuns: 2000 })
})

test('WebSocket frames: what cannot be a frame turns the tracker off with a code', () => {
  const rows: readonly [what: string, bytes: string, masked: boolean, fault: number][] = [
    ['opcode 3', '83 00', false, FrameFault.UnknownOpcode],
    ['opcode 7', '87 00', false, FrameFault.UnknownOpcode],
    ['opcode 11', '8b 00', false, FrameFault.UnknownOpcode],
    ['opcode 15', '8f 00', false, FrameFault.UnknownOpcode],
    ['a ping in fragments', '09 00', false, FrameFault.ControlFragmented],
    ['a Close of 126 bytes', '88 7e 00 7e', false, FrameFault.ControlTooLong],
    ['a ping of 64 KiB', '89 7f 00 00 00 00 00 01 00 00', false, FrameFault.ControlTooLong],
    ['a client that does not mask', '81 00', true, FrameFault.WrongMasking],
    ['a server that masks', '81 80', false, FrameFault.WrongMasking],
    ['125 in 16 bits', '82 7e 00 7d', false, FrameFault.LengthNotShortest],
    ['0 in 16 bits', '82 fe 00 00', true, FrameFault.LengthNotShortest],
    ['65535 in 64 bits', '82 7f 00 00 00 00 00 00 ff ff', false, FrameFault.LengthNotShortest],
    ['2^53', '82 7f 00 20 00 00 00 00 00 00', false, FrameFault.LengthTooLarge],
    ['2^53 + 1', '82 7f 00 20 00 00 00 00 00 01', false, FrameFault.LengthTooLarge],
    ['2^63', '82 ff 80 00 00 00 00 00 00 00', true, FrameFault.LengthTooLarge],
    ['2^64 - 1', '82 7f ff ff ff ff ff ff ff ff', false, FrameFault.LengthTooLarge],
    ['an HTTP response', Buffer.from('HTTP/1.1').toString('hex'), false, FrameFault.ControlFragmented],
  ]
  for (const [what, text, masked, fault] of rows) {
    const bytes = hex(text), tracker = new FrameTracker(masked)
    assert.equal(tracker.scanMessage(bytes, 0, bytes.length), bytes.length, what)
    assert.equal(tracker.fault, fault, what)
    tracker.scan(hex('8800'), 0, 2)
    assert.deepEqual([tracker.betweenFrames, tracker.betweenMessages, tracker.closeSeen], [false, false, false], what)
  }
})

test('WebSocket frames: 2^53 - 1 bytes are a length', () => {
  for (const masked of [true, false]) {
    const tracker = new FrameTracker(masked), bytes = hex(`82 ${masked ? 'ff' : '7f'} 00 1f ff ff ff ff ff ff 01 02 03 04 05`)
    tracker.scan(bytes, 0, bytes.length)
    assert.equal(tracker.fault, FrameFault.None)
    assert.equal(tracker.betweenFrames, false)
  }
})

test('WebSocket frames: reserved bits belong to extensions', () => {
  const tracker = new FrameTracker(false)
  tracker.scan(hex('c1 07 f2 48 cd c9 c9 07 00 f1 00'), 0, 11)
  assert.deepEqual([tracker.betweenMessages, tracker.fault], [true, FrameFault.None])
})

test('WebSocket frames: a control frame within a fragmented message does not end it, a Close ends everything', () => {
  const tracker = new FrameTracker(false), bytes = hex('01 01 61 89 00 80 01 62')
  assert.equal(tracker.scanMessage(bytes, 0, bytes.length), bytes.length)
  assert.equal(tracker.betweenMessages, true)
  const cut = new FrameTracker(false), closed = hex('01 01 61 88 00')
  cut.scan(closed, 0, closed.length)
  assert.deepEqual([cut.closeSeen, cut.betweenMessages], [true, true])
})

test('WebSocket frames: a Close is seen with its last byte, and a payload that looks like one is not', () => {
  const bytes = hex('88 02 03 e8')
  const tracker = new FrameTracker(false)
  tracker.scan(hex('82 04 88 02 03 e8'), 0, 6)
  tracker.scan(bytes, 0, 3)
  assert.equal(tracker.closeSeen, false)
  tracker.scan(bytes, 3, 4)
  assert.equal(tracker.closeSeen, true)
})

test('WebSocket frames: a Close of ours, towards a client and masked towards a server', () => {
  assert.equal(closeFrame(1001, '', null).toString('hex'), '880203e9')
  assert.equal(closeFrame(1001, 'going away', null).toString('hex'), `880c03e9${Buffer.from('going away').toString('hex')}`)
  assert.equal(closeFrame(1001, '', hex('37fa213d')).toString('hex'), '888237fa213d3413')
  const masked = closeFrame(1001, 'going away', hex('37fa213d'))
  const payload = masked.subarray(6).map((byte, at) => byte ^ masked[2 + (at & 3)]!)
  assert.equal(Buffer.from(payload).toString('latin1'), '\x03\xe9going away')
  for (const [frame, isMasked] of [[masked, true], [closeFrame(1001, 'x'.repeat(123), null), false]] as const) {
    const tracker = new FrameTracker(isMasked)
    tracker.scan(frame, 0, frame.length)
    assert.deepEqual([tracker.closeSeen, tracker.betweenMessages], [true, true])
  }
  assert.throws(() => closeFrame(1001, 'x'.repeat(124), null), { name: 'AssertionError' })
})
