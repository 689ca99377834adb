/**
 * The demo origin in a process of its own, whose `/` says who asked, and on the same port one of HTTP/2 (http2-origin.ts). Not in the
 * test's process: Node.js accepts one connection in each turn of its loop, and those of many clients are long. Where each dial waits for
 * longer than the one before, a proxy that finds no free connection dials once more, and nobody catches up again.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import type { TestContext } from 'node:test'
import { createOrigin } from '../../examples/demo-origins.ts'
import { choosesVersion, createHttp2Origin } from './http2-origin.ts'
import { within } from './wait-for.ts'

const ROLE = 'CIRQUE_TEST_ORIGIN'

/** Returns its `host:port`. It ends with the test. */
export async function startOrigin(t: TestContext): Promise<string> {
  const child = fork(import.meta.filename, [], {
    env: { ...process.env, [ROLE]: '1' }, execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const [port] = await within('the origin to listen', once(child, 'message'), 20_000) as [number]
  return `127.0.0.1:${port}`
}

function serve(): void {
  const demo = createOrigin('demo')
  const origin = http.createServer((request, response) => {
    if (request.url !== '/') { demo.emit('request', request, response); return }
    const body = String(request.headers['x-who'] ?? 'nobody')
    response.writeHead(200, { 'content-length': Buffer.byteLength(body) }).end(body)
  })
  origin.on('upgrade', (request, socket, head) => demo.emit('upgrade', request, socket, head))
  origin.keepAliveTimeout = 75_000
  const server = net.createServer({ allowHalfOpen: true, noDelay: true })
  choosesVersion(server, origin, createHttp2Origin())
  server.listen({ host: '127.0.0.1', port: 0 }, () => { process.send!((server.address() as net.AddressInfo).port) })
  // Without the test it has no purpose.
  process.once('disconnect', () => process.exit())
}

if (process.env[ROLE] === '1') serve()
