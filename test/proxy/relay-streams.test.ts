/** Raw bytes between two streams in memory, and a clock that stands still. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type DirectionWatcher, FAREWELL_MS, Flow, type RelayOwner, type RelaySide, StreamRelay } from '../../src/proxy/relay-streams.ts'
import type { MemoryPair, WireEnd } from '../support/memory-stream.ts'
import { RelayWorld, type WorldOptions } from '../support/relay-world.ts'

/** What a relay may hold of small pieces before it stops the side that they come from. */
const SMALL_PIECES_MAX = 16_384 + 4096

interface Options extends WorldOptions {
  readonly idleTimeoutMs?: number
  readonly earlyOfClient?: Buffer
  readonly earlyOfOrigin?: Buffer
  /** Runs before the relay starts. */
  readonly prepare?: (relay: StreamRelay) => void
}

class World extends RelayWorld implements RelayOwner {
  readonly relay: StreamRelay
  idleCalls = 0

  constructor(options: Options = {}) {
    super(options)
    const { idleTimeoutMs = 0, earlyOfClient = null, earlyOfOrigin = null } = options
    this.relay = new StreamRelay(this.clientPair.near, this.originPair.near, this, this.ticker, { idleTimeoutMs })
    options.prepare?.(this.relay)
    this.relay.start({ early: earlyOfClient, ended: false }, { early: earlyOfOrigin, ended: false })
  }

  onRelayIdle(): void { this.idleCalls++ }

  onRelayClosed(fromDownstream: number, fromUpstream: number, error: Error | null): void {
    this.onTunnelClosed(fromDownstream, fromUpstream, error)
  }

  /** The direction from the client, or from the origin. */
  way(up: boolean): Way {
    const [from, to] = up ? [this.clientPair, this.originPair] : [this.originPair, this.clientPair]
    return { from, to, sender: up ? this.client : this.origin, reader: up ? this.origin : this.client }
  }
}

interface Way { readonly from: MemoryPair; readonly to: MemoryPair; readonly sender: WireEnd; readonly reader: WireEnd }

/** The kernel takes this much towards the reader of one direction. */
function readerTakes(up: boolean, kernelBytes: number): WorldOptions {
  return up ? { originKernelBytes: kernelBytes } : { clientKernelBytes: kernelBytes }
}

/** Both directions, with names for messages. */
const WAYS = [['from the client', true], ['from the origin', false]] as const

/** Bytes that tell at every place whether something is missing, doubled or overwritten. */
function bodyOf(size: number, seed = 1): Buffer {
  const body = Buffer.allocUnsafe(size)
  for (let at = 0; at < size; at++) body[at] = (seed * 37 + at * 7 + (at >> 8)) & 0xff
  return body
}

test('relay-streams: bytes pass both ways and are counted each way', () => {
  const world = new World()
  world.client.send('up')
  world.origin.send('down, and more')
  world.settle()
  assert.deepEqual([world.origin.text, world.client.text], ['up', 'down, and more'])
  world.client.stream.end()
  world.origin.stream.end()
  world.settle()
  assert.deepEqual(world.outcome, { fromClient: 2, fromOrigin: 14, error: null })
  world.assertOver()
})

for (const [name, up] of WAYS) {
  test(`relay-streams: a FIN ${name} is passed on behind its bytes, and the other direction goes on`, () => {
    const world = new World(), { sender, reader } = world.way(up)
    sender.send('last words')
    sender.stream.end()
    world.settle()
    assert.deepEqual([reader.text, reader.ended, sender.ended], ['last words', true, false])
    for (let round = 0; round < 3; round++) {
      reader.send('answer ')
      world.pass(60_000)
    }
    assert.deepEqual([sender.text, sender.closed, world.outcome], ['answer answer answer ', false, null])
    reader.stream.end()
    world.settle()
    assert.deepEqual([sender.ended, sender.error, reader.error], [true, null, null])
    assert.deepEqual(world.outcome, { fromClient: up ? 10 : 21, fromOrigin: up ? 21 : 10, error: null })
    world.assertOver()
  })

  test(`relay-streams: a FIN ${name} waits for a reader that is slow`, () => {
    const world = new World(readerTakes(up, 1000)), { sender, reader } = world.way(up)
    const body = bodyOf(50_000)
    reader.stream.pause()
    sender.send(body)
    sender.stream.end()
    world.settle()
    assert.equal(reader.ended, false)
    reader.stream.resume()
    world.settle()
    assert.ok(reader.received.equals(body))
    assert.equal(reader.ended, true)
  })

  test(`relay-streams: a reset ${name} resets the other side, and is the error of the relay`, () => {
    const world = new World(), { sender, reader } = world.way(up)
    sender.send('half a mess')
    world.settle()
    sender.stream.destroy(true)
    world.settle()
    assert.match(reader.error!.message, /ECONNRESET/)
    assert.match(world.outcome!.error!.message, /ECONNRESET/)
    assert.equal(up ? world.outcome!.fromClient : world.outcome!.fromOrigin, 11)
    world.assertOver()
  })

  test(`relay-streams: bytes ${name} are left to be read when their sender has gone in order`, () => {
    const world = new World(readerTakes(up, 1000)), { sender, reader } = world.way(up)
    // Small enough not to stop its sender, whose FIN comes then.
    const body = bodyOf(4000)
    reader.stream.pause()
    sender.send(body)
    sender.stream.end()
    reader.stream.end()
    world.settle()
    assert.deepEqual([sender.closed, sender.error, reader.closed], [true, null, false])
    reader.stream.resume()
    world.settle()
    assert.ok(reader.received.equals(body))
    assert.deepEqual([reader.ended, reader.error, world.outcome!.error], [true, null, null])
    world.assertOver()
  })

  test(`relay-streams: a transfer ${name} to a reader that does not read holds one receive buffer`, () => {
    const world = new World(readerTakes(up, 100)), { from, to, sender, reader } = world.way(up)
    const body = bodyOf(400_000)
    to.far.pause()
    sender.send(body)
    for (let turn = 0; turn < 100; turn++) from.far.deliver(60_000)
    assert.equal(from.near.paused, true)
    assert.ok(to.near.bytesWritten <= 60_000, `took ${to.near.bytesWritten} bytes for a reader that reads none`)
    to.far.resume()
    // A little at a time: the source goes on only when all that it gave is gone.
    for (let turn = 0; reader.received.length < body.length && turn < 1_000_000; turn++) {
      to.near.deliver(1000)
      from.far.deliver(60_000)
      assert.ok(to.near.bytesWritten - reader.received.length <= 60_000 + 100)
    }
    assert.ok(reader.received.equals(body))
  })

  test(`relay-streams: small pieces ${name} to a reader that does not read stop at once, and all arrive when it does`, () => {
    const world = new World(readerTakes(up, 100)), { from, to, sender, reader } = world.way(up)
    const body = bodyOf(140_000)
    to.far.pause()
    sender.send(body)
    // All in one turn, in which nothing is flushed for the relay.
    while (from.far.deliver(14) > 0);
    assert.ok(to.near.bytesWritten <= SMALL_PIECES_MAX, `took ${to.near.bytesWritten} bytes for a reader that reads none`)
    assert.equal(from.near.paused, true)
    to.far.resume()
    world.settle()
    assert.ok(reader.received.equals(body))
  })

  test(`relay-streams: a side that says little (${name}) holds no buffer of its own`, () => {
    const world = new World(), { from, sender } = world.way(up)
    sender.send(bodyOf(10_000))
    world.settle()
    assert.equal(from.near.ownsBuffer, true)
    sender.send('small')
    world.settle()
    assert.equal(from.near.ownsBuffer, false)
  })

  test(`relay-streams: bytes sent ahead ${name} go first, are counted, and hold up what follows until they are taken`, () => {
    for (const size of [1, 4096, 4097, 100_000]) {
      const early = bodyOf(size, 2)
      const world = new World({ ...readerTakes(up, 1000), [up ? 'earlyOfClient' : 'earlyOfOrigin']: early })
      const { from, to, sender, reader } = world.way(up)
      assert.equal(from.near.paused, size > 4096)
      to.far.pause()
      sender.send('behind')
      from.settle()
      assert.equal(to.near.undelivered, size > 4096 ? size : size + 6)
      to.far.resume()
      world.settle()
      assert.ok(reader.received.equals(Buffer.concat([early, Buffer.from('behind')])))
      world.relay.destroy()
      world.settle()
      assert.equal(up ? world.outcome!.fromClient : world.outcome!.fromOrigin, size + 6)
      world.assertOver()
    }
  })

  test(`relay-streams: the idle limit counts from the last thing that moved (${name}), also when a slow reader took it`, () => {
    const world = new World({ idleTimeoutMs: 1000, ...readerTakes(up, 100) }), { to, sender } = world.way(up)
    for (let round = 0; round < 3; round++) {
      world.pass(900)
      sender.send('x')
      world.settle()
    }
    to.far.pause()
    sender.send(bodyOf(500))
    world.settle()
    // Looked at by the relay, so that the end of the queue will be told.
    sender.send(bodyOf(10))
    world.settle()
    world.pass(900)
    to.far.resume()
    world.settle()
    world.pass(900)
    assert.equal(world.idleCalls, 0)
    world.pass(300)
    assert.ok(world.idleCalls > 0)
    world.relay.destroy()
    world.settle()
    world.assertOver()
  })

  test(`relay-streams: a side that leaves after a polite close ends it at once, and its reset is no error (${name})`, () => {
    for (const reset of [false, true]) {
      const world = new World(), { sender, reader } = world.way(up)
      world.relay.close()
      world.settle()
      assert.deepEqual([sender.ended, reader.ended, world.outcome], [true, true, null])
      sender.stream.destroy(reset)
      world.settle()
      sender.stream.end()
      world.settle()
      assert.equal(world.outcome!.error, null)
      world.assertOver()
    }
  })
}

test('relay-streams: the owner is told of an idle relay at every tick until it ends it; 0 is no limit', () => {
  const world = new World({ idleTimeoutMs: 1000 }), patient = new World()
  world.pass(1000)
  assert.equal(world.idleCalls, 0)
  world.pass(100)
  assert.equal(world.idleCalls, 1)
  world.pass(100)
  assert.equal(world.idleCalls, 2)
  world.relay.close()
  world.pass(500)
  assert.equal(world.idleCalls, 2)
  patient.pass(10_000_000)
  assert.equal(patient.idleCalls, 0)
})

test('relay-streams: a polite close gives both sides FIN behind what they were given, counts nothing more, and cuts later', () => {
  const world = new World({ clientKernelBytes: 1000 }), body = bodyOf(20_000)
  world.clientPair.far.pause()
  world.origin.send(body)
  world.settle()
  world.relay.close()
  assert.equal(world.relay.closing, true)
  world.clientPair.far.resume()
  world.settle()
  assert.ok(world.client.received.equals(body))
  assert.deepEqual([world.client.ended, world.origin.ended], [true, true])
  world.client.send('late')
  world.origin.send('late')
  world.pass(1000)
  world.relay.close()
  world.pass(FAREWELL_MS - 1100)
  assert.deepEqual([world.client.received.length, world.origin.received.length, world.outcome], [20_000, 0, null])
  world.pass(200)
  assert.deepEqual(world.outcome, { fromClient: 0, fromOrigin: 20_000, error: null })
  assert.deepEqual([world.client.closed, world.origin.closed], [true, true])
  world.assertOver()
})

test('relay-streams: destroy resets both sides, and nothing happens to a relay that is over', () => {
  const world = new World()
  world.relay.destroy()
  world.settle()
  assert.match(world.client.error!.message, /ECONNRESET/)
  assert.match(world.origin.error!.message, /ECONNRESET/)
  assert.equal(world.outcome!.error, null)
  world.relay.close()
  world.relay.destroy()
  world.settle()
  world.assertOver()
})

/** Ends the direction behind the first full stop, and keeps what comes after it. */
class UntilFullStop implements DirectionWatcher {
  readonly side: RelaySide
  goesAlone = false
  behind = ''
  moves = 0

  constructor(side: RelaySide) {
    this.side = side
    side.watcher = this
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    let end = from
    if (this.side.flow === Flow.Passing) {
      const stop = buffer.subarray(from, to).indexOf('.')
      end = stop === -1 ? to : from + stop + 1
      this.side.pass(buffer, from, end)
      if (stop !== -1) this.side.stop('!')
    }
    this.behind += buffer.latin1Slice(end, to)
  }

  onMoved(): void { this.moves++ }
}

test('relay-streams: a watcher ends a direction at a place of its choice with last words, wherever the bytes are cut', () => {
  const text = 'one sentence. and what follows'
  for (let cut = 1; cut < text.length; cut++) {
    let watcher!: UntilFullStop
    const world = new World({ prepare: relay => { watcher = new UntilFullStop(relay.downstream) } })
    world.client.send(text.slice(0, cut))
    world.settle()
    world.client.send(text.slice(cut))
    world.client.stream.end()
    world.origin.send('unwatched.')
    world.settle()
    assert.deepEqual([world.origin.text, watcher.behind, world.client.text], ['one sentence.!', ' and what follows', 'unwatched.'])
    // The FIN behind the stopped direction is the watcher's to pass on.
    assert.deepEqual([watcher.moves, world.origin.ended, watcher.side.ended], [1, false, true])
    watcher.side.finish()
    world.settle()
    assert.equal(world.origin.ended, true)
    world.origin.stream.end()
    world.settle()
    assert.deepEqual(world.outcome, { fromClient: 13, fromOrigin: 10, error: null })
    world.assertOver()
  }
})

test('relay-streams: bytes sent ahead are shown to the watcher as well', () => {
  const world = new World({ earlyOfClient: Buffer.from('early. late'), prepare: relay => { new UntilFullStop(relay.downstream) } })
  world.settle()
  assert.equal(world.origin.text, 'early.!')
})

test('relay-streams: a side whose watcher lets it go alone takes nothing with it, any other one breaks the other', () => {
  for (const goesAlone of [true, false]) {
    let watcher!: UntilFullStop
    const world = new World({ prepare: relay => { watcher = new UntilFullStop(relay.downstream) } })
    watcher.goesAlone = goesAlone
    world.client.send('bye.')
    world.settle()
    world.client.stream.destroy(true)
    world.settle()
    assert.deepEqual([world.origin.closed, watcher.moves], [!goesAlone, goesAlone ? 1 : 0])
    world.origin.send('to nowhere')
    world.origin.stream.end()
    world.settle()
    watcher.side.finish()
    world.settle()
    assert.equal(world.origin.closed, true)
    if (goesAlone) assert.deepEqual([world.origin.text, world.origin.error], ['bye.!', null])
    assert.match(world.outcome!.error!.message, /ECONNRESET/)
    assert.deepEqual([world.outcome!.fromClient, world.outcome!.fromOrigin], [4, 0])
    world.assertOver()
  }
})

test('relay-streams: a side that is left alone is read to its end, also when the one that went had stopped it', () => {
  let watcher!: UntilFullStop
  const world = new World({ clientKernelBytes: 100, prepare: relay => { watcher = new UntilFullStop(relay.downstream) } })
  watcher.goesAlone = true
  world.clientPair.far.pause()
  world.origin.send(bodyOf(20_000))
  world.origin.send(bodyOf(20_000))
  world.originPair.far.deliver(20_000)
  assert.equal(world.originPair.near.paused, true)
  world.client.send('bye.')
  world.client.stream.end()
  world.origin.stream.end()
  world.settle()
  world.client.stream.destroy(true)
  world.settle()
  assert.deepEqual([watcher.side.other.ended, world.outcome], [true, null])
  watcher.side.finish()
  world.settle()
  assert.deepEqual([world.outcome!.fromOrigin, world.origin.error], [20_000, null])
  world.assertOver()
})

test('relay-streams: a side that breaks after it was dismissed is no error, and nothing is idle any more', () => {
  const world = new World({ idleTimeoutMs: 1000 })
  world.relay.dismiss()
  world.pass(5000)
  assert.deepEqual([world.idleCalls, world.relay.closing], [0, false])
  world.client.stream.destroy(true)
  world.settle()
  assert.equal(world.outcome!.error, null)
  world.assertOver()
})

const STEPS = ['up', 'down', 'upFlow', 'downFlow', 'read', 'endUp', 'endDown'] as const
interface ModelStep { readonly t: (typeof STEPS)[number]; readonly n: number }

/** A random history, with what was sent in it. */
class Model extends World {
  readonly up: Buffer[] = []
  readonly down: Buffer[] = []
  upEnded = false
  downEnded = false

  take({ t, n }: ModelStep, seed: number): void {
    switch (t) {
      case 'up':
        if (!this.upEnded) this.client.send(keep(this.up, bodyOf(n, seed)))
        break
      case 'down':
        if (!this.downEnded) this.origin.send(keep(this.down, bodyOf(n, seed)))
        break
      case 'upFlow':
        this.clientPair.far.deliver(n)
        break
      case 'downFlow':
        this.originPair.far.deliver(n)
        break
      case 'read':
        this.clientPair.near.deliver(n)
        this.originPair.near.deliver(n)
        break
      case 'endUp':
        this.upEnded = true
        this.client.stream.end()
        break
      case 'endDown':
        this.downEnded = true
        this.origin.stream.end()
        break
    }
  }
}

function keep(pieces: Buffer[], piece: Buffer): Buffer {
  pieces.push(piece)
  return piece
}

test('relay-streams: whatever is cut, delayed or read late, each side gets what the other one sent, in bounded memory', () => {
  const step: fc.Arbitrary<ModelStep> = fc.record({ t: fc.constantFrom(...STEPS), n: fc.constantFrom(1, 3, 700, 4096, 4097, 65_536) })
  const steps = fc.array(step, { maxLength: 60 }), kernelBytes = fc.constantFrom(Infinity, 50, 3000)
  const property = fc.property(steps, kernelBytes, kernelBytes, (history, clientKernelBytes, originKernelBytes) => {
    const world = new Model({ clientKernelBytes, originKernelBytes })
    for (const [index, one] of history.entries()) {
      world.take(one, index)
      for (const { near } of [world.clientPair, world.originPair]) {
        // One read, behind small pieces that were not flushed yet.
        const held = near.undelivered - near.inKernel
        assert.ok(held <= 65_536 + SMALL_PIECES_MAX, `${held} bytes held`)
      }
    }
    world.settle()
    const up = Buffer.concat(world.up), down = Buffer.concat(world.down)
    assert.ok(world.origin.received.equals(up))
    assert.ok(world.client.received.equals(down))
    assert.deepEqual([world.origin.ended, world.client.ended], [world.upEnded, world.downEnded])
    if (!world.upEnded) world.client.stream.end()
    if (!world.downEnded) world.origin.stream.end()
    world.settle()
    assert.deepEqual(world.outcome, { fromClient: up.length, fromOrigin: down.length, error: null })
    world.assertOver()
  })
  fc.assert(property, { numRuns: 500 })
})
