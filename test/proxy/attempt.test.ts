/** What holds for one attempt whoever owns it; exchange-model.test.ts drives attempts as exchanges do. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { FieldLines } from '../../src/http/field-lines.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead, type ResponseHead } from '../../src/http/message-head.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { beginReadTurn, readTurn } from '../../src/primitives/read-turn.ts'
import { Attempt, type AttemptOwner } from '../../src/proxy/attempt.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../support/memory-stream.ts'

/** Writes down what an attempt tells. */
class Owner implements AttemptOwner {
  readonly heard: string[] = []
  onAttemptConnected(): void { this.heard.push('connected') }
  onAttemptUnconnected(error: ProxyError): void { this.heard.push(`unconnected ${error.kind}`) }
  onInterim(head: ResponseHead): void { this.heard.push(`interim ${head.status}`) }
  onResponseHead(head: ResponseHead): void { this.heard.push(`head ${head.status}`) }
  onResponseBody(buffer: Buffer, from: number, to: number): void { this.heard.push(`body ${buffer.latin1Slice(from, to)}`) }
  onResponseEnd(): void { this.heard.push('end') }
  onUpstreamDrained(): void { this.heard.push('drained') }
  onUpstreamFault(error: ProxyError): void { this.heard.push(`fault ${error.kind}`) }
}

class Bench {
  readonly clock = new FakeClock()
  readonly failedHooks: string[] = []
  readonly verdicts: string[] = []
  readonly origins: { readonly pair: MemoryPair; readonly end: WireEnd }[] = []
  readonly owner = new Owner()
  readonly connector: HttpConnector
  /** The next dial fails, with this. */
  refuses = false
  refusal = new ProxyError('CONNECT_REFUSED', 'upstream', 'planned', { retry: 'always' })

  constructor() {
    this.connector = new HttpConnector({
      ticker: new Ticker(this.clock),
      transport: {
        dial: (_peer, waiter) => {
          process.nextTick(() => {
            if (this.refuses) {
              waiter.onDialFailed(this.refusal)
              return
            }
            const pair = new MemoryPair()
            this.origins.push({ pair, end: new WireEnd(pair.far) })
            waiter.onDialed(pair.near, null)
          })
          return { cancel() {} }
        },
      },
    })
  }

  begin(timed = false): Attempt {
    const { verdicts } = this
    const backend = {
      peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 } as const, name: '10.0.0.1:80',
      report(healthy: boolean) { verdicts.push(healthy ? 'healthy' : 'failed') },
      release() { verdicts.push('released') },
    }
    const { connector, clock } = this, hookFailed = (hook: string): void => { this.failedHooks.push(hook) }
    return new Attempt({ connector, clock, timed, counting: null, judgesPeers: true, hookFailed }, new HttpPeer(backend), this.owner)
  }

  async send(attempt: Attempt, atOnce = false): Promise<WireEnd> {
    if (!attempt.connect()) await new Promise(setImmediate)
    attempt.send(RequestHead.build('GET', '/', HeaderMap.from({ Host: 'a' })), 0, FieldLines.NONE, '', false, atOnce)
    attempt.session!.endRequest(null)
    const { pair, end } = this.origins.at(-1)!
    pair.settle()
    return end
  }

  say(text: string): void {
    const { pair, end } = this.origins.at(-1)!
    end.send(text)
    pair.settle()
  }

  get idle(): number { return this.connector.stats().reduce((sum, { idle }) => sum + idle, 0) }
}

test('attempt: passed to another owner within the answer it goes on without the first one, to its end and into the pool', async () => {
  const bench = new Bench(), attempt = bench.begin(), second = new Owner()
  await bench.send(attempt)
  bench.say('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc')
  // What an exchange does whose client is gone while a cache fills: it lets go, and drops nothing.
  attempt.passTo(second)
  bench.say('def')
  assert.deepEqual(bench.owner.heard, ['connected', 'head 200', 'body abc'])
  assert.deepEqual(second.heard, ['body def', 'end'])
  attempt.finish(true, false)
  assert.deepEqual([bench.verdicts, bench.idle], [['healthy'], 1])
  assert.equal(bench.begin().connect(), true)
})

test('attempt: what happens within one read has one time, unless code of the application had its turn in between', async () => {
  // Each look at this clock is a millisecond later than the one before.
  const bench = new Bench()
  let now = 0
  bench.clock.exact = () => ++now
  const timesOf = async (atOnce: boolean, endsInFirstRead: boolean): Promise<number[]> => {
    now = 0
    const attempt = bench.begin(true)
    await bench.send(attempt, atOnce)
    now = 10
    beginReadTurn()
    bench.say('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc')
    if (!endsInFirstRead) beginReadTurn()
    attempt.finish(true, atOnce)
    readTurn.number = 0
    const { connectedAt, sentAt, firstByteAt, endedAt } = attempt
    return [sentAt - connectedAt, firstByteAt - 10, endedAt - firstByteAt]
  }
  // The first one dials.
  await timesOf(true, true)
  assert.deepEqual(await timesOf(true, true), [0, 1, 0])
  assert.deepEqual(await timesOf(true, false), [0, 1, 1])
  assert.deepEqual(await timesOf(false, true), [1, 1, 1])
})

test('attempt: the second owner may still drop it, and hears of a fault in the place of the first', async () => {
  const dropped = new Bench(), attempt = dropped.begin()
  await dropped.send(attempt)
  dropped.say('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc')
  attempt.passTo(new Owner())
  attempt.drop()
  attempt.settle(null)
  assert.deepEqual([dropped.verdicts, dropped.idle, dropped.origins[0]!.pair.near.destroyed], [['released'], 0, true])

  const broken = new Bench(), other = broken.begin(), second = new Owner()
  await broken.send(other)
  broken.say('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc')
  other.passTo(second)
  broken.origins[0]!.pair.far.destroy(true)
  broken.origins[0]!.pair.settle()
  assert.deepEqual(second.heard, ['fault CONNECTION_RESET'])
  assert.deepEqual([broken.owner.heard.at(-1), broken.verdicts, broken.idle], ['body abc', ['failed'], 0])
})

test('attempt: the peer has exactly one verdict, whatever the owner does afterwards', async () => {
  const bench = new Bench(), attempt = bench.begin()
  bench.refuses = true
  assert.equal(attempt.connect(), false)
  await new Promise(setImmediate)
  assert.deepEqual(bench.owner.heard, ['unconnected CONNECT_REFUSED'])
  attempt.settle(null)
  attempt.finish(true, false)
  attempt.drop()
  assert.deepEqual([bench.verdicts, attempt.failed], [['failed'], true])
})

test('attempt: a fault of this machine is not held against the peer', async () => {
  for (const kind of ['LOCAL_EXHAUSTED', 'BIND_FAILED', 'RESOLVE_FAILED'] as const) {
    const bench = new Bench()
    bench.refuses = true
    bench.refusal = new ProxyError(kind, 'internal', 'planned', { retry: 'always' })
    const attempt = bench.begin()
    attempt.connect()
    await new Promise(setImmediate)
    assert.deepEqual([bench.owner.heard, bench.verdicts, attempt.failed], [[`unconnected ${kind}`], ['released'], false])
  }
})

test('attempt: one that ends before its connection is there gives it to no one', async () => {
  const bench = new Bench(), attempt = bench.begin()
  attempt.connect()
  attempt.drop()
  await new Promise(setImmediate)
  attempt.finish(false, false)
  assert.deepEqual([bench.owner.heard, bench.verdicts, bench.connector.stats()], [[], ['released'], []])
})

test('attempt: an origin that ends the connection before it was asked is not blamed, and one that speaks is', async () => {
  const left = new Bench(), attempt = left.begin()
  attempt.connect()
  await new Promise(setImmediate)
  left.origins[0]!.pair.far.end()
  left.origins[0]!.pair.settle()
  assert.deepEqual([left.owner.heard, left.verdicts], [['connected', 'fault CLOSED_EARLY'], ['released']])

  const spoke = new Bench(), other = spoke.begin()
  other.connect()
  await new Promise(setImmediate)
  spoke.say('HTTP/1.1 200 OK\r\n\r\n')
  assert.deepEqual([spoke.owner.heard, spoke.verdicts], [['connected', 'fault UNEXPECTED_BYTES'], ['failed']])
})
