/** The proof client in this process, against servers that are well behaved or fail on purpose. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { createOrigin } from '../../examples/demo-origins.ts'
import type { PopulationName, PopulationReport, ProofReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions, type ProveOptions } from '../../src/config/prove-options.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { CannotProve } from '../../src/prove/preflight.ts'
import { Proof } from '../../src/prove/proof.ts'

async function listening(t: TestContext, server: net.Server): Promise<string> {
  const sockets = new Set<net.Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`
}

async function watch(options: ProveOptions): Promise<ProofReport> {
  const resolved = resolveProveOptions({ beforeMs: 0, forMs: 400, delayMs: 5, timeoutMs: 1000, rate: 50, ...options })
  const proof = await Proof.prepare(resolved)
  proof.start()
  const { promise, resolve } = Promise.withResolvers<void>()
  systemClock.after(resolved.forMs, resolve)
  await promise
  await proof.finish()
  return proof.report(null)
}

function population(report: ProofReport, name: PopulationName): PopulationReport {
  const found = report.populations.find(each => each.name === name)
  assert.ok(found)
  return found
}

/** Answers GET on keep-alive connections; `spoil` gets every request by its number and says whether it dealt with it. */
function rawServer(spoil: (socket: net.Socket, count: number) => boolean): net.Server {
  let count = 0
  return net.createServer({ allowHalfOpen: true }, socket => {
    let text = ''
    socket.setEncoding('latin1')
    socket.on('end', () => socket.end())
    socket.on('data', chunk => {
      text += String(chunk)
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        const close = text.slice(0, end).includes('Connection: close')
        text = text.slice(end + 4)
        // The first request is the one before anything is counted.
        if (count++ > 0 && spoil(socket, count)) return
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')
        if (close) socket.end()
      }
    })
  })
}

test('proof: nothing is lost at a server that does everything right', async t => {
  const url = await listening(t, createOrigin('origin'))
  const report = await watch({ url, ws: '/ws', download: '/download?bytes=3000000', upload: '/upload', uploadBytes: 500_000 })
  assert.deepEqual(report.losses, [])
  assert.equal(report.lost, 0)
  for (const { name, attempted, outcomes } of report.populations) {
    assert.ok(attempted > 0, name)
    assert.equal(outcomes.ok, attempted, name)
  }
  assert.equal(report.populations.length, 5)
  assert.ok(report.longestGapMs.before !== null)
  assert.equal(report.longestGapMs.during, null)
})

test('proof: resets, truncated and wrong answers are counted as what they are', async t => {
  const url = await listening(t, rawServer((socket, count) => {
    switch (count % 5) {
      case 0: socket.resetAndDestroy(); return true
      case 1: socket.end('HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello'); return true
      case 2: socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'); return true
      case 3: socket.end(); return true
      default: return false
    }
  }))
  const report = await watch({ url })
  for (const name of ['fresh connections', 'keep-alive'] as const) {
    const { outcomes, attempted } = population(report, name)
    assert.ok(outcomes.ok > 0 && outcomes.reset > 0 && outcomes.truncated > 0 && outcomes.wrong > 0, `${name}: ${JSON.stringify(outcomes)}`)
    assert.equal(Object.values(outcomes).reduce((sum, each) => sum + each), attempted)
  }
  assert.equal(report.lost, report.attempted - report.populations.reduce((sum, { outcomes }) => sum + outcomes.ok, 0))
  const details = report.losses.map(loss => loss.detail).join('\n')
  assert.match(details, /ECONNRESET before the answer/)
  assert.match(details, /closed before the answer/)
  assert.match(details, /closed after 5 bytes of the answer's body/)
  assert.match(details, /status 502/)
})

test('proof: a server that says that it closes, or closes what is idle, loses nothing', async t => {
  const url = await listening(t, rawServer((socket, count) => {
    if (count % 2 === 0) return false
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    return true
  }))
  const report = await watch({ url })
  assert.deepEqual(report.losses, [])
  assert.ok(population(report, 'keep-alive').politeCloses > 0)
})

test('proof: closes that nobody announced are seen, as polite ones or by what was on its way', async t => {
  // Which of the two depends on whether a request was due while the FIN was on the line.
  const url = await listening(t, rawServer((socket, count) => {
    if (count % 3 === 0) setImmediate(() => socket.end())
    return false
  }))
  const report = await watch({ url, connections: 8, rate: 50, delayMs: 30, forMs: 600 })
  const { outcomes, politeCloses } = population(report, 'keep-alive')
  assert.ok(politeCloses + outcomes.truncated + outcomes.reset > 0)
  assert.equal(population(report, 'fresh connections').outcomes.ok, population(report, 'fresh connections').attempted)
})

test('proof: no answer is timed out, a server that went away refuses', async t => {
  const silent = await watch({ url: await listening(t, rawServer((_, count) => count > 5)), timeoutMs: 150 })
  assert.ok(population(silent, 'fresh connections').outcomes.timedOut > 0)
  assert.ok(population(silent, 'keep-alive').outcomes.timedOut > 0)
  const leaving = rawServer((_, count) => {
    if (count === 10) leaving.close()
    return false
  })
  const gone = await watch({ url: await listening(t, leaving) })
  assert.ok(population(gone, 'fresh connections').outcomes.refused > 0)
  assert.match(gone.losses[0]!.detail, /ECONNREFUSED dialling/)
  assert.equal(gone.losses[0]!.connectionAgeMs, null)
})

test('proof: a polite Close is no loss, an end without Close is', async t => {
  const rows = [
    [Buffer.from([0x88, 2, 0x03, 0xE9]), 0], [Buffer.from([0x88, 2, 0x03, 0xF3]), 1], [Buffer.alloc(0), 1],
  ] as const
  for (const [ending, expected] of rows) {
    const origin = createOrigin('origin')
    let upgrades = 0
    origin.on('upgrade', (_, socket) => {
      // The first is the one before anything is counted; the second ends at its first echo.
      if (++upgrades !== 2) return
      const write = socket.write.bind(socket)
      socket.write = ((bytes: Buffer | string) => {
        if (typeof bytes === 'string') return write(bytes)
        socket.end(ending)
        return true
      }) as typeof socket.write
    })
    // Ours first, so that the origin's own listener writes through it.
    origin.listeners('upgrade').toReversed().forEach((listener, index) => {
      if (index === 0) origin.removeAllListeners('upgrade')
      origin.on('upgrade', listener as () => void)
    })
    const report = await watch({ url: await listening(t, origin), path: '', ws: '/ws', connections: 10, rate: 100 })
    const { outcomes, politeCloses } = population(report, 'WebSocket echo')
    assert.equal(report.lost, expected, JSON.stringify(report.losses))
    assert.equal(outcomes.closed, 1 - expected)
    assert.equal(politeCloses, 1 - expected)
    assert.ok(outcomes.ok > 0)
  }
})

test('proof: a download of other content and an upload with another sum are wrong', async t => {
  let downloads = 0
  const server = createOrigin('origin')
  const [answer] = server.listeners('request')
  server.removeAllListeners('request')
  server.on('request', (request, response) => {
    const isLongUpload = request.method === 'POST' && request.headers['content-length'] !== '1000'
    if (request.url === '/other') response.end(Buffer.alloc(10_000, String(downloads++)))
    else if (isLongUpload) request.on('end', () => response.end('{"sha256":"0"}')).resume()
    else (answer as (...all: unknown[]) => void)(request, response)
  })
  const report = await watch({
    url: await listening(t, server), path: '', download: '/other', upload: '/upload', uploadBytes: 10_000, forMs: 200,
  })
  assert.ok(population(report, 'slow download').outcomes.wrong > 0)
  assert.ok(population(report, 'slow upload').outcomes.wrong > 0)
  const details = report.losses.map(loss => loss.detail).join('\n')
  assert.match(details, /other content than the first time/)
  assert.match(details, /without the right SHA-256/)
})

test('proof: what does not answer well to begin with is refused with the reason', async t => {
  const url = await listening(t, createOrigin('origin'))
  await assert.rejects(watch({ url, path: '/nothing' }), (error: Error) => {
    assert.match(error.message, /GET \/nothing at .* has no good answer to begin with: status 404/)
    return error instanceof CannotProve
  })
  await assert.rejects(watch({ url, path: '', ws: '/' }), /GET \/ at .*: status \d+/)
  const server = net.createServer()
  const freed = await listening(t, server)
  server.close()
  await once(server, 'close')
  await assert.rejects(watch({ url: freed }), /nothing listens at/)
})
