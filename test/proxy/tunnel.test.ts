/** Which end a tunnel gets: of a WebSocket (its choreography: websocket-close.test.ts), or of bytes that are not known. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeFrame, GOING_AWAY } from '../../src/protocols/websocket/frames.ts'
import { Tunnel } from '../../src/proxy/tunnel.ts'
import { RelayWorld, type WorldOptions } from '../support/relay-world.ts'

/** The longest that a polite end may take, and a tick. */
const END_MS = 5000 + 2000 + 2000 + 100

/** An empty text message of a client, and of a server. */
const MESSAGE_UP = Buffer.from('818000000000', 'hex')
const MESSAGE_DOWN = Buffer.from('8100', 'hex')

interface Options extends WorldOptions {
  readonly webSocket: boolean
  readonly idleTimeoutMs?: number
  readonly earlyOfClient?: string
  readonly earlyOfOrigin?: string
  /** Its FIN came before the tunnel did. */
  readonly clientEnded?: boolean
}

class World extends RelayWorld {
  readonly tunnel: Tunnel

  constructor(options: Options) {
    super(options)
    const client = { stream: this.clientPair.near, early: bytesOf(options.earlyOfClient), ended: options.clientEnded ?? false }
    const origin = { stream: this.originPair.near, early: bytesOf(options.earlyOfOrigin), ended: false }
    const { webSocket, idleTimeoutMs = 0 } = options
    this.tunnel = new Tunnel(client, origin, this, this.ticker, { webSocket, idleTimeoutMs })
  }
}

function bytesOf(text: string | undefined): Buffer | null { return text === undefined ? null : Buffer.from(text, 'latin1') }

/** What a client reads of a Close of ours. */
function closeWith(reason: string): string { return closeFrame(GOING_AWAY, reason, null).toString('latin1') }

test('tunnel: the idle limit closes a WebSocket with 1001, and not one in which something moves', () => {
  const world = new World({ webSocket: true, idleTimeoutMs: 1000 })
  for (let round = 0; round < 5; round++) {
    world.pass(900)
    if (round % 2 === 0) world.client.send(MESSAGE_UP)
    else world.origin.send(MESSAGE_DOWN)
    world.settle()
  }
  assert.equal(world.tunnel.closing, false)
  world.pass(1200)
  assert.equal(world.tunnel.closing, true)
  assert.equal(world.client.text, MESSAGE_DOWN.toString('latin1').repeat(2) + closeWith('idle'))
  assert.equal(world.origin.received[MESSAGE_UP.length * 3], 0x88)
  world.pass(END_MS)
  world.assertOver()
})

test('tunnel: the idle limit closes one that is no WebSocket with FIN both ways', () => {
  const world = new World({ webSocket: false, idleTimeoutMs: 1000 })
  world.pass(1100)
  assert.deepEqual([world.tunnel.closing, world.client.ended, world.origin.ended], [true, true, true])
  assert.deepEqual([world.client.text, world.origin.text], ['', ''])
  world.pass(END_MS)
  assert.equal(world.outcome!.error, null)
  world.assertOver()
})

test('tunnel: one that is no WebSocket ends with FIN both ways and is cut 2 s later', () => {
  const world = new World({ webSocket: false })
  world.origin.send('down')
  world.settle()
  world.tunnel.close()
  world.settle()
  assert.deepEqual([world.client.text, world.client.ended, world.origin.text, world.origin.ended], ['down', true, '', true])
  // Bytes of a side that has not noticed yet do no harm.
  world.origin.send('more')
  world.client.send('more')
  world.pass(1900)
  assert.deepEqual([world.client.text, world.outcome], ['down', null])
  world.pass(200)
  assert.deepEqual([world.client.closed, world.origin.closed, world.outcome!.error], [true, true, null])
  world.assertOver()
})

test('tunnel: bytes that either side sent ahead go first', () => {
  for (const webSocket of [true, false]) {
    const world = new World({ webSocket, earlyOfClient: 'early up, ', earlyOfOrigin: 'early down, ' })
    world.client.send('up')
    world.origin.send('down')
    world.settle()
    assert.deepEqual([world.origin.text, world.client.text], ['early up, up', 'early down, down'])
    world.tunnel.destroy()
    world.settle()
    assert.deepEqual(world.outcome, { fromClient: 12, fromOrigin: 16, error: null })
    world.assertOver()
  }
})

test('tunnel: the reason of a close goes to a WebSocket, and a second close changes nothing', () => {
  const world = new World({ webSocket: true })
  world.tunnel.close('moved')
  world.tunnel.close('again')
  world.settle()
  assert.equal(world.client.text, closeWith('moved'))
  world.pass(END_MS)
  world.assertOver()
})

test('tunnel: destroy cuts both sides with a reset, also within a polite close', () => {
  for (const webSocket of [true, false]) {
    for (const closes of [true, false]) {
      const world = new World({ webSocket })
      if (closes) world.tunnel.close()
      world.settle()
      world.tunnel.destroy()
      world.settle()
      assert.notEqual(world.client.error, null)
      assert.notEqual(world.origin.error, null)
      world.assertOver()
      // The owner of a drain may come late.
      world.tunnel.close()
      world.tunnel.destroy()
      world.assertOver()
    }
  }
})

test('tunnel: a side that breaks breaks the other one, and its error is told', () => {
  for (const webSocket of [true, false]) {
    const world = new World({ webSocket })
    world.client.stream.destroy(true)
    world.settle()
    assert.notEqual(world.origin.error, null)
    assert.match(world.outcome!.error!.message, /ECONNRESET/)
    world.assertOver()
  }
})

test('tunnel: a FIN that came before the tunnel is passed on behind what came before it', () => {
  for (const webSocket of [true, false]) {
    const world = new World({ webSocket, earlyOfClient: MESSAGE_UP.toString('latin1'), clientEnded: true })
    world.settle()
    assert.deepEqual([world.origin.text, world.origin.ended], [MESSAGE_UP.toString('latin1'), true])
    assert.equal(world.client.ended, false)
    world.origin.stream.end()
    world.settle()
    assert.equal(world.client.ended, true)
    world.assertOver()
  }
})
