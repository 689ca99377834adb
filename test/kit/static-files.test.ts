/** Files of a folder, over a real one, against RFC 9110 and requests for what lies outside. */
import assert from 'node:assert/strict'
import fs, { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { staticFiles, type StaticFilesOptions } from '../../src/kit/static-files.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import type { InjectResponse } from '../../src/server/inject.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'
import { ask } from './requests.ts'

const DIGITS = '0123456789'
const MODIFIED = 'Sat, 01 Aug 2026 10:00:00 GMT'

/** A folder `www` with files, and beside it one with what nobody may see. */
function site(t: TestContext): string {
  const folder = temporaryFolder(t)
  writeTree(folder, {
    'secret.txt': 'secret', 'www-other/secret.txt': 'secret',
    'www/index.html': '<h1>home</h1>', 'www/digits.txt': DIGITS, 'www/empty.txt': '', 'www/odd': 'odd', 'www/page.html': 'page',
    'www/docs/index.html': 'docs', 'www/no-index/a.txt': 'a', 'www/.env': 'secret', 'www/.git/config': 'secret', 'www/a b ü.css': 'a{}',
  })
  const www = path.join(folder, 'www')
  utimesSync(path.join(www, 'digits.txt'), new Date(MODIFIED), new Date(Date.parse(MODIFIED) + 123))
  return www
}

type Get = (target: string, headers?: Record<string, string>, method?: string) => Promise<InjectResponse>

function getFrom(options: StaticFilesOptions): Get {
  const files = staticFiles(options)
  return (target, headers = {}, method = 'GET') => ask(session => files(session), { target, headers, method })
}

function fieldsOf({ headers }: InjectResponse, ...names: readonly string[]): (string | undefined)[] {
  return names.map(name => headers.get(name))
}

test('static files: a file is answered with its type, length and validators, to HEAD without itself', async t => {
  const get = getFrom({ root: site(t), maxAgeS: 60, immutable: true })
  const whole = await get('/digits.txt?v=1')
  assert.deepEqual([whole.status, whole.body.toString()], [200, DIGITS])
  assert.deepEqual(fieldsOf(whole, 'content-type', 'content-length', 'accept-ranges', 'last-modified', 'cache-control'),
    ['text/plain; charset=utf-8', '10', 'bytes', MODIFIED, 'public, max-age=60, immutable'])
  assert.match(whole.headers.get('etag') ?? '', /^W\/"a-[0-9a-f]+"$/)
  const head = await get('/digits.txt', {}, 'HEAD')
  assert.deepEqual([head.status, head.body.length, head.headers.get('content-length')], [200, 0, '10'])
  assert.deepEqual((await get('/a%20b%20%C3%BC.css')).body.toString(), 'a{}')
  // Nobody guesses a type.
  assert.deepEqual(fieldsOf(await get('/odd'), 'content-type', 'x-content-type-options'), ['application/octet-stream', 'nosniff'])
  assert.deepEqual(fieldsOf(await get('/empty.txt'), 'content-length'), ['0'])
})

test('static files: a large file is streamed, and what is cut short is seen to be', async t => {
  const root = site(t), file = path.join(root, 'large.bin')
  const bytes = Buffer.alloc(3_000_000, 'cirque ')
  writeFileSync(file, bytes)
  const get = getFrom({ root })
  assert.ok((await get('/large.bin')).body.equals(bytes))
  assert.ok((await get('/large.bin', { Range: 'bytes=1000000-2000000' })).body.equals(bytes.subarray(1_000_000, 2_000_001)))
  const files = staticFiles({ root })
  await assert.rejects(ask(async session => {
    const verdict = await files(session, 'large.bin')
    truncateSync(file, 100)
    return verdict
  }), /CLOSED_EARLY|CONNECTION_RESET/)
})

test('static files: a folder is its index behind a slash, and is redirected to that', async t => {
  const root = site(t), get = getFrom({ root })
  assert.equal((await get('/')).body.toString(), '<h1>home</h1>')
  assert.equal((await get('/docs/')).body.toString(), 'docs')
  const redirected = await get('/docs?a=1')
  assert.deepEqual([redirected.status, redirected.headers.get('location')], [301, '/docs/?a=1'])
  // //docs would be another host.
  assert.equal((await get('//docs')).status, 404)
  for (const target of ['/no-index/', '/digits.txt/', '/docs/x']) assert.equal((await get(target)).status, 404, target)
  const listed = getFrom({ root, index: [], extensions: ['html'] })
  assert.deepEqual([(await listed('/')).status, (await listed('/page')).body.toString()], [404, 'page'])
})

test('static files: below a prefix they are found by what is left of the path, and redirects lead to the whole one', async t => {
  const files = staticFiles({ root: site(t) })
  const below = (target: string): Promise<InjectResponse> => {
    return ask(session => files(session, session.request.path.slice('/assets/'.length)), { target })
  }
  assert.equal((await below('/assets/digits.txt')).body.toString(), DIGITS)
  assert.equal((await below('/assets/docs')).headers.get('location'), '/assets/docs/')
  assert.equal((await below('/assets/../digits.txt')).status, 404)
  const routed = (target: string): Promise<InjectResponse> => ask(session => files(session, session.request.path.slice(8)), { target })
  // Without the slash the links of the index would lead beside the folder.
  assert.equal((await routed('/assets?a=1')).headers.get('location'), '/assets/?a=1')
  assert.equal((await routed('/assets/')).body.toString(), '<h1>home</h1>')
  const named = await ask(session => files(session, 'docs'), { target: '/manual/' })
  assert.deepEqual([named.status, named.body.toString()], [200, 'docs'])
  assert.equal((await ask(session => files(session, 'no-index'), { target: '/manual/' })).status, 404)
})

/** Something happens to a file when it was looked at, and before it is opened. */
function beforeOpening(t: TestContext, change: (opened: number) => void): void {
  const create = fs.createReadStream
  let opened = 0
  t.mock.method(fs, 'createReadStream', (...args: Parameters<typeof create>) => {
    change(++opened)
    return create(...args)
  })
}

test('static files: a file that a release replaces is the old one or the new one, with fields and length of its own', async t => {
  const root = site(t), file = path.join(root, 'digits.txt'), get = getFrom({ root })
  const old = await get('/digits.txt')
  const replace = (content: string): void => {
    writeFileSync(`${file}.new`, content)
    renameSync(`${file}.new`, file)
  }
  beforeOpening(t, opened => { if (opened === 1) replace('a longer one') })
  const answer = await get('/digits.txt')
  assert.deepEqual([answer.status, answer.body.toString(), answer.headers.get('content-length')], [200, 'a longer one', '12'])
  assert.notEqual(answer.headers.get('etag'), old.headers.get('etag'))
  t.mock.restoreAll()
  beforeOpening(t, opened => replace('x'.repeat(opened)))
  const never = await get('/digits.txt')
  assert.deepEqual([never.status, never.headers.get('retry-after')], [503, '1'])
  t.mock.restoreAll()
  // One that is written in place has the length that was announced.
  beforeOpening(t, () => fs.appendFileSync(file, ' and more'))
  assert.equal((await get('/digits.txt')).body.toString(), 'xxx')
})

test('static files: a file that goes before it is opened is not there', async t => {
  const root = site(t), file = path.join(root, 'digits.txt')
  beforeOpening(t, () => rmSync(file, { force: true }))
  assert.equal((await getFrom({ root })('/digits.txt')).status, 404)
  writeFileSync(file, DIGITS)
  assert.match((await getFrom({ root, fallsThrough: true })('/digits.txt')).body.toString(), /^\["GET"/)
})

// Other systems do not say where an open file is.
const ON_LINUX = { skip: process.platform !== 'linux' }

test('static files: a link that takes the place of a file does not lead out of the folder', ON_LINUX, async t => {
  const root = site(t), file = path.join(root, 'digits.txt'), secret = path.join(root, '../secret.txt')
  // Length and time are those of the secret: only where it was opened tells the two apart.
  const prepare = (): void => {
    rmSync(file, { force: true })
    writeFileSync(file, 'public')
    for (const one of [file, secret]) utimesSync(one, new Date(MODIFIED), new Date(MODIFIED))
  }
  const swap = (): void => {
    rmSync(file)
    symlinkSync('../secret.txt', file)
  }
  prepare()
  const get = getFrom({ root })
  assert.equal((await get('/digits.txt')).body.toString(), 'public')
  beforeOpening(t, swap)
  assert.equal((await get('/digits.txt')).status, 404)
})

test('static files: conditions (RFC 9110 13)', async t => {
  const get = getFrom({ root: site(t) })
  const etag = (await get('/digits.txt')).headers.get('etag') ?? ''
  const before = 'Fri, 31 Jul 2026 10:00:00 GMT', later = 'Sun, 02 Aug 2026 10:00:00 GMT'
  const cases: readonly (readonly [Record<string, string>, number])[] = [
    [{ 'If-None-Match': etag }, 304], [{ 'If-None-Match': `"x", ${etag.slice(2)}` }, 304], [{ 'If-None-Match': '*' }, 304],
    [{ 'If-None-Match': '"x"' }, 200], [{ 'If-None-Match': '"x"', 'If-Modified-Since': later }, 200],
    [{ 'If-Modified-Since': MODIFIED }, 304], [{ 'If-Modified-Since': before }, 200], [{ 'If-Modified-Since': 'yesterday' }, 200],
    [{ 'If-Match': '"x"' }, 412], [{ 'If-Match': '*' }, 200], [{ 'If-Unmodified-Since': before }, 412],
    // If-Match compares strongly, which a weak validator never stands; beside it If-Unmodified-Since is passed over (13.1.1, 13.1.4).
    [{ 'If-Match': etag }, 412], [{ 'If-Match': etag.slice(2) }, 412], [{ 'If-Match': '' }, 412],
    [{ 'If-Match': '*', 'If-Unmodified-Since': before }, 200],
    // What is no date is no condition, and the oldest form names no zone: it is GMT.
    [{ 'If-Modified-Since': '9999' }, 200], [{ 'If-Unmodified-Since': 'foo 1' }, 200],
    [{ 'If-Modified-Since': 'Sat Aug  1 10:00:00 2026' }, 304], [{ 'If-Modified-Since': 'Sat Aug  1 09:59:59 2026' }, 200],
    [{ 'If-Modified-Since': 'Saturday, 01-Aug-26 10:00:00 GMT' }, 304],
    [{ 'If-Unmodified-Since': later }, 200], [{ 'If-None-Match': etag, Range: 'bytes=0-1' }, 304],
  ]
  for (const [headers, status] of cases) assert.equal((await get('/digits.txt', headers)).status, status, JSON.stringify(headers))
  const unchanged = await get('/digits.txt', { 'If-None-Match': etag })
  assert.deepEqual(fieldsOf(unchanged, 'etag', 'content-length', 'content-type'), [etag, undefined, undefined])
})

test('static files: a file of tomorrow was changed at the latest now (RFC 9110 8.8.2.1)', async t => {
  const root = site(t), get = getFrom({ root })
  utimesSync(path.join(root, 'digits.txt'), new Date(), new Date('2099-01-01'))
  const { headers } = await get('/digits.txt')
  assert.ok(Date.parse(headers.get('last-modified')!) <= Date.parse(headers.get('date')!) + 1000, String(headers.get('last-modified')))
  assert.equal((await get('/digits.txt', { 'If-None-Match': headers.get('etag')! })).status, 304)
  assert.equal((await get('/digits.txt', { 'If-Modified-Since': headers.get('last-modified')! })).status, 200)
})

test('static files: one range is answered with that part, and what is none with all of it (RFC 9110 14)', async t => {
  const get = getFrom({ root: site(t) })
  const etag = (await get('/digits.txt')).headers.get('etag') ?? ''
  const cases: readonly (readonly [Record<string, string>, number, string, string?])[] = [
    [{ Range: 'bytes=0-0' }, 206, '0', 'bytes 0-0/10'], [{ Range: 'bytes=2-4' }, 206, '234', 'bytes 2-4/10'],
    [{ Range: 'bytes=8-' }, 206, '89', 'bytes 8-9/10'], [{ Range: 'bytes=8-99' }, 206, '89', 'bytes 8-9/10'],
    [{ Range: 'bytes=-2' }, 206, '89', 'bytes 8-9/10'], [{ Range: 'bytes=-99' }, 206, DIGITS, 'bytes 0-9/10'],
    [{ Range: 'BYTES= 2-4 ' }, 206, '234', 'bytes 2-4/10'],
    [{ Range: 'bytes=10-' }, 416, '', 'bytes */10'], [{ Range: 'bytes=-0' }, 416, '', 'bytes */10'],
    [{ Range: 'bytes=4-2' }, 200, DIGITS], [{ Range: 'bytes=x' }, 200, DIGITS], [{ Range: 'bytes=0x1-2' }, 200, DIGITS],
    [{ Range: 'lines=0-1' }, 200, DIGITS], [{ Range: 'bytes=' }, 200, DIGITS], [{ Range: 'bytes=0-1,4-5' }, 200, DIGITS],
    [{ Range: `bytes=${'0-,'.repeat(2000)}0-` }, 200, DIGITS], [{ Range: `bytes=${'9'.repeat(400)}-` }, 200, DIGITS],
    [{ Range: 'bytes=0-1', 'If-Range': MODIFIED }, 206, '01', 'bytes 0-1/10'],
    [{ Range: 'bytes=0-1', 'If-Range': 'Sun, 02 Aug 2026 10:00:00 GMT' }, 200, DIGITS],
    [{ Range: 'bytes=0-1', 'If-Range': etag }, 200, DIGITS],
  ]
  for (const [headers, status, body, range] of cases) {
    const answer = await get('/digits.txt', headers)
    const found = [answer.status, answer.body.toString(), answer.headers.get('content-range')]
    assert.deepEqual(found, [status, body, range], JSON.stringify(headers).slice(0, 100))
  }
  const head = await get('/digits.txt', { Range: 'bytes=0-1' }, 'HEAD')
  assert.deepEqual([head.status, head.headers.get('content-length')], [200, '10'])
  assert.equal((await get('/empty.txt', { Range: 'bytes=0-' })).status, 416)
})

test('static files: nothing outside of the folder is there, whatever the path is written like', async t => {
  const root = site(t), files = staticFiles({ root })
  // Whatever came past the parser: the filter is asked with the text itself.
  const get = (file: string): Promise<InjectResponse> => ask(session => files(session, file))
  const ways = [
    '/../secret.txt', '..', '/..%2fsecret.txt', '/%2e%2e/secret.txt', '/%2e%2e%2fsecret.txt', '/docs/../../secret.txt', '/..%5csecret.txt',
    '/..\\secret.txt', '/../www-other/secret.txt', '/docs/%2e%2e/%2e%2e/www-other/secret.txt', '/%00', '/digits.txt%00.html', '/%zz',
    '/%ff', '/%252e%252e/secret.txt', `/${'a/'.repeat(3000)}`, `/${'a'.repeat(5000)}`, '//../secret.txt', '/./../secret.txt', '/.env',
    '/.git/config', '/docs/../.env', '/%2eenv', '/.%2fenv', '',
  ]
  for (const way of ways) {
    const { status, body } = await get(way)
    assert.ok(status === 404 || (way === '' && status === 200), `${way.slice(0, 60)}: ${status}`)
    assert.ok(!body.toString().includes('secret'), way)
  }
  const unit = fc.constantFrom('/', '.', '..', '%2e', '%2f', '%5c', '%00', '\\', 'docs', 'secret.txt', 'www-other', '.env', '%', 'a')
  await fc.assert(fc.asyncProperty(fc.array(unit, { maxLength: 8 }), async parts => {
    assert.ok(!(await get(parts.join(''))).body.toString().includes('secret'))
  }), { numRuns: 300 })
  assert.equal((await getFrom({ root, dotfiles: true })('/.env')).body.toString(), 'secret')
})

test('static files: a link is followed within the folder and not out of it, and only regular files are files', async t => {
  const root = site(t), get = getFrom({ root })
  symlinkSync('digits.txt', path.join(root, 'inside.txt'))
  symlinkSync('../secret.txt', path.join(root, 'outside.txt'))
  symlinkSync('../www-other', path.join(root, 'other'))
  symlinkSync('loop', path.join(root, 'loop'))
  symlinkSync('/dev/zero', path.join(root, 'zero'))
  assert.equal((await get('/inside.txt')).body.toString(), DIGITS)
  for (const target of ['/outside.txt', '/other', '/other/', '/other/secret.txt', '/loop', '/zero']) {
    assert.equal((await get(target)).status, 404, target)
  }
})

test('static files: the folder may be a link that a release changes', async t => {
  const www = site(t), parent = path.dirname(www), current = path.join(parent, 'current')
  symlinkSync('www', current)
  const get = getFrom({ root: current })
  assert.equal((await get('/digits.txt')).body.toString(), DIGITS)
  mkdirSync(path.join(parent, 'next'))
  writeFileSync(path.join(parent, 'next/digits.txt'), 'next')
  symlinkSync('next', path.join(parent, 'new'))
  renameSync(path.join(parent, 'new'), current)
  assert.equal((await get('/digits.txt')).body.toString(), 'next')
})

test('static files: what is no file is 404, or goes on where it shall; other methods are refused, or go on', async t => {
  const root = site(t), get = getFrom({ root })
  assert.equal((await get('/nothing')).status, 404)
  const post = await get('/digits.txt', {}, 'POST')
  assert.deepEqual([post.status, post.headers.get('allow')], [405, 'GET, HEAD'])
  const open = getFrom({ root, fallsThrough: true })
  assert.match((await open('/nothing')).body.toString(), /^\["GET","\/nothing"/)
  assert.match((await open('/digits.txt', {}, 'POST')).body.toString(), /^\["POST"/)
  assert.equal((await open('/digits.txt')).body.toString(), DIGITS)
  rmSync(path.join(root, 'digits.txt'))
  assert.equal((await get('/digits.txt')).status, 404)
})

test('static files: options that would not do are refused at once, a folder that is not there too', t => {
  const root = site(t)
  const wrong = [
    { root: path.join(root, 'gone') }, { root: path.join(root, 'odd') }, { root: '' }, { root, index: ['../x'] },
    { root, extensions: ['.html'] }, { root, maxAgeS: -1 }, {} as StaticFilesOptions,
  ]
  for (const options of wrong) assert.throws(() => staticFiles(options), OptionError)
})
