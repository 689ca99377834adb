/**
 * Honest clients of several instances, by one schedule, in a process of their own: `node victims.ts RATE PORT...`. At each
 * instance every other request has a connection of its own, the rest share keep-alive connections. None repeats anything;
 * a request's time runs from the moment at which it was due. On SIGTERM they finish and print a list of visits a port.
 */
import net from 'node:net'
import type { Visit } from './verdict.ts'

const ANSWER_MAX_MS = 10_000
const KEPT = 4

class Victims {
  readonly visits: Visit[] = []
  readonly #port: number
  readonly #everyMs: number
  readonly #kept: Client[]
  readonly #open = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | null = null
  #asked = 0

  /** @param rate requests a second */
  constructor(port: number, rate: number) {
    this.#port = port
    this.#everyMs = 1000 / rate
    this.#kept = Array.from({ length: KEPT }, () => new Client(port))
  }

  start(): void {
    const startMs = performance.now()
    this.#timer = setInterval(() => {
      for (let dueMs = startMs + this.#asked * this.#everyMs; dueMs <= performance.now(); dueMs = startMs + this.#asked * this.#everyMs) {
        this.#ask(dueMs)
      }
    }, 1)
  }

  /** What was asked is waited for. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await Promise.all(this.#open)
    for (const kept of this.#kept) kept.end()
  }

  #ask(dueMs: number): void {
    const kept = this.#asked++ % 2 === 0 ? undefined : this.#kept.find((each) => !each.busy)
    const client = kept ?? new Client(this.#port)
    const asked = client.ask().then((served) => {
      this.visits.push({ ms: performance.now() - dueMs, served })
      if (kept === undefined) client.end()
      this.#open.delete(asked)
    })
    this.#open.add(asked)
  }
}

/** One connection; dialled when it is needed and not there. */
class Client {
  busy = false
  readonly #port: number
  #socket: net.Socket | null = null

  constructor(port: number) { this.#port = port }

  #dial(): net.Socket {
    const socket = net.connect({ host: '127.0.0.1', port: this.#port, noDelay: true })
    socket.on('error', () => {})
    // An idle connection that is closed is no loss: the next request dials.
    socket.on('close', () => { if (this.#socket === socket) this.#socket = null })
    return socket
  }

  async ask(): Promise<boolean> {
    this.busy = true
    const socket = this.#socket ??= this.#dial()
    const { promise, resolve } = Promise.withResolvers<boolean>()
    let text = ''
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      const head = text.indexOf('\r\n\r\n')
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? Number.NaN)
      if (head >= 0 && text.length >= head + 4 + length) resolve(text.startsWith('HTTP/1.1 200'))
    }
    const lost = (): void => resolve(false)
    socket.on('data', onData).on('close', lost)
    const timer = setTimeout(lost, ANSWER_MAX_MS)
    socket.write('GET /victim HTTP/1.1\r\nHost: victim\r\n\r\n')
    const served = await promise
    clearTimeout(timer)
    socket.off('data', onData).off('close', lost)
    if (!served || /\r\nconnection: close/i.test(text)) this.end()
    this.busy = false
    return served
  }

  end(): void {
    this.#socket?.destroy()
    this.#socket = null
  }
}

const [rate = 1, ...ports] = process.argv.slice(2).map(Number)
const all = ports.map((port) => new Victims(port, rate))
process.once('SIGTERM', () => {
  void Promise.all(all.map((victims) => victims.stop())).then(() => {
    process.stdout.write(JSON.stringify(all.map(({ visits }) => visits)), () => process.exit(0))
  })
})
for (const victims of all) victims.start()
