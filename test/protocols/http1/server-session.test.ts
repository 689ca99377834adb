/**
 * The life of a client's connection around its requests: deadlines, rates, lingering close, back-pressure. Time and
 * delivery are in the test's hand.
 */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { ResponseHead } from '../../../src/http/message-head.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BUFFER_RESERVE } from '../../../src/protocols/byte-stream.ts'
import { HTTP1_SERVER_DEFAULTS, type Http1ServerOptions } from '../../../src/protocols/http1/http1-options.ts'
import type { AcceptingListener, ConnectionHost, RequestOwner } from '../../../src/protocols/http-connection.ts'
import { Http1ServerSession } from '../../../src/protocols/http1/server-session.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'
import { FieldLines } from '../../../src/http/field-lines.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const upload = (length: number): string => `POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: ${length}\r\n\r\n`

/** A connection whose application is the test. */
class Connection implements ConnectionHost, RequestOwner, AcceptingListener {
  draining = false
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly pair: MemoryPair
  readonly client: WireEnd
  readonly session: Http1ServerSession
  requests = 0
  ends = 0
  drained = 0
  halfClosed = 0
  body = ''
  faults: ProxyError[] = []
  refusals: ProxyError[] = []
  closed = 0
  /** As the listener was told last. */
  standing: 'idle' | 'unfinished' | 'active' = 'idle'

  constructor(options: Http1ServerOptions = {}, kernelBytes = Infinity) {
    this.pair = new MemoryPair({ kernelBytes })
    this.client = new WireEnd(this.pair.far)
    this.session = new Http1ServerSession(this.pair.near, 'test', { ...HTTP1_SERVER_DEFAULTS, ...options }, this, this.ticker)
    this.session.acceptedBy = this
    this.session.inList = this
    this.pair.near.owner = this.session
  }

  onRequest(): this {
    this.requests++
    return this
  }
  begin(): void {}
  onRefused(_connection: unknown, error: ProxyError): void { this.refusals.push(error) }
  onIdle(): void { this.#stands('idle') }
  onUnfinished(): void { this.#stands('unfinished') }
  onActive(): void { this.#stands('active') }
  #stands(standing: 'idle' | 'unfinished' | 'active'): void {
    this.standing = standing
    this.session.inList = standing === 'active' ? null : this
  }
  get idle(): boolean { return this.standing === 'idle' }
  replace(): void { throw new Error('nothing takes its place') }
  onClosed(): void { this.closed++ }
  onRequestBody(buffer: Buffer, from: number, to: number): void { this.body += buffer.latin1Slice(from, to) }
  onRequestEnd(): void { this.ends++ }
  onDownstreamDrained(): void { this.drained++ }
  onDownstreamHalfClosed(): void { this.halfClosed++ }
  onDownstreamFault(error: ProxyError): void {
    this.faults.push(error)
    this.session.abort()
    this.session.release()
  }

  /** The client says this, and it arrives. */
  say(bytes: string): this {
    this.client.send(bytes)
    this.pair.settle()
    return this.#settled()
  }

  /** Whenever nothing is under way, the listener knows exactly whether the connection is idle. */
  #settled(): this {
    if (this.closed === 0) assert.equal(this.idle, this.session.idle, 'the listener takes the connection for something else')
    return this
  }

  answer(body = ''): this {
    this.session.writeHead(ResponseHead.build(200), body.length, FieldLines.NONE)
    this.session.writeBody(Buffer.from(body), 0, body.length, true)
    this.session.endResponse(null)
    this.session.release()
    this.pair.settle()
    return this.#settled()
  }

  /** Time passes, in small steps, and everything that it causes is delivered. */
  wait(ms: number): this {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.advance(Math.min(left, 100))
      this.pair.settle()
    }
    return this.#settled()
  }

  get answers(): string[] { return [...this.client.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(match => match[1]!) }
}

describe('http1 server session: deadlines', () => {
  it('a head has headTimeoutMs from the moment of accepting, whatever comes meanwhile', () => {
    const connection = new Connection({ headTimeoutMs: 1000 }).wait(600)
    connection.say('GET / HT').wait(300).say('TP/1.1\r\n')
    assert.deepEqual(connection.answers, [])
    assert.deepEqual(connection.wait(300).answers, ['408'])
    assert.equal(connection.client.ended, true)
    assert.equal(connection.refusals[0]?.limit, 'head-timeout')
  })

  it('a later head has headTimeoutMs from its first byte', () => {
    const connection = new Connection({ headTimeoutMs: 1000, keepAliveTimeoutMs: 5000 }).say(GET).answer().wait(3000)
    connection.say('GET').wait(800)
    assert.deepEqual(connection.answers, ['200'])
    assert.deepEqual(connection.wait(400).answers, ['200', '408'])
  })

  it('a connection on which nothing comes ends in silence', () => {
    const connection = new Connection({ headTimeoutMs: 1000 }).wait(1200)
    assert.equal(connection.client.text, '')
    assert.equal(connection.client.ended, true)
  })

  it('an idle connection gets a FIN after keepAliveTimeoutMs and is gone lingerIdleMs later', () => {
    const connection = new Connection({ keepAliveTimeoutMs: 1000, lingerIdleMs: 500 }).say(GET).answer().wait(900)
    assert.equal(connection.client.ended, false)
    connection.wait(300)
    assert.equal(connection.client.ended, true)
    assert.equal(connection.closed, 0)
    connection.wait(700)
    assert.equal(connection.closed, 1)
    assert.equal(connection.ticker.size, 0)
  })

  it('a body that pauses for longer than bodyIdleTimeoutMs is a fault; one that comes in time is not', () => {
    const connection = new Connection({ bodyIdleTimeoutMs: 1000, minBodyBytesPerSecond: 0 }).say(upload(100))
    connection.session.resumeRequest()
    for (let second = 0; second < 5; second++) connection.say('x').wait(900)
    assert.deepEqual(connection.faults, [])
    connection.wait(400)
    assert.deepEqual(connection.faults.map(({ status, limit }) => [status, limit]), [[408, 'body-idle-timeout']])
  })

  it('a body that its owner does not want to read yet is not late', () => {
    const connection = new Connection({ bodyIdleTimeoutMs: 1000 }).say(upload(100)).wait(30_000)
    assert.deepEqual(connection.faults, [])
  })

  it('the time before its owner wanted a body does not make it a slow one', () => {
    const connection = new Connection({ minBodyBytesPerSecond: 500 }).say(upload(100_000)).wait(60_000)
    connection.session.resumeRequest()
    connection.wait(1000).say('x'.repeat(1000)).wait(10_000)
    assert.deepEqual(connection.faults, [])
    connection.wait(10_000)
    assert.deepEqual(connection.faults.map(({ status, limit }) => [status, limit]), [[408, 'body-bytes-per-second']])
  })

  it('totalTimeoutMs is told once, and leaves time to answer it', () => {
    const connection = new Connection({ totalTimeoutMs: 1000 }), faults: ProxyError[] = []
    connection.onDownstreamFault = error => { faults.push(error) }
    connection.say(GET).wait(1200).wait(600)
    assert.deepEqual(faults.map(({ limit }) => limit), ['total-timeout'])
    assert.deepEqual(connection.answer().answers, ['200'])
  })

  it('a body that its owner pauses and resumes while it is told of it goes on', () => {
    const connection = new Connection()
    connection.onRequestBody = (buffer, from, to) => {
      connection.session.pauseRequest()
      connection.body += buffer.latin1Slice(from, to)
      connection.session.resumeRequest()
    }
    connection.begin = () => { connection.session.resumeRequest() }
    connection.say(upload(6) + 'abc').say('def')
    assert.deepEqual([connection.body, connection.ends], ['abcdef', 1])
  })

  it('a connection past maxConnectionAgeMs is told so with its next answer', () => {
    const connection = new Connection({ maxConnectionAgeMs: 10_000, keepAliveTimeoutMs: 60_000 }).say(GET).answer().wait(12_000)
    assert.doesNotMatch(connection.client.text, /Connection: close/)
    connection.say(GET).answer()
    assert.match(connection.client.text, /Connection: close/)
  })
})

describe('http1 server session: rates', () => {
  /** Sends `perSecond` bytes every second for so long. */
  function drip(connection: Connection, perSecond: number, seconds: number): void {
    for (let second = 0; second < seconds && connection.faults.length === 0; second++) connection.say('x'.repeat(perSecond)).wait(1000)
  }

  it('a body below minBodyBytesPerSecond is a fault after 20 s, not before', () => {
    const connection = new Connection({ minBodyBytesPerSecond: 500 }).say(upload(1_000_000))
    connection.session.resumeRequest()
    drip(connection, 400, 20)
    assert.deepEqual(connection.faults, [])
    drip(connection, 400, 2)
    assert.deepEqual(connection.faults.map(({ status, limit }) => [status, limit]), [[408, 'body-bytes-per-second']])
  })

  it('a body above it is not', () => {
    const connection = new Connection({ minBodyBytesPerSecond: 500 }).say(upload(1_000_000))
    connection.session.resumeRequest()
    drip(connection, 600, 60)
    assert.deepEqual(connection.faults, [])
  })

  it('once the answer has begun the body may be slow', () => {
    const connection = new Connection({ minBodyBytesPerSecond: 500 }).say(upload(1_000_000))
    connection.session.resumeRequest()
    connection.session.writeHead(ResponseHead.build(200), 5, FieldLines.NONE)
    drip(connection, 10, 40)
    assert.deepEqual(connection.faults, [])
  })

  /** An answer far larger than the kernel takes, with a client that reads so much a second. */
  function reader(options: Http1ServerOptions, perSecond: number, seconds: number): Connection {
    const connection = new Connection(options, 1000).say(GET)
    connection.session.writeHead(ResponseHead.build(200), 1_000_000, FieldLines.NONE)
    connection.session.writeBody(Buffer.alloc(1_000_000, 'x'), 0, 1_000_000, true)
    for (let second = 0; second < seconds && connection.faults.length === 0; second++) {
      if (perSecond > 0) connection.pair.near.deliver(perSecond)
      for (let tick = 0; tick < 10; tick++) connection.clock.advance(100)
      connection.pair.near.deliverEnd()
    }
    connection.pair.near.deliverEnd()
    connection.pair.far.deliverEnd()
    return connection
  }

  it('a client that takes no byte for sendTimeoutMs is cut with RST', () => {
    const connection = reader({ sendTimeoutMs: 5000, minSendBytesPerSecond: 0 }, 0, 10)
    assert.deepEqual(connection.faults.map(({ kind, limit }) => [kind, limit]), [['SLOW_READER', 'send-timeout']])
    assert.equal(connection.client.error?.message, 'read ECONNRESET')
  })

  it('a client that takes a few bytes now and then is cut by minSendBytesPerSecond', () => {
    const connection = reader({ sendTimeoutMs: 5000, minSendBytesPerSecond: 500 }, 100, 90)
    assert.deepEqual(connection.faults.map(({ kind, limit }) => [kind, limit]), [['SLOW_READER', 'send-bytes-per-second']])
  })

  it('a client that reads faster than that is served', () => {
    assert.deepEqual(reader({ sendTimeoutMs: 5000, minSendBytesPerSecond: 500 }, 700, 90).faults, [])
  })
})

describe('http1 server session: the end of a connection', () => {
  it('behind its last answer it sends FIN, reads what still comes, and closes when the client does', () => {
    const connection = new Connection({ maxRequestsPerConnection: 1 }).say(GET).answer('bye')
    assert.match(connection.client.text, /Connection: close\r\n\r\nbye$/)
    assert.equal(connection.client.ended, true)
    connection.say('GET /late HTTP/1.1\r\n\r\n')
    assert.equal(connection.requests, 1)
    assert.equal(connection.closed, 0)
    connection.client.stream.end()
    connection.pair.settle()
    assert.equal(connection.closed, 1)
    assert.equal(connection.client.error, null)
  })

  it('while it lingers it reads whatever comes, for as long as its times allow', () => {
    const connection = new Connection({ maxDiscardBytes: 1000, lingerIdleMs: 1000, lingerTotalMs: 4000 })
    connection.say(upload(1_000_000_000)).answer('refused')
    for (let ms = 0; ms < 3500; ms += 500) {
      connection.say('x'.repeat(1_000_000)).wait(500)
      assert.equal(connection.client.closed, false)
    }
    assert.match(connection.client.text, /refused$/)
    connection.say('x'.repeat(1_000_000)).wait(700)
    assert.equal(connection.pair.near.destroyed, true)
  })

  it('it lingers for lingerTotalMs at most, however often something comes', () => {
    const connection = new Connection({ maxRequestsPerConnection: 1, lingerIdleMs: 1000, lingerTotalMs: 3000 }).say(GET).answer()
    for (let times = 0; times < 5; times++) connection.say('x').wait(500)
    assert.equal(connection.closed, 0)
    for (let times = 0; times < 3; times++) if (connection.closed === 0) connection.say('x').wait(500)
    assert.equal(connection.closed, 1)
  })

  it('a small rest of a body is thrown away and the connection goes on', () => {
    const connection = new Connection({ maxDiscardBytes: 1000 }).say(upload(600) + 'x'.repeat(100)).answer('early')
    connection.say('x'.repeat(500) + GET)
    assert.equal(connection.requests, 2)
    assert.doesNotMatch(connection.client.text, /Connection: close/)
  })

  it('a large rest of a body ends it, and the answer says so', () => {
    const connection = new Connection({ maxDiscardBytes: 1000 }).say(upload(6000) + 'x'.repeat(100)).answer('early')
    assert.match(connection.client.text, /Connection: close\r\n\r\nearly$/)
    assert.equal(connection.client.ended, true)
    connection.say('x'.repeat(100))
    assert.equal(connection.requests, 1)
  })

  it('an answer that was begun and is given up ends in RST', () => {
    const connection = new Connection().say(GET)
    connection.session.writeHead(ResponseHead.build(200), 100, FieldLines.NONE)
    connection.session.writeBody(Buffer.from('half'), 0, 4, true)
    connection.pair.settle()
    connection.session.abort()
    connection.session.release()
    connection.pair.settle()
    assert.equal(connection.client.error?.message, 'read ECONNRESET')
    assert.equal(connection.closed, 1)
  })

  it('an answer that ends before its length is cut', () => {
    const connection = new Connection().say(GET)
    connection.session.writeHead(ResponseHead.build(200), 100, FieldLines.NONE)
    connection.session.writeBody(Buffer.from('half'), 0, 4, true)
    connection.session.endResponse(null)
    connection.session.release()
    connection.pair.settle()
    assert.equal(connection.client.error?.message, 'read ECONNRESET')
  })

  it('bytes beyond the length of an answer are not sent', () => {
    const connection = new Connection().say(GET)
    connection.session.writeHead(ResponseHead.build(200), 3, FieldLines.NONE)
    connection.session.writeBody(Buffer.from('hello'), 0, 5, true)
    connection.session.endResponse(null)
    connection.session.release()
    connection.pair.settle()
    assert.match(connection.client.text, /\r\n\r\nhel$/)
  })

  it('a client that leaves while it is answered is a fault with nobody to answer to', () => {
    const connection = new Connection().say(GET)
    connection.client.stream.destroy(true)
    connection.pair.settle()
    assert.deepEqual(connection.faults.map(({ kind, status }) => [kind, status]), [['CLIENT_GONE', 0]])
    assert.equal(connection.closed, 1)
  })
})

describe('http1 server session: one request at a time', () => {
  it('what a client sends ahead is kept once and no more is read until the answer', () => {
    const connection = new Connection().say(GET + GET)
    assert.equal(connection.requests, 1)
    connection.client.send('x'.repeat(1000))
    connection.pair.settle()
    assert.equal(connection.pair.far.undelivered, 1000, 'the second read was taken')
  })

  it('a body is read only while its owner wants it', () => {
    const connection = new Connection().say(upload(3000))
    connection.say('a'.repeat(1000)).say('b'.repeat(1000))
    assert.equal(connection.body, '')
    assert.ok(connection.pair.far.undelivered >= 1000, 'more than one read was taken')
    connection.session.resumeRequest()
    connection.pair.settle()
    assert.equal(connection.body, 'a'.repeat(1000) + 'b'.repeat(1000))
    connection.session.pauseRequest()
    connection.client.send('c'.repeat(1000))
    connection.pair.settle()
    assert.equal(connection.body.includes('c'), false)
    connection.session.resumeRequest()
    connection.pair.settle()
    assert.equal(connection.ends, 1)
    assert.equal(connection.body.length, 3000)
  })

  it('it is idle before its first request and between two, not with one or with a part of one', () => {
    const connection = new Connection()
    const seen = [connection.idle]
    connection.say('GET / HTTP/1.1\r\n')
    seen.push(connection.idle)
    connection.say('Host: a.example\r\n\r\n')
    seen.push(connection.idle)
    connection.answer()
    seen.push(connection.idle)
    connection.say(GET + GET)
    connection.answer()
    seen.push(connection.idle)
    connection.answer()
    seen.push(connection.idle)
    connection.session.closeIdle()
    seen.push(connection.idle)
    assert.deepEqual(seen, [true, false, false, true, false, true, false])
  })

  it('it may be cut with a part of a head, a rest of a body to throw away, or only its end to come; not while it is served', () => {
    const connection = new Connection({ maxDiscardBytes: 1000 })
    const seen = [connection.say('GET / HTTP/1.1\r\n').standing, connection.say('Host: a.example\r\n\r\n').standing]
    connection.answer()
    seen.push(connection.say(upload(6) + 'abc').standing)
    seen.push(connection.answer().standing)
    // The rest of that body, and in the same piece a request, which is served.
    seen.push(connection.say(`def${GET}`).standing)
    connection.answer()
    seen.push(connection.standing, connection.say('bad head\r\n\r\n').standing)
    assert.deepEqual(connection.answers, ['200', '200', '200', '400'])
    assert.deepEqual(seen, ['unfinished', 'active', 'active', 'unfinished', 'active', 'idle', 'unfinished'])
  })

  it('it may be cut once the client has its last answer, not before', () => {
    const connection = new Connection({}, 100)
    connection.say('GET / HTTP/1.0\r\nHost: a.example\r\n\r\n')
    connection.pair.far.pause()
    connection.session.writeHead(ResponseHead.build(200), 500, FieldLines.NONE)
    connection.session.writeBody(Buffer.alloc(500), 0, 500, true)
    connection.session.endResponse(null)
    connection.session.refuseReuse()
    connection.session.release()
    connection.pair.settle()
    const before = connection.standing
    connection.pair.far.resume()
    connection.pair.settle()
    assert.deepEqual([before, connection.standing], ['active', 'unfinished'])
  })

  it('told to drain, it lets the next answer say that it is the last', () => {
    const idle = new Connection().say(GET).answer()
    idle.session.drain()
    idle.say(GET).answer()
    assert.match(idle.client.text, /200 OK\r\n(?!Connection: close)[^]*200 OK\r\n[^]*Connection: close/)
    assert.equal(idle.client.ended, true)
    const begun = new Connection().say(GET)
    begun.session.writeHead(ResponseHead.build(200), 2, FieldLines.NONE)
    begun.session.drain()
    begun.session.writeBody(Buffer.from('ok'), 0, 2, true)
    begun.session.endResponse(null)
    begun.session.release()
    begun.pair.settle()
    assert.equal(begun.client.ended, false, 'the client was not told and may have sent its next request')
  })

  it('a draining host lets the answer say that it is the last', () => {
    const connection = new Connection().say(GET)
    connection.draining = true
    connection.answer()
    assert.match(connection.client.text, /Connection: close/)
    assert.equal(connection.client.ended, true)
  })
})

describe('http1 server session: pipelines', () => {
  const post = (body: string): string => upload(body.length) + body
  const chunked = (...pieces: string[]): string =>
    'POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n' +
    pieces.map(piece => `${piece.length.toString(16)}\r\n${piece}\r\n`).join('') + '0\r\nX-Trailer: 1\r\n\r\n'

  /** When an answer is given: as soon as it is asked for, in a microtask, or when the test says so. */
  type Moment = 'at once' | 'soon' | 'later'

  /** Answers every request behind its end, and does with the bytes of bodies all that it may. */
  class Pipeline extends Connection {
    readonly #moment: Moment
    readonly #wants: 'at once' | 'later'
    bodies: string[] = []
    /** A request waits for the test. */
    due = false

    constructor(moment: Moment, wants: 'at once' | 'later' = 'at once') {
      super()
      this.#moment = moment
      this.#wants = wants
    }

    override begin(): void {
      this.bodies.push('')
      if (this.session.requestEnded) this.#ask()
      else if (this.#wants === 'at once') this.session.resumeRequest()
    }

    override onRequestBody(buffer: Buffer, from: number, to: number): void {
      this.bodies[this.bodies.length - 1] += buffer.latin1Slice(from, to)
      buffer.fill('#', from - BUFFER_RESERVE, to + BUFFER_RESERVE)
    }

    override onRequestEnd(): void { this.#ask() }

    #ask(): void {
      if (this.#moment === 'at once') this.reply()
      else if (this.#moment === 'soon') queueMicrotask(() => this.reply())
      else this.due = true
    }

    reply(): void {
      this.due = false
      this.session.writeHead(ResponseHead.build(200), 0, FieldLines.NONE)
      this.session.endResponse(null)
      this.session.release()
    }

    /** One step of whoever is asked: wants the body, or answers. @returns whether there was one */
    step(): boolean {
      if (this.due) this.reply()
      else if (!this.session.requestEnded && this.#wants === 'later') this.session.resumeRequest()
      else return false
      return true
    }

    /** Until nothing moves any more. */
    async run(): Promise<this> {
      for (let still = 0; still < 3;) {
        const before = this.requests + this.pair.far.undelivered
        this.pair.settle()
        const stepped = this.step()
        await turn()
        still = stepped || this.requests + this.pair.far.undelivered !== before ? 0 : still + 1
      }
      return this
    }
  }

  /** Bytes copied by `Buffer.copy` from now on. */
  function countCopies(t: TestContext): () => number {
    const { copy } = Buffer.prototype
    let copied = 0
    t.mock.method(Buffer.prototype, 'copy', function (this: Buffer, ...args: Parameters<typeof copy>) {
      const bytes = copy.apply(this, args)
      copied += bytes
      return bytes
    })
    return () => copied
  }

  for (const moment of ['soon', 'later'] as const) {
    for (const wants of ['at once', 'later'] as const) {
      it(`what came ahead is copied once, whatever the depth: answers given ${moment}, bodies wanted ${wants}`, async t => {
        const four = GET + post('hello') + chunked('one', 'two') + GET, depth = 150
        const connection = new Pipeline(moment, wants)
        const copied = countCopies(t)
        connection.client.send(four.repeat(depth))
        await connection.run()
        assert.equal(connection.requests, 4 * depth)
        assert.deepEqual(connection.bodies, Array.from({ length: depth }, () => ['', 'hello', 'onetwo', '']).flat())
        // The test's stream copies what it delivers, answers too, and a body that a request follows has a buffer of its own.
        const sent = four.length * depth, most = 3 * sent + connection.client.received.length
        assert.ok(copied() <= most, `${copied()} bytes copied for ${sent}, at most ${most}`)
      })
    }
  }

  for (const moment of ['at once', 'soon', 'later'] as const) {
    it(`a pipeline is served whole and in order wherever reads cut it, with a FIN behind it: answers given ${moment}`, async () => {
      const bytes = GET + post('a'.repeat(50)) + chunked('bcd', 'ef', 'g'.repeat(30)) + GET + post('h')
      const bodies = ['', 'a'.repeat(50), `bcdef${'g'.repeat(30)}`, '', 'h']
      const before = heldBytes.now
      for (const wants of ['at once', 'later'] as const) {
        for (let cut = 0; cut <= bytes.length; cut++) {
          const connection = new Pipeline(moment, wants)
          connection.client.send(bytes)
          connection.client.stream.end()
          connection.client.stream.deliver(cut)
          await connection.run()
          assert.deepEqual(connection.bodies, bodies, `cut at ${cut}`)
          assert.deepEqual(connection.answers, bodies.map(() => '200'), `cut at ${cut}`)
          assert.deepEqual([connection.client.ended, connection.closed, connection.faults.length], [true, 1, 0], `cut at ${cut}`)
          assert.equal(heldBytes.now, before, `cut at ${cut}`)
        }
      }
    })
  }

  it('what stands behind a request to switch, at the end of a pipeline, goes to the tunnel', async () => {
    const connection = new Pipeline('later')
    const before = heldBytes.now
    const upgrade = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'
    connection.client.send(`${GET.repeat(30)}${upgrade}early bytes`)
    for (let request = 0; request < 30; request++) {
      connection.pair.settle()
      connection.reply()
      await turn()
    }
    assert.deepEqual([connection.requests, connection.session.wantsSwitch], [31, true])
    assert.equal(connection.session.detach().early?.toString(), 'early bytes')
    connection.session.release()
    assert.equal(heldBytes.now, before)
  })

  it('what is kept counts as held until its last request has begun', async () => {
    const before = heldBytes.now, connection = new Pipeline('later')
    connection.client.send(GET.repeat(3))
    connection.pair.settle()
    const held = [heldBytes.now - before]
    connection.reply()
    held.push(heldBytes.now - before)
    connection.reply()
    held.push(heldBytes.now - before)
    assert.deepEqual(held, [2 * GET.length + 2 * BUFFER_RESERVE, 2 * GET.length + 2 * BUFFER_RESERVE, 0])
  })

  for (const moment of ['at once', 'soon'] as const) {
    it(`others have their turn within a pipeline whose answers are given ${moment}`, async () => {
      const connection = new Pipeline(moment), depth = 500, atMost = 32
      connection.client.send(GET.repeat(depth))
      connection.pair.settle()
      const begun: number[] = []
      for (let seen = 0; seen < depth; seen = connection.requests) {
        await turn()
        begun.push(connection.requests - seen)
        assert.ok(connection.requests > seen, `it stopped at ${seen}`)
      }
      assert.ok(Math.max(...begun) <= atMost, `${Math.max(...begun)} requests in one turn`)
      await connection.run()
      assert.equal(connection.answers.length, depth)
      assert.equal(connection.session.idle, true)
    })
  }

  it('a pipeline that waits for its turn is not idle, and ends with its connection', async () => {
    const before = heldBytes.now, connection = new Pipeline('at once')
    connection.client.send(GET.repeat(200))
    connection.pair.settle()
    connection.session.closeIdle()
    assert.deepEqual([connection.session.idle, connection.client.ended], [false, false])
    const { requests } = connection
    connection.client.stream.destroy(true)
    connection.pair.settle()
    await turn()
    await turn()
    assert.deepEqual([connection.requests, connection.closed, heldBytes.now], [requests, 1, before])
  })

  it('a connection told to drain while its pipeline waits answers one more request and says that it is the last', async () => {
    const connection = new Pipeline('at once')
    connection.client.send(GET.repeat(200))
    connection.pair.settle()
    const { requests } = connection
    connection.session.drain()
    await connection.run()
    assert.equal(connection.requests, requests + 1)
    assert.match(connection.client.text, /Connection: close\r\n\r\n$/)
    assert.equal(connection.client.ended, true)
  })
})
