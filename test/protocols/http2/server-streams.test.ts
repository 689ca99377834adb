/**
 * Streams in random interleavings, in reads of random lengths, over transports of random room: no byte of one is another's, and none
 * is lost. And whatever frames may come, well formed or not: the connection goes on or is ended, and leaves nothing behind.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FieldLines } from '../../../src/http/field-lines.ts'
import { ResponseHead } from '../../../src/http/message-head.ts'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { Flag, frame, FrameType, GET, H2World, POST, PREFACE, type TestOwner } from './server-world.ts'

/** What is done to a stream; `at` picks one. */
const ACTION = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('open' as const), at: fc.nat(), bytes: fc.nat(3) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('upload' as const), at: fc.nat(), bytes: fc.nat(3000) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('write' as const), at: fc.nat(), bytes: fc.nat(9000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('endUpload' as const, 'endAnswer' as const), at: fc.nat(), bytes: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const), at: fc.nat(), bytes: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('credit' as const), at: fc.nat(), bytes: fc.integer({ min: 1, max: 5000 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), at: fc.nat(), bytes: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const), at: fc.nat(), bytes: fc.nat() }) },
)

interface Known {
  readonly id: number
  owner: TestOwner | null
  sent: string
  readonly written: string[]
  uploadEnded: boolean
  answerBegun: boolean
  answerEnded: boolean
  gone: boolean
}

/** Bytes that say whose they are. */
function bytesOf(id: number, from: number, count: number): string {
  let text = ''
  while (text.length < count) text += `<${id}:${from + text.length}>`
  return text.slice(0, count)
}

test('streams in random interleavings keep their bytes apart, and lose none', async () => {
  const rooms = fc.constantFrom(Infinity, 3000, 20_000)
  const run = fc.asyncProperty(fc.array(ACTION, { maxLength: 60 }), rooms, async (actions, kernelBytes) => {
    const world = await H2World.open({ kernelBytes, http2: { streamWindowBytes: 100_000 } })
    await world.say(frame(FrameType.Settings, 0, 0, '000400001000'))
    const streams: Known[] = []
    let nextId = 1
    for (const { kind, at, bytes } of actions) {
      if (kind === 'settle') await world.settle()
      if (kind === 'open' && streams.filter(({ gone, answerEnded }) => !gone && !answerEnded).length < 20) {
        const stream: Known = {
          id: nextId, owner: null, sent: '', written: [], uploadEnded: bytes === 0, answerBegun: false, answerEnded: false, gone: false,
        }
        nextId += 2
        streams.push(stream)
        await world.say(world.head(stream.id, bytes === 0 ? GET : POST, bytes === 0 ? Flag.EndStream : 0))
        stream.owner = world.owners.at(-1)!
        continue
      }
      const open = streams.filter(({ gone }) => !gone), stream = open[at % open.length]
      if (stream === undefined) continue
      const owner = stream.owner!, { session } = owner
      switch (kind) {
        case 'upload': {
          if (stream.uploadEnded || stream.answerEnded || stream.sent.length > 60_000) break
          const text = bytesOf(stream.id, stream.sent.length, bytes)
          if (text === '') break
          stream.sent += text
          world.client.send(world.data(stream.id, text))
          break
        }
        case 'endUpload':
          if (stream.uploadEnded || stream.answerEnded) break
          stream.uploadEnded = true
          world.client.send(world.data(stream.id, '', Flag.EndStream))
          break
        case 'write': {
          if (stream.answerEnded) break
          if (!stream.answerBegun) session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
          stream.answerBegun = true
          const text = bytesOf(stream.id, stream.written.join('').length, bytes)
          stream.written.push(text)
          const buffer = Buffer.from(text), isOwned = bytes % 2 === 0
          session.writeBody(buffer, 0, text.length, isOwned)
          if (!isOwned) buffer.fill(0)
          break
        }
        case 'endAnswer':
          // The rest of an upload would be ended with it, and tell nothing of its bytes.
          if (!stream.answerBegun || stream.answerEnded || !owner.ended) break
          stream.answerEnded = true
          session.endResponse(null)
          owner.release()
          break
        case 'pause': session.pauseRequest(); break
        case 'resume': session.resumeRequest(); break
        case 'credit':
          if (stream.answerEnded) break
          world.client.send(frame(FrameType.WindowUpdate, 0, stream.id, Buffer.from([0, 0, bytes >> 8, bytes & 0xff])))
          break
        case 'reset':
          stream.gone = true
          world.client.send(frame(FrameType.RstStream, 0, stream.id, '00000008'))
          break
      }
    }
    // Everything that waits is let go.
    await world.say(frame(FrameType.Settings, 0, 0, '000400ffffff'), frame(FrameType.WindowUpdate, 0, 0, '00ffffff'))
    for (const { owner, gone } of streams) if (!gone) owner!.session.resumeRequest()
    await world.settle()
    for (const stream of streams) {
      if (stream.gone) continue
      const { id, owner, sent, written, uploadEnded, answerEnded } = stream
      assert.equal(owner!.body, sent, `what ${id} sent`)
      assert.equal(owner!.ended, uploadEnded, `the end of what ${id} sent`)
      assert.equal(world.frames.bodies.get(id) ?? '', written.join(''), `what ${id} got`)
      assert.equal(world.words.some(word => /^(?:data|head) (\d+) .*end$/.exec(word)?.[1] === String(id)), answerEnded)
    }
    assert.equal(world.goAwayCode, -1)
    assert.ok(!world.words.some(word => word.startsWith('broken')))
    await world.end()
    assert.equal(world.connection.active, 0)
    assert.equal(world.ticker.size, 0)
    assert.equal(heldBytes.now, 0)
  })
  await fc.assert(run, { numRuns: 300 })
})

test('whatever frames come, in whatever pieces, the connection goes on or ends, and leaves nothing behind', async () => {
  const block = new H2World().block(GET)
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes)), fc.constant(block), fc.constant(Buffer.alloc(4)),
    fc.constant(Buffer.alloc(6)), fc.constant(Buffer.alloc(8)), fc.constant(Buffer.alloc(0)),
  )
  const any = fc.tuple(fc.nat(10), fc.constantFrom(0, 1, 4, 5, 8, 0x20, 0x25, 0xff), fc.constantFrom(0, 1, 3, 5, 2), payload)
  const bytes = fc.array(fc.oneof(
    { weight: 8, arbitrary: any.map(([type, flags, stream, body]) => frame(type, flags, stream, body)) },
    { weight: 3, arbitrary: fc.constantFrom(1, 3, 5, 7, 9).map(stream => frame(FrameType.Headers, 5, stream, block)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }).map(raw => Buffer.from(raw)) },
  ), { maxLength: 25 }).map(frames => Buffer.concat(frames))
  const run = fc.asyncProperty(bytes, fc.integer({ min: 1, max: 60 }), fc.boolean(), async (sent, piece, answers) => {
    const world = await H2World.open({ flows: answers, opens: false })
    await world.say(PREFACE, frame(FrameType.Settings, 0, 0))
    world.client.send(sent)
    for (let left = sent.length + 1; left > 0 && world.client.stream.deliver(piece) > 0; left--);
    await world.settle()
    if (answers) for (const owner of world.owners) if (owner.faults.length === 0) owner.answer(200, 'answer')
    await world.end()
    if (!answers) for (const owner of world.owners) owner.release()
    assert.equal(world.connection.active, 0)
    assert.equal(world.closed, 1)
    assert.equal(world.ticker.size, 0)
    assert.equal(heldBytes.now, 0)
    assert.ok(!world.words.some(word => word.startsWith('broken')), world.words.join(', '))
  })
  await fc.assert(run, { numRuns: 2000 })
})
