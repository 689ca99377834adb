/**
 * A connection to an origin in HTTP/2: what is asked, how many at a time, what a fault of the origin lets be tried again, windows,
 * PING, and rest in the pool. Time and delivery are in the test's hand.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../../../src/protocols/http1/http1-options.ts'
import { BODY_TUNNEL, BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import { Flag, FrameType, PREFACE } from '../../../src/protocols/http2/frames.ts'
import { Asked, goAway, ofLength, reset, setting, windowUpdate, World } from './client-world.ts'
import { frame, type Fields } from './server-world.ts'

describe('http2 origin: exchanges', () => {
  it('the preface, and a request behind it, in one write', async () => {
    const world = new World()
    world.ask()
    await world.say()
    assert.deepEqual(world.origin.received.subarray(0, PREFACE.length), PREFACE)
    assert.deepEqual(world.takeWords(), ['settings', 'window 0 4128769', 'head 1 trailers end'])
    assert.deepEqual(world.frames.heads.get(1)![0], [
      [':method', 'GET'], [':authority', 'a.example'], [':scheme', 'http'], [':path', '/x?y'],
    ])
  })

  it('heads, bodies and trailers both ways', async () => {
    const world = await World.open()
    const fields: Fields = [['X-One', '1'], ['Connection', 'close'], ['Keep-Alive', 'x']]
    const asked = world.ask({ method: 'POST', length: BODY_UNKNOWN, fields })
    asked.session.writeBody(Buffer.from('hello'), 0, 5, true)
    asked.session.endRequest(HeaderMap.from({ 'X-Sum': '5' }))
    await world.say(world.head(1, [[':status', '103']]), world.head(1, [[':status', '200'], ['x-two', '2']]), world.data(1, 'an '))
    await world.say(world.data(1, 'answer'), world.head(1, [['x-after', 'y']], Flag.EndStream))
    assert.deepEqual(world.takeWords(), ['head 1 trailers', 'data 1 5', 'head 1 trailers end'])
    assert.deepEqual(world.frames.heads.get(1)![0]!.slice(4), [['x-one', '1']])
    assert.deepEqual(world.frames.heads.get(1)![1], [['x-sum', '5']])
    assert.deepEqual([asked.interims, asked.head!.status, asked.head!.headers.get('x-two')], [[103], 200, '2'])
    assert.deepEqual([asked.body, asked.ended, asked.trailers!.get('x-after')], ['an answer', true, 'y'])
    assert.deepEqual([world.connection.active, world.connection.capacity], [0, 100])
  })

  it('lengths are kept, corrected and counted', async () => {
    const world = await World.open(), lengthOf = (id: number): string | undefined => {
      return world.frames.heads.get(id)![0]!.find(([name]) => name === 'content-length')?.[1]
    }
    const asked = [5, 5, 0].map((length, at) => {
      return world.ask({ method: 'POST', length, fields: at === 1 ? [['Content-Length', '9']] : at === 2 ? [['Content-Length', '3']] : [] })
    })
    await world.say()
    assert.deepEqual([lengthOf(1), lengthOf(3), lengthOf(5)], ['5', '5', '0'])
    asked[0]!.session.writeBody(Buffer.from('123456'), 0, 6, true)
    asked[1]!.session.endRequest(null)
    assert.deepEqual(asked.slice(0, 2).map(({ faults }) => faults[0]?.kind), ['LENGTH_MISMATCH', 'LENGTH_MISMATCH'])
    await world.say()
    assert.deepEqual(world.words.slice(-2), [`reset 1 ${ErrorCode.Cancel}`, `reset 3 ${ErrorCode.Cancel}`])
  })

  it('an answer without a body: HEAD, 204, 304', async () => {
    const world = await World.open(), asked = [world.ask({ method: 'HEAD' }), world.ask(), world.ask()]
    await world.say(
      world.head(1, [[':status', '200'], ['content-length', '9']], Flag.EndStream), world.head(3, [[':status', '204']], Flag.EndStream),
      world.head(5, [[':status', '304'], ['content-length', '9']]), world.data(5, '', Flag.EndStream),
    )
    assert.deepEqual(asked.map(({ length, ended }) => [length, ended]), [[0, true], [0, true], [0, true]])
  })

  const BROKEN: Readonly<Record<string, readonly [(world: World) => Buffer[], kind: string]>> = {
    'no status': [world => [world.head(1, [['x', 'y']])], 'BAD_HEAD'],
    'a status that is none': [world => [world.head(1, [[':status', '20']])], 'BAD_HEAD'],
    'a field of requests': [world => [world.head(1, [[':status', '200'], [':path', '/']])], 'BAD_HEAD'],
    'status 101': [world => [world.head(1, [[':status', '101']])], 'BAD_HEAD'],
    'an interim head that ends': [world => [world.head(1, [[':status', '103']], Flag.EndStream)], 'BAD_HEAD'],
    'a field of HTTP/1': [world => [world.head(1, [[':status', '200'], ['connection', 'close']])], 'BAD_HEAD'],
    'a value with a line break': [world => [world.head(1, [[':status', '200'], ['x', 'a\nb']])], 'BAD_HEAD'],
    'two lengths': [world => [world.head(1, [[':status', '200'], ['content-length', '1'], ['content-length', '1']])], 'BAD_FRAMING'],
    'a body before its head': [world => [world.data(1, 'x')], 'BAD_FRAMING'],
    'a body that is too short': [world => [world.head(1, ofLength('5')), world.data(1, 'x', 1)], 'BAD_FRAMING'],
    'a body that is too long': [world => [world.head(1, ofLength('1')), world.data(1, 'xy')], 'BAD_FRAMING'],
    'no body where one was announced': [world => [world.head(1, ofLength('5'), 1)], 'BAD_FRAMING'],
    'a second head': [world => [world.head(1), world.head(1)], 'BAD_FRAMING'],
    'too many fields': [world => {
      return [world.head(1, [[':status', '200'], ...Array.from({ length: 201 }, () => ['a', 'b'] as const)])]
    }, 'HEAD_TOO_LARGE'],
    'a head that is too large': [world => [world.head(1, [[':status', '200'], ['a', 'b'.repeat(13_000)]])], 'HEAD_TOO_LARGE'],
    'more than its window': [world => {
      return [world.head(1), ...Array.from({ length: 5 }, () => world.data(1, 'x'.repeat(16_000)))]
    }, 'BAD_FRAMING'],
    'a window of nothing': [() => [windowUpdate(1, 0)], 'BAD_FRAMING'],
  }
  for (const [what, [frames, kind]] of Object.entries(BROKEN)) {
    it(`${what} ends that exchange, and no other`, async () => {
      const world = await World.open({ h2StreamWindowBytes: 65_535 })
      const asked = world.ask({ limits: { maxResponseHeadBytes: 12_000 } }), other = world.ask()
      asked.pauses = what === 'more than its window'
      await world.say(...frames(world))
      assert.deepEqual([asked.faults[0]?.kind, asked.faults[0]?.retry, asked.ended], [kind, 'never', false])
      // Where both sides have ended the stream there is nothing to reset.
      const isOver = what === 'a body that is too short'
      assert.equal(world.words.some(word => word.startsWith('reset 1 ')), !isOver)
      await world.say(world.head(3), world.data(3, 'fine', Flag.EndStream))
      assert.deepEqual([other.body, other.ended, world.connection.active], ['fine', true, 0])
      assert.equal(heldBytes.now, 0)
    })
  }

  const LOST: Readonly<Record<string, (world: World) => Buffer[]>> = {
    'a frame that is no frame of HTTP/2': () => [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    'a block that cannot be decoded': () => [frame(FrameType.Headers, 4, 1, 'ff')],
    'a push': () => [frame(FrameType.PushPromise, 4, 1, '00000002')],
    'a stream that nobody opened': world => [world.head(9)],
    'an even stream': world => [world.data(2, 'x')],
    'a window that overflows': () => [windowUpdate(0, 0x7fff_ffff)],
    'SETTINGS of a push': () => [setting(2, 1)],
    'a header block without end': () => [
      frame(FrameType.Headers, 0, 1, '88'), ...Array.from({ length: 40 }, () => frame(FrameType.Continuation, 0, 1)),
    ],
    'PING without end': () => Array.from({ length: 2100 }, () => frame(FrameType.Ping, 0, 0, '00'.repeat(8))),
  }
  for (const [what, frames] of Object.entries(LOST)) {
    it(`${what} ends the connection`, async () => {
      const world = await World.open(), asked = world.ask()
      await world.say(...frames(world))
      assert.deepEqual([asked.faults[0]?.kind, asked.faults.length, world.connection.capacity], ['BAD_FRAMING', 1, 0])
      assert.equal(world.pair.near.destroyed, true)
      assert.equal(world.ticker.size, 0)
    })
  }
})

describe('http2 origin: how many, and again', () => {
  it('as many as both sides allow, and the pool hears of changes', async () => {
    const world = await World.open({ maxH2Streams: 10 })
    assert.equal(world.connection.capacity, 10)
    await world.say(setting(3, 2))
    assert.deepEqual([world.connection.capacity, world.changes], [2, 1])
    world.ask()
    assert.equal(world.connection.capacity, 1)
    await world.say(setting(3, 50))
    assert.deepEqual([world.connection.capacity, world.changes], [9, 2])
  })

  it('what was refused may be asked again; what was reset otherwise may not', async () => {
    const world = await World.open(), asked = [world.ask(), world.ask(), world.ask()]
    await world.say(
      reset(1, ErrorCode.RefusedStream), world.head(3), reset(3, ErrorCode.RefusedStream), reset(5, ErrorCode.InternalError),
    )
    assert.deepEqual(asked.map(({ retry }) => retry), ['always', 'never', 'never'])
    assert.equal(world.connection.capacity, 100)
  })

  it('GOAWAY: what lies above its last stream may be asked again, what lies below is answered, and nothing else begins', async () => {
    const world = await World.open(), asked = [world.ask(), world.ask()]
    await world.say(goAway(0x7fff_ffff))
    assert.deepEqual([world.connection.capacity, world.changes], [0, 1])
    await world.say(goAway(1))
    assert.deepEqual(asked.map(({ retry }) => retry), ['none', 'always'])
    await world.say(world.head(1), world.data(1, 'answer', Flag.EndStream))
    assert.deepEqual([asked[0]!.body, asked[0]!.ended, world.connection.active], ['answer', true, 0])
  })

  it('a connection that is lost: before the answer of a reused one it may be asked again', async () => {
    const world = await World.open()
    world.ask()
    await world.say(world.head(1, [[':status', '204']], Flag.EndStream))
    const asked = [world.ask(), world.ask()]
    const begun = new Asked()
    begun.session = world.connection.begin(begun, HTTP1_CLIENT_DEFAULTS)
    await world.say(world.head(3))
    world.origin.stream.destroy(true)
    await world.say()
    assert.deepEqual([...asked, begun].map(({ retry }) => retry), ['never', 'if-reused', 'always'])
  })

  it('an answer that is whole before the request ends it with RST_STREAM of either side', async () => {
    const world = await World.open(), asked = world.ask({ method: 'POST', length: BODY_UNKNOWN })
    asked.session.writeBody(Buffer.from('part'), 0, 4, true)
    await world.say(world.head(1, [[':status', '403']]), world.data(1, 'no', Flag.EndStream), reset(1, 0))
    assert.deepEqual([asked.body, asked.ended, asked.faults.length], ['no', true, 0])
    asked.session.writeBody(Buffer.from('more'), 0, 4, true)
    asked.session.endRequest(null)
    await world.say()
    assert.deepEqual([asked.faults.length, world.connection.active], [0, 0])
    const given = world.ask({ method: 'POST', length: BODY_UNKNOWN })
    await world.say(world.head(3, [[':status', '403']], Flag.EndStream))
    given.session.abort()
    await world.say()
    assert.equal(world.words.at(-1), `reset 3 ${ErrorCode.Cancel}`)
  })
})

describe('http2 origin: windows', () => {
  it('a body waits for its stream\'s window, and others go on', async () => {
    const world = await World.open()
    await world.say(setting(4, 4))
    const asked = [world.ask({ method: 'POST', length: 10 }), world.ask({ method: 'POST', length: 3 })]
    asked[0]!.session.writeBody(Buffer.from('0123456789'), 0, 10, false)
    asked[1]!.session.writeBody(Buffer.from('abc'), 0, 3, true)
    for (const { session } of asked) session.endRequest(null)
    assert.equal(asked[0]!.session.bytesQueued, 6)
    await world.say()
    assert.deepEqual(world.takeWords().slice(1), ['head 1 trailers', 'head 3 trailers', 'data 1 4', 'data 3 3 end'])
    await world.say(windowUpdate(1, 100))
    assert.deepEqual([world.takeWords(), asked[0]!.drained], [['data 1 6 end'], 1])
    assert.equal(world.frames.bodies.get(1), '0123456789')
  })

  it('one that takes nothing for too long is given up, and the others are not', async () => {
    const world = await World.open()
    await world.say(setting(4, 0))
    const asked = world.ask({ method: 'POST', length: 5, limits: { writeTimeoutMs: 2000 } }), other = world.ask()
    asked.session.writeBody(Buffer.from('hello'), 0, 5, true)
    assert.equal(asked.session.bytesQueued, 5)
    await world.wait(3000)
    assert.deepEqual([asked.faults[0]?.kind, other.faults.length], ['WRITE_TIMEOUT', 0])
    await world.say(world.head(3, [[':status', '204']], Flag.EndStream))
    assert.equal(other.ended, true)
    assert.equal(heldBytes.now, 0)
  })

  it('a paused answer keeps its window shut, and no other', async () => {
    const world = await World.open({ h2StreamWindowBytes: 65_535 }), asked = [world.ask(), world.ask()]
    asked[0]!.pauses = true
    for (const id of [1, 3]) await world.say(world.head(id), ...Array.from({ length: 3 }, () => world.data(id, 'x'.repeat(16_000))))
    assert.deepEqual(world.words.filter(word => word.startsWith('window')), ['window 3 48000'])
    assert.equal(asked[0]!.body, '')
    asked[0]!.session.resumeResponse()
    await world.say(world.data(1, 'end', Flag.EndStream))
    assert.equal(asked[0]!.body.length, 48_003)
    assert.equal(asked[0]!.ended, true)
    assert.equal(heldBytes.now, 0)
  })
})

describe('http2 origin: answers that are not read', () => {
  it('keep no window but their own: what comes opens that of the connection again', async () => {
    const world = await World.open({ h2StreamWindowBytes: 65_535, h2ConnectionWindowBytes: 131_072 })
    const unread = Array.from({ length: 8 }, () => world.ask()), other = world.ask(), sent: number[] = []
    await world.say()
    for (const asked of unread) asked.pauses = true
    world.takeWords()
    for (let id = 1; id <= 15; id += 2) {
      await world.say(world.head(id), ...Array.from({ length: 4 }, () => world.data(id, 'x'.repeat(16_000))))
      sent.push(id)
    }
    const opened = world.takeWords().filter(word => word.startsWith('window'))
    assert.ok(opened.length > 0 && opened.every(word => word.startsWith('window 0 ')), opened.join())
    // An origin that counts has room for more: less than half of the window is not opened again.
    const left = 131_072 - sent.length * 64_000 + opened.reduce((sum, word) => sum + Number(word.split(' ')[2]), 0)
    assert.ok(left > 65_536, `${left} bytes are left`)
    await world.say(world.head(17), world.data(17, 'read', Flag.EndStream))
    assert.deepEqual([other.body, other.ended], ['read', true])
    for (const { session } of unread) session.resumeResponse()
    assert.deepEqual(unread.map(({ body }) => body.length), sent.map(() => 64_000))
    for (const { session } of unread) session.abort()
    await world.say()
    assert.equal(heldBytes.now, 0)
  })

  it('are dropped with their bytes, and open no window a second time', async () => {
    const world = await World.open({ h2StreamWindowBytes: 65_535, h2ConnectionWindowBytes: 131_072 }), asked = world.ask()
    asked.pauses = true
    await world.say(world.head(1), ...Array.from({ length: 4 }, () => world.data(1, 'x'.repeat(16_000))))
    world.takeWords()
    asked.session.abort()
    await world.say()
    assert.deepEqual(world.takeWords().filter(word => word.startsWith('window')), [])
    assert.equal(heldBytes.now, 0)
  })
})

describe('http2 origin: time and rest', () => {
  it('an origin that does not answer PING is gone, with everything that waits for it; one that does keeps the others', async () => {
    for (const answers of [true, false]) {
      const world = await World.open(), asked = [world.ask({ limits: { firstByteTimeoutMs: 3000 } }), world.ask()]
      await world.wait(4000)
      assert.equal(asked[0]!.faults[0]?.kind, 'FIRST_BYTE_TIMEOUT')
      assert.ok(world.words.includes('ping'))
      if (answers) await world.say(frame(FrameType.Ping, Flag.Ack, 0, Buffer.from('\x01\x00cirque')))
      await world.wait(6000)
      assert.equal(asked[1]!.faults[0]?.kind, answers ? undefined : 'CONNECTION_RESET')
      assert.equal(world.connection.capacity, answers ? 99 : 0)
    }
  })

  it('PING in between, where the peer asks for it', async () => {
    const world = await World.open({ h2PingIntervalMs: 2000 })
    world.ask()
    await world.wait(2100)
    assert.equal(world.words.filter(word => word === 'ping').length, 1)
    await world.wait(5200)
    assert.equal(world.pair.near.destroyed, true)
  })

  it('at rest: its time, the origin\'s FIN, GOAWAY and broken rules end it, and PING does not', async () => {
    const cases: readonly (readonly [string, (world: World) => Promise<void> | void])[] = [
      ['idle', world => world.wait(11_000)],
      ['closed', world => { world.origin.stream.end() }],
      ['closed', world => world.say(goAway(0))],
      ['unexpected-bytes', world => world.say(frame(FrameType.Data, 0, 0, 'ff'))],
    ]
    for (const [reason, ends] of cases) {
      const world = await World.open()
      world.connection.park(world, 10_000)
      await world.say(frame(FrameType.Ping, 0, 0, '0011223344556677'))
      assert.deepEqual([world.words, world.lost], [['ping ack'], []])
      await ends(world)
      await world.say()
      assert.deepEqual(world.lost, [reason])
      assert.equal(world.connection.unpark(), false)
    }
    const kept = await World.open()
    kept.connection.park(kept, 10_000)
    assert.equal(kept.connection.unpark(), true)
    kept.ask()
    assert.equal(kept.connection.active, 1)
  })
})

describe('http2 origin: tunnels', () => {
  const SWITCH = {
    fields: [['Upgrade', 'websocket'], ['Sec-WebSocket-Key', 'abc'], ['Sec-WebSocket-Version', '13']] as Fields,
    more: { switchesTo: 'websocket' },
  }

  it('a request to switch is extended CONNECT, and its answer is 101 with what a client of HTTP/1 looks for', async () => {
    const world = await World.open()
    await world.say(setting(8, 1))
    const asked = world.ask(SWITCH)
    await world.say(world.head(1), world.data(1, 'early '))
    assert.deepEqual(world.frames.heads.get(1)![0], [
      [':method', 'CONNECT'], [':protocol', 'websocket'], [':authority', 'a.example'], [':scheme', 'http'], [':path', '/x?y'],
      ['sec-websocket-version', '13'],
    ])
    assert.deepEqual([asked.head!.status, asked.length, asked.head!.headers.get('upgrade')], [101, BODY_TUNNEL, 'websocket'])
    const accept = createHash('sha1').update('abc258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
    assert.equal(asked.head!.headers.get('sec-websocket-accept'), accept)
    const { stream } = asked.session.detach(), told: string[] = []
    stream.owner = {
      onBytes: (buffer, from, to) => { told.push(buffer.latin1Slice(from, to)) }, onEnd: () => { told.push('end') }, onDrained() {},
      onClosed: error => { told.push(`closed ${error}`) },
    }
    stream.resume()
    stream.writeText('hello')
    stream.end()
    await world.say(world.data(1, 'late', Flag.EndStream))
    assert.deepEqual(told, ['early ', 'late', 'end', 'closed null'])
    assert.deepEqual(world.words.slice(-2), ['head 1 trailers', 'data 1 5 end'])
    assert.equal(world.connection.active, 0)
    assert.deepEqual([asked.session.bodyBytesIn, asked.session.bodyBytesOut], [0, 0], 'no byte of a tunnel is counted twice')
  })

  it('an origin that takes none is asked without, and one that says no has answered', async () => {
    const world = await World.open()
    world.ask(SWITCH)
    await world.say()
    assert.equal(world.frames.heads.get(1)![0]![0]![1], 'GET')
    await world.say(setting(8, 1))
    const asked = world.ask(SWITCH)
    await world.say(world.head(3, [[':status', '403']]), world.data(3, 'no', Flag.EndStream))
    assert.deepEqual([asked.head!.status, asked.body, asked.ended, world.connection.active], [403, 'no', true, 1])
  })
})

it('http2 origin: whatever frames come, exchanges end once each, and nothing is left behind', async () => {
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 30 }).map(bytes => Buffer.from(bytes)), fc.constant(Buffer.from('88', 'hex')), fc.constant(Buffer.alloc(4)),
    fc.constant(Buffer.alloc(6)), fc.constant(Buffer.alloc(8)),
  )
  const any = fc.tuple(fc.nat(10), fc.constantFrom(0, 1, 4, 5, 8, 0x25, 0xff), fc.constantFrom(0, 1, 3, 5, 2), payload)
  const bytes = fc.array(fc.oneof(
    { weight: 6, arbitrary: any.map(([type, flags, stream, body]) => frame(type, flags, stream, body)) },
    { weight: 3, arbitrary: fc.constantFrom(1, 3, 5).map(stream => frame(FrameType.Headers, 4, stream, '88')) },
    { weight: 3, arbitrary: fc.constantFrom(1, 3, 5).map(stream => frame(FrameType.Data, 0, stream, 'aabb')) },
  ), { maxLength: 20 }).map(frames => Buffer.concat(frames))
  const run = fc.asyncProperty(bytes, fc.integer({ min: 1, max: 50 }), fc.boolean(), async (sent, piece, pauses) => {
    const world = await World.open(), asked = [world.ask(), world.ask({ method: 'POST', length: BODY_UNKNOWN }), world.ask()]
    asked[0]!.pauses = pauses
    await world.say()
    world.origin.send(sent)
    while (world.origin.stream.deliver(piece) > 0);
    await world.say()
    world.origin.stream.destroy()
    await world.say()
    for (const { session, faults } of asked) {
      assert.ok(faults.length <= 1)
      session.abort()
    }
    assert.equal(world.connection.active, 0)
    world.connection.close()
    await world.say()
    assert.equal(world.ticker.size, 0)
    assert.equal(heldBytes.now, 0)
  })
  await fc.assert(run, { numRuns: 500 })
})
