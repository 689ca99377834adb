/**
 * Many keep-alive connections that are always busy, and, when asked for, a burst of new ones beside them. Run as a
 * process of its own; prints one JSON line.
 *
 *   node crowd.ts PORT PATH BUSY BURST SECONDS      a burst comes after SECONDS
 *
 * Cheap on purpose, as it shares a core with the origin: bare sockets, one read buffer, an answer is told by its length.
 */
import net from 'node:net'
import { percentile } from '../statistics.ts'

export interface CrowdResult {
  /** From the dial of a burst's connection to the whole answer. */
  readonly burstP50Ms: number
  readonly burstP90Ms: number
  readonly burstMaxMs: number
  /** Connections of the burst that got no whole answer until the end. */
  readonly burstUnserved: number
  /** Busy connections: answers that the slowest and the one in the middle got, and how many got none. */
  readonly slowest: number
  readonly median: number
  readonly unserved: number
  /** Until the last of them had its first answer. */
  readonly firstAnswerMaxMs: number
  readonly answers: number
  /** Connections that ended other than by `Connection: close`. */
  readonly broken: number
}

/** A connection of the burst that has no answer by then counts as unserved. */
const BURST_MAX_MS = 10_000
const LOOK_MS = 20

const [port = 0, , busyCount = 0, burstCount = 0, seconds = 1] = process.argv.slice(2).map(Number)
const requestText = `GET ${process.argv[3] ?? '/'} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`
const readBuffer = Buffer.allocUnsafeSlow(65_536)
let answerBytes = 0
let broken = 0
let ending = false

class Member {
  readonly startedMs = performance.now()
  readonly repeats: boolean
  answers = 0
  firstMs = Number.NaN
  received = 0
  closes = false
  socket: net.Socket

  constructor(repeats: boolean) {
    this.repeats = repeats
    this.socket = this.dial()
  }

  dial(): net.Socket {
    this.received = 0
    const buffer = readBuffer
    const callback = (bytes: number): boolean => {
      this.read(bytes)
      return true
    }
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true, onread: { buffer, callback } })
    socket.once('connect', () => socket.write(requestText, 'latin1'))
    socket.on('error', () => {})
    socket.on('close', () => {
      if (ending || this.socket !== socket) return
      if (!this.closes) broken++
      // One that broke is dialled again like one that was told to close: it is what a client does.
      if (this.repeats) setTimeout(() => { if (!ending) this.socket = this.dial() }, this.closes ? 0 : 10)
    })
    return socket
  }

  read(bytes: number): void {
    if (this.received === 0) this.closes = readBuffer.latin1Slice(0, Math.min(bytes, 1024)).includes('\r\nConnection: close')
    this.received += bytes
    // An answer that says so is longer by that field.
    if (this.received < answerBytes) return
    this.received = 0
    if (this.answers++ === 0) this.firstMs = performance.now() - this.startedMs
    if (this.repeats && !this.closes) this.socket.write(requestText, 'latin1')
    else if (!this.repeats) this.end()
  }

  end(): void { this.socket.destroy() }
}

/** How long an answer is, head included: all are alike. */
async function learn(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const socket = net.connect({ host: '127.0.0.1', port })
  let text = ''
  socket.on('error', reject)
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    const head = text.indexOf('\r\n\r\n')
    const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1]
    if (head < 0 || text.length < head + 4 + Number(length)) return
    socket.destroy()
    resolve(text.length)
  })
  socket.write(requestText)
  return promise
}

function pause(ms: number): Promise<void> { return new Promise((resolve) => setTimeout(resolve, ms)) }

answerBytes = await learn()
const busy = Array.from({ length: busyCount }, () => new Member(true))
let burst: Member[] = []
// Before a burst the busy ones find their pace.
await pause(seconds * 1000)
if (burstCount > 0) {
  const late = performance.now() + BURST_MAX_MS
  burst = Array.from({ length: burstCount }, () => new Member(false))
  while (performance.now() < late && burst.some((member) => member.answers === 0)) await pause(LOOK_MS)
}
ending = true
const counts = Float64Array.from(busy, (member) => member.answers).sort()
// One without an answer has waited for as long as anybody looked.
const waits = Float64Array.from(burst, (member) => (member.answers > 0 ? member.firstMs : BURST_MAX_MS)).sort()
const result: CrowdResult = {
  burstP50Ms: percentile(waits, 50), burstP90Ms: percentile(waits, 90), burstMaxMs: waits.at(-1) ?? Number.NaN,
  burstUnserved: burst.filter((member) => member.answers === 0).length,
  slowest: counts[0] ?? 0, median: percentile(counts, 50), unserved: counts.filter((count) => count === 0).length,
  firstAnswerMaxMs: busy.reduce((most, member) => Math.max(most, Number.isNaN(member.firstMs) ? seconds * 1000 : member.firstMs), 0),
  answers: counts.reduce((sum, count) => sum + count, 0), broken,
}
for (const member of [...busy, ...burst]) member.end()
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
