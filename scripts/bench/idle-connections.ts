/**
 * Opens connections, sends one request on each, reads the answer and holds them open: what an idle client costs.
 * Run as a process of its own. Prints `open N` when all of them wait, and ends on SIGTERM.
 * HTTP/2 is spoken byte by byte: a session of node:http2 for each would be most of what a connection costs here.
 */
import net from 'node:net'
import tls from 'node:tls'

/** Dials under way at once: enough to be quick, few enough that the proxy's upstream pool stays small. */
const DIALS_AT_ONCE = 32

/** Those that every contender has: OpenSSL 3.0, which most are linked with, knows no hybrid one. */
const GROUPS = 'X25519:P-256'

const FRAME_HEAD = 9
const [DATA, HEADERS, SETTINGS] = [0, 1, 4]
const [END_STREAM, END_HEADERS] = [0x1, 0x4]

const [port = 0, wanted = 0, bodyBytes = 0] = process.argv.slice(2).map(Number)
const isTls = process.argv[5] === 'downstream', isHttp2 = process.argv[6] === 'downstream'
/** One for all: a context of its own would be most of what a connection costs here. */
const secureContext = isTls ? tls.createSecureContext({ ecdhCurve: GROUPS }) : undefined
const requestText = isHttp2 ? http2Request() : `GET /80 HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`
const isAnswered = isHttp2 ? isHttp2Answered : isHttp1Answered
const protocols = isHttp2 ? { ALPNProtocols: ['h2'] } : {}
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
      try {
        if (!isAnswered(answer)) return
      } catch (error) {
        reject(error as Error)
        return
      }
      answer = ''
      socket.removeAllListeners('data')
      held.push(socket)
      resolve()
    })
  })
}

/** @throws Error another answer than 200 */
function isHttp1Answered(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n')
  if (end < 0 || answer.length < end + 4 + bodyBytes) return false
  if (!answer.startsWith('HTTP/1.1 200')) throw new Error(answer.slice(0, end))
  return true
}

function frame(type: number, flags: number, stream: number, payload: string): string {
  const head = Buffer.alloc(FRAME_HEAD)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return head.toString('latin1') + payload
}

/** The preface, no settings, their acknowledgement ahead of time, and `GET /80`, all but its path and authority by index. */
function http2Request(): string {
  const authority = `127.0.0.1:${port}`
  const fields = `\x82\x87\x04\x03/80\x01${String.fromCodePoint(authority.length)}${authority}`
  const settings = frame(SETTINGS, 0, 0, '') + frame(SETTINGS, 1, 0, '')
  return `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${settings}${frame(HEADERS, END_HEADERS | END_STREAM, 1, fields)}`
}

/** @throws Error another answer than 200, or one of another length */
function isHttp2Answered(answer: string): boolean {
  const bytes = Buffer.from(answer, 'latin1')
  let body = 0
  for (let at = 0; at + FRAME_HEAD <= bytes.length;) {
    const length = bytes.readUIntBE(at, 3), type = bytes.readUInt8(at + 3), flags = bytes.readUInt8(at + 4)
    const payload = answer.slice(at + FRAME_HEAD, at + FRAME_HEAD + length)
    if (payload.length < length) return false
    if (bytes.readUInt32BE(at + 5) === 1) {
      // RFC 7541 appendix A: `:status: 200` is one byte; an update of the table's size may stand before it.
      if (type === HEADERS && !/^[\x20-\x3f]?\x88/.test(payload)) throw new Error(`another head: ${payload}`)
      if (type === DATA) body += length
      if ((flags & END_STREAM) !== 0) {
        if (body !== bodyBytes) throw new Error(`${body} bytes; ${bodyBytes} are right`)
        return true
      }
    }
    at += FRAME_HEAD + length
  }
  return false
}

function dial(onReady: () => void): net.Socket {
  const to = { host: '127.0.0.1', port, noDelay: true }
  return isTls ? tls.connect({ ...to, secureContext, rejectUnauthorized: false, ...protocols }, onReady) : net.connect(to, onReady)
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
