/**
 * Exchanges side by side on one connection, in a protocol of the tests' own on either side (support/mux): what exchange, pool,
 * relay and drain owe to a protocol that is not HTTP/1.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import type { ByteStream, StreamOwner } from '../../src/protocols/byte-stream.ts'
import { BODY_UNKNOWN } from '../../src/protocols/http-session.ts'
import type { Session } from '../../src/proxy/session.ts'
import type { MuxClientConnection } from '../support/mux/client.ts'
import { FIRST_STREAMS } from '../support/mux/frames.ts'
import { MuxWorld, type Call } from '../support/mux/mux-world.ts'

const DRAIN = { hardDrainMs: 20_000, idleDrainMs: 500, closeSpreadMs: 0, webSocketDrainMs: 3000, tunnelDrainMs: 3000 }

/** Calls `/0`, `/1` and so on, eight a client. */
function callsOf(world: MuxWorld, count: number): Call[] {
  const calls: Call[] = []
  let client = world.connect()
  for (let i = 0; i < count; i++) {
    if (client.capacity === 0) client = world.connect()
    calls.push(world.call(client, `/${i}`))
  }
  return calls
}

/** Reads a tunnel whole, and closes when the other side has. */
class TunnelEnd implements StreamOwner {
  readonly stream: ByteStream
  text = ''
  ended = false
  closed = false
  constructor(stream: ByteStream) {
    this.stream = stream
    stream.owner = this
    stream.resume()
  }
  onBytes(buffer: Buffer, from: number, to: number): void { this.text += buffer.latin1Slice(from, to) }
  onEnd(): void { this.ended = true }
  onDrained(): void {}
  onClosed(): void { this.closed = true }
}

function mostActive(world: MuxWorld): number { return Math.max(...world.origins.map(origin => origin.active)) }

test('multiplexed: a hundred cold requests to one peer share dials, and no connection takes more than it can', async () => {
  const world = new MuxWorld(), calls = callsOf(world, 100)
  await world.settle()
  assert.equal(world.dials, Math.ceil(100 / FIRST_STREAMS))
  assert.equal(world.arrivals.length, 100)
  assert.equal(mostActive(world), FIRST_STREAMS)
  for (const arrival of world.arrivals) arrival.answer(`answer to ${arrival.target}`)
  await world.settle()
  for (const [index, call] of calls.entries()) assert.equal(call.text, `answer to /${index}`)
  assert.equal(world.dials, 13, 'nothing was dialled besides')
  await world.end()
})

test('multiplexed: a request that waits for its place goes where another exchange has ended', async () => {
  const world = new MuxWorld({ peer: { maxConnectionsPerPeer: 1 } }), calls = callsOf(world, FIRST_STREAMS + 2)
  await world.settle()
  assert.equal(world.arrivals.length, FIRST_STREAMS, 'two of them wait')
  world.arrival('/3').answer('first')
  await world.settle()
  assert.equal(world.arrivals.length, FIRST_STREAMS + 1, 'one place, one request')
  assert.equal(world.arrival('/8').connection, world.origins[0])
  assert.equal(calls[3]!.text, 'first')
  world.arrival('/8').answer('second')
  await world.settle()
  world.arrival('/9').answer('third')
  await world.settle()
  assert.equal(calls[9]!.text, 'third')
  assert.equal(world.dials, 1)
  await world.end()
})

test('multiplexed: a request that waits goes where the client of another exchange has given up', async () => {
  const world = new MuxWorld({ peer: { maxConnectionsPerPeer: 1 } }), calls = callsOf(world, FIRST_STREAMS + 1)
  await world.settle()
  calls[5]!.session.abort()
  await world.settle()
  assert.equal(world.arrival('/5').fault?.kind, 'CLIENT_GONE')
  assert.equal(world.arrival('/8').connection, world.origins[0])
  world.arrival('/8').answer('taken')
  await world.settle()
  assert.equal(calls[8]!.text, 'taken')
  await world.end()
})

test('multiplexed: an origin that goes away finishes what it has, and gets nothing more', async () => {
  const world = new MuxWorld(), client = world.connect(), one = world.call(client, '/one'), two = world.call(client, '/two')
  await world.settle()
  world.origins[0]!.drain()
  await world.settle()
  const three = world.call(client, '/three')
  await world.settle()
  assert.equal(world.dials, 2)
  assert.equal(world.arrival('/three').connection, world.origins[1])
  world.arrival('/one').answer('1')
  world.arrival('/two').answer('2')
  world.arrival('/three').answer('3')
  await world.settle()
  assert.deepEqual([one.text, two.text, three.text], ['1', '2', '3'])
  assert.deepEqual(world.connector.stats().map(({ active, idle }) => ({ active, idle })), [{ active: 0, idle: 1 }])
  await world.end()
})

test('multiplexed: a request that crosses the going away of its origin is sent again, elsewhere, and only then', async () => {
  const world = new MuxWorld(), client = world.connect(), before = world.call(client, '/before')
  await world.settle()
  // It goes away while the request is on the way to it.
  const crossing = world.call(client, '/crossing', {}, BODY_UNKNOWN)
  crossing.write(Buffer.from('body'))
  crossing.end()
  world.origins[0]!.drain()
  await world.settle()
  const arrival = world.arrival('/crossing')
  assert.equal(world.arrivals.filter(({ target }) => target === '/crossing').length, 1, 'it was looked at once')
  assert.equal(arrival.connection, world.origins[1])
  assert.equal(arrival.text, 'body')
  arrival.answer('there')
  world.arrival('/before').answer('here')
  await world.settle()
  assert.deepEqual([before.text, crossing.text], ['here', 'there'])
  await world.end()
})

test('multiplexed: a request that the origin did not look at says nothing about the origin, and may go there again', async () => {
  const tried: number[] = []
  const hooks = { upstreamRequestFilter: ({ triedPeers }: Session) => { tried.push(triedPeers.length) } }
  const world = new MuxWorld({ hooks }), client = world.connect(), before = world.call(client, '/before')
  await world.settle()
  const crossing = world.call(client, '/crossing')
  world.origins[0]!.drain()
  await world.settle()
  world.arrival('/crossing').answer('there')
  world.arrival('/before').answer('here')
  await world.settle()
  assert.deepEqual([before.text, crossing.text], ['here', 'there'])
  assert.deepEqual(tried, [0, 0, 0])
  assert.deepEqual(world.verdicts.toSorted(), ['healthy', 'healthy', 'released'])
  await world.end()
})

test('multiplexed: a connection that is told to go while it rests in the pool is not used again', async () => {
  const world = new MuxWorld(), client = world.connect()
  world.call(client, '/one')
  await world.settle()
  world.arrival('/one').answer('1')
  await world.settle()
  assert.equal(world.connector.pool.idle, 1)
  world.origins[0]!.drain()
  await world.settle()
  assert.equal(world.connector.pool.idle, 0)
  assert.equal(world.connector.pool.counters.lostClosed, 1)
  const two = world.call(client, '/two')
  await world.settle()
  world.arrival('/two').answer('2')
  await world.settle()
  assert.equal(two.text, '2')
  await world.end()
})

test('multiplexed: the reset of one exchange leaves the others alone, on either side', async () => {
  const world = new MuxWorld(), client = world.connect(), calls = ['/a', '/b', '/c'].map(target => world.call(client, target))
  await world.settle()
  for (const { target } of calls.map((_, index) => world.arrivals[index]!)) world.arrival(target).startAnswer()
  world.arrival('/a').write(Buffer.from('part of a'))
  world.arrival('/b').write(Buffer.from('part of b'))
  await world.settle()
  world.arrival('/a').reset()
  calls[2]!.session.abort()
  await world.settle()
  assert.equal(calls[0]!.fault?.kind, 'CONNECTION_RESET')
  assert.equal(calls[0]!.ended, false, 'a cut answer is no whole one')
  assert.equal(world.arrival('/c').fault?.kind, 'CLIENT_GONE')
  world.arrival('/b').write(Buffer.from(', and the rest'))
  world.arrival('/b').endAnswer()
  await world.settle()
  assert.equal(calls[1]!.text, 'part of b, and the rest')
  assert.equal(world.dials, 1)
  assert.equal(world.connector.pool.idle, 1, 'the connection is as good as before')
  await world.end()
})

test('multiplexed: trailers go both ways', async () => {
  const world = new MuxWorld(), call = world.call(world.connect(), '/', {}, BODY_UNKNOWN)
  call.write(Buffer.from('question'))
  call.end({ 'x-sum': 'asked' })
  await world.settle()
  const arrival = world.arrival('/')
  assert.equal(arrival.text, 'question')
  assert.deepEqual([...arrival.trailers!], [['x-sum', 'asked']])
  arrival.answer('reply', { 'x-sum': 'answered', 'content-length': '3' })
  await world.settle()
  assert.equal(call.text, 'reply')
  assert.deepEqual([...call.trailers!], [['x-sum', 'answered']])
  await world.end()
})

test('multiplexed: a client that does not read one answer holds up that one alone', async () => {
  const world = new MuxWorld(), client = world.connect(), slow = world.call(client, '/slow'), quick = world.call(client, '/quick')
  slow.session.pauseResponse()
  await world.settle()
  const bytes = Buffer.alloc(200_000, 's')
  for (const target of ['/slow', '/quick']) {
    world.arrival(target).startAnswer()
    world.arrival(target).write(bytes)
    world.arrival(target).endAnswer()
  }
  await world.settle()
  assert.equal(quick.body.length, bytes.length)
  assert.equal(quick.ended, true)
  assert.equal(slow.body.length, 0)
  assert.ok(world.arrival('/slow').session.bytesQueued > 150_000, 'the origin keeps what nobody reads')
  slow.session.resumeResponse()
  await world.settle()
  assert.ok(slow.body.equals(bytes))
  assert.equal(slow.ended, true)
  await world.end()
})

test('multiplexed: an origin that does not read one request holds up that one alone', async () => {
  const world = new MuxWorld(), client = world.connect()
  const slow = world.call(client, '/slow', {}, BODY_UNKNOWN), quick = world.call(client, '/quick', {}, BODY_UNKNOWN)
  await world.settle()
  world.arrival('/slow').session.pauseRequest()
  const bytes = Buffer.alloc(200_000, 'q')
  for (const call of [slow, quick]) {
    call.write(bytes)
    call.end()
  }
  await world.settle()
  assert.ok(world.arrival('/quick').body.equals(bytes))
  assert.equal(world.arrival('/slow').body.length, 0)
  assert.ok(slow.session.bytesQueued > 150_000, 'the client keeps what nobody reads')
  world.arrival('/slow').session.resumeRequest()
  await world.settle()
  assert.ok(world.arrival('/slow').body.equals(bytes))
  await world.end()
})

test('multiplexed: peers with other limits share a connection, and each exchange has its own', async () => {
  const limits = { '/impatient': { firstByteTimeoutMs: 1000 }, '/short': { maxResponseHeadBytes: 1024 } }
  const world = new MuxWorld({ peer: { firstByteTimeoutMs: 60_000 }, limits }), client = world.connect()
  const impatient = world.call(client, '/impatient'), patient = world.call(client, '/patient'), short = world.call(client, '/short')
  const long = world.call(client, '/long')
  await world.settle()
  assert.equal(world.dials, 1)
  await world.pass(2000)
  assert.equal(impatient.status, 504)
  for (const target of ['/short', '/long']) {
    world.arrival(target).startAnswer(200, { 'x-long': 'x'.repeat(2000) })
    world.arrival(target).endAnswer()
  }
  world.arrival('/patient').answer('in time')
  await world.settle()
  assert.deepEqual([short.status, long.status], [502, 200])
  assert.equal(patient.text, 'in time')
  assert.deepEqual(world.errors.map(({ kind, limit }) => [kind, limit]), [
    ['FIRST_BYTE_TIMEOUT', 'first-byte-timeout'], ['HEAD_TOO_LARGE', 'response-head-bytes'],
  ])
  await world.end()
})

test('multiplexed: a tunnel inside of a stream passes bytes and ends while other exchanges go on', async () => {
  const world = new MuxWorld(), client = world.connect(), other = world.call(client, '/other')
  const upgrade = world.call(client, '/tunnel', { upgrade: 'model' })
  await world.settle()
  const arrival = world.arrival('/tunnel')
  assert.equal(arrival.session.wantsSwitch, true)
  assert.equal(arrival.session.request.headers.get('upgrade'), 'model')
  const originEnd = new TunnelEnd(arrival.switchTo('model').stream)
  await world.settle()
  assert.equal(upgrade.status, 101)
  const clientEnd = new TunnelEnd(upgrade.session.detach().stream)
  clientEnd.stream.writeText('from the client')
  originEnd.stream.writeText('from the origin')
  world.arrival('/other').startAnswer()
  world.arrival('/other').write(Buffer.from('beside '))
  await world.settle()
  assert.deepEqual([clientEnd.text, originEnd.text, other.text], ['from the origin', 'from the client', 'beside '])
  clientEnd.stream.end()
  await world.settle()
  assert.deepEqual([originEnd.ended, clientEnd.ended], [true, false], 'one direction has ended')
  originEnd.stream.writeText(', and more')
  originEnd.stream.end()
  await world.settle()
  arrival.session.release()
  assert.equal(clientEnd.text, 'from the origin, and more')
  assert.deepEqual([originEnd.closed, clientEnd.closed], [true, true])
  world.arrival('/other').write(Buffer.from('the tunnel'))
  world.arrival('/other').endAnswer()
  await world.settle()
  assert.equal(other.text, 'beside the tunnel')
  assert.equal(world.connector.pool.idle, 1)
  await world.end()
})

test('multiplexed: an upgrade that the origin declines is an ordinary answer', async () => {
  const world = new MuxWorld(), call = world.call(world.connect(), '/', { upgrade: 'model' })
  await world.settle()
  world.arrival('/').answer('not here')
  await world.settle()
  assert.deepEqual([call.status, call.text, call.ended], [200, 'not here', true])
  await world.end()
})

test('multiplexed: what exchanges send on one connection stays apart, byte by byte', async () => {
  const world = new MuxWorld(), client = world.connect(), names = [...'abcdefgh']
  const calls = names.map(name => world.call(client, `/${name}`, { 'x-name': name }, BODY_UNKNOWN))
  await world.settle()
  for (let round = 0; round < 5; round++) {
    for (const [index, name] of names.entries()) {
      calls[index]!.write(Buffer.alloc(3000 + index, name))
      await world.settle()
    }
  }
  for (const [index, name] of names.entries()) {
    calls[index]!.end({ 'x-name': name })
    await world.settle()
    const arrival = world.arrival(`/${name}`), sent = name.repeat(5 * (3000 + index))
    assert.equal(arrival.text, sent)
    assert.equal(arrival.session.request.headers.get('x-name'), name)
    assert.equal(arrival.trailers!.get('x-name'), name)
    arrival.startAnswer(200, { 'x-name': name })
    arrival.write(arrival.body)
  }
  await world.settle()
  for (const name of names.toReversed()) world.arrival(`/${name}`).endAnswer({ 'x-name': name })
  await world.settle()
  for (const [index, name] of names.entries()) {
    const call = calls[index]!
    assert.equal(call.text, name.repeat(5 * (3000 + index)))
    assert.deepEqual([call.head!.headers.get('x-name'), call.trailers!.get('x-name')], [name, name])
  }
  assert.equal(world.dials, 1)
  await world.end()
})

test('multiplexed: the last request that a connection may bring is served, and then the client is told to go', async () => {
  const world = new MuxWorld({ listener: { maxRequestsPerConnection: 2 } }), client = world.connect()
  const one = world.call(client, '/one'), two = world.call(client, '/two')
  await world.settle()
  assert.equal(client.capacity, 0)
  world.arrival('/one').answer('1')
  world.arrival('/two').answer('2')
  await world.settle()
  assert.deepEqual([one.text, two.text], ['1', '2'])
  assert.equal(client.stream.destroyed, true)
  await world.end()
})

async function isOver(drained: Promise<{ cut: number }>): Promise<{ cut: number } | null> {
  return Promise.race([drained, new Promise<null>(resolve => { setImmediate(() => resolve(null)) })])
}

/** A client with an exchange under way, and one that rests. */
async function busyAndIdle(world: MuxWorld): Promise<{ busy: MuxClientConnection; idle: MuxClientConnection; call: Call }> {
  const busy = world.connect(), idle = world.connect(), call = world.call(busy, '/busy')
  world.call(idle, '/done')
  await world.settle()
  world.arrival('/done').answer('done')
  await world.settle()
  return { busy, idle, call }
}

test('multiplexed: a service that retires tells its clients to go, and is done with the last answer under way', async () => {
  const world = new MuxWorld(), { busy, idle, call } = await busyAndIdle(world)
  const drained = world.service.drain({ mode: 'retire', ...DRAIN })
  await world.settle()
  assert.deepEqual([busy.capacity, idle.capacity], [0, 0])
  assert.equal(busy.stream.destroyed, false)
  await world.pass(5000)
  assert.equal(await isOver(drained), null, 'an exchange is under way')
  world.arrival('/busy').answer('late')
  await world.settle()
  assert.equal(call.text, 'late')
  await world.pass(200)
  assert.deepEqual(await isOver(drained), { cut: 0 })
  await world.end()
})

test('multiplexed: a connection of a service that retires may bring its first request still', async () => {
  const world = new MuxWorld(), client = world.connect()
  const drained = world.service.drain({ mode: 'retire', ...DRAIN })
  const call = world.call(client, '/first')
  await world.settle()
  assert.equal(client.capacity, 0, 'told with the first request')
  world.arrival('/first').answer('served')
  await world.settle()
  assert.equal(call.text, 'served')
  await world.pass(200)
  assert.deepEqual(await isOver(drained), { cut: 0 })
  await world.end()
})

test('multiplexed: a service that stops cuts the exchanges that outlast its time, and is done', async () => {
  const world = new MuxWorld(), client = world.connect(), silent = world.call(client, '/silent'), begun = world.call(client, '/begun')
  await world.settle()
  world.arrival('/begun').startAnswer()
  world.arrival('/begun').write(Buffer.from('part'))
  await world.settle()
  const drained = world.service.drain({ mode: 'stop', ...DRAIN, hardDrainMs: 3000 })
  await world.pass(2900)
  assert.equal(await isOver(drained), null)
  await world.pass(300)
  assert.deepEqual(await isOver(drained), { cut: 2 }, 'each exchange counts, not the connection that they shared')
  assert.deepEqual([silent.head?.status, silent.ended], [503, true], 'no answer was begun, so that ours is one')
  assert.deepEqual([begun.head?.status, begun.ended], [200, false], 'what was cut does not pass for whole')
  assert.deepEqual(kinds(world.errors), ['DRAINING', 'DRAINING'])
  await world.end()
})

test('multiplexed: when its service retires a tunnel inside of a stream has the time of tunnels, not of exchanges', async () => {
  const world = new MuxWorld(), client = world.connect(), upgrade = world.call(client, '/tunnel', { upgrade: 'model' })
  const beside = world.call(client, '/beside')
  await world.settle()
  const arrival = world.arrival('/tunnel'), originEnd = new TunnelEnd(arrival.switchTo('model').stream)
  await world.settle()
  const clientEnd = new TunnelEnd(upgrade.session.detach().stream)
  const drained = world.service.drain({ mode: 'retire', ...DRAIN })
  await world.pass(2900)
  assert.deepEqual([clientEnd.ended, originEnd.ended], [false, false])
  await world.pass(300)
  assert.deepEqual([clientEnd.ended, originEnd.ended], [true, true])
  clientEnd.stream.end()
  originEnd.stream.end()
  await world.settle()
  arrival.session.release()
  assert.equal(await isOver(drained), null, 'the other exchange goes on')
  world.arrival('/beside').answer('done')
  await world.pass(200)
  assert.equal(beside.text, 'done')
  assert.deepEqual(await isOver(drained), { cut: 1 })
  await world.end()
})

test('multiplexed: a tunnel that does not end when it is told to counts once among those that a stop cuts', async () => {
  const world = new MuxWorld(), client = world.connect(), upgrade = world.call(client, '/tunnel', { upgrade: 'model' })
  world.call(client, '/beside')
  await world.settle()
  world.arrival('/tunnel').switchTo('model')
  await world.settle()
  upgrade.session.detach()
  const drained = world.service.drain({ mode: 'stop', ...DRAIN, hardDrainMs: 3000 })
  for (let passed = 0; passed < 3500; passed += 100) await world.pass(100)
  assert.deepEqual(await isOver(drained), { cut: 2 })
  await world.end()
})

test('multiplexed: a client that takes nothing of one answer for too long loses that one alone', async () => {
  const world = new MuxWorld({ listener: { sendTimeoutMs: 1000 } }), client = world.connect()
  const stuck = world.call(client, '/stuck'), other = world.call(client, '/other')
  stuck.session.pauseResponse()
  await world.settle()
  world.arrival('/stuck').startAnswer()
  world.arrival('/stuck').write(Buffer.alloc(100_000))
  await world.settle()
  // The window of progress begins with the first look.
  for (let passed = 0; passed < 1500; passed += 100) await world.pass(100)
  assert.deepEqual(kinds(world.errors), ['SLOW_READER'])
  assert.equal(world.arrival('/stuck').fault?.kind, 'CLIENT_GONE', 'and the origin is told')
  world.arrival('/other').answer('read')
  await world.settle()
  assert.equal(other.text, 'read')
  await world.end()
})

test('multiplexed: a filter that fails for one exchange leaves the others of both connections alone', async () => {
  const hooks = {
    responseBodyFilter: ({ request }: Session, chunk: Buffer) => {
      if (request.target === '/bad') throw new Error('planned')
      return chunk
    },
  }
  const world = new MuxWorld({ hooks }), client = world.connect(), bad = world.call(client, '/bad'), good = world.call(client, '/good')
  await world.settle()
  for (const target of ['/bad', '/good']) {
    world.arrival(target).startAnswer()
    world.arrival(target).write(Buffer.from('body'))
  }
  await world.settle()
  assert.ok(bad.fault !== null)
  world.arrival('/good').endAnswer()
  await world.settle()
  assert.deepEqual([good.text, good.ended], ['body', true])
  assert.equal(world.connector.pool.idle, 1)
  await world.end()
})

function kinds(errors: readonly ProxyError[]): string[] { return errors.map(({ kind }) => kind) }
