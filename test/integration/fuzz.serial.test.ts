/**
 * Bytes that nobody thought of, against a proxy in a process of its own. Samples of framing-cases.ts and generated
 * requests are changed at random and sent; a reader that shares no code with the proxy says what they mean, and the
 * origin says what arrived. The proxy may refuse what it likes, but whatever reaches the origin must be what was meant:
 * no request that nobody sent, no body that is a part of another message. It must not crash, hang or grow.
 *
 *   CIRQUE_FUZZ_CASES=100000   how many cases
 *   CIRQUE_FUZZ_SEED=1         the same cases again
 *   CIRQUE_FUZZ_ONLY=123       one of them alone, printed
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import net from 'node:net'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { ACCEPTED_REQUESTS, ORIGIN_RESPONSES, REFUSED_REQUESTS } from '../protocols/http1/framing-cases.ts'
import { Dice } from '../support/dice.ts'
import { get } from '../support/proxy.ts'
import { ProxyProcess, type ProcessWeight } from '../support/proxy-process.ts'
import { ScriptedOrigin, type OriginExchange } from '../support/scripted-origin.ts'
import { StrictRequestReader, type ReadRequest } from '../support/strict-request-reader.ts'

const CASES = Number(process.env['CIRQUE_FUZZ_CASES'] ?? 100_000)
const SEED = Number(process.env['CIRQUE_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const ONLY = process.env['CIRQUE_FUZZ_ONLY'] === undefined ? null : Number(process.env['CIRQUE_FUZZ_ONLY'])
const CONNECTIONS = 48
/** After everything is sent and FIN: the connection ends well before this, or the proxy hangs. */
const HANG_MS = 10_000
/** Cases after which a request that has not arrived will not. */
const RECENT = 1000
const MIB = 1_048_576

const TOKENS = [
  '\r\n', '\n', '\r', '\r\n\r\n', '\r\n ', '\0', ' ', '\t', ':', ';', ',', '"', '\\', '%', '#', '?', '/', '//', '/../',
  '%2e', '\x0b', '\x7f', '\xa0', '\xff',
  '0', '1', '5', 'f', 'x', '-', '+', '0x', '_', '0\r\n\r\n', '1\r\nZ\r\n', '5;a=b\r\n', 'ffffffffffffffff', '00000000000000000',
  'Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: identity\r\n', 'transfer-encoding:chunked\r\n',
  'Transfer-Encoding : chunked\r\n', 'Transfer_Encoding: chunked\r\n',
  'Content-Length: 0\r\n', 'Content-Length: 5\r\n', 'Content-Length: 50\r\n', 'content-length:\t7\r\n',
  'Host: b.example\r\n', 'Connection: close\r\n', 'Connection: keep-alive\r\n',
  'Connection: upgrade\r\nUpgrade: websocket\r\n', 'Expect: 100-continue\r\n', 'TE: trailers\r\n', 'HTTP/1.0',
  'HTTP/1.1', 'GET ', 'POST ', 'HEAD ', 'CONNECT ', 'OPTIONS * ', 'http://c.example',
] as const

/** A request hidden in a body, or behind one: where two readings would show. */
const hidden = (id: string): string => `GET /hidden/${id} HTTP/1.1\r\nHost: a.example\r\n\r\n`

const REQUEST_SAMPLES: readonly string[] = [...ACCEPTED_REQUESTS, ...REFUSED_REQUESTS].map(row => row.bytes)
  .filter(bytes => bytes.length < 700)
const RESPONSE_SAMPLES: readonly string[] = ORIGIN_RESPONSES.map(row => row.bytes).filter(bytes => bytes.length < 700 && bytes !== '')

/** Requests with a body that looks like a request, framed in both ways; the mutator does the rest. */
function smuggler(dice: Dice, id: string): string {
  const body = hidden(id)
  const start = `POST /carrier/${id} HTTP/1.1\r\nHost: a.example\r\n`
  switch (dice.below(4)) {
    case 0: return `${start}Content-Length: ${body.length}\r\n\r\n${body}`
    case 1: return `${start}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
    case 2: return `${start}Transfer-Encoding: chunked\r\nContent-Length: ${body.length}\r\n\r\n0\r\n\r\n${body}`
    default: {
      const chunked = `${body.length.toString(16)};x="\r\n"\r\n${body}\r\n0\r\n\r\n`
      return `${start}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}`
    }
  }
}

function mutate(dice: Dice, text: string, times: number): string {
  let bytes = text
  for (let round = 0; round < times && bytes.length > 0; round++) {
    const at = dice.below(bytes.length)
    const size = 1 + dice.below(8)
    switch (dice.below(9)) {
      case 0: bytes = bytes.slice(0, at) + String.fromCharCode(bytes.charCodeAt(at) ^ (1 << dice.below(8))) + bytes.slice(at + 1); break
      case 1: bytes = bytes.slice(0, at) + String.fromCharCode(dice.below(256)) + bytes.slice(at + 1); break
      case 2: case 3: bytes = bytes.slice(0, at) + dice.pick(TOKENS) + bytes.slice(at); break
      case 4: bytes = bytes.slice(0, at) + bytes.slice(at + size); break
      case 5: bytes = bytes.slice(0, at) + bytes.slice(at, at + size * 4) + bytes.slice(at); break
      case 6: {
        // A token in the place of a line, or before it: where fields are.
        const line = bytes.indexOf('\r\n', at)
        if (line !== -1) bytes = bytes.slice(0, line + 2) + dice.pick(TOKENS) + bytes.slice(line + 2)
        break
      }
      case 7: bytes = bytes.slice(0, at) + dice.pick(REQUEST_SAMPLES).slice(dice.below(40)) + bytes.slice(at + size); break
      case 8: if (dice.below(4) === 0) bytes = bytes.slice(0, at); break
    }
  }
  return bytes
}

/** Valid requests of many shapes, and the bytes that they are: these must all be served. */
const validRequest: fc.Arbitrary<(id: string) => string> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'PATCH', 'x-own'),
  path: fc.stringMatching(/^[a-zA-Z0-9~!$&'()*+,;=:@_-]{0,20}$/),
  query: fc.option(fc.stringMatching(/^[a-zA-Z0-9/?._~%=&-]{0,20}$/)),
  fields: fc.array(
    fc.tuple(
      fc.stringMatching(/^X-[a-zA-Z0-9!#$&'*+.^`|~-]{1,12}$/),
      fc.stringMatching(/^([\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff\t]{0,30}[\x21-\x7e\x80-\xff])?)?$/),
      fc.constantFrom('', ' ', '  ', '\t'),
    ),
    { maxLength: 12 },
  ),
  body: fc.option(fc.record({
    text: fc.string({ unit: 'binary-ascii', maxLength: 300 }),
    chunks: fc.option(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 })),
    extension: fc.constantFrom('', ';a', ';a=b', ';a="b c"'), trailer: fc.boolean(),
  })),
}).map(({ method, path, query, fields, body }) => id => {
  const lines = [
    `${method} /valid/${id}/${path}${query === null ? '' : `?${query}`} HTTP/1.1`,
    'Host: a.example',
    ...fields.map(([name, value, blanks]) => `${name}:${blanks}${value}`),
  ]
  if (body === null) return [...lines, '', ''].join('\r\n')
  if (body.chunks === null) return [...lines, `Content-Length: ${body.text.length}`, '', body.text].join('\r\n')
  let rest = body.text
  let framed = ''
  for (let index = 0; rest !== ''; index++) {
    const part = rest.slice(0, body.chunks[index % body.chunks.length])
    framed += `${part.length.toString(16)}${body.extension}\r\n${part}\r\n`
    rest = rest.slice(part.length)
  }
  return [
    ...lines, 'Transfer-Encoding: chunked', '',
    `${framed}0${body.extension}\r\n${body.trailer ? 'X-Trailer: 1\r\n' : ''}\r\n`,
  ].join('\r\n')
})

interface Case {
  readonly index: number
  readonly bytes: Buffer
  readonly points: readonly number[]
  /** Every request of it must be answered by the origin. */
  readonly valid: boolean
}

function makeCase(index: number, generated: readonly ((id: string) => string)[]): Case {
  const dice = new Dice(SEED + index * 7919)
  const id = `${index}-${dice.below(2 ** 31).toString(36)}`
  const valid = index % 5 === 0
  let text: string
  if (valid) text = Array.from({ length: 1 + dice.below(4) }, (_, part) => dice.pick(generated)(`${id}-${part}`)).join('')
  else {
    const sample = dice.below(3) === 0 ? smuggler(dice, id) : dice.pick(REQUEST_SAMPLES)
    text = mutate(dice, sample, 1 + dice.below(4)) + (dice.below(3) === 0 ? hidden(id) : '')
      + `GET /last/${id} HTTP/1.1\r\nHost: a.example\r\n\r\n`
  }
  const bytes = Buffer.from(text, 'latin1')
  const points = dice.below(3) === 0 ? [dice.below(bytes.length), dice.below(bytes.length)].toSorted((a, b) => a - b) : []
  return { index, bytes, points, valid }
}

/** What a request is, as both ends can say it. */
function signature(request: ReadRequest, target: string): string {
  return `${request.method} ${target} ${request.bodyBytes} ${request.bodySha256.slice(0, 16)}`
}

/** The target that the origin gets: absolute-form without its authority, dot segments resolved (RFC 3986 5.2.4), all else as it is. */
function targetOf(request: ReadRequest): string {
  const absolute = /^https?:\/\/[^/?]*(.*)$/i.exec(request.target)
  const rest = absolute?.[1] ?? null
  let target = request.target
  if (rest === '') target = request.method === 'OPTIONS' ? '*' : '/'
  else if (rest !== null) target = rest.startsWith('?') ? `/${rest}` : rest
  const query = target.indexOf('?')
  const path = query === -1 ? target : target.slice(0, query)
  const segments: string[] = []
  const parts = path.split('/').slice(1)
  for (const [index, part] of parts.entries()) {
    const plain = part.replace(/%2e/gi, '.')
    const last = index === parts.length - 1
    if (plain === '..') segments.pop()
    if (plain !== '.' && plain !== '..') segments.push(part)
    else if (last) segments.push('')
  }
  return (path.startsWith('/') ? `/${segments.join('/')}` : path) + (query === -1 ? '' : target.slice(query))
}

class Fuzzer {
  readonly origin: ScriptedOrigin
  readonly proxy: ProxyProcess
  /** Signatures of requests that may arrive: how many recent cases have each. */
  readonly expected = new Map<string, number>()
  /** Cases whose requests may still be on their way although their connection is gone. */
  readonly #recent: (readonly string[])[] = []
  readonly failures: string[] = []
  answered = 0
  refused = 0
  arrived = 0

  constructor(origin: ScriptedOrigin, proxy: ProxyProcess) {
    this.origin = origin
    this.proxy = proxy
    origin.script = exchange => this.#answer(exchange)
  }

  async #answer(exchange: OriginExchange): Promise<void> {
    // A request that never becomes whole is cut by the proxy when its client leaves; that is no arrival.
    const request = await exchange.whole()
    const what = signature(request, request.target)
    if (!this.expected.has(what)) {
      this.fail(-1, `the origin got a request that nobody sent: ${what}\n${JSON.stringify(request.headText + request.bodyText)}`)
    }
    this.arrived++
    // Encoded, since a target may look like the start of an answer.
    await exchange.send(`HTTP/1.1 200 OK\r\nX-Seen: ${encodeURIComponent(what)}\r\nContent-Length: 0\r\n\r\n`)
  }

  fail(index: number, what: string, bytes?: Buffer): void {
    const sent = bytes === undefined ? '' : `\n${JSON.stringify(bytes.toString('latin1'))}`
    const variables = `CIRQUE_FUZZ_SEED=${SEED} CIRQUE_FUZZ_ONLY=${index}`
    const replay = index === -1 ? '' : `\nreplay: ${variables} node --test test/integration/fuzz.serial.test.ts`
    this.failures.push(`${what}${sent}${replay}`)
  }

  /** One connection: the case, FIN, and everything that comes back. */
  async run(each: Case): Promise<void> {
    const reader = new StrictRequestReader('client')
    reader.push(each.bytes)
    const meant = reader.requests.filter(request => request.complete).map(request => signature(request, targetOf(request)))
    if (each.valid) assert.equal(reader.fault, '', 'a generated request is not valid')
    for (const what of meant) this.expected.set(what, (this.expected.get(what) ?? 0) + 1)
    const received = await exchangeBytes(this.proxy.port, each)
    if (received === null) this.fail(each.index, 'the connection hangs', each.bytes)
    else this.#judge(each, meant, received)
    this.#recent.push(meant)
    if (this.#recent.length > RECENT) this.#forget(this.#recent.shift()!)
  }

  #forget(meant: readonly string[]): void {
    for (const what of meant) {
      const left = (this.expected.get(what) ?? 0) - 1
      if (left <= 0) this.expected.delete(what)
      else this.expected.set(what, left)
    }
  }

  #judge(each: Case, meant: readonly string[], received: Buffer): void {
    const heads = received.toString('latin1').split('\r\n\r\n')
      .map(text => text.slice(Math.max(0, text.lastIndexOf('HTTP/1.1 ')))).filter(text => /^HTTP\/1\.1 [2-5]\d\d /.test(text))
    const seen: string[] = []
    let refusals = 0
    for (const head of heads) {
      const echo = /\r\nX-Seen: (.*)(\r\n|$)/.exec(head)
      if (echo === null) refusals++
      else seen.push(decodeURIComponent(echo[1]!))
    }
    this.answered += seen.length
    this.refused += refusals
    if (refusals > 1) this.fail(each.index, `${refusals} refusals on one connection`, each.bytes)
    for (const [index, what] of seen.entries()) {
      if (what !== meant[index]) {
        return this.fail(each.index, `answer ${index} is for ${what}, but what was meant is ${String(meant[index])}`, each.bytes)
      }
    }
    if (each.valid && seen.length !== meant.length) {
      this.fail(each.index, `${meant.length} valid requests, ${seen.length} answers: ${received.toString('latin1')}`, each.bytes)
    }
    if (ONLY !== null) console.log({ bytes: each.bytes.toString('latin1'), meant, received: received.toString('latin1') })
  }
}

/** Sends the bytes in their pieces and FIN; resolves with all that came back, or null when the connection does not end. */
function exchangeBytes(port: number, each: Case): Promise<Buffer | null> {
  const { promise, resolve } = Promise.withResolvers<Buffer | null>()
  const chunks: Buffer[] = []
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  const hang = setTimeout(() => {
    resolve(null)
    socket.destroy()
  }, HANG_MS)
  socket.on('data', (bytes: Buffer) => chunks.push(bytes))
  socket.on('error', () => { /* A reset is one of the ways to refuse; 'close' follows. */ })
  socket.on('end', () => socket.end())
  socket.on('close', () => {
    clearTimeout(hang)
    resolve(Buffer.concat(chunks))
  })
  const ends = [...each.points, each.bytes.length]
  let from = 0
  const next = (): void => {
    const to = ends.shift()
    if (to === undefined || socket.destroyed) return void socket.end()
    if (to > from) socket.write(each.bytes.subarray(from, to))
    from = Math.max(from, to)
    if (ends.length === 0) socket.end()
    else setImmediate(next)
  }
  socket.on('connect', next)
  return promise
}

/** Runs `run` for each index, so many at a time. */
async function inParallel(count: number, run: (index: number) => Promise<void>, stop: () => boolean): Promise<void> {
  let index = 0
  await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
    while (index < count && !stop()) await run(index++)
  }))
}

describe('http1 proxy: fuzzing', () => {
  let origin: ScriptedOrigin
  let proxy: ProxyProcess
  before(async () => {
    console.log(`fuzz: CIRQUE_FUZZ_SEED=${SEED} CIRQUE_FUZZ_CASES=${CASES}`)
    origin = await ScriptedOrigin.start()
    // Every case ends with a FIN, and is answered all the same.
    const listener = { halfClose: 'keep', lingerIdleMs: 500, lingerTotalMs: 1000 } as const
    proxy = await ProxyProcess.start({ origin: origin.authority, peer: { continueTimeoutMs: 50 }, listener })
  })
  after(async () => {
    const fate = await proxy.stop()
    await origin.stop()
    assert.equal(fate, 'code 0', `the proxy did not survive: ${proxy.stderr}`)
  })

  const requestCases = Math.floor(CASES * 0.8)

  it(`${requestCases} requests: what reaches the origin is what was meant`, async () => {
    const fuzzer = new Fuzzer(origin, proxy)
    const generated = fc.sample(validRequest, { numRuns: 2000, seed: SEED })
    if (ONLY !== null) {
      await fuzzer.run(makeCase(ONLY, generated))
      assert.deepEqual(fuzzer.failures, [])
      return
    }
    const stop = (): boolean => fuzzer.failures.length > 0 || proxy.fate !== ''
    const early = Math.min(requestCases, Math.max(2000, Math.floor(requestCases / 5)))
    await inParallel(early, index => fuzzer.run(makeCase(index, generated)), stop)
    const weightEarly = stop() ? null : await proxy.weigh()
    await inParallel(requestCases - early, index => fuzzer.run(makeCase(early + index, generated)), stop)
    judgeLife(fuzzer, weightEarly, await weighIfAlive())
    assert.deepEqual(origin.faults, [], 'the origin got bytes that are no strict HTTP')
    assert.deepEqual(fuzzer.failures, [])
    // A run that refused everything, or nothing, would prove little.
    assert.ok(
      fuzzer.answered > requestCases / 10 && fuzzer.refused > requestCases / 10,
      `${fuzzer.answered} answered, ${fuzzer.refused} refused`,
    )
  })

  it(`${CASES - requestCases} responses: a client never gets an answer to something else`, async t => {
    if (ONLY !== null) return t.skip('one case of the requests was asked for')
    const fuzzer = new Fuzzer(origin, proxy)
    origin.script = async exchange => {
      await exchange.whole()
      const [, kind, index] = exchange.request.target.split('/')
      if (kind === 'clean') return void exchange.send(`HTTP/1.1 200 OK\r\nX-Clean: ${index}\r\nContent-Length: 0\r\n\r\n`)
      const dice = new Dice(SEED + Number(index) * 104_729)
      await exchange.send(mutate(dice, dice.pick(RESPONSE_SAMPLES), dice.below(4)).replaceAll('X-Clean', 'X-Dirty'))
      exchange.end()
    }
    let clean = 0
    await inParallel(CASES - requestCases, async index => {
      const bytes = Buffer.from(get(`/dirty/${index}`) + get(`/clean/${index}`))
      const received = await exchangeBytes(proxy.port, { index, bytes, points: [], valid: false })
      if (received === null) return fuzzer.fail(-1, `the connection hangs behind response ${index}`)
      const marks = [...received.toString('latin1').matchAll(/\r\nX-Clean: (\d+)\r\n/g)].map(match => match[1])
      if (marks.length > 1 || (marks.length === 1 && marks[0] !== String(index))) {
        fuzzer.fail(-1, `response ${index} with seed ${SEED}: the answers ${marks.join()} reached one client`)
      }
      clean += marks.length
    }, () => fuzzer.failures.length > 0 || proxy.fate !== '')
    judgeLife(fuzzer, null, await weighIfAlive())
    assert.deepEqual(fuzzer.failures, [])
    assert.ok(clean > (CASES - requestCases) / 10, `only ${clean} clean answers`)
  })

  async function weighIfAlive(): Promise<ProcessWeight | null> { return proxy.fate === '' ? await proxy.weigh() : null }

  function judgeLife(fuzzer: Fuzzer, early: ProcessWeight | null, late: ProcessWeight | null): void {
    if (late === null) return fuzzer.fail(-1, `the proxy died (${proxy.fate}): ${proxy.stderr}`)
    if (late.activeExchanges > 0) fuzzer.fail(-1, `${late.activeExchanges} exchanges are still open`)
    if (early !== null && late.rssBytes - early.rssBytes > 48 * MIB) {
      fuzzer.fail(-1, `the proxy grew from ${early.rssBytes} to ${late.rssBytes} bytes`)
    }
  }
})
