/**
 * An open-loop HTTP/1.1 client, run as a process of its own: requests leave by a fixed schedule and each latency is
 * counted from the moment at which its request was due. A proxy that stalls therefore pays for every request that
 * should have been sent meanwhile (no coordinated omission). Prints one JSON line.
 * Cheap on purpose, because it shares a core with the origin: bare sockets, one read buffer for all, no closure per request.
 */
import net from 'node:net'
import { parseArgs } from 'node:util'
import { OpenLoopSchedule } from './open-loop-schedule.ts'
import { percentile } from './statistics.ts'

export interface OpenLoopResult {
  readonly offeredPerSecond: number
  readonly answered: number
  /** Answers including those of the warming up, for CPU per request. */
  readonly served: number
  /** Wrong status, wrong length, a connection that ended early, or no answer within the grace time. */
  readonly failed: number
  readonly p50Micros: number
  readonly p90Micros: number
  readonly p99Micros: number
  readonly p999Micros: number
  readonly maxMicros: number
  /** How late requests left although a connection was free: this client's own share of the latency. */
  readonly ownDelayP99Micros: number
}

/** After the last arrival, so long may answers take. */
const GRACE_MS = 5000
/** Between the end of a connection and the attempt to replace it. */
const REDIAL_MS = 10
/**
 * The loop sleeps so long between two looks at its sockets. Timers of the event loop have a resolution of 1 ms, and a loop
 * that only polls would keep the origin, which shares its core, waiting for whole time slices.
 */
const NAP_MS = 0.1
const napping = new Int32Array(new SharedArrayBuffer(4))

const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    path: { type: 'string' },
    bytes: { type: 'string' },
    connections: { type: 'string' },
    rate: { type: 'string' },
    seconds: { type: 'string' },
  },
})

function numberOption(name: Exclude<keyof typeof values, 'path'>): number {
  const value = Number(values[name])
  if (!(value >= 0)) throw new Error(`--${name} must be a number`)
  return value
}

const port = numberOption('port')
const bodyBytes = numberOption('bytes')
const connectionCount = numberOption('connections')
const seconds = numberOption('seconds')
const rate = numberOption('rate')
const requestText = `GET ${values.path ?? '/'} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`

const readBuffer = Buffer.allocUnsafeSlow(256 * 1024)
const END_OF_HEAD = Buffer.from('\r\n\r\n', 'latin1')

const idle: Connection[] = []
let schedule = new OpenLoopSchedule(0, 1, 1)
let latencies = new Float64Array(1)
let ownDelays = new Float64Array(1)
let ownDelayCount = 0
let answered = 0
let failed = 0
/** True while something was due and no connection was free: the wait is then the proxy's, not ours. */
let starved = false

class Connection {
  socket: net.Socket | null = null
  dueAtMs = 0
  busy = false
  /** Bytes of the body still to come; -1 while the head is incomplete. */
  remaining = -1
  /** A head that came in pieces, kept until it is whole. */
  head = ''

  dial(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({
        host: '127.0.0.1', port, noDelay: true,
        onread: {
          buffer: readBuffer,
          callback: (bytes) => {
            this.read(bytes)
            return true
          },
        },
      })
      this.socket = socket
      socket.once('connect', () => {
        idle.push(this)
        resolve()
      })
      socket.on('error', reject)
      socket.on('close', () => this.closed())
    })
  }

  send(dueAtMs: number): void {
    this.busy = true
    this.dueAtMs = dueAtMs
    this.remaining = -1
    this.head = ''
    this.socket?.write(requestText, 'latin1')
  }

  read(bytes: number): void {
    if (!this.busy) {
      this.socket?.destroy()
      return
    }
    let used = 0
    if (this.remaining < 0) {
      used = this.readHead(bytes)
      if (used < 0) return
    }
    this.remaining -= bytes - used
    if (this.remaining > 0) return
    if (this.remaining < 0) this.fail()
    else this.finish()
  }

  /** @returns where the body begins in the read buffer, or -1 when the head is not whole or not as expected. */
  readHead(bytes: number): number {
    const pieces = this.head !== ''
    let text: string
    let end: number
    const at = readBuffer.subarray(0, bytes).indexOf(END_OF_HEAD)
    if (!pieces && at >= 0) {
      text = readBuffer.latin1Slice(0, at)
      end = at + 4
    } else {
      const before = this.head.length
      this.head += readBuffer.latin1Slice(0, bytes)
      const whole = this.head.indexOf('\r\n\r\n')
      if (whole < 0) return -1
      text = this.head.slice(0, whole)
      end = whole + 4 - before
    }
    const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1]
    if (!text.startsWith('HTTP/1.1 200') || length === undefined || Number(length) !== bodyBytes) {
      this.fail()
      return -1
    }
    this.remaining = bodyBytes
    return end
  }

  finish(): void {
    this.busy = false
    latencies[answered++] = performance.now() - this.dueAtMs
    idle.push(this)
    if (starved) pump(performance.now())
  }

  fail(): void {
    this.socket?.destroy() // `closed` counts it.
  }

  closed(): void {
    if (this.busy) failed++
    this.busy = false
    const at = idle.indexOf(this)
    if (at >= 0) idle.splice(at, 1)
    // A proxy that refuses connections shows as requests that were never sent.
    setTimeout(() => this.dial().catch(() => {}), REDIAL_MS)
  }
}

/** Sends what is due while there are free connections; the one that waited longest first, so that all stay in use. */
function pump(nowMs: number): void {
  while (schedule.isDue(nowMs)) {
    const connection = idle.shift()
    if (connection === undefined) {
      starved = true
      return
    }
    const dueAtMs = schedule.dueAt(schedule.take())
    if (!starved) ownDelays[ownDelayCount++] = nowMs - dueAtMs
    connection.send(dueAtMs)
  }
  starved = false
}

function runLoad(ratePerSecond: number, loadSeconds: number): Promise<void> {
  schedule = new OpenLoopSchedule(performance.now(), ratePerSecond, loadSeconds)
  latencies = new Float64Array(schedule.total)
  ownDelays = new Float64Array(schedule.total)
  ownDelayCount = 0
  answered = 0
  failed = 0
  const late = schedule.dueAt(schedule.total) + GRACE_MS
  return new Promise((resolve) => {
    function turn(): void {
      const now = performance.now()
      pump(now)
      const done = answered + failed >= schedule.total
      if (done || now > late) return resolve()
      Atomics.wait(napping, 0, 0, NAP_MS)
      setImmediate(turn)
    }
    turn()
  })
}

function result(warmUpAnswers: number): OpenLoopResult {
  const sorted = latencies.subarray(0, answered).sort()
  const delays = ownDelays.subarray(0, ownDelayCount).sort()
  const micros = (ms: number): number => Math.round(ms * 1000)
  return {
    offeredPerSecond: rate, answered, served: warmUpAnswers + answered, failed: schedule.total - answered,
    p50Micros: micros(percentile(sorted, 50)), p90Micros: micros(percentile(sorted, 90)), p99Micros: micros(percentile(sorted, 99)),
    p999Micros: micros(percentile(sorted, 99.9)), maxMicros: micros(sorted[answered - 1] ?? Number.NaN),
    ownDelayP99Micros: micros(percentile(delays, 99)),
  }
}

await Promise.all(Array.from({ length: connectionCount }, () => new Connection().dial()))
await runLoad(rate, Math.min(1, seconds)) // Warms this client up.
const warmUpAnswers = answered
await runLoad(rate, seconds)
process.stdout.write(`${JSON.stringify(result(warmUpAnswers))}\n`, () => process.exit(0))
