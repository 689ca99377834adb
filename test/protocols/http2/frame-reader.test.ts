/** Frames wherever reads end, and every rule that one can break by itself. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import { FrameReader, type FrameSink } from '../../../src/protocols/http2/frame-reader.ts'
import { Flag, FrameType, writeFrameHead } from '../../../src/protocols/http2/frames.ts'

function frame(type: number, flags: number, stream: number, payload: Buffer | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'hex') : payload, out = Buffer.alloc(9 + body.length)
  body.copy(out, writeFrameHead(out, 0, body.length, type, flags, stream))
  return out
}

/** Tells in words what it is told; bytes of DATA joined. */
class Told implements FrameSink {
  readonly words: string[] = []
  #data = ''
  onFrame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): boolean {
    this.words.push(`${type} ${flags} ${stream} ${payload.toString('hex', from, to)}`)
    return true
  }
  onDataHead(flags: number, stream: number, length: number): boolean {
    this.words.push(`data ${flags} ${stream} ${length}`)
    this.#data = ''
    return true
  }
  onData(_stream: number, payload: Buffer, from: number, to: number): void { this.#data += payload.toString('hex', from, to) }
  onDataEnd(flags: number, stream: number): boolean {
    this.words.push(`end ${flags} ${stream} ${this.#data}`)
    return true
  }
  onStreamError(stream: number, code: number): boolean {
    this.words.push(`stream error ${stream} ${code}`)
    return true
  }
  onConnectionError(code: number): void { this.words.push(`error ${code}`) }
  onUnknown(type: number): boolean {
    this.words.push(`unknown ${type}`)
    return true
  }
}

function readIn(pieces: readonly Buffer[]): string[] {
  const told = new Told(), reader = new FrameReader(told, 16_384)
  for (const piece of pieces) assert.equal(reader.push(Buffer.from(piece), 0, piece.length), piece.length)
  return told.words
}

const ALL = Buffer.concat([
  frame(FrameType.Settings, 0, 0, '000300000064'), frame(FrameType.Settings, Flag.Ack, 0), frame(FrameType.WindowUpdate, 0, 0, '0000ffff'),
  frame(FrameType.Headers, Flag.EndHeaders, 1, '8286'), frame(FrameType.Data, 0, 1, 'aabbcc'),
  frame(FrameType.Data, Flag.Padded, 1, '02ddee0000'), frame(FrameType.Data, Flag.Padded | Flag.EndStream, 1, '0000'),
  frame(0x77, 3, 9, 'ff'),
  frame(FrameType.Data, Flag.Padded, 1, '0100'), frame(FrameType.Data, Flag.EndStream, 1), frame(0xfa, 0, 0),
  frame(FrameType.Headers, Flag.Padded | Flag.Priority, 3, '0200000001108284ffff'), frame(FrameType.Continuation, 0, 3),
  frame(FrameType.Continuation, Flag.EndHeaders, 3, '84'), frame(FrameType.Ping, 0, 0, '0011223344556677'),
  frame(FrameType.RstStream, 0, 3, '00000008'),
  frame(FrameType.Priority, 0, 5, '00000000ff'), frame(FrameType.GoAway, 0, 0, '0000000500000000aa'), frame(FrameType.Priority, 0, 5, '00'),
])
const WORDS = [
  '4 0 0 000300000064', '4 1 0 ', '8 0 0 0000ffff', '1 4 1 8286', 'data 0 1 3', 'end 0 1 aabbcc', 'data 8 1 5', 'end 8 1 ddee',
  'data 9 1 2', 'end 9 1 00', 'unknown 119', 'data 8 1 2', 'end 8 1 ', 'data 1 1 0', 'end 1 1 ', 'unknown 250', '1 40 3 8284',
  '9 0 3 ', '9 4 3 84', '6 0 0 0011223344556677', '3 0 3 00000008', '2 0 5 00000000ff', '7 0 0 0000000500000000aa', 'stream error 5 6',
]

test('frames: all kinds, in one read', () => assert.deepEqual(readIn([ALL]), WORDS))

test('frames: two reads, split anywhere', () => {
  for (let at = 0; at <= ALL.length; at++) assert.deepEqual(readIn([ALL.subarray(0, at), ALL.subarray(at)]), WORDS)
})

test('frames: byte by byte', () => assert.deepEqual(readIn([...ALL].map(byte => Buffer.from([byte]))), WORDS))

const { ProtocolError, FrameSizeError } = ErrorCode
/** That goes on. */
const BLOCK = frame(FrameType.Headers, 0, 1, '82')

test('frames: what breaks a rule ends the reading, with the code for it', () => {
  const cases: readonly (readonly [what: string, bytes: Buffer, code: number])[] = [
    ['a frame over the limit', frame(FrameType.Data, 0, 1, Buffer.alloc(16_385)), FrameSizeError],
    ['an unknown frame over the limit', frame(0x55, 0, 1, Buffer.alloc(16_385)), FrameSizeError],
    ['DATA on stream 0', frame(FrameType.Data, 0, 0, '00'), ProtocolError],
    ['HEADERS on stream 0', frame(FrameType.Headers, 4, 0, '82'), ProtocolError],
    ['PRIORITY on stream 0', frame(FrameType.Priority, 0, 0, '0000000010'), ProtocolError],
    ['RST_STREAM on stream 0', frame(FrameType.RstStream, 0, 0, '00000000'), ProtocolError],
    ['RST_STREAM of 5 bytes', frame(FrameType.RstStream, 0, 1, '0000000000'), FrameSizeError],
    ['SETTINGS on a stream', frame(FrameType.Settings, 0, 1), ProtocolError],
    ['SETTINGS of 5 bytes', frame(FrameType.Settings, 0, 0, '0001000000'), FrameSizeError],
    ['an acknowledgement with settings', frame(FrameType.Settings, 1, 0, '000100000000'), FrameSizeError],
    ['PING on a stream', frame(FrameType.Ping, 0, 1, '0000000000000000'), ProtocolError],
    ['PING of 7 bytes', frame(FrameType.Ping, 0, 0, '00000000000000'), FrameSizeError],
    ['GOAWAY on a stream', frame(FrameType.GoAway, 0, 1, '0000000000000000'), ProtocolError],
    ['GOAWAY of 7 bytes', frame(FrameType.GoAway, 0, 0, '00000000000000'), FrameSizeError],
    ['WINDOW_UPDATE of 3 bytes', frame(FrameType.WindowUpdate, 0, 1, '000001'), FrameSizeError],
    ['CONTINUATION by itself', frame(FrameType.Continuation, 4, 1), ProtocolError],
    ['DATA padded over its end', frame(FrameType.Data, Flag.Padded, 1, '0300'), ProtocolError],
    ['DATA padded without padding', frame(FrameType.Data, Flag.Padded, 1), FrameSizeError],
    ['HEADERS padded over their end', frame(FrameType.Headers, Flag.Padded | 4, 1, '0282'), ProtocolError],
    ['HEADERS too short for a priority', frame(FrameType.Headers, Flag.Priority | 4, 1, '00000000'), FrameSizeError],
    ['a block that is interrupted', Buffer.concat([BLOCK, frame(FrameType.Ping, 0, 0, '00'.repeat(8))]), ProtocolError],
    ['a block that goes on elsewhere', Buffer.concat([BLOCK, frame(FrameType.Continuation, 4, 3)]), ProtocolError],
    ['an unknown frame in a block', Buffer.concat([BLOCK, frame(0x55, 0, 0)]), ProtocolError],
  ]
  for (const [what, bytes, code] of cases) {
    const behind = Buffer.concat([bytes, frame(FrameType.Ping, 0, 0, '0011223344556677')])
    for (const pieces of [[behind], [behind.subarray(0, 5), behind.subarray(5)], [...behind].map(byte => Buffer.from([byte]))]) {
      const words = readIn(pieces)
      assert.equal(words.at(-1), `error ${code}`, what)
      assert.equal(words.filter(word => word.startsWith('error')).length, 1, what)
    }
  }
})

test('frames: a sink may pause behind a frame, and goes on where it stopped', () => {
  const told = new Told(), reader = new FrameReader(told, 16_384)
  const { onFrame } = told
  told.onFrame = (...args) => {
    reader.pause()
    return onFrame.apply(told, args)
  }
  let at = 0, rounds = 0
  while (at < ALL.length) {
    at = reader.push(ALL, at, ALL.length)
    rounds++
  }
  assert.deepEqual(told.words, WORDS)
  assert.ok(rounds > 8)
})

test('frames: any bytes, in any pieces, end in the same words', () => {
  const bytes = fc.array(fc.oneof(
    fc.uint8Array({ maxLength: 30 }).map(raw => Buffer.from(raw)),
    fc.tuple(fc.nat(12), fc.nat(255), fc.nat(5), fc.uint8Array({ maxLength: 20 })).map(([type, flags, stream, payload]) => {
      return frame(type, flags, stream, Buffer.from(payload))
    }),
  ), { maxLength: 8 }).map(parts => Buffer.concat(parts))
  fc.assert(fc.property(bytes, fc.array(fc.nat(40), { maxLength: 20 }), (all, cuts) => {
    const pieces: Buffer[] = []
    let at = 0
    for (const cut of cuts) {
      pieces.push(all.subarray(at, Math.min(all.length, at + cut)))
      at = Math.min(all.length, at + cut)
    }
    pieces.push(all.subarray(at))
    assert.deepEqual(readIn(pieces), readIn([all]))
  }), { numRuns: 3000 })
})
