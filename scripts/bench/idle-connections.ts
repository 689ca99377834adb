/**
 * Opens connections, sends one request on each, reads the answer and holds them open: what an idle client costs.
 * Run as a process of its own. Prints `open N` when all of them wait, and ends on SIGTERM.
 */
import net from 'node:net'
import tls from 'node:tls'

/** Dials under way at once: enough to be quick, few enough that the proxy's upstream pool stays small. */
const DIALS_AT_ONCE = 32

/** Those that every contender has: OpenSSL 3.0, which most are linked with, knows no hybrid one. */
const GROUPS = 'X25519:P-256'

const [port = 0, wanted = 0, bodyBytes = 0] = process.argv.slice(2).map(Number)
const isTls = process.argv[5] === 'downstream'
/** One for all: a context of its own would be most of what a connection costs here. */
const secureContext = isTls ? tls.createSecureContext({ ecdhCurve: GROUPS }) : undefined
const requestText = `GET /80 HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`
const held: net.Socket[] = []
let lost = 0

function openOne(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = dial(() => socket.write(requestText, 'latin1'))
    let answer = ''
    socket.on('error', reject)
    socket.on('close', () => { lost++ })
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
      const end = answer.indexOf('\r\n\r\n')
      if (end < 0 || answer.length < end + 4 + bodyBytes) return
      if (!answer.startsWith('HTTP/1.1 200')) return reject(new Error(answer.slice(0, end)))
      answer = ''
      socket.removeAllListeners('data')
      held.push(socket)
      resolve()
    })
  })
}

function dial(onReady: () => void): net.Socket {
  const to = { host: '127.0.0.1', port, noDelay: true }
  return isTls ? tls.connect({ ...to, secureContext, rejectUnauthorized: false }, onReady) : net.connect(to, onReady)
}

async function dialer(): Promise<void> {
  while (started < wanted) {
    started++
    await openOne()
  }
}

let started = 0
process.on('SIGTERM', () => {
  process.stdout.write(`lost ${lost}\n`, () => process.exit(0))
})
await Promise.all(Array.from({ length: DIALS_AT_ONCE }, dialer))
process.stdout.write(`open ${held.length}\n`)
