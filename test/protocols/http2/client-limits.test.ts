/**
 * What an origin may send in HTTP/2 without end, and what only looks like it: each flood ends the connection, exchanges fail once,
 * and traffic of a busy origin passes no limit. And requests to switch, which wait until the origin has said whether it takes any.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BODY_UNKNOWN } from '../../../src/protocols/http-session.ts'
import { ErrorCode, Flag, frame, FrameType, type Fields } from './server-world.ts'
import { goAway, reset, setting, windowUpdate, World } from './client-world.ts'

const { EnhanceYourCalm, FlowControlError } = ErrorCode
const PING = frame(FrameType.Ping, 0, 0, '0011223344556677')

describe('http2 origin: floods', () => {
  const many = (bytes: Buffer): Buffer[] => Array.from({ length: 100 }, () => bytes)
  const FLOODS: Readonly<Record<string, (world: World) => Buffer[]>> = {
    'PING': () => many(PING),
    'answers to no PING': () => many(frame(FrameType.Ping, Flag.Ack, 0, '0011223344556677')),
    'SETTINGS': () => many(frame(FrameType.Settings, 0, 0)),
    'acknowledgements of no SETTINGS': () => many(frame(FrameType.Settings, Flag.Ack, 0)),
    'PRIORITY': () => many(frame(FrameType.Priority, 0, 1, '0000000310')),
    'unknown frames': () => many(frame(0x0c, 0, 0)),
    'empty DATA': () => many(frame(FrameType.Data, 0, 1)),
    'DATA of padding alone': () => many(frame(FrameType.Data, Flag.Padded, 1, Buffer.from([20, ...Buffer.alloc(20)]))),
    'GOAWAY': () => many(goAway(0x7fff_ffff)),
    'RST_STREAM of streams that are over': () => many(reset(3, 8)),
    'HEADERS of streams that are over': world => Array.from({ length: 100 }, () => world.head(3)),
    'WINDOW_UPDATE of streams that are over': () => many(windowUpdate(3, 1)),
  }
  for (const [what, frames] of Object.entries(FLOODS)) {
    it(`${what} without end: the connection ends, and what waits on it fails once`, async () => {
      const world = await World.open(), asked = world.ask(), over = world.ask()
      await world.say(world.head(1), world.head(3, [[':status', '204']], Flag.EndStream))
      assert.equal(over.ended, true)
      for (let round = 0; round < 30 && !world.pair.near.destroyed; round++) await world.say(...frames(world))
      assert.equal(world.words.at(-1), `goaway 0 ${EnhanceYourCalm}`)
      assert.deepEqual([asked.faults.length, asked.faults[0]?.kind, over.faults.length], [1, 'BAD_FRAMING', 0])
      assert.deepEqual([world.connection.active, world.ticker.size, heldBytes.now], [0, 0, 0])
    })
  }

  it('DATA behind RST_STREAM: what its window had room for may come, and no more', async () => {
    const world = await World.open({ h2StreamWindowBytes: 65_535 }), asked = world.ask(), other = world.ask()
    await world.say(world.head(1), world.data(1, 'x'.repeat(100)))
    asked.session.abort()
    for (let sent = 0; sent < 4; sent++) await world.say(world.data(1, 'x'.repeat(16_000)))
    assert.equal(other.faults.length, 0)
    await world.say(world.data(1, 'x'.repeat(2000)))
    assert.equal(world.words.at(-1), `goaway 0 ${FlowControlError}`)
    assert.equal(other.faults.length, 1)
  })

  it('an origin that asks and never reads', async () => {
    const world = await World.open({}, 1000), asked = world.ask({ method: 'POST', length: BODY_UNKNOWN })
    world.pair.far.pause()
    asked.session.writeBody(Buffer.alloc(60_000, 'x'), 0, 60_000, true)
    for (let round = 0; round < 30 && !world.pair.near.destroyed; round++) await world.say(...many(PING))
    assert.equal(asked.faults[0]?.kind, 'BAD_FRAMING')
    assert.equal(heldBytes.now, 0)
  })
})

describe('http2 origin: what a busy one sends is no flood', () => {
  it('each answer with an empty last frame, WINDOW_UPDATE that crossed the end, and RST_STREAM behind it', async () => {
    const world = await World.open()
    for (let at = 0; at < 3000; at++) {
      const id = at * 2 + 1, asked = world.ask()
      world.origin.send(Buffer.concat([
        world.head(id), world.data(id, 'x'), world.data(id, '', Flag.EndStream), windowUpdate(id, 10), reset(id, 0),
      ]))
      world.pair.settle()
      assert.equal(asked.ended, true)
    }
    assert.equal(world.connection.capacity, 100)
  })
})

describe('http2 origin: a request to switch before SETTINGS', () => {
  const SWITCH = {
    fields: [['Upgrade', 'websocket'], ['Sec-WebSocket-Key', 'abc'], ['Sec-WebSocket-Version', '13']] as Fields,
    more: { switchesTo: 'websocket' },
  }

  it('waits for them, and is what they allow; others do not wait', async () => {
    for (const takes of [true, false]) {
      const world = new World(), asked = world.ask(SWITCH)
      world.ask()
      await world.say()
      assert.deepEqual(world.takeWords().slice(2), ['head 1 trailers end'], 'the other one')
      await world.say(takes ? setting(8, 1) : frame(FrameType.Settings, 0, 0))
      assert.deepEqual(world.frames.heads.get(3)![0]![0], [':method', takes ? 'CONNECT' : 'GET'])
      assert.equal(world.words.includes('head 3 trailers end'), !takes, 'one that switches stays open')
      await world.say(world.head(3, [[':status', takes ? '200' : '426']], takes ? 0 : Flag.EndStream))
      assert.equal(asked.head?.status, takes ? 101 : 426)
    }
  })

  it('ends as if it had not been sent when the connection is lost, and in time when none come', async () => {
    const world = new World(), asked = world.ask(SWITCH)
    await world.say()
    world.origin.stream.destroy(true)
    await world.say()
    assert.equal(asked.retry, 'always')
    const silent = new World(), late = silent.ask({ ...SWITCH, limits: { firstByteTimeoutMs: 2000 } })
    await silent.wait(3000)
    assert.equal(late.faults[0]?.kind, 'FIRST_BYTE_TIMEOUT')
    await silent.say(setting(8, 1))
    assert.equal(silent.frames.heads.size, 0)
  })
})
