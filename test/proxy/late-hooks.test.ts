/** Code of the application that gives no result, or fails where nobody waits for it: the exchange ends, and the log says whose it was. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { HttpProxyOptions } from '../../src/server/http-proxy-options.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const POST = 'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const TRAILED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Note: 1\r\n\r\n'
const TIMEOUT_MS = 60_000
const NEVER = new Promise<never>(() => {})
const never = (): Promise<never> => NEVER

interface Case {
  readonly hooks: Partial<ProxyHttp<undefined>>
  readonly request?: string
  readonly answer?: string
  /** The answer began: it can only be cut. */
  readonly cut?: boolean
}

const hook = (name: keyof ProxyHttp): Case => ({ hooks: { [name]: never } })
const ofModule = (name: keyof HttpModule): Case => ({ hooks: { modules: [{ name: 'm', [name]: never }] } })

const LATE: Readonly<Record<string, Case>> = {
  earlyRequestFilter: hook('earlyRequestFilter'),
  'requestFilter of module m': ofModule('requestFilter'),
  requestFilter: hook('requestFilter'),
  proxyUpstreamFilter: hook('proxyUpstreamFilter'),
  upstreamPeer: hook('upstreamPeer'),
  connectedToUpstream: hook('connectedToUpstream'),
  upstreamRequestFilter: hook('upstreamRequestFilter'),
  'upstreamRequestFilter of module m': ofModule('upstreamRequestFilter'),
  requestBodyFilter: { ...hook('requestBodyFilter'), request: POST },
  'requestBodyFilter of module m': { ...ofModule('requestBodyFilter'), request: POST },
  upstreamResponseFilter: { ...hook('upstreamResponseFilter'), answer: OK },
  responseFilter: { ...hook('responseFilter'), answer: OK },
  'responseFilter of module m': { ...ofModule('responseFilter'), answer: OK },
  upstreamResponseBodyFilter: { ...hook('upstreamResponseBodyFilter'), answer: OK, cut: true },
  responseBodyFilter: { ...hook('responseBodyFilter'), answer: OK, cut: true },
  'responseBodyFilter of module m': { ...ofModule('responseBodyFilter'), answer: OK, cut: true },
  upstreamResponseTrailerFilter: { ...hook('upstreamResponseTrailerFilter'), answer: TRAILED, cut: true },
  'responseTrailerFilter of module m': { ...ofModule('responseTrailerFilter'), answer: TRAILED, cut: true },
  'the body given to respond()': { hooks: { requestFilter: session => session.respond(200, {}, new Readable({ read() {} })) }, cut: true },
}

for (const [name, { hooks, request, answer, cut = false }] of Object.entries(LATE)) {
  test(`late hooks: ${name} that gives nothing ends its exchange, and is named`, async () => {
    const bench = new ExchangeBench(hooks)
    await bench.send(request ?? GET)
    if (answer !== undefined) await bench.answer(answer)
    bench.clock.advance(TIMEOUT_MS - 100)
    await bench.settle()
    assert.equal(bench.lines.length, 0)
    bench.clock.advance(200)
    await bench.settle()
    const [ended] = bench.told.ended
    assert.equal(ended!.error!.message, `HOOK_TIMEOUT (internal): ${name} gave no result within ${TIMEOUT_MS} ms`)
    assert.deepEqual([bench.lines[0]!.status, bench.lines[0]!.limit, bench.lines[0]!.flag], [cut ? 200 : 500, 'hook-timeout', 'FE'])
    assert.equal(bench.service.stats().activeExchanges, 0)
    bench.close()
    await bench.settle()
    bench.clock.advance(100)
    // A wait that was left would go on ticking.
    assert.equal(bench.clock.pending, 0)
  })
}

/** A hook that reads a body which is broken already: the exchange has failed when `readBody` returns. */
const BROKEN = 'POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nnone of a chunk\r\n'
const reads = (session: Session): Promise<'continue'> => session.readBody(10).then(() => 'continue')
const readsAndForgets = (session: Session): 'continue' => {
  session.readBody(10).catch(() => {})
  return 'continue'
}
const readsAndThrows = (session: Session): 'continue' => {
  readsAndForgets(session)
  throw new Error('too late')
}

for (const [how, requestFilter] of Object.entries({ reads, readsAndForgets, readsAndThrows })) {
  for (const waits of [false, true]) {
    const page = waits ? 'a page that takes a while' : 'the default page'
    test(`late hooks: what a hook says of an exchange that ended within its call (${how}) is in the way of nothing: ${page}`, async () => {
      const go = Promise.withResolvers<void>(), calls: string[] = []
      const bench = new ExchangeBench({
        // The body is there before it is asked for.
        async earlyRequestFilter() { await Promise.resolve() },
        requestFilter,
        upstreamPeer() {
          calls.push('upstreamPeer')
          return new HttpPeer('127.0.0.1:1')
        },
        modules: [{ name: 'm', async responseFilter() { calls.push('responseFilter'); await Promise.resolve() } }],
        ...waits ? { async failToProxy() { await go.promise } } : {},
      })
      await bench.send(BROKEN)
      go.resolve()
      await bench.settle()
      assert.match(bench.client.text, /^HTTP\/1\.1 400 /)
      assert.equal(bench.client.text.match(/HTTP\/1\.1/g)!.length, 1)
      assert.deepEqual(calls, ['responseFilter'])
      assert.equal(bench.told.ended.length, 1)
      assert.equal(bench.service.stats().activeExchanges, 0)
      bench.close()
      await bench.settle()
      bench.clock.advance(100)
      assert.equal(bench.clock.pending, 0)
    })
  }
}

test('late hooks: failToProxy that gives nothing leaves the default page to the client', async () => {
  const log = new KeptLog(), bench = new ExchangeBench({ requestFilter() { throw new Error('planned') }, failToProxy: never })
  await bench.service.start({ ...SERVER_CONTEXT_DEFAULTS, log })
  await bench.send(GET)
  bench.clock.advance(TIMEOUT_MS + 100)
  await bench.settle()
  assert.match(bench.client.text, /^HTTP\/1\.1 500 /)
  assert.match(log.texts.join(), /failToProxy failed/)
  bench.close()
})

test('late hooks: with 0 a hook may take for ever, and one that gives something in time is left alone', async () => {
  for (const [options, wait] of [[{ hookTimeoutMs: 0 }, 10 * TIMEOUT_MS], [{ hookTimeoutMs: 5000 }, 4900]] as const) {
    const go = Promise.withResolvers<'continue'>()
    const bench = new ExchangeBench({ requestFilter: () => go.promise, responseFilter: async () => { await Promise.resolve() } }, options)
    await bench.send(GET)
    bench.clock.advance(wait)
    go.resolve('continue')
    await bench.settle()
    bench.clock.advance(4900)
    await bench.answer(OK)
    assert.match(bench.client.text, /\r\nok$/)
    bench.close()
  }
})

test('late hooks: a hook that reads a slow body waits for the client, and has its time when the body is there', async () => {
  const options: HttpProxyOptions = { hookTimeoutMs: 5000 }
  const bench = new ExchangeBench({
    async requestFilter(session) {
      await session.readBody(10)
      return await NEVER
    },
  }, options)
  await bench.send(POST.slice(0, -3))
  for (const piece of ['a', 'b', 'c']) {
    bench.clock.advance(6000)
    await bench.send(piece)
  }
  assert.equal(bench.lines.length, 0)
  bench.clock.advance(4900)
  assert.equal(bench.lines.length, 0)
  bench.clock.advance(200)
  assert.equal(bench.told.ended[0]!.error!.kind, 'HOOK_TIMEOUT')
  bench.close()
})

test('late hooks: what a hook gives behind its time changes nothing', async () => {
  const late = Promise.withResolvers<'continue'>()
  const bench = new ExchangeBench({ requestFilter: () => late.promise })
  await bench.send(GET)
  bench.clock.advance(TIMEOUT_MS + 100)
  await bench.settle()
  late.resolve('continue')
  await bench.settle()
  assert.deepEqual([bench.origins.length, bench.lines.length], [0, 1])
  bench.close()
})

// ---- faults, and who is to blame

class KeptLog implements ProcessLog {
  readonly texts: string[] = []
  #keep(text: string, fields?: LogFields): void { this.texts.push(`${text} ${JSON.stringify(fields)}`) }
  debug(text: string, fields?: LogFields): void { this.#keep(text, fields) }
  info(text: string, fields?: LogFields): void { this.#keep(text, fields) }
  warn(text: string, fields?: LogFields): void { this.#keep(text, fields) }
  error(text: string, fields?: LogFields): void { this.#keep(text, fields) }
}

const fails = (): never => { throw new Error('planned') }
const rejects = async (): Promise<never> => fails()

for (const [name, { hooks, request, answer }] of Object.entries(LATE)) {
  if (name.startsWith('the body')) continue
  test(`late hooks: ${name} that throws or rejects is named`, async () => {
    for (const failing of [fails, rejects]) {
      const key = name.split(' ')[0]!
      const bench = new ExchangeBench('modules' in hooks ? { modules: [{ name: 'm', [key]: failing }] } : { [key]: failing })
      await bench.send(request ?? GET)
      if (answer !== undefined) await bench.answer(answer)
      assert.equal(bench.told.ended[0]!.error!.message, `HOOK_FAILED (internal): ${name}: planned`)
      bench.close()
    }
  })
}

test('late hooks: a peer that throws when it is told how it did is named, and its exchange ends as others do', async () => {
  for (const failing of [fails, rejects]) {
    const log = new KeptLog()
    const address = { peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p' } as const
    const bench = new ExchangeBench({
      upstreamPeer: () => new HttpPeer({ ...address, report: failing as () => void, release: failing as () => void }),
    })
    await bench.service.start({ ...SERVER_CONTEXT_DEFAULTS, log })
    await bench.send(GET)
    await bench.answer(OK)
    await bench.send(GET)
    bench.client.stream.destroy(true)
    await bench.settle()
    assert.deepEqual(bench.lines.map(({ status, flag }) => [status, flag]), [[200, '-'], [0, 'DC']])
    assert.equal(bench.service.stats().activeExchanges, 0)
    assert.match(log.texts.join(), /report of peer 10\.0\.0\.1:80 failed[^]*release of peer 10\.0\.0\.1:80 failed/)
    bench.close()
  }
})

test('late hooks: an attempt that failed between two modules leaves none out in the next', async () => {
  const wait = Promise.withResolvers<void>(), called: string[] = []
  const bench = new ExchangeBench({
    errorWhileProxy: (_session, _peer, error) => { error.retry = 'always' },
    modules: [
      {
        name: 'first',
        upstreamRequestFilter: (_session, _request, attempt) => {
          called.push(`first ${attempt}`)
          return attempt === 1 ? wait.promise : undefined
        },
      },
      { name: 'second', upstreamRequestFilter: (_session, _request, attempt) => { called.push(`second ${attempt}`) } },
    ],
  })
  await bench.send(GET)
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  assert.deepEqual(called, ['first 1', 'first 2', 'second 2'])
  bench.close()
})

test('late hooks: a thenable that answers at once, or throws, is a promise like others', async () => {
  class Thenable<T> {
    readonly settle: (done: (value: T) => void) => void
    constructor(settle: (done: (value: T) => void) => void) { this.settle = settle }
    // oxlint-disable-next-line unicorn/no-thenable -- as some libraries make them
    then(done: (value: T) => void): void { this.settle(done) }
  }
  const thenable = <T>(value: T): Promise<T> => new Thenable<T>(done => done(value)) as unknown as Promise<T>
  const bench = new ExchangeBench({
    requestFilter: () => thenable<'continue'>('continue'), responseBodyFilter: (_session, chunk) => thenable(chunk),
  })
  await bench.send(GET)
  await bench.answer(OK)
  assert.match(bench.client.text, /\r\nok\r\n/)
  bench.close()
  const broken = new ExchangeBench({ requestFilter: () => new Thenable(fails) as unknown as Promise<'continue'> })
  await broken.send(GET)
  assert.match(broken.client.text, /^HTTP\/1\.1 500 /)
  broken.close()
})

test('late hooks: a delay that no timer can wait is refused', async () => {
  for (const delayMs of [NaN, -1, Infinity, 2 ** 31]) {
    const bench = new ExchangeBench({ requestBodyFilter: (_session, chunk) => ({ chunk, delayMs }) })
    await bench.send(POST)
    assert.match(bench.told.ended[0]!.error!.message, /requestBodyFilter: it returned the delayMs/)
    bench.close()
  }
})

test('late hooks: the page for a fault of a module\'s response filter passes no module', async () => {
  const bench = new ExchangeBench({ modules: [{ name: 'm', responseFilter: fails, responseBodyFilter: fails }] })
  await bench.send(GET)
  await bench.answer(OK)
  assert.match(bench.client.text, /^HTTP\/1\.1 500 [^]*\r\n\r\n500 Internal/)
  assert.equal(bench.told.ended[0]!.error!.message, 'HOOK_FAILED (internal): responseFilter of module m: planned')
  bench.close()
})

// ---- bodies of answers

test('late hooks: a stream given to respond() that fails, or is not read, is closed and harms nobody', async () => {
  const broken = (): Readable => new Readable({ read() { this.destroy(new Error('planned')) } })
  for (const request of [GET, GET.replace('GET', 'HEAD')]) {
    const body = broken(), bench = new ExchangeBench({ requestFilter: session => session.respond(200, {}, body) })
    await bench.send(request)
    assert.equal(body.destroyed, true)
    assert.equal(bench.service.stats().activeExchanges, 0)
    bench.close()
  }
  // It fails while a filter still looks at the head.
  const early = broken(), wait = Promise.withResolvers<void>()
  const held = new ExchangeBench({
    requestFilter: session => session.respond(200, {}, early), modules: [{ name: 'm', responseFilter: () => wait.promise }],
  })
  await held.send(GET)
  early.read()
  await held.settle()
  wait.resolve()
  await held.settle()
  assert.equal(held.told.ended[0]!.error!.message, 'HOOK_FAILED (internal): the body given to respond(): planned')
  held.close()
})

test('late hooks: a body that is none, or gives what is none, is said', async () => {
  const bodies: readonly [unknown, string][] = [
    [7, 'requestFilter: a body of an answer is text, bytes, an async iterable of them, or null'],
    [{ [Symbol.asyncIterator]: () => ({ next: () => undefined }) }, 'the body given to respond(): Cannot destructure'],
    [{ [Symbol.asyncIterator]: () => ({ next: () => ({ done: false, value: 7 }) }) }, 'the body given to respond(): it gave number'],
    [{ [Symbol.asyncIterator]: fails }, 'the body given to respond(): planned'],
  ]
  for (const [body, said] of bodies) {
    const bench = new ExchangeBench({ requestFilter: session => session.respond(200, {}, body as string) })
    await bench.send(GET)
    assert.ok(bench.told.ended[0]!.error!.message.startsWith(`HOOK_FAILED (internal): ${said}`), bench.told.ended[0]!.error!.message)
    bench.close()
  }
})

// ---- logs and filters of connections

test('late hooks: an access log that throws or rejects ends no exchange, and is told of', async () => {
  for (const failing of [fails, rejects]) {
    const log = new KeptLog(), sink = { exchange: failing as () => void, refused: failing as () => void }
    const bench = new ExchangeBench({}, { accessLog: sink })
    await bench.service.start({ ...SERVER_CONTEXT_DEFAULTS, log })
    await bench.send(GET)
    await bench.answer(OK)
    await bench.send('broken\r\n\r\n')
    assert.match(bench.client.text, /^HTTP\/1\.1 200 [^]*HTTP\/1\.1 400 /)
    assert.equal(bench.service.stats().activeExchanges, 0)
    assert.match(log.texts.join(), /accessLog failed/)
    bench.close()
  }
})
