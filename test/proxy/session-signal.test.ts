/** What a hook awaits is told when nobody waits for the hook any more; who does not ask pays for nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const POST = 'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** A promise that ends as a `fetch` with that signal does. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

function kindOf({ aborted, reason }: AbortSignal): string {
  return !aborted ? 'open' : reason instanceof ProxyError ? reason.kind : (reason as Error).name
}

const WAITING: readonly (readonly [string, (wait: (session: Session) => Promise<never>) => Partial<ProxyHttp<undefined>>])[] = [
  ['requestFilter', wait => ({ requestFilter: wait })],
  ['upstreamPeer', wait => ({ upstreamPeer: wait })],
  ['upstreamRequestFilter', wait => ({ upstreamRequestFilter: wait })],
  ['responseFilter', wait => ({ responseFilter: wait })],
  ['a body filter', wait => ({ responseBodyFilter: wait })],
  ['requestFilter of a module', wait => ({ modules: [{ name: 'm', requestFilter: wait }] })],
]

for (const [hook, hooksOf] of WAITING) {
  const start = async (): Promise<{ bench: ExchangeBench; signal: () => AbortSignal }> => {
    let signal: AbortSignal | null = null
    const bench = new ExchangeBench(hooksOf(session => untilAborted(signal = session.signal)), { hookTimeoutMs: 5000 })
    await bench.send(POST)
    if (bench.origins.length > 0 && bench.origins[0]!.text !== '') await bench.answer(OK)
    return { bench, signal: () => signal! }
  }

  test(`signal: the client that leaves aborts what ${hook} awaits`, async () => {
    const { bench, signal } = await start()
    assert.equal(kindOf(signal()), 'open')
    bench.client.stream.destroy(true)
    await bench.settle()
    assert.equal(kindOf(signal()), 'CLIENT_GONE')
    assert.equal(bench.service.stats().activeExchanges, 0)
    bench.close()
  })

  test(`signal: ${hook} that is late aborts what it awaits`, async () => {
    const { bench, signal } = await start()
    bench.clock.advance(6000)
    await bench.settle()
    assert.equal(kindOf(signal()), 'HOOK_TIMEOUT')
    assert.equal(bench.service.stats().activeExchanges, 0)
    bench.close()
  })
}

test('signal: FIN of a client aborts it where FIN means that the client left', async () => {
  for (const [halfClose, wanted] of [['abort', 'CLIENT_GONE'], ['keep', 'open']] as const) {
    let signal: AbortSignal | null = null
    const bench = new ExchangeBench({ requestFilter: session => untilAborted(signal = session.signal) }, { listener: { halfClose } })
    await bench.send(GET)
    bench.client.stream.end()
    await bench.settle()
    assert.equal(kindOf(signal!), wanted)
    bench.client.stream.destroy(true)
    await bench.settle()
    bench.close()
  }
})

test('signal: it is the same one in all hooks, and aborted when the exchange is over', async () => {
  const signals = new Set<AbortSignal>(), seen: string[] = []
  const look = (session: Session): void => {
    signals.add(session.signal)
    seen.push(kindOf(session.signal))
  }
  const bench = new ExchangeBench({
    earlyRequestFilter: look, responseFilter: look,
    responseBodyFilter(session, chunk) { look(session); return chunk },
  })
  await bench.send(GET)
  await bench.answer(OK)
  assert.deepEqual([signals.size, seen], [1, ['open', 'open', 'open', 'open']])
  assert.equal(kindOf([...signals][0]!), 'AbortError')
  bench.close()
})

test('signal: behind a late hook the page has a signal of its own, and a fault is the reason at the end', async () => {
  let first: AbortSignal | null = null, second: AbortSignal | null = null
  const bench = new ExchangeBench({
    requestFilter: session => untilAborted(first = session.signal),
    failToProxy(session) { second = session.signal; assert.equal(kindOf(second), 'open') },
  }, { hookTimeoutMs: 5000 })
  await bench.send(GET)
  bench.clock.advance(6000)
  await bench.settle()
  assert.deepEqual([kindOf(first!), kindOf(second!), bench.lines[0]!.status], ['HOOK_TIMEOUT', 'HOOK_TIMEOUT', 500])
  bench.close()
})

test('signal: who asks too late is given one that is aborted', async () => {
  const sessions: Session[] = [], reasons: string[] = []
  const bench = new ExchangeBench({
    requestFilter(session) { sessions.push(session); return 'continue' },
    logging: session => { reasons.push(kindOf(session.signal)) },
    persistConnectionContext: session => { reasons.push(kindOf(session.signal)) },
  })
  await bench.send(GET)
  await bench.answer(OK)
  assert.deepEqual([kindOf(sessions[0]!.signal), reasons.splice(0)], ['AbortError', ['AbortError', 'AbortError']])
  await bench.send(GET)
  bench.client.stream.destroy(true)
  await bench.settle()
  assert.deepEqual([kindOf(sessions[1]!.signal), reasons], ['CLIENT_GONE', ['CLIENT_GONE', 'CLIENT_GONE']])
  bench.close()
})

test('signal: a request whose hooks do not ask for it makes none', async t => {
  let made = 0
  const real = globalThis.AbortController
  globalThis.AbortController = class extends real {
    constructor() { super(); made++ }
  }
  t.after(() => { globalThis.AbortController = real })
  const bench = new ExchangeBench({ async earlyRequestFilter() {}, responseBodyFilter: (_session, chunk) => chunk })
  for (let i = 0; i < 3; i++) {
    await bench.send(GET)
    await bench.answer(OK)
  }
  assert.deepEqual([bench.lines.length, made], [3, 0])
  bench.close()
})
