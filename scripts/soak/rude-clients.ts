/**
 * Clients that abort in every phase of an exchange, by FIN and by reset, and clients of origins that do, in a process of
 * their own: `node rude-clients.ts RATE PORT...`. Prints a line of JSON each second; ends on SIGTERM.
 * Nothing of this is lost: every abort is its own explanation. What must not be is an exchange that does not end.
 */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export interface RudeReport {
  /** Exchanges that a client or an origin aborted on purpose. */
  readonly aborts: number
  /** Exchanges whose origin aborted, and that neither were answered nor ended within 10 s. */
  readonly hung: number
}

const END_MAX_MS = 10_000
const REPORT_MS = 1000
/** Long enough for the proxy to be in the phase that is meant. */
const PHASE_MS = 60
const BODY = 'x'.repeat(20_000)

let aborts = 0
let hung = 0

function dial(port: number): Promise<net.Socket | null> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
    socket.on('error', () => {})
    socket.once('connect', () => resolve(socket))
    socket.once('close', () => resolve(null))
  })
}

function get(path: string, fields = ''): string { return `GET ${path} HTTP/1.1\r\nHost: rude\r\n${fields}\r\n` }
function post(path: string, length: number): string { return `POST ${path} HTTP/1.1\r\nHost: rude\r\nContent-Length: ${length}\r\n\r\n` }

const WEBSOCKET_KEY = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
const WEBSOCKET = `Connection: Upgrade\r\nUpgrade: websocket\r\n${WEBSOCKET_KEY}`

/** What a client has sent when it leaves, phase by phase. */
const CLIENT_PHASES: readonly string[] = [
  '',
  'GET /small HTTP/1.1\r\nHost: ru',
  get('/rude/slow?ms=200'),
  get('/rude/never'),
  post('/rude/upload', 1_000_000),
  `${post('/rude/upload', 1_000_000)}${BODY}`,
  `${post('/rude/upload', BODY.length)}${BODY}`,
  get('/rude/endless'),
  get('/rude/pieces?ms=30'),
  get('/rude/small').repeat(20),
  get('/rude/ws?ms=200', WEBSOCKET),
  get('/rude/ws', WEBSOCKET),
  `POST /rude/upload HTTP/1.1\r\nHost: rude\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n${BODY.slice(0, 999)}`,
]

/** What is asked of origins that abort. */
const ORIGIN_PHASES: readonly string[] = [
  get('/rude/reset-head'), get('/rude/reset-body'), get('/rude/short'), `${post('/rude/early', 200_000)}${BODY}`,
]

async function clientLeaves(port: number, bytes: string, how: 'FIN' | 'reset'): Promise<void> {
  const socket = await dial(port)
  if (socket === null) return
  if (bytes !== '') socket.write(bytes)
  // Half of the readers have read something by then.
  if (Math.random() < 0.5) socket.resume()
  await delay(Math.random() * 2 * PHASE_MS)
  aborts++
  if (how === 'reset') socket.resetAndDestroy()
  else {
    socket.resume()
    socket.end()
    setTimeout(() => socket.destroy(), END_MAX_MS)
  }
}

async function originLeaves(port: number, bytes: string): Promise<void> {
  const socket = await dial(port)
  if (socket === null) return
  aborts++
  const { promise, resolve } = Promise.withResolvers<boolean>()
  socket.once('data', () => resolve(true)).once('close', () => resolve(true))
  socket.write(bytes)
  const timer = setTimeout(() => resolve(false), END_MAX_MS)
  if (!await promise) hung++
  clearTimeout(timer)
  socket.destroy()
}

const [rate = 1, ...ports] = process.argv.slice(2).map(Number)
setInterval(() => process.stdout.write(`${JSON.stringify({ aborts, hung } satisfies RudeReport)}\n`), REPORT_MS)
for (let index = 0; ; index++) {
  for (const port of ports) {
    const phase = index % (CLIENT_PHASES.length + ORIGIN_PHASES.length)
    const bytes = CLIENT_PHASES[phase]
    if (bytes === undefined) void originLeaves(port, ORIGIN_PHASES[phase - CLIENT_PHASES.length] ?? '')
    else void clientLeaves(port, bytes, Math.random() < 0.5 ? 'FIN' : 'reset')
  }
  await delay(1000 / rate)
}
