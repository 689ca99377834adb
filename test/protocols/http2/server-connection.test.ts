/**
 * A client's connection in HTTP/2, frame by frame: what RFC 9113 asks of a server (the ground of h2spec), drain, time, windows and
 * each limit that a hostile client runs into.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { FieldLines } from '../../../src/http/field-lines.ts'
import { FieldKind, HeaderMap } from '../../../src/http/header-map.ts'
import { ResponseHead } from '../../../src/http/message-head.ts'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BODY_TUNNEL, BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { ErrorCode, Flag, frame, FrameType, GET, H2World, POST, PREFACE, type Fields, type WorldOptions } from './server-world.ts'

const {
  ProtocolError, StreamClosed, FlowControlError, FrameSizeError, CompressionError, EnhanceYourCalm, RefusedStream, Cancel,
} = ErrorCode

function uint32(value: number): string { return value.toString(16).padStart(8, '0') }
function windowUpdate(stream: number, bytes: number): Buffer { return frame(FrameType.WindowUpdate, 0, stream, uint32(bytes)) }
function reset(stream: number, code = 8): Buffer { return frame(FrameType.RstStream, 0, stream, uint32(code)) }
function setting(id: number, value: number): Buffer {
  return frame(FrameType.Settings, 0, 0, id.toString(16).padStart(4, '0') + uint32(value))
}
const PING = frame(FrameType.Ping, 0, 0, '0011223344556677')

describe('http2 connection: the preface', () => {
  it('is answered with settings and a larger window, wherever its reads end', async () => {
    const bytes = Buffer.concat([PREFACE, frame(FrameType.Settings, 0, 0), PING])
    for (let at = 0; at <= bytes.length; at++) {
      const world = new H2World()
      await world.say(bytes.subarray(0, at))
      await world.say(bytes.subarray(at))
      assert.deepEqual(world.words, ['settings', 'window 0 983041', 'settings ack', 'ping ack'])
    }
  })

  it('that is another, or is followed by anything but SETTINGS, ends the connection', async () => {
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from('PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n')]) {
      const world = new H2World()
      await world.say(bytes)
      assert.equal(world.goAwayCode, ProtocolError)
      assert.equal(world.client.ended, true)
    }
    for (const first of [PING, frame(FrameType.Settings, Flag.Ack, 0), frame(0x44, 0, 0), frame(FrameType.Data, 0, 1, '00')]) {
      const world = new H2World()
      await world.say(PREFACE, first)
      assert.equal(world.goAwayCode, ProtocolError)
    }
  })

  it('that does not come, or SETTINGS that nobody acknowledges, end in time', async () => {
    const silent = new H2World()
    await silent.wait(11_000)
    assert.equal(silent.client.error?.message, 'read ECONNRESET')
    const unsettled = new H2World()
    await unsettled.say(PREFACE)
    await unsettled.wait(11_000)
    assert.notEqual(unsettled.goAwayCode, -1)
    const unacknowledged = new H2World()
    await unacknowledged.say(PREFACE, frame(FrameType.Settings, 0, 0))
    await unacknowledged.wait(11_000)
    assert.equal(unacknowledged.goAwayCode, ErrorCode.SettingsTimeout)
  })
})

describe('http2 connection: requests', () => {
  it('a head becomes one of HTTP/1: Host first, cookies joined, nothing of the connection', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, [...GET, ['cookie', 'a=1'], ['x-one', '1'], ['te', 'trailers'], ['cookie', 'b=2'], ['x-two', '']]))
    const { request } = world.owners[0]!.session
    const { method, target, scheme, version, authority } = request
    assert.deepEqual([method, target, scheme, version, authority], ['GET', '/', 'http', '2', 'a.example'])
    assert.deepEqual([...request.headers], [
      ['Host', 'a.example'], ['x-one', '1'], ['te', 'trailers'], ['x-two', ''], ['cookie', 'a=1; b=2'],
    ])
    const text = request.headers.serialize(1 << FieldKind.Te, null)
    assert.equal(text, 'Host: a.example\r\nx-one: 1\r\nx-two: \r\ncookie: a=1; b=2\r\n')
    world.owners[0]!.answer(200, 'hello')
    await world.settle()
    assert.deepEqual(world.words, ['head 1 200', 'data 1 5 end'])
    assert.deepEqual(world.frames.heads.get(1)![0]!.slice(0, 2), [[':status', '200'], ['content-length', '5']])
  })

  it('the fields come from Host where there is no :authority, and both have to be the same', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, [...GET.slice(0, 3), ['host', 'b.example']]))
    assert.equal(world.owners[0]!.session.request.authority, 'b.example')
    await world.say(world.head(3, [...GET, ['host', 'A.example']]))
    assert.deepEqual(world.owners[1]!.session.request.headers.getAll('host'), ['a.example'])
    await world.say(world.head(5, [...GET, ['host', 'b.example']]))
    assert.equal(world.takeWords().at(-1), `reset 5 ${ProtocolError}`)
    await world.say(world.head(7, GET.slice(0, 3)))
    assert.equal(world.takeWords().at(-1), 'head 7 400 end')
  })

  const MALFORMED: Readonly<Record<string, Fields>> = {
    'no :method': GET.slice(1),
    'no :scheme': [GET[0]!, ...GET.slice(2)],
    'no :path': [GET[0]!, GET[1]!, GET[3]!],
    'an empty :path': [GET[0]!, GET[1]!, [':path', ''], GET[3]!],
    'a :path that is none': [GET[0]!, GET[1]!, [':path', 'a'], GET[3]!],
    'a :path with a blank': [GET[0]!, GET[1]!, [':path', '/a b'], GET[3]!],
    'a :path with a fragment': [GET[0]!, GET[1]!, [':path', '/a#b'], GET[3]!],
    ':method twice': [...GET, [':method', 'GET']],
    ':path twice': [...GET, [':path', '/']],
    'a pseudo-field behind others': [...GET.slice(0, 3), ['x-a', '1'], GET[3]!],
    'a pseudo-field of answers': [...GET, [':status', '200']],
    'an unknown pseudo-field': [...GET, [':what', '1']],
    ':protocol without CONNECT': [...GET, [':protocol', 'websocket']],
    'a name in upper case': [...GET, ['X-A', '1']],
    'an empty name': [...GET, ['', '1']],
    'a name with a blank': [...GET, ['x a', '1']],
    'a name with a colon': [...GET, ['x:a', '1']],
    'a value with CR LF': [...GET, ['x-a', '1\r\nx-b: 2']],
    'a value with NUL': [...GET, ['x-a', '1\0']],
    'a value that begins with a blank': [...GET, ['x-a', ' 1']],
    'a value that ends with a tab': [...GET, ['x-a', '1\t']],
    'Connection': [...GET, ['connection', 'close']],
    'Keep-Alive': [...GET, ['keep-alive', '1']],
    'Proxy-Connection': [...GET, ['proxy-connection', '1']],
    'Transfer-Encoding': [...GET, ['transfer-encoding', 'chunked']],
    'Upgrade': [...GET, ['upgrade', 'h2c']],
    'TE other than trailers': [...GET, ['te', 'trailers, deflate']],
    'Content-Length twice': [...POST, ['content-length', '1'], ['content-length', '1']],
    'Content-Length that is no number': [...POST, ['content-length', '+1']],
    'Content-Length without a body': [...POST, ['content-length', '1']],
    'Host twice': [...GET, ['host', 'a.example'], ['host', 'a.example']],
    'CONNECT with a path': [[':method', 'CONNECT'], [':path', '/'], [':authority', 'a.example:1']],
    'a method that is no token': [[':method', 'G T'], ...GET.slice(1)],
  }
  for (const [what, fields] of Object.entries(MALFORMED)) {
    it(`${what}: the stream is reset, and nobody hears of the request`, async () => {
      const world = await H2World.open()
      await world.say(world.head(1, fields), world.head(3))
      assert.equal(world.words[0], `reset 1 ${ProtocolError}`)
      assert.equal(world.owners.length, 1, 'the next request is served')
      assert.equal(world.refusals.length, 1)
      assert.equal(world.refusals[0]!.limit, 'bad-head')
    })
  }

  it('what is over a limit of heads is answered', async () => {
    const http = { maxUriBytes: 256, maxHeaderCount: 3, maxHeaderLineBytes: 300 }
    const world = await H2World.open({ http, http2: { maxCookieCrumbs: 2 } })
    const cases: readonly (readonly [Fields, string, string])[] = [
      [[GET[0]!, GET[1]!, [':path', `/${'a'.repeat(256)}`], GET[3]!], '414', 'uri-bytes'],
      [[...GET, ['a', ''], ['b', ''], ['c', ''], ['d', '']], '431', 'header-count'],
      [[...GET, ['a', 'x'.repeat(300)]], '431', 'header-line-bytes'],
      [[...GET, ['cookie', 'a'], ['cookie', 'a'], ['cookie', 'a']], '431', 'cookie-crumbs'],
      [[...GET, ['expect', 'much']], '417', 'bad-head'],
      [[[':method', 'A'.repeat(40)], ...GET.slice(1)], '501', 'bad-head'],
      [[[':method', 'CONNECT'], [':authority', 'a.example:443']], '405', 'bad-head'],
      [[...GET, ['x-forwarded_for', '1']], '400', 'bad-head'],
    ]
    for (const [at, [fields, status, limit]] of cases.entries()) {
      await world.say(world.head(at * 2 + 1, fields))
      assert.equal(world.words.at(-1), `head ${at * 2 + 1} ${status} end`)
      assert.equal(world.refusals.at(-1)!.limit, limit)
    }
    assert.equal(world.owners.length, 0)
    await world.say(world.head(101))
    assert.equal(world.owners.length, 1)
  })

  it('bodies: their bytes, padding and trailers, and windows that open again', async () => {
    const world = await H2World.open({ http2: { streamWindowBytes: 40, connectionWindowBytes: 65_535 } })
    await world.say(world.head(1, POST, 0), world.data(1, 'hello '), frame(FrameType.Data, Flag.Padded, 1, '0377000000'))
    const owner = world.owners[0]!
    assert.equal(owner.body, 'hello w')
    await world.say(world.data(1, 'orld, and more of it'))
    assert.deepEqual(world.takeWords().filter(word => word.startsWith('window 1')), ['window 1 31'])
    await world.say(world.head(1, [['x-sum', '1'], ['content-length', '9']]))
    assert.equal(owner.ended, true)
    assert.deepEqual([...owner.trailers!], [['x-sum', '1']], 'what must not come from there does not')
    owner.answer(200, 'done', HeaderMap.from({ 'X-After': 'y' }))
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 200', 'data 1 4', 'head 1 trailers end'])
    assert.deepEqual(world.frames.heads.get(1)!.at(-1), [['x-after', 'y']])
  })

  it('a body that is not as long as announced breaks its stream', async () => {
    for (const frames of [
      (world: H2World) => [world.data(1, 'abc', Flag.EndStream)], (world: H2World) => [world.data(1, 'abcdef')],
      (world: H2World) => [world.data(1, 'ab'), world.head(1, [['x', 'y']])],
    ]) {
      const world = await H2World.open()
      await world.say(world.head(1, [...POST, ['content-length', '5']], 0), ...frames(world))
      assert.equal(world.words.at(0), `reset 1 ${ProtocolError}`)
      assert.equal(world.owners[0]!.faults[0]!.kind, 'BAD_FRAMING')
      assert.equal(world.owners[0]!.ended, false)
      assert.equal(world.connection.active, 0)
    }
  })

  it('a paused request keeps its bytes, and its window shut', async () => {
    const world = await H2World.open({ flows: false, http2: { streamWindowBytes: 1000 } })
    await world.say(world.head(1, POST, 0), world.data(1, 'x'.repeat(600)), world.data(1, 'y'.repeat(400), Flag.EndStream))
    const owner = world.owners[0]!
    assert.deepEqual([owner.body, owner.ended], ['', false])
    assert.deepEqual(world.takeWords(), [])
    owner.session.resumeRequest()
    assert.equal(owner.body.length, 1000)
    assert.equal(owner.ended, true)
  })

  it('a paused request of many small frames costs little more than its bytes', async () => {
    const world = await H2World.open({ flows: false }), frames = Array.from({ length: 2000 }, (_, at) => world.data(1, String(at % 10)))
    await world.say(world.head(1, POST, 0), ...frames)
    assert.ok(heldBytes.now < 10_000, `${heldBytes.now} bytes are held`)
    const owner = world.owners[0]!
    owner.session.resumeRequest()
    assert.equal(owner.body, '0123456789'.repeat(200))
    assert.equal(heldBytes.now, 0)
  })

  it('an answer that is whole before the request ends the rest of it without harm', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, POST, 0), world.data(1, 'part'))
    world.owners[0]!.answer(403, 'no')
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 403', 'data 1 2 end', 'reset 1 0'])
    await world.say(world.data(1, 'that was on its way'), world.head(1, [['x', 'y']]), reset(1), windowUpdate(1, 5), world.head(3))
    assert.equal(world.owners.length, 2)
    assert.equal(world.goAwayCode, -1)
  })

  it('100 Continue, other interim answers, HEAD and 204', async () => {
    const world = await H2World.open({ flows: false })
    await world.say(world.head(1, [...POST, ['expect', '100-continue']], 0))
    const { session } = world.owners[0]!
    assert.equal(session.awaitsContinue, true)
    session.sendContinue()
    session.writeInterim(ResponseHead.build(103, HeaderMap.from({ link: '</a>' })))
    await world.say(world.head(3, [[':method', 'HEAD'], ...GET.slice(1)]), world.head(5))
    world.owners[1]!.answer(200, 'never sent')
    world.owners[2]!.answer(204)
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 100', 'head 1 103', 'head 3 200 end', 'head 5 204 end'])
    assert.deepEqual(world.frames.heads.get(3)![0]![1], ['content-length', '10'])
    assert.ok(!world.frames.heads.get(5)![0]!.some(([name]) => name === 'content-length'))
  })

  it('heads that are sent again are the same, whatever was sent between them', async () => {
    const world = await H2World.open()
    const fields: Fields = [['server', 'origin'], ['etag', '"1"'], ['set-cookie', 'a=b'], ['set-cookie', 'c=d'], ['x-a', 'b']]
    for (let at = 0; at < 40; at++) {
      const id = at * 2 + 1
      await world.say(world.head(id))
      const own: Fields = at % 3 === 0 ? [...fields, ['x-changes', String(at)]] : fields
      const { session } = world.owners[at]!
      session.writeHead(ResponseHead.build(200, HeaderMap.from([...own, ['Date', 'today'], ['Connection', 'close']])), 0, FieldLines.NONE)
      session.endResponse(null)
      session.release()
      await world.settle()
      const sent = world.frames.heads.get(id)![0]!
      assert.deepEqual(sent.filter(([name]) => name !== 'content-length'), [[':status', '200'], ...own, ['date', 'today']])
    }
  })

  it('a head of many fields goes in several frames', async () => {
    const world = await H2World.open()
    await world.say(world.head(1))
    const headers = new HeaderMap()
    for (let i = 0; i < 40; i++) headers.append(`x-${i}`, '\u00ff'.repeat(1000))
    const { session } = world.owners[0]!
    session.writeHead(ResponseHead.build(200, headers), BODY_UNKNOWN, FieldLines.NONE)
    session.endResponse(null)
    session.release()
    await world.settle()
    assert.deepEqual(world.words, ['head 1 200 end'])
    assert.equal(world.frames.heads.get(1)![0]!.length, 42)
  })
})

describe('http2 connection: flow control', () => {
  it('an answer stops at the window of its stream and of the connection, and others go on', async () => {
    const world = await H2World.open()
    await world.say(setting(4, 10), world.head(1), world.head(3))
    world.owners[0]!.answer(200, 'a'.repeat(25))
    world.owners[1]!.answer(200, 'b'.repeat(5))
    await world.settle()
    assert.deepEqual(world.takeWords(), ['settings ack', 'head 1 200', 'data 1 10', 'head 3 200', 'data 3 5 end'])
    await world.say(windowUpdate(1, 7))
    await world.say(setting(4, 12))
    assert.deepEqual(world.takeWords(), ['data 1 7', 'settings ack', 'data 1 2'])
    await world.say(windowUpdate(1, 100))
    assert.deepEqual(world.takeWords(), ['data 1 6 end'])
    assert.equal(world.frames.bodies.get(1), 'a'.repeat(25))
  })

  it('a window that becomes negative has to be made good first (RFC 9113 6.9.2)', async () => {
    const world = await H2World.open()
    await world.say(world.head(1))
    const { session } = world.owners[0]!
    session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
    session.writeBody(Buffer.from('x'.repeat(65_535)), 0, 65_535, true)
    await world.say(windowUpdate(0, 1_000_000), setting(4, 0))
    session.writeBody(Buffer.from('more'), 0, 4, true)
    await world.say(windowUpdate(1, 65_534))
    assert.equal(session.bytesQueued, 4)
    world.takeWords()
    await world.say(windowUpdate(1, 3))
    assert.deepEqual(world.takeWords(), ['data 1 2'])
    assert.equal(session.bytesQueued, 2)
    assert.equal(world.owners[0]!.drained, 0)
    await world.say(windowUpdate(1, 2))
    assert.equal(session.bytesQueued, 0)
    assert.equal(world.owners[0]!.drained, 1)
  })

  it('streams take turns where the transport is slow, frame by frame', async () => {
    const world = await H2World.open({ kernelBytes: 20_000 })
    await world.say(setting(4, 1_000_000), windowUpdate(0, 10_000_000))
    await world.say(...[1, 3, 5, 7].map(id => world.head(id)))
    world.takeWords()
    for (const owner of world.owners.slice(0, 3)) owner.answer(200, 'x'.repeat(200_000))
    world.owners[3]!.answer(200, 'small')
    for (let i = 0; i < 10; i++) await world.settle()
    const small = world.words.indexOf('data 7 5 end')
    assert.ok(small !== -1)
    for (const id of [1, 3, 5]) assert.ok(world.words.findLastIndex(word => word.startsWith(`data ${id} `)) > small, `${id} ends later`)
    for (const id of [1, 3, 5]) assert.equal(world.frames.bodies.get(id)!.length, 200_000)
  })

  it('more than a window, an empty WINDOW_UPDATE, or windows that overflow', async () => {
    const stream = await H2World.open({ flows: false, http2: { streamWindowBytes: 100 } })
    await stream.say(stream.head(1, POST, 0), stream.data(1, 'x'.repeat(101)), stream.head(3))
    assert.deepEqual(stream.words, [`reset 1 ${FlowControlError}`])
    assert.equal(stream.owners.length, 2)
    const cases: readonly (readonly [string, (world: H2World) => Buffer[], number, boolean])[] = [
      ['nothing for a stream', world => [world.head(1, POST, 0), windowUpdate(1, 0)], ProtocolError, false],
      ['overflow of a stream', world => [world.head(1, POST, 0), windowUpdate(1, 0x7fff_ffff)], FlowControlError, false],
      ['nothing for the connection', () => [windowUpdate(0, 0)], ProtocolError, true],
      ['overflow of the connection', () => [windowUpdate(0, 0x7fff_ffff)], FlowControlError, true],
      ['overflow by SETTINGS', world => {
        return [world.head(1, POST, 0), windowUpdate(1, 0x7000_0000), setting(4, 0x7fff_ffff)]
      }, FlowControlError, true],
      ['a window that is too large', () => [setting(4, 0x8000_0000)], FlowControlError, true],
    ]
    for (const [what, frames, code, ends] of cases) {
      const world = await H2World.open()
      await world.say(...frames(world))
      assert.equal(ends ? world.goAwayCode : Number(world.words.at(-1)?.split(' ')[2]), code, what)
      assert.equal(world.client.ended, ends, what)
    }
  })
})

describe('http2 connection: states of streams', () => {
  it('frames that no state allows', async () => {
    const done = (world: H2World): Buffer[] => [world.head(1)]
    const cases: readonly (readonly [string, (world: H2World) => Buffer[], string])[] = [
      ['DATA on an idle stream', world => [world.data(1, 'x')], `goaway 0 ${ProtocolError}`],
      ['RST_STREAM on an idle stream', () => [reset(1)], `goaway 0 ${ProtocolError}`],
      ['WINDOW_UPDATE on an idle stream', () => [windowUpdate(1, 5)], `goaway 0 ${ProtocolError}`],
      ['HEADERS on an even stream', world => [world.head(2)], `goaway 0 ${ProtocolError}`],
      ['a stream that goes back', world => [world.head(5), world.head(3)], `goaway 5 ${ProtocolError}`],
      ['DATA behind the end', world => [...done(world), world.data(1, 'x')], `reset 1 ${StreamClosed}`],
      ['HEADERS behind the end', world => [...done(world), world.head(1)], `reset 1 ${StreamClosed}`],
      ['HEADERS within a body', world => [world.head(1, POST, 0), world.head(1, [['x', 'y']], 0)], `reset 1 ${ProtocolError}`],
      ['trailers with a pseudo-field', world => [world.head(1, POST, 0), world.head(1, [[':method', 'GET']])], `reset 1 ${ProtocolError}`],
      ['HEADERS behind RST_STREAM', world => [world.head(1, POST, 0), reset(1), world.head(1)], `goaway 1 ${StreamClosed}`],
      ['DATA behind RST_STREAM', world => [world.head(1, POST, 0), reset(1), world.data(1, 'x')], `reset 1 ${StreamClosed}`],
      ['PUSH_PROMISE', () => [frame(FrameType.PushPromise, 4, 1, '00000002')], `goaway 0 ${ProtocolError}`],
      ['a block that cannot be decoded', () => [frame(FrameType.Headers, 5, 1, 'ff')], `goaway 0 ${CompressionError}`],
      ['SETTINGS of a push that is no flag', () => [setting(2, 2)], `goaway 0 ${ProtocolError}`],
      ['frames that are too short a size', () => [setting(5, 16_383)], `goaway 0 ${ProtocolError}`],
      ['frames that are too long a size', () => [setting(5, 16_777_216)], `goaway 0 ${ProtocolError}`],
      ['a stream that depends on itself', world => [world.head(1, POST, 0), frame(FrameType.Priority, 0, 1, '0000000110')],
        `reset 1 ${ProtocolError}`],
      ['HEADERS that depend on themselves', world => [frame(FrameType.Headers, 0x25, 1, `0000000110${world.block(GET).toString('hex')}`)],
        `reset 1 ${ProtocolError}`],
      ['PRIORITY of 4 bytes', world => [world.head(1, POST, 0), frame(FrameType.Priority, 0, 1, '00000003')], `reset 1 ${FrameSizeError}`],
    ]
    for (const [what, frames, expected] of cases) {
      const world = await H2World.open()
      await world.say(...frames(world), PING)
      assert.ok(world.words.includes(expected), `${what}: ${world.words.join(', ')}`)
      assert.equal(world.client.ended, expected.startsWith('goaway'), what)
      assert.equal(world.words.includes('ping ack'), expected.startsWith('reset'), what)
    }
  })

  it('what is unknown, or comes late, does no harm', async () => {
    const world = await H2World.open()
    await world.say(world.head(1), frame(0x99, 0xff, 1, 'aabb'), frame(FrameType.Priority, 0, 9, '0000000110'), setting(0x99, 1))
    world.owners[0]!.answer()
    await world.say(windowUpdate(1, 5), reset(1), PING, frame(FrameType.GoAway, 0, 0, '0000000000000000'), world.head(3))
    assert.equal(world.owners.length, 2)
    assert.equal(world.goAwayCode, -1)
  })

  it('more streams than allowed are refused, and may come again', async () => {
    const world = await H2World.open({ http2: { maxConcurrentStreams: 2 } })
    await world.say(world.head(1), world.head(3), world.head(5))
    assert.deepEqual(world.takeWords(), [`reset 5 ${RefusedStream}`])
    assert.equal(world.owners.length, 2)
    world.owners[0]!.answer()
    await world.say(world.head(7))
    assert.equal(world.owners.length, 3)
  })

  it('a place is taken until the exchange is over, however soon its stream was reset', async () => {
    const world = await H2World.open({ http2: { maxConcurrentStreams: 2 } })
    await world.say(world.head(1), world.head(3))
    // An application that is told of the fault, and still has something to do.
    for (const owner of world.owners) owner.onDownstreamFault = error => { owner.faults.push(error) }
    await world.say(reset(1), reset(3), world.head(5))
    assert.ok(world.words.includes(`reset 5 ${RefusedStream}`))
    assert.equal(world.connection.active, 2)
    for (const owner of world.owners) owner.release()
    await world.say(world.head(7))
    assert.equal(world.owners.length, 3)
  })

  it('many requests in one read leave others their turn, and all are served in order', async () => {
    const world = await H2World.open({ http2: { maxStreamsPerRead: 4 } })
    world.client.send(Buffer.concat(Array.from({ length: 10 }, (_, at) => world.head(at * 2 + 1, [...GET, ['x-n', String(at)]]))))
    world.pair.settle()
    assert.equal(world.owners.length, 4)
    assert.ok(heldBytes.now > 0)
    await world.settle()
    assert.equal(world.owners.map(owner => owner.session.request.headers.get('x-n')).join(''), '0123456789')
    assert.equal(heldBytes.now, 0)
  })
})

describe('http2 connection: tunnels', () => {
  const WEBSOCKET: Fields = [
    [':method', 'CONNECT'], [':protocol', 'websocket'], [':scheme', 'http'], [':path', '/chat'], [':authority', 'a.example'],
  ]

  it('extended CONNECT is a request to switch, 101 is 200, and bytes pass both ways to their ends', async () => {
    const world = await H2World.open({ flows: false })
    await world.say(world.head(1, WEBSOCKET, 0), world.data(1, 'early '))
    const { session } = world.owners[0]!
    assert.deepEqual([session.request.method, session.request.target, session.wantsSwitch], ['GET', '/chat', true])
    assert.equal(session.request.headers.get('upgrade'), 'websocket')
    const headers = HeaderMap.from({ 'Upgrade': 'websocket', 'Sec-WebSocket-Protocol': 'x' })
    session.writeHead(ResponseHead.build(101, headers), BODY_TUNNEL, FieldLines.NONE)
    const { stream } = session.detach(), told: string[] = []
    stream.owner = {
      onBytes: (buffer, from, to) => { told.push(buffer.latin1Slice(from, to)) },
      onEnd: () => { told.push('end') }, onDrained: () => { told.push('drained') }, onClosed: error => { told.push(`closed ${error}`) },
    }
    assert.deepEqual([world.connection.tunnels, world.connection.active], [1, 1])
    stream.resume()
    stream.writeText('from the origin')
    await world.say(world.data(1, 'late'))
    assert.deepEqual(world.takeWords(), ['head 1 200', 'data 1 15'])
    assert.deepEqual(world.frames.heads.get(1)![0]!.find(([name]) => name === 'sec-websocket-protocol'), ['sec-websocket-protocol', 'x'])
    stream.end()
    await world.say(world.data(1, '', Flag.EndStream))
    assert.deepEqual(told, ['early ', 'late', 'end', 'closed null'])
    assert.deepEqual(world.takeWords(), ['data 1 0 end'])
    session.release()
    assert.deepEqual([world.connection.tunnels, world.connection.active, world.connection.idle], [0, 0, true])
    assert.deepEqual([session.bodyBytesIn, session.bodyBytesOut, stream.bytesRead], [0, 0, 10], 'no byte of a tunnel is counted twice')
  })

  it('a tunnel that its client resets is reset', async () => {
    const world = await H2World.open({ flows: false })
    await world.say(world.head(1, WEBSOCKET, 0))
    const { session } = world.owners[0]!
    session.writeHead(ResponseHead.build(101, HeaderMap.from({ Upgrade: 'websocket' })), BODY_TUNNEL, FieldLines.NONE)
    const { stream } = session.detach()
    let error: Error | null = null
    stream.owner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed: thrown => { error = thrown } }
    await world.say(reset(1))
    assert.equal((error as NodeJS.ErrnoException | null)?.code, 'ECONNRESET')
    session.release()
    assert.equal(world.connection.idle, true)
  })

  it('a success that opens none is no success, which would be the tunnel (RFC 8441 5)', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, WEBSOCKET, 0))
    const { session } = world.owners[0]!, head = ResponseHead.build(200)
    session.writeHead(head, 6, FieldLines.NONE)
    session.writeBody(Buffer.from('a page'), 0, 6, true)
    session.endResponse(null)
    session.release()
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 502', 'data 1 6 end', 'reset 1 0'])
    assert.equal(head.status, 502, 'logs tell what the client got')
  })

  it('a body that is refused may come on in many small frames', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, POST, 0))
    world.owners[0]!.answer(413)
    await world.say(...Array.from({ length: 3000 }, () => world.data(1, 'x')), world.head(3))
    assert.equal(world.owners.length, 2)
  })

  it('one that is refused is an answer like any other', async () => {
    const world = await H2World.open()
    await world.say(world.head(1, WEBSOCKET, 0), world.data(1, 'hopeful'))
    world.owners[0]!.answer(403, 'no')
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 403', 'data 1 2 end', 'reset 1 0'])
    assert.equal(world.connection.idle, true)
  })
})

describe('http2 connection: its end', () => {
  it('drain: GOAWAY for none, a PING, GOAWAY for the last, and FIN behind the last answer', async () => {
    const world = await H2World.open()
    await world.say(world.head(1))
    world.connection.drain()
    await world.settle()
    assert.deepEqual(world.takeWords(), ['goaway 2147483647 0', 'ping'])
    await world.say(world.head(3))
    assert.equal(world.owners.length, 2, 'what was on its way is served')
    await world.say(frame(FrameType.Ping, Flag.Ack, 0, Buffer.from('\0\0cirque')))
    assert.deepEqual(world.takeWords(), ['goaway 3 0'])
    await world.say(world.head(5), world.data(5, 'x'), windowUpdate(5, 1))
    assert.equal(world.owners.length, 2, 'what comes now is not looked at')
    world.owners[0]!.answer()
    await world.settle()
    assert.equal(world.client.ended, false)
    world.owners[1]!.answer(200, 'last')
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 200 end', 'head 3 200', 'data 3 4 end'])
    assert.equal(world.client.ended, true)
    await world.end()
    assert.equal(world.closed, 1)
    assert.equal(world.ticker.size, 0)
  })

  it('a client that is slow to take the last answer gets all of it', async () => {
    const world = await H2World.open({ kernelBytes: 1000, http: { minSendBytesPerSecond: 0 } })
    await world.say(world.head(1))
    world.connection.drain()
    await world.settle()
    world.pair.far.pause()
    world.owners[0]!.answer(200, 'x'.repeat(20_000))
    await world.wait(1200)
    for (let round = 0; round < 10; round++) {
      await world.wait(4000)
      world.pair.far.resume()
      world.pair.near.deliver(2000)
      world.pair.far.pause()
    }
    world.pair.far.resume()
    await world.settle()
    assert.equal(world.frames.bodies.get(1)?.length, 20_000)
    assert.equal(world.client.ended, true)
    await world.wait(6000)
    assert.equal(world.closed, 1)
  })

  it('drain without an answer to the PING takes a second', async () => {
    const world = await H2World.open()
    world.connection.drain()
    await world.wait(900)
    assert.deepEqual(world.takeWords(), ['goaway 2147483647 0', 'ping'])
    await world.wait(200)
    assert.deepEqual(world.takeWords(), ['goaway 0 0'])
    assert.equal(world.client.ended, true)
  })

  it('an idle connection is closed in time, or when it is asked to; one that is used is not', async () => {
    const idle = await H2World.open()
    assert.equal(idle.standing, 'idle')
    await idle.wait(119_000)
    assert.equal(idle.client.ended, false)
    await idle.wait(2000)
    assert.deepEqual([idle.takeWords(), idle.client.ended], [['goaway 0 0'], true])
    const used = await H2World.open()
    await used.say(used.head(1))
    assert.equal(used.standing, 'active')
    used.connection.closeIdle()
    await used.wait(200_000)
    assert.equal(used.client.ended, false)
    used.owners[0]!.answer()
    await used.settle()
    assert.equal(used.standing, 'idle')
    used.connection.closeIdle()
    await used.settle()
    assert.equal(used.client.ended, true)
  })

  it('a connection that is lost, or its FIN, ends all exchanges; what was held is given back', async () => {
    for (const how of ['reset', 'fin'] as const) {
      const world = await H2World.open({ flows: false })
      await world.say(world.head(1, POST, 0), world.data(1, 'x'), world.head(3))
      if (how === 'reset') world.client.stream.destroy(true)
      else world.client.stream.end()
      await world.settle()
      assert.deepEqual(world.owners.map(({ faults }) => faults[0]?.kind), ['CLIENT_GONE', 'CLIENT_GONE'])
      assert.deepEqual([world.closed, world.connection.active, world.ticker.size], [1, 0, 0])
    }
  })

  it('cut: answered where nothing was sent, reset otherwise', async () => {
    const world = await H2World.open({ answersFaults: false })
    await world.say(world.head(1))
    world.owners[0]!.session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
    const { ProxyError } = await import('../../../src/errors/proxy-error.ts')
    world.connection.cut(new ProxyError('DRAINING', 'internal', 'over'))
    await world.settle()
    assert.deepEqual(world.takeWords(), ['head 1 200', `reset 1 ${ErrorCode.InternalError}`])
  })

  it('a client that takes nothing of an answer is cut off from it', async () => {
    const world = await H2World.open({ http: { sendTimeoutMs: 5000 } })
    await world.say(setting(4, 0), world.head(1), world.head(3))
    world.owners[0]!.answer(200, 'x'.repeat(100))
    await world.wait(6000)
    assert.ok(world.words.includes(`reset 1 ${Cancel}`))
    assert.equal(world.connection.active, 1, 'the other goes on')
  })

  it('a body that does not come, and one that takes too long in all', async () => {
    const world = await H2World.open({ http: { bodyIdleTimeoutMs: 3000, totalTimeoutMs: 8000 } })
    await world.say(world.head(1, POST, 0), world.head(3))
    await world.wait(4000)
    assert.deepEqual(world.takeWords(), ['head 1 408 end', 'reset 1 0'])
    await world.wait(5000)
    assert.deepEqual(world.takeWords(), ['head 3 408 end'])
  })

  it('more requests than a connection may have', async () => {
    const world = await H2World.open({ http2: { maxStreamsPerConnection: 2 } })
    await world.say(world.head(1), world.head(3))
    assert.deepEqual(world.takeWords(), ['goaway 2147483647 0', 'ping'])
  })
})

describe('http2 connection: what hostile clients run into', () => {
  async function calmed(
    limit: string, options: WorldOptions, attack: (world: H2World, round: number) => Buffer[], rounds = 400,
  ): Promise<H2World> {
    const world = await H2World.open(options)
    // GOAWAY that only asks to leave stops no attacker.
    for (let round = 0; round < rounds && world.goAwayCode <= 0; round++) await world.say(...attack(world, round))
    assert.equal(world.goAwayCode, EnhanceYourCalm, limit)
    assert.equal(world.refusals.at(-1)!.limit, limit)
    assert.equal(world.connection.active, 0)
    assert.equal(world.client.ended, true)
    await world.wait(1100)
    assert.equal(world.closed, 1, 'it is gone a second later')
    assert.equal(world.ticker.size, 0)
    assert.equal(heldBytes.now, 0)
    return world
  }
  const id = (round: number): number => round * 2 + 1

  it('rapid reset (CVE-2023-44487)', async () => {
    const world = await calmed('resets', {}, (each, round) => [each.head(id(round)), reset(id(round))])
    assert.ok(world.owners.length <= 201)
  })

  it('streams beyond the limit', async () => {
    await calmed('concurrent-streams', { http2: { maxConcurrentStreams: 1 } }, (world, round) => [world.head(id(round))])
  })

  const MADE_YOU_RESET: Readonly<Record<string, (world: H2World, id: number) => Buffer[]>> = {
    'WINDOW_UPDATE of nothing': (_world, stream) => [windowUpdate(stream, 0)],
    'a window that overflows': (_world, stream) => [windowUpdate(stream, 0x7fff_ffff)],
    'PRIORITY of a wrong length': (_world, stream) => [frame(FrameType.Priority, 0, stream, '00')],
    'PRIORITY of itself': (_world, stream) => [frame(FrameType.Priority, 0, stream, `${uint32(stream)}10`)],
    'HEADERS behind the end': (world, stream) => [world.head(stream)],
    'DATA behind the end': (world, stream) => [world.data(stream, 'x')],
  }
  for (const [what, attack] of Object.entries(MADE_YOU_RESET)) {
    it(`MadeYouReset (CVE-2025-8671): ${what}`, async () => {
      const world = await H2World.open()
      for (let round = 0; round < 400 && world.goAwayCode <= 0; round++) {
        await world.say(world.head(id(round)), ...attack(world, id(round)))
      }
      assert.equal(world.goAwayCode, EnhanceYourCalm)
      assert.ok(world.owners.length <= 201)
    })
  }

  it('CONTINUATION without end, empty or not (CVE-2024-27316)', async () => {
    await calmed('continuation-frames', {}, (world, round) => {
      return [round === 0 ? frame(FrameType.Headers, 1, 1, world.block(GET)) : frame(FrameType.Continuation, 0, 1)]
    })
    await calmed('header-block-bytes', { http2: { maxContinuationFrames: 100 } }, (_world, round) => {
      return [frame(round === 0 ? FrameType.Headers : FrameType.Continuation, 0, 1, Buffer.alloc(16_000, 0x82))]
    })
  })

  it('a block that is never finished', async () => {
    const world = await H2World.open()
    await world.say(frame(FrameType.Headers, 1, 1, '82'))
    assert.equal(world.standing, 'unfinished')
    await world.wait(11_000)
    assert.equal(world.goAwayCode, EnhanceYourCalm)
    const [{ kind, limit, status }] = world.refusals as [ProxyError]
    assert.deepEqual([kind, limit, status], ['HEAD_TIMEOUT', 'head-timeout', 408])
  })

  it('a frame that is never finished, at whatever size, and one that is finished by another', async () => {
    const bytes = frame(FrameType.Headers, 5, 1, Buffer.alloc(16_000, 0x82))
    const world = await H2World.open()
    await world.say(bytes.subarray(0, 15_000))
    assert.ok(heldBytes.now >= 15_000, 'it is counted')
    await world.wait(11_000)
    assert.equal(world.goAwayCode, EnhanceYourCalm)
    assert.equal(heldBytes.now, 0)
    const busy = await H2World.open({ http2: { maxPings: 100_000 } }), [first, second] = [PING.subarray(0, 12), PING.subarray(12)]
    await busy.say(first)
    for (let waited = 0; waited < 20_000; waited += 2000) {
      await busy.wait(2000)
      await busy.say(second, first)
    }
    assert.equal(busy.goAwayCode, -1)
    await busy.end()
    assert.equal(heldBytes.now, 0)
  })

  it('a client that measures how fast an answer comes may ask as often as it gets some of it', async () => {
    const world = await H2World.open({ http2: { maxPings: 10 } })
    await world.say(world.head(1))
    const { session } = world.owners[0]!
    session.writeHead(ResponseHead.build(200), BODY_UNKNOWN, FieldLines.NONE)
    for (let round = 0; round < 100; round++) {
      session.writeBody(Buffer.from('x'), 0, 1, true)
      await world.say(PING)
    }
    assert.equal(world.goAwayCode, -1)
    for (let round = 0; round < 11; round++) await world.say(PING)
    assert.equal(world.goAwayCode, EnhanceYourCalm)
  })

  it('HPACK bombs: one large field, named a thousand times', async () => {
    const bomb = (world: H2World): Buffer => {
      return Buffer.concat([world.block([...GET, ['x-bomb', 'x'.repeat(2900)]]), Buffer.alloc(10_000, 0xbe)])
    }
    await calmed('header-list-bytes', {}, world => [frame(FrameType.Headers, 5, 1, bomb(world))])
    const cookies = await H2World.open()
    await cookies.say(cookies.head(1, [...GET, ...Array.from({ length: 300 }, (): readonly [string, string] => ['cookie', 'a'])]))
    assert.equal(cookies.words.at(-1), 'head 1 431 end')
  })

  it('floods of PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE and frames that make no sense', async () => {
    const many = (bytes: Buffer, count = 50): Buffer[] => Array.from({ length: count }, () => bytes)
    await calmed('pings', {}, () => many(PING))
    await calmed('settings', {}, () => [frame(FrameType.Settings, 0, 0)])
    await calmed('settings-entries', {}, () => [frame(FrameType.Settings, 0, 0, '009900000000'.repeat(33))])
    await calmed('priorities', {}, () => many(frame(FrameType.Priority, 0, 9, '0000000110')))
    await calmed('empty-data', {}, (world, round) => [...round === 0 ? [world.head(1, POST, 0)] : [], ...many(world.data(1, ''))])
    await calmed('empty-data', {}, (world, round) => {
      return [...round === 0 ? [world.head(1, POST, 0)] : [], ...many(frame(FrameType.Data, 0, 1))]
    })
    await calmed('window-updates', {}, () => many(windowUpdate(0, 1)))
    await calmed('glitches', {}, () => many(frame(0x99, 0, 0)))
    const patient = { maxGlitches: 1_000_000, maxOverheadRatio: 1 }
    await calmed('overhead-ratio', { http2: patient }, () => [frame(0x99, 0, 0, Buffer.alloc(16_000))])
  })

  it('a client that asks and never reads', async () => {
    const world = await H2World.open({ kernelBytes: 1000, http2: { maxPings: 100_000, maxQueuedControlFrames: 200 } })
    world.pair.far.pause()
    for (let round = 0; round < 30 && !world.pair.near.destroyed; round++) await world.say(...Array.from({ length: 50 }, () => PING))
    assert.equal(world.pair.near.destroyed, true)
    assert.equal(world.refusals.at(-1)!.limit, 'queued-control-frames')
  })

  it('a client that asks for much and never reads is read no more, and cut off in time', async () => {
    const world = await H2World.open({ kernelBytes: 1000, http: { sendTimeoutMs: 5000 } })
    world.pair.far.pause()
    let asked = 0
    for (; asked < 20_000 && !world.pair.near.paused; asked++) {
      await world.say(world.head(id(asked)))
      world.owners.at(-1)?.answer(204)
    }
    assert.ok(asked < 7000, `${asked} requests were taken`)
    assert.equal(world.connection.active, 0)
    await world.wait(7000)
    assert.equal(world.pair.near.destroyed, true)
  })

  it('one that reads again later is read again', async () => {
    const world = await H2World.open({ kernelBytes: 1000 })
    world.pair.far.pause()
    for (let asked = 0; !world.pair.near.paused; asked++) {
      await world.say(world.head(id(asked)))
      world.owners.at(-1)?.answer(204)
    }
    const { length } = world.owners
    world.pair.far.resume()
    await world.settle()
    await world.say(world.head(20_001))
    assert.equal(world.owners.length, length + 1)
    assert.equal(world.words.filter(word => word.endsWith('204 end')).length, length)
  })

  it('one whose frame was cut in two while it was not read is not late with the rest of it', async () => {
    const world = await H2World.open({ kernelBytes: 1000, http2: { maxConcurrentStreams: 8000, maxHeldHeadBytes: 4_000_000 } })
    for (let asked = 0; asked < 8000; asked += 20) await world.say(...Array.from({ length: 20 }, (_, at) => world.head(id(asked + at))))
    const { near, far } = world.pair
    await world.say(PING.subarray(0, 12))
    far.pause()
    for (const [asked, owner] of world.owners.entries()) {
      owner.answer(204)
      if (asked === 1000) await world.settle()
    }
    await world.settle()
    assert.equal(near.paused, true)
    await world.say(PING.subarray(12))
    await world.wait(15_000)
    assert.deepEqual([near.paused, near.destroyed], [true, false])
    // It reads again, and the next tick comes before what it had sent does.
    far.resume()
    while (near.deliver() > 0) { /* all of it */ }
    assert.equal(near.paused, false)
    await world.wait(1000)
    assert.deepEqual([world.goAwayCode, world.words.at(-1)], [-1, 'ping ack'])
  })

  it('frames behind GOAWAY are not read', async () => {
    const world = await H2World.open()
    await world.say(world.data(1, 'x'), world.head(3), PING)
    assert.equal(world.owners.length, 0)
    assert.deepEqual(world.words, [`goaway 0 ${ProtocolError}`])
  })
})
