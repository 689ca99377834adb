/**
 * What each directive of examples/from-nginx.conf does, asked of examples/from-nginx.ts and of nginx itself: the same question, the same
 * answer expected. Each question has a world of its own, so that failures that are remembered change no other answer.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { after, test, type TestContext } from 'node:test'
import type { LoggedExchange } from '../../src/index.ts'
import { startNginx } from '../support/nginx-site.ts'
import { findProgram, missingLine } from '../support/programs.ts'
import { RawClient, type RawResponse } from '../support/raw-client.ts'
import { startOrigin, startRecipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'
import type { ReadRequest } from '../support/strict-request-reader.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const CONF = readFileSync(path.join(import.meta.dirname, '../../examples/from-nginx.conf'), 'utf8')
const NGINX = findProgram('nginx')
const MIB = 1_048_576

interface Question {
  readonly host?: string
  readonly method?: string
  readonly lines?: readonly string[]
  readonly body?: Buffer
  /** Address of the client. */
  readonly from?: string
}

interface World {
  readonly server: 'cirque' | 'nginx'
  readonly left: ScriptedOrigin
  readonly right: ScriptedOrigin
  readonly spare: ScriptedOrigin
  connect(from?: string): Promise<RawClient>
  ask(target: string, question?: Question): Promise<RawResponse>
  /** Targets that the access log has. */
  logged(): string[]
}

function textOf(target: string, { host = 'www.example.com', method = 'GET', lines = [], body }: Question): Buffer {
  const length = body === undefined ? [] : [`Content-Length: ${body.length}`]
  const head = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...length, ...lines, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head, 'latin1'), body ?? Buffer.alloc(0)])
}

async function start(t: TestContext, server: 'cirque' | 'nginx', app: readonly string[] = []): Promise<World> {
  const [left, right, spare] = [await startOrigin(t), await startOrigin(t), await startOrigin(t)] as const
  for (const [name, origin] of Object.entries({ left, right, spare })) origin.script = answer(response(200, name))
  const addresses = [app[0] ?? left.authority, app[1] ?? right.authority, app[2] ?? spare.authority]
  const folder = temporaryFolder(t)
  writeTree(folder, { 'www/a.txt': '0123456789', 'www/style.css': 'a{}', 'htpasswd': 'ada:{PLAIN}lovelace\n', 'access.log': '' })
  const clients: RawClient[] = []
  // Before the server stops, which waits for them.
  t.after(() => { for (const client of clients) client.destroy() })
  const served = server === 'cirque' ? await cirque(t, folder, addresses) : await nginx(t, folder, addresses)
  const connect = async (from = '127.0.0.1'): Promise<RawClient> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: served.port, localAddress: from })
    clients.push(client)
    return client
  }
  return {
    server, left, right, spare, connect,
    async ask(target, question = {}) {
      const client = await connect(question.from)
      await client.write(textOf(target, question))
      const { method = 'GET' } = question
      const got = await client.readResponse({ method, deadlineMs: 10_000 })
      client.destroy()
      return got
    },
    logged: served.logged,
  }
}

interface Served { readonly port: number; logged(): string[] }

async function cirque(t: TestContext, folder: string, app: readonly string[]): Promise<Served> {
  const targets: string[] = []
  const accessLog = { exchange({ request }: LoggedExchange) { targets.push(request.target) }, refused() { /* None is sent. */ } }
  const recipe = await startRecipe(t, 'from-nginx', { APP: app.join(), WWW: `${folder}/www` }, { accessLog })
  return { port: Number(recipe.authority.split(':')[1]), logged: () => targets }
}

async function nginx(t: TestContext, folder: string, app: readonly string[]): Promise<Served> {
  const port = await startNginx(t, NGINX!, CONF, {
    '127.0.0.1:3001': app[0]!, '127.0.0.1:3002': app[1]!, '127.0.0.1:3003': app[2]!,
    '/srv/www/': `${folder}/www/`, '/etc/nginx/htpasswd': `${folder}/htpasswd`, '/var/log/nginx/access.log': `${folder}/access.log`,
  })
  const logged = (): string[] => {
    return [...readFileSync(`${folder}/access.log`, 'utf8').matchAll(/"[A-Z]+ (\S+) HTTP\/1\.1"/g)].map(match => match[1]!)
  }
  return { port, logged }
}

/** Directives that were asked about. */
const asked = new Set<string>()

/** @param directives that the question is about, as the configuration writes them */
function both(directives: string, about: string, question: (world: World, t: TestContext) => Promise<void>, app?: Apps): void {
  for (const directive of directives.split(', ')) asked.add(directive)
  for (const server of ['cirque', 'nginx'] as const) {
    test(`from nginx: ${directives}: ${about} (${server})`, async t => {
      if (server === 'nginx' && NGINX === null) {
        t.skip(missingLine('nginx'))
        return
      }
      await question(await start(t, server, app === undefined ? [] : await app(t)), t)
    })
  }
}

type Apps = (t: TestContext) => Promise<readonly string[]>

function bodyOf({ body }: RawResponse): string { return body.toString() }

function fieldOf(request: ReadRequest | undefined, name: string): string | null {
  return request?.fields.find(([one]) => one.toLowerCase() === name.toLowerCase())?.[1] ?? null
}

function requestsOf({ left, right, spare }: World): ReadRequest[] { return [left, right, spare].flatMap(({ requests }) => requests) }

const counts = ({ left, right, spare }: World): number[] => [left, right, spare].map(({ requests }) => requests.length)

both('server_name, return 301, default_server, listen', 'each host has its server, others the first one', async ({ ask }) => {
  assert.match(bodyOf(await ask('/')), /^(?:left|right)$/)
  const moved = await ask('/a?b=c', { host: 'example.com' })
  assert.deepEqual([moved.status, moved.field('location')], [301, 'http://www.example.com/a?b=c'])
  assert.equal((await ask('/', { host: 'other.example' })).status, 200)
})

both('upstream, weight=3, proxy_pass', 'left gets three requests of four, right one, and the backup none', async world => {
  for (let index = 0; index < 16; index++) assert.equal((await world.ask('/')).status, 200)
  assert.deepEqual(counts(world), [12, 4, 0])
})

both('backup', 'with the others down it serves', async world => {
  await world.left.stop()
  await world.right.stop()
  await waitFor('the backup to answer', async () => bodyOf(await world.ask('/')) === 'spare')
  assert.equal(bodyOf(await world.ask('/')), 'spare')
})

both('max_fails=2, fail_timeout=5s', 'who fails twice is not asked for a while, and no client sees it', async world => {
  world.right.script = exchange => exchange.destroy()
  for (let index = 0; index < 20; index++) assert.equal(bodyOf(await world.ask('/')), 'left')
  assert.equal(world.right.requests.length, 2)
})

both('keepalive 32, proxy_http_version 1.1', 'connections to origins are used again', async ({ ask, left }) => {
  for (let index = 0; index < 8; index++) await ask('/')
  assert.deepEqual([left.connections.length, left.requests.length], [1, 6])
  assert.match(left.connections[0]!.text, /^GET \/ HTTP\/1\.1\r\n/)
})

both('keepalive_timeout 75s', 'a client asks again on its connection', async ({ connect }) => {
  const client = await connect()
  for (let index = 0; index < 2; index++) {
    await client.write(textOf('/', {}))
    assert.equal((await client.readResponse()).status, 200)
  }
})

both('client_max_body_size 1m, client_max_body_size 8m', 'a body may have so much, and in one location more', async ({ ask }) => {
  const post = async (target: string, bytes: number, sent = bytes): Promise<number> => {
    const body = Buffer.alloc(sent), lines = sent === bytes ? [] : [`Content-Length: ${bytes}`]
    return (await ask(target, { method: 'POST', lines, ...(sent === bytes ? { body } : {}) })).status
  }
  assert.equal(await post('/a', MIB), 200)
  assert.equal(await post('/a', MIB + 1, 0), 413)
  assert.equal(await post('/upload/a', MIB + 1), 200)
  assert.equal(await post('/upload/a', 8 * MIB + 1, 0), 413)
})

both('client_body_timeout 2s', 'a body that stops on its way is given up', async ({ connect, server }) => {
  const client = await connect()
  await client.write(textOf('/a', { method: 'POST', lines: ['Content-Length: 10', '', 'abc'] }))
  // nginx says nothing.
  assert.match((await client.readUntilClose(10_000)).toString(), server === 'cirque' ? /^HTTP\/1\.1 408 / : /^$/)
})

both('proxy_set_header Host $host, proxy_set_header X-Edge, proxy_set_header X-Forwarded-For', 'origins get these fields', async world => {
  await world.ask('/', { lines: ['X-Edge: client'] })
  const [request] = requestsOf(world)
  const found = ['host', 'x-edge', 'x-forwarded-for'].map(name => fieldOf(request, name))
  assert.deepEqual(found, ['www.example.com', world.server, '127.0.0.1'])
})

both('proxy_hide_header X-Powered-By, server_tokens off', 'what origins run is not told', async ({ ask, left, right, server }) => {
  left.script = right.script = answer(response(200, '', [['X-Powered-By', 'PHP'], ['Server', 'Apache/2.4.1'], ['X-Other', '1']]))
  const { field } = await ask('/')
  assert.deepEqual([field('x-powered-by'), field('server'), field('x-other')], [null, server === 'nginx' ? 'nginx' : null, '1'])
})

both('add_header X-Frame-Options DENY always', 'every answer has the field, errors and redirects too', async ({ ask, left, right }) => {
  left.script = right.script = answer(response(404))
  const answers = [await ask('/'), await ask('/health'), await ask('/', { host: 'example.com' }), await ask('/static/none')]
  assert.deepEqual(answers.map(({ status }) => status), [404, 200, 301, 404])
  for (const { field } of answers) assert.equal(field('x-frame-options'), 'DENY')
})

both('proxy_connect_timeout 1s', 'an origin that takes no connection is given up', async ({ ask }) => {
  assert.equal((await ask('/')).status, 504)
}, fullQueues)

both('proxy_read_timeout 1s', 'in one location an origin has a second to answer', async ({ ask, left, right }) => {
  left.script = right.script = () => { /* Says nothing. */ }
  assert.equal((await ask('/quick/a')).status, 504)
})

both('proxy_next_upstream http_503, proxy_next_upstream_tries 2', 'after a 503 another origin is asked, once', async world => {
  const { ask, left, right } = world
  left.script = right.script = answer(response(503, 'busy'))
  assert.equal((await ask('/')).status, 503)
  assert.deepEqual(counts(world), [1, 1, 0])
  right.script = answer(response(200, 'right'))
  for (let index = 0; index < 4; index++) assert.equal(bodyOf(await ask('/')), 'right')
})

both('proxy_next_upstream error', 'what must not happen twice is sent once', async world => {
  const { ask, left, right } = world
  left.script = right.script = async exchange => {
    await exchange.whole()
    exchange.destroy()
  }
  assert.equal((await ask('/', { method: 'POST', body: Buffer.from('order') })).status, 502)
  assert.equal(requestsOf(world).length, 1)
  left.script = right.script = answer(response(503))
  assert.equal((await ask('/', { method: 'POST', body: Buffer.from('order') })).status, 503)
})

both('location = /health, return 200, location /', 'one path is answered at once, and those beside it are not', async world => {
  const { ask } = world
  const { status, field, body } = await ask('/health')
  assert.deepEqual([status, field('content-type'), body.toString()], [200, 'text/plain', 'ok\n'])
  assert.equal((await ask('/health/a')).status, 200)
  assert.deepEqual(requestsOf(world).map(({ target }) => target), ['/health/a'])
})

both('access_log off, access_log', 'one path is not in the log, and others are', async ({ ask, logged }) => {
  await ask('/health')
  await ask('/logged')
  await waitFor('a line in the access log', () => logged().length > 0)
  assert.deepEqual(logged(), ['/logged'])
})

both('location /static/, alias, expires 1h, include', 'files, their types, how long they may be kept', async ({ ask }) => {
  const whole = await ask('/static/a.txt')
  assert.deepEqual([whole.status, bodyOf(whole)], [200, '0123456789'])
  assert.match(whole.field('content-type') ?? '', /^text\/plain/)
  assert.match((await ask('/static/style.css')).field('content-type') ?? '', /^text\/css/)
  assert.match(whole.field('cache-control') ?? '', /max-age=3600/)
  const part = await ask('/static/a.txt', { lines: ['Range: bytes=2-4'] })
  assert.deepEqual([part.status, bodyOf(part), part.field('content-range')], [206, '234', 'bytes 2-4/10'])
  assert.equal((await ask('/static/a.txt', { lines: [`If-None-Match: ${whole.field('etag')}`] })).status, 304)
  const head = await ask('/static/a.txt', { method: 'HEAD' })
  assert.deepEqual([head.status, head.field('content-length'), head.body.length], [200, '10', 0])
  assert.equal((await ask('/static/none')).status, 404)
})

both('location /upload/, location /quick/', 'the longest prefix that fits is the location', async world => {
  for (const target of ['/uploads', '/upload/a', '/quick/a/b']) assert.equal((await world.ask(target)).status, 200, target)
  assert.deepEqual(requestsOf(world).map(({ target }) => target).toSorted(), ['/quick/a/b', '/upload/a', '/uploads'])
})

both('location /api/, proxy_pass http://app/', 'the prefix is taken off', async world => {
  for (const target of ['/api/users?id=1', '/api/a%20b', '/api/']) await world.ask(target)
  const targets = requestsOf(world).map(({ target }) => target)
  assert.deepEqual(targets.toSorted(), ['/', '/a%20b', '/users?id=1'])
})

both('location = /ws, proxy_set_header Upgrade, proxy_set_header Connection', 'one path becomes a WebSocket', async world => {
  const { connect, ask, left, right } = world
  const handshake = [
    'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ]
  const accepts = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket',
    'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=', '', 'hello'].join('\r\n')
  left.script = right.script = exchange => exchange.send(accepts)
  const client = await connect()
  await client.write(textOf('/ws', { lines: handshake }))
  assert.equal((await client.readHead()).status, 101)
  assert.equal((await client.readExactly(5)).toString(), 'hello')
  client.destroy()
  left.script = right.script = answer(response(200))
  await ask('/', { lines: handshake })
  for (const { target, fields } of requestsOf(world)) {
    assert.equal(fields.some(([name]) => name.toLowerCase() === 'upgrade'), target === '/ws', target)
  }
})

both('auth_basic, auth_basic_user_file', 'one host asks for a password', async ({ ask }) => {
  const login = (pair: string): Question => {
    return { host: 'admin.example.com', lines: [`Authorization: Basic ${Buffer.from(pair).toString('base64')}`] }
  }
  const refused = await ask('/', { host: 'admin.example.com' })
  assert.equal(refused.status, 401)
  assert.match(refused.field('www-authenticate') ?? '', /^Basic realm="staff"/)
  for (const pair of ['ada:wrong', 'bob:lovelace', 'ada:']) assert.equal((await ask('/', login(pair))).status, 401)
  assert.equal((await ask('/', login('ada:lovelace'))).status, 200)
})

both('allow, deny all', 'it is for some networks alone, the right password or not', async ({ ask }) => {
  const question = { host: 'admin.example.com', lines: ['Authorization: Basic YWRhOmxvdmVsYWNl'] }
  assert.equal((await ask('/', { ...question, from: '127.0.0.2' })).status, 200)
  assert.equal((await ask('/', { ...question, from: '127.0.0.9' })).status, 403)
})

/** Two addresses whose queues are full: the kernel drops what else wants to connect. */
async function fullQueues(t: TestContext): Promise<readonly string[]> {
  const python = findProgram('python3')
  if (python === null) {
    t.skip(missingLine('python3'))
    return []
  }
  const child = spawn(python, ['-c', `
import socket, sys
held = []
for _ in range(2):
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    server.listen(0)
    held.append(server)
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        held.append(client)
    print(server.getsockname()[1], flush=True)
sys.stdin.read()`], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(async () => {
    child.stdin.end()
    await once(child, 'exit')
  })
  const ports: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    ports.push(`127.0.0.1:${line}`)
    if (ports.length === 2) break
  }
  return ports
}

after(() => {
  const directives = CONF.split('\n').map(line => line.trim().replace(/^location \S+ (?:\S+ )?\{ (.*) \}$/, '$1').replace(/[;{ ]+$/, ''))
  const plain = new Set(['', '}', 'events {}', 'http', 'server', 'worker_processes 2', 'default_type text/plain', 'proxy_read_timeout 30s'])
  const words = [...asked]
  const unasked = directives.filter(line => !plain.has(line) && !line.startsWith('#') && !words.some(word => line.includes(word)))
  assert.deepEqual(unasked, [])
  assert.ok(words.length >= 25, `${words.length} directives`)
})
