/**
 * Programs that others wrote, as clients of the proxy and as origins behind it. What is not installed is skipped.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { HttpPeer } from '../../src/index.ts'
import { requireProgram } from '../support/programs.ts'
import { get, head, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { chunk, response, type OriginExchange } from '../support/scripted-origin.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const LARGE = randomBytes(3_000_000)
const LARGE_SHA256 = createHash('sha256').update(LARGE).digest('hex')

/** What every client is asked against: a length, chunked, nothing, and what it sent. */
async function library(exchange: OriginExchange): Promise<void> {
  const { target } = exchange.request
  if (target === '/wait') {
    await exchange.send('HTTP/1.1 100 Continue\r\n\r\n')
    const request = await exchange.whole()
    return exchange.send(response(200, `${request.bodyBytes} ${request.bodySha256}`))
  }
  const request = await exchange.whole()
  const bodiless = request.method === 'HEAD'
  if (target === '/large') {
    return exchange.send(bodiless ? `HTTP/1.1 200 OK\r\nContent-Length: ${LARGE.length}\r\n\r\n` : response(200, LARGE))
  }
  if (target === '/chunked') {
    await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    for (let from = 0; from < LARGE.length; from += 70_000) await exchange.send(chunk(LARGE.subarray(from, from + 70_000)))
    return exchange.send('0\r\n\r\n')
  }
  if (target === '/empty') return exchange.send('HTTP/1.1 204 No Content\r\n\r\n')
  if (target === '/seen') return exchange.send(response(200, `${request.framing} ${request.bodyBytes} ${request.bodySha256}`))
  return exchange.send(bodiless ? 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n' : response(200, 'hello'))
}

interface Ran { readonly stdout: Buffer; readonly stderr: string; readonly code: number }

/** Runs a program to its end. */
function runProgram(program: string, args: readonly string[], deadlineMs = 20_000): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>()
  execFile(program, args, {
    encoding: 'buffer', maxBuffer: 64 << 20, timeout: deadlineMs, killSignal: 'SIGKILL',
  }, (error, stdout, stderr) => {
    resolve({ stdout, stderr: stderr.toString(), code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1 })
  })
  return promise
}

function sha256(bytes: Buffer): string { return createHash('sha256').update(bytes).digest('hex') }

describe('interop: clients', () => {
  it('curl', async t => {
    const curl = requireProgram(t, 'curl')
    if (curl === null) return
    const proxy = await startProxy(t, { script: library, peer: { continueTimeoutMs: 100 } })
    const folder = temporaryFolder(t)
    const file = path.join(folder, 'large')
    writeFileSync(file, LARGE)
    const ask = async (...args: string[]): Promise<Ran> => {
      const ran = await runProgram(curl, [
        '--silent', '--show-error', '--max-time', '15',
        ...args.map(arg => arg.startsWith('/') && arg !== file ? `http://${proxy.authority}${arg}` : arg),
      ])
      assert.equal(ran.code, 0, ran.stderr)
      return ran
    }
    assert.equal((await ask('/')).stdout.toString(), 'hello')
    assert.equal((await ask('--http1.0', '/')).stdout.toString(), 'hello')
    assert.match((await ask('--head', '/large')).stdout.toString(), /^HTTP\/1\.1 200 OK\r\n[^]*content-length: 3000000\r\n/i)
    assert.equal(sha256((await ask('/large')).stdout), LARGE_SHA256)
    assert.equal(sha256((await ask('/chunked')).stdout), LARGE_SHA256)
    assert.equal(sha256((await ask('--http1.0', '/chunked')).stdout), LARGE_SHA256)
    assert.equal((await ask('--data-binary', `@${file}`, '/seen')).stdout.toString(), `length ${LARGE.length} ${LARGE_SHA256}`)
    assert.equal(
      (await ask('--data-binary', `@${file}`, '--header', 'Transfer-Encoding: chunked', '/seen')).stdout.toString(),
      `chunked ${LARGE.length} ${LARGE_SHA256}`,
    )
    assert.equal(
      (await ask('--upload-file', file, '--header', 'Expect: 100-continue', '/wait')).stdout.toString(),
      `${LARGE.length} ${LARGE_SHA256}`,
    )
    const twice = await ask('--verbose', '/', '/')
    assert.equal(twice.stdout.toString(), 'hellohello')
    assert.match(twice.stderr, /Re-using existing connection/)
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('wrk', async t => {
    const wrk = requireProgram(t, 'wrk')
    if (wrk === null) return
    const proxy = await startProxy(t, { script: library, listener: { maxRequestsPerConnection: 0 } })
    const { stdout, code, stderr } = await runProgram(wrk, [
      '--threads', '1', '--connections', '20', '--duration', '1s', `http://${proxy.authority}/`,
    ])
    assert.equal(code, 0, stderr)
    const report = stdout.toString()
    assert.match(report, /[1-9]\d* requests in/)
    assert.doesNotMatch(report, /Socket errors|Non-2xx/)
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('fetch of Node.js', async t => {
    const proxy = await startProxy(t, { script: library })
    const base = `http://${proxy.authority}`
    const headers = { connection: 'close' }
    assert.equal(await (await fetch(`${base}/`, { headers })).text(), 'hello')
    assert.equal((await fetch(`${base}/large`, { method: 'HEAD', headers })).headers.get('content-length'), String(LARGE.length))
    assert.equal((await fetch(`${base}/empty`, { headers })).status, 204)
    assert.equal(sha256(Buffer.from(await (await fetch(`${base}/chunked`, { headers })).arrayBuffer())), LARGE_SHA256)
    assert.equal(
      await (await fetch(`${base}/seen`, { method: 'POST', body: LARGE, headers })).text(),
      `length ${LARGE.length} ${LARGE_SHA256}`,
    )
    const streamed = new ReadableStream({
      start(controller) {
        for (let from = 0; from < LARGE.length; from += 50_000) controller.enqueue(LARGE.subarray(from, from + 50_000))
        controller.close()
      },
    })
    assert.equal(
      await (await fetch(`${base}/seen`, { method: 'POST', body: streamed, duplex: 'half', headers } as RequestInit)).text(),
      `chunked ${LARGE.length} ${LARGE_SHA256}`,
    )
    const many = await Promise.all(Array.from({ length: 50 }, async () => await (await fetch(`${base}/`, { headers })).text()))
    assert.deepEqual(new Set(many), new Set(['hello']))
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('http.client of Python', async t => {
    const python = requireProgram(t, 'python3')
    if (python === null) return
    const proxy = await startProxy(t, { script: library })
    const folder = temporaryFolder(t)
    writeFileSync(path.join(folder, 'large'), LARGE)
    writeTree(folder, {
      'client.py': [
        'import hashlib, http.client, sys',
        'port, large = int(sys.argv[1]), open(sys.argv[2], "rb").read()',
        'connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)',
        'def ask(method, target, body=None, chunked=False):',
        '    headers = {"Transfer-Encoding": "chunked"} if chunked else {}',
        '    connection.request(method, target, body=body, encode_chunked=chunked, headers=headers)',
        '    answer = connection.getresponse()',
        '    return answer.status, answer.read()',
        'assert ask("GET", "/") == (200, b"hello")',
        'assert ask("HEAD", "/large") == (200, b"")',
        'assert ask("GET", "/empty") == (204, b"")',
        'digest = hashlib.sha256(large).hexdigest()',
        'assert hashlib.sha256(ask("GET", "/large")[1]).hexdigest() == digest',
        'assert hashlib.sha256(ask("GET", "/chunked")[1]).hexdigest() == digest',
        'assert ask("POST", "/seen", large) == (200, f"length {len(large)} {digest}".encode())',
        'pieces = (large[at:at + 40000] for at in range(0, len(large), 40000))',
        'assert ask("POST", "/seen", pieces, True) == (200, f"chunked {len(large)} {digest}".encode())',
        'print("all on port", connection.sock.getsockname()[1])',
      ].join('\n'),
    })
    const { stdout, stderr, code } = await runProgram(python, [
      path.join(folder, 'client.py'), String(proxy.port), path.join(folder, 'large'),
    ])
    assert.equal(code, 0, stderr)
    assert.match(stdout.toString(), /^all on port \d+/)
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('nginx, with persistent connections to us', async t => {
    const nginx = requireProgram(t, 'nginx')
    if (nginx === null) return
    const proxy = await startProxy(t, { script: library })
    const port = await startNginx(t, nginx, `
      upstream cirque { server ${proxy.authority}; keepalive 8; }
      server {
        listen 127.0.0.1:PORT;
        client_max_body_size 0;
        location / {
          proxy_pass http://cirque; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_request_buffering off; proxy_buffering off;
        }
      }`)
    await askEverything(port, proxy)
    assert.ok(proxy.origin.requests.every(request => request.field('cirque-loop') !== null), 'nothing went past the proxy')
  })

  it('haproxy, with persistent connections to us', async t => {
    const haproxy = requireProgram(t, 'haproxy')
    if (haproxy === null) return
    const proxy = await startProxy(t, { script: library })
    const port = await startHaproxy(t, haproxy, `server cirque ${proxy.authority}`)
    await askEverything(port, proxy)
  })
})

describe('interop: origins', () => {
  it('nginx serves files through us: whole, in parts, conditionally, and over a connection that is used again', async t => {
    const nginx = requireProgram(t, 'nginx')
    if (nginx === null) return
    const folder = temporaryFolder(t)
    writeTree(folder, { 'www/small': 'hello' })
    writeFileSync(path.join(folder, 'www/large'), LARGE)
    const port = await startNginx(t, nginx, `
      server {
        listen 127.0.0.1:PORT;
        location / { root ${folder}/www; }
        location = /port { return 200 $connection; }
        location = /gzip { gzip on; gzip_types *; gzip_min_length 1; root ${folder}/www; rewrite ^ /large break; }
        location = /error { return 503 "no"; }
      }`)
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`127.0.0.1:${port}`) } })
    const client = await proxy.connect()
    const ask = async (target: string, ...lines: string[]): Promise<Awaited<ReturnType<RawClient['readResponse']>>> => {
      await client.write(get(target, ...lines))
      return await client.readResponse()
    }
    const small = await ask('/small')
    assert.equal(small.body.toString(), 'hello')
    assert.equal(sha256((await ask('/large')).body), LARGE_SHA256)
    const part = await ask('/large', 'Range: bytes=10-19')
    assert.equal(part.status, 206)
    assert.deepEqual(part.body, LARGE.subarray(10, 20))
    assert.equal((await ask('/small', `If-None-Match: ${small.field('etag')}`)).status, 304)
    assert.equal((await ask('/none')).status, 404)
    assert.equal((await ask('/error')).status, 503)
    // Its default for requests that a proxy sends (gzip_proxied off): it goes by Via.
    const zipped = await ask('/gzip', 'Accept-Encoding: gzip')
    assert.deepEqual([zipped.framing, zipped.field('content-encoding')], ['chunked', 'gzip'])
    await client.write(head('HEAD /large HTTP/1.1'))
    assert.equal((await client.readResponse({ method: 'HEAD' })).field('content-length'), String(LARGE.length))
    const first = (await ask('/port')).body.toString()
    assert.equal((await ask('/port')).body.toString(), first, 'the connection to nginx is not used again')
    await client.write(head('POST /small HTTP/1.1', 'Content-Length: 5') + 'hello')
    assert.equal((await client.readResponse()).status, 405)
    assert.equal((await ask('/small')).body.toString(), 'hello')
  })

  it('haproxy as a hop behind us', async t => {
    const haproxy = requireProgram(t, 'haproxy')
    if (haproxy === null) return
    const origin = await startProxy(t, { script: library })
    const port = await startHaproxy(t, haproxy, `server last ${origin.authority}`)
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`127.0.0.1:${port}`) } })
    await askEverything(proxy.port, origin)
  })

  it('http.server of Python: HTTP/1.0, until close', async t => {
    const python = requireProgram(t, 'python3')
    if (python === null) return
    const folder = temporaryFolder(t)
    writeTree(folder, { 'www/small': 'hello' })
    writeFileSync(path.join(folder, 'www/large'), LARGE)
    const port = await freePort()
    await startDaemon(
      t,
      python,
      ['-u', '-m', 'http.server', String(port), '--bind', '127.0.0.1', '--directory', path.join(folder, 'www')],
      port,
    )
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`127.0.0.1:${port}`) } })
    const client = await proxy.connect()
    for (let round = 0; round < 3; round++) {
      await client.write(get('/small'))
      assert.equal((await client.readResponse()).body.toString(), 'hello')
    }
    await client.write(get('/large'))
    assert.equal(sha256((await client.readResponse()).body), LARGE_SHA256)
    // A directory listing has a length; an error page of this server ends with the connection.
    await client.write(get('/none'))
    assert.equal((await client.readResponse()).status, 404)
    await client.write(get('/small'))
    assert.equal((await client.readResponse()).body.toString(), 'hello')
  })
})

/** The library asked in every way over one connection to `port`; `proxy` is the one in front of it. */
async function askEverything(port: number, proxy: ProxyUnderTest): Promise<void> {
  using client = await RawClient.connect({ host: '127.0.0.1', port })
  const ask = async (bytes: string | Buffer, method = 'GET'): Promise<Awaited<ReturnType<RawClient['readResponse']>>> => {
    await client.write(bytes)
    return await client.readResponse({ method, deadlineMs: 15_000 })
  }
  assert.equal((await ask(get())).body.toString(), 'hello')
  assert.equal((await ask(head('HEAD /large HTTP/1.1'), 'HEAD')).field('content-length'), String(LARGE.length))
  assert.equal((await ask(get('/empty'))).status, 204)
  assert.equal(sha256((await ask(get('/large'))).body), LARGE_SHA256)
  assert.equal(sha256((await ask(get('/chunked'))).body), LARGE_SHA256)
  const length = Buffer.concat([Buffer.from(head('POST /seen HTTP/1.1', `Content-Length: ${LARGE.length}`)), LARGE])
  assert.equal((await ask(length)).body.toString(), `length ${LARGE.length} ${LARGE_SHA256}`)
  const pieces: Buffer[] = [Buffer.from(head('POST /seen HTTP/1.1', 'Transfer-Encoding: chunked'))]
  for (let from = 0; from < LARGE.length; from += 33_333) pieces.push(chunk(LARGE.subarray(from, from + 33_333)))
  assert.equal((await ask(Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]))).body.toString(), `chunked ${LARGE.length} ${LARGE_SHA256}`)
  await client.write(head('POST /wait HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5'))
  assert.equal((await client.readHead()).status, 100)
  const waited = await ask('hello')
  assert.equal(waited.body.toString(), `5 ${createHash('sha256').update('hello').digest('hex')}`)
  assert.deepEqual(proxy.origin.faults, [])
}

async function startNginx(t: TestContext, nginx: string, servers: string): Promise<number> {
  const folder = temporaryFolder(t)
  const port = await freePort()
  writeTree(folder, {
    'nginx.conf': `
      daemon off; master_process off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
      events { worker_connections 256; }
      http {
        access_log off; default_type text/plain;
        client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
        fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
        ${servers.replaceAll('PORT', String(port))}
      }`,
  })
  await startDaemon(t, nginx, ['-p', folder, '-c', `${folder}/nginx.conf`, '-e', `${folder}/error.log`], port)
  return port
}

async function startHaproxy(t: TestContext, haproxy: string, server: string): Promise<number> {
  const folder = temporaryFolder(t)
  const port = await freePort()
  writeTree(folder, {
    'haproxy.cfg': `
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  http-reuse always
frontend in
  bind 127.0.0.1:${port}
  default_backend out
backend out
  ${server}
`,
  })
  await startDaemon(t, haproxy, ['-db', '-f', `${folder}/haproxy.cfg`], port)
  return port
}

/** Starts a program that listens, waits until it does, and ends it after the test by its pid. */
async function startDaemon(t: TestContext, program: string, args: readonly string[], port: number): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text: Buffer) => { output = (output + text.toString()).slice(-4000) })
  }
  let ended = false
  const gone = new Promise<void>(resolve => child.once('exit', () => { ended = true; resolve() }))
  t.after(async () => {
    child.kill('SIGTERM')
    const force = setTimeout(() => child.kill('SIGKILL'), 3000)
    await gone
    clearTimeout(force)
  })
  await waitFor(`${path.basename(program)} to listen`, async () => {
    if (ended) throw new Error(`${program} ended: ${output}`)
    try {
      const probe = await RawClient.connect({ host: '127.0.0.1', port }, 500)
      probe.destroy()
      return true
    } catch { return false }
  }, { deadlineMs: 10_000, seen: () => output })
}

/** A port that was free a moment ago, for programs that cannot be told to choose one. */
async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await within('a port', new Promise<void>(resolve => server.once('listening', () => resolve())))
  const { port } = server.address() as net.AddressInfo
  await new Promise<void>(resolve => server.close(() => resolve()))
  return port
}
