import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FrameReader, Opcode, clientFrame, closeCode, newHandshake, type Message } from '../../src/prove/websocket-frames.ts'

/** A frame as a server sends it. */
function serverFrame(first: number, payload: Buffer | string): Buffer {
  const body = Buffer.from(payload)
  const head = Buffer.alloc(body.length < 126 ? 2 : body.length < 65_536 ? 4 : 10)
  head.writeUInt8(first, 0)
  head.writeUInt8(body.length < 126 ? body.length : body.length < 65_536 ? 126 : 127, 1)
  if (head.length === 4) head.writeUInt16BE(body.length, 2)
  else if (head.length === 10) head.writeBigUInt64BE(BigInt(body.length), 2)
  return Buffer.concat([head, body])
}

const SAMPLE = Buffer.concat([
  serverFrame(0x82, 'one'), serverFrame(0x01, 'two '), serverFrame(0x89, 'ping'), serverFrame(0x80, 'halves'),
  serverFrame(0x82, 'x'.repeat(126)), serverFrame(0x82, Buffer.alloc(0)), serverFrame(0x88, Buffer.from([0x03, 0xE9])),
])

function texts(messages: readonly Message[]): string[] {
  return messages.map(({ opcode, payload }) => `${opcode} ${payload.toString('latin1')}`)
}

test('websocket frames: messages, fragments and control frames whatever the pieces', () => {
  const expected = ['2 one', '9 ping', '1 two halves', `2 ${'x'.repeat(126)}`, '2 ', '8 \x03\xE9']
  for (let at = 0; at <= SAMPLE.length; at++) {
    const reader = new FrameReader()
    assert.deepEqual(texts([...reader.feed(SAMPLE.subarray(0, at)), ...reader.feed(SAMPLE.subarray(at))]), expected, `cut at ${at}`)
    assert.equal(reader.betweenMessages, true)
  }
})

test('websocket frames: every form of length comes back', () => {
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 200_000]) {
    const payload = Buffer.alloc(size, 'payload ')
    const [message] = new FrameReader().feed(serverFrame(0x82, payload))
    assert.ok(message?.payload.equals(payload), String(size))
    // What we send: masked, in the shortest form.
    const frame = clientFrame(Opcode.Binary, payload, Buffer.from([1, 2, 3, 4]))
    const start = frame.length - size
    assert.equal(frame.readUInt8(1) & 0x80, 0x80)
    assert.equal(start, size < 126 ? 6 : size < 65_536 ? 8 : 14)
    assert.ok(frame.subarray(start).every((byte, at) => byte === ((payload[at] ?? 0) ^ [1, 2, 3, 4][at & 3]!)))
  }
})

test('websocket frames: what a server may not send is a fault, and nothing comes after it', () => {
  const wrong: readonly (readonly [Buffer, RegExp])[] = [
    [serverFrame(0xC2, 'a'), /reserved bit/],
    [clientFrame(Opcode.Text, Buffer.from('a')), /masked/],
    [serverFrame(0x83, 'a'), /opcode 3/],
    [serverFrame(0x09, 'a'), /control frame/],
    [serverFrame(0x89, 'a'.repeat(126)), /control frame/],
    [serverFrame(0x80, 'a'), /continuation of nothing/],
    [Buffer.concat([serverFrame(0x01, 'a'), serverFrame(0x82, 'b')]), /inside another/],
    [Buffer.from([0x82, 126, 0, 5, 1, 2, 3, 4, 5]), /shortest form/],
    [Buffer.from([0x82, 127, 0, 0, 0, 0, 1, 0, 0, 0]), /longer than/],
  ]
  for (const [bytes, expected] of wrong) {
    const reader = new FrameReader()
    reader.feed(bytes)
    assert.match(reader.fault, expected)
    assert.deepEqual(reader.feed(serverFrame(0x82, 'later')), [])
  }
})

test('websocket frames: a frame that is cut is no message', () => {
  const reader = new FrameReader()
  assert.deepEqual(reader.feed(serverFrame(0x82, 'abc').subarray(0, 4)), [])
  assert.equal(reader.betweenMessages, false)
  const fragment = new FrameReader()
  fragment.feed(serverFrame(0x02, 'abc'))
  assert.equal(fragment.betweenMessages, false)
})

test('websocket frames: close codes, and a handshake of its own every time', () => {
  assert.equal(closeCode({ opcode: Opcode.Close, payload: Buffer.from([0x03, 0xE9, 0x61]) }), 1001)
  assert.equal(closeCode({ opcode: Opcode.Close, payload: Buffer.alloc(0) }), 1005)
  const [one, two] = [newHandshake(), newHandshake()]
  assert.notEqual(one.key, two.key)
  assert.match(one.accept, /^[A-Za-z0-9+/]{27}=$/)
})
