import assert from 'node:assert/strict'
import { gzipSync } from 'node:zlib'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { get } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, chunk, response, type ScriptedOrigin } from '../support/scripted-origin.ts'

const FROM = 'http://app.internal/', TO = 'https://www.example.com/'
const HTML = ['Content-Type', 'text/html; charset=utf-8'] as const
const CHUNKED_HTML = `HTTP/1.1 200 OK\r\n${HTML.join(': ')}\r\nTransfer-Encoding: chunked\r\n`

async function start(t: TestContext): Promise<{ recipe: Recipe; origin: ScriptedOrigin }> {
  const origin = await startOrigin(t)
  return { recipe: await startRecipe(t, 'body-rewriting', { ORIGIN: origin.authority }), origin }
}

function turnOfTheLoop(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setImmediate(() => setImmediate(resolve))
  return promise
}

test('body rewriting: links are found wherever they are cut, and the message ends where it ends', async t => {
  const { recipe, origin } = await start(t)
  const client = await recipe.connect()
  const parts = [FROM, FROM.slice(0, 7), FROM.slice(7), 'h', 'http:', '/', 'http://app.internalhttp://app.internal', '\u00e9']
  const words = fc.constantFrom(...parts, 'xx')
  const page = fc.array(words, { maxLength: 12 }).map(all => Buffer.from(all.join('')))
  await fc.assert(fc.asyncProperty(page, fc.array(fc.nat(), { maxLength: 40 }), fc.boolean(), async (body, cuts, chunked) => {
    const ends = [...cuts.map(cut => cut % (body.length + 1)), body.length].toSorted((a, b) => a - b)
    origin.script = async exchange => {
      const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`
      await exchange.send(`HTTP/1.1 200 OK\r\n${HTML.join(': ')}\r\n${framing}\r\n\r\n`)
      let from = 0
      for (const to of ends) {
        if (to > from) await exchange.send(chunked ? chunk(body.subarray(from, to)) : body.subarray(from, to))
        from = to
        // So that the recipe reads each piece by itself.
        await turnOfTheLoop()
      }
      if (chunked) await exchange.send('0\r\n\r\n')
    }
    // One connection for all of them: a byte too many or too few would be read as a part of the next answer.
    await client.write(get())
    const given = await client.readResponse()
    assert.deepEqual([given.status, given.complete], [200, true])
    assert.equal(given.body.toString(), body.toString().replaceAll(FROM, TO))
    assert.equal(given.field('content-length'), body.length === 0 && !chunked ? '0' : null)
  }), { numRuns: 150 })
})

test('body rewriting: what was found is sent before the page has ended, but for what may be the beginning of a link', async t => {
  const { recipe, origin } = await start(t)
  const goOn = Promise.withResolvers<void>()
  origin.script = async exchange => {
    await exchange.send(Buffer.concat([Buffer.from(`${CHUNKED_HTML}\r\n`), chunk(`a ${FROM} b http://app.int`)]))
    await goOn.promise
    await exchange.send(Buffer.concat([chunk('ernal/'), Buffer.from('0\r\n\r\n')]))
  }
  const client = await recipe.connect()
  await client.write(get())
  await client.readHead()
  const first = `a ${TO} b `
  assert.equal((await client.readExactly(chunk(first).length)).toString(), chunk(first).toString())
  goOn.resolve()
  const rest = `${chunk(TO).toString()}0\r\n\r\n`
  assert.equal((await client.readExactly(rest.length)).toString(), rest)
})

test('body rewriting: what is no page passes with its length, byte for byte', async t => {
  const { recipe, origin } = await start(t)
  const others: readonly (readonly (readonly [string, string])[])[] = [
    [['Content-Type', 'application/json']], [], [['Content-Type', 'text/html-x']], [HTML, ['Content-Encoding', 'gzip']],
  ]
  for (const fields of others) {
    const body = fields.length === 2 ? gzipSync(FROM) : Buffer.from(FROM)
    origin.script = answer(response(200, body, [...fields, ['ETag', '"1"'], ['Content-MD5', 'x']]))
    const given = await recipe.exchange(get())
    assert.deepEqual(given.body, body)
    assert.deepEqual([given.framing, given.field('etag'), given.field('content-md5')], ['length', '"1"', 'x'])
  }
})

test('body rewriting: the origin is asked for whole pages without a coding, and a part of one is left alone', async t => {
  const { recipe, origin } = await start(t)
  origin.script = answer(response(206, FROM, [HTML, ['Content-Range', 'bytes 0-19/20']]))
  const given = await recipe.exchange(get('/', 'Accept-Encoding: gzip, br', 'Range: bytes=0-19', 'If-Range: "1"'))
  const [asked] = origin.requests
  assert.deepEqual([asked!.field('accept-encoding'), asked!.field('range'), asked!.field('if-range')], ['identity', null, null])
  assert.deepEqual([given.status, given.body.toString(), given.framing], [206, FROM, 'length'])
})

test('body rewriting: fields that speak of the bytes go, in trailers as well; a tag is weak, and a redirect leads outside', async t => {
  const { recipe, origin } = await start(t)
  const fields = [
    HTML, ['ETag', '"1"'], ['Content-Digest', 'sha-256=:x=:'], ['Accept-Ranges', 'bytes'], ['Location', `${FROM}a?b`],
  ] as const
  origin.script = answer(response(200, FROM, fields))
  const given = await recipe.exchange(get())
  assert.deepEqual(given.fields.filter(([name]) => /etag|digest|ranges|location|length/i.test(name)), [
    ['ETag', 'W/"1"'], ['Location', `${TO}a?b`],
  ])
  const end = '0\r\nContent-Digest: x\r\nX-Kept: 1\r\n\r\n'
  origin.script = answer(`${CHUNKED_HTML}ETag: W/"2"\r\nTrailer: Content-Digest, X-Kept\r\n\r\n${chunk(FROM)}${end}`)
  const trailed = await recipe.exchange(get('/', 'TE: trailers', 'Connection: TE'))
  assert.deepEqual([trailed.body.toString(), trailed.field('etag')], [TO, 'W/"2"'])
  assert.deepEqual(trailed.trailers, [['X-Kept', '1']])
})

test('body rewriting: HEAD, 304 and 204 promise no length that a page would not have', async t => {
  const { recipe, origin } = await start(t)
  const client = await recipe.connect()
  const cases = [
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n'],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nContent-Type: text/html\r\nETag: "1"\r\n\r\n'],
    ['GET', 'HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n'],
  ] as const
  for (const [method, bytes] of cases) {
    origin.script = answer(bytes)
    await client.write(`${method} / HTTP/1.1\r\nHost: a.example\r\n\r\n`)
    const given = await client.readResponse({ method })
    assert.deepEqual([given.field('content-length'), given.field('transfer-encoding'), given.body.length], [null, null, 0], bytes)
  }
  origin.script = answer(response(200, `<a href="${FROM}">`, [HTML]))
  await client.write(get())
  assert.equal((await client.readResponse()).body.toString(), `<a href="${TO}">`)
})

test('body rewriting: a page that is cut is cut for the client as well', async t => {
  const { recipe, origin } = await start(t)
  origin.script = async exchange => {
    await exchange.send(`${CHUNKED_HTML}\r\n${chunk('a page http://app.')}`)
    exchange.destroy()
  }
  const client = await recipe.connect()
  await client.write(get())
  const bytes = (await client.readUntilClose()).toString()
  assert.doesNotMatch(bytes, /\r\n0\r\n\r\n$/)
})
