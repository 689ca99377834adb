/** Takes envelopes as Sentry does, on a port of loopback, and answers as it is told. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

export interface ReceivedEvent {
  readonly level: string
  readonly release?: string
  readonly environment: string
  readonly server_name: string
  readonly fingerprint: readonly string[]
  readonly tags: Readonly<Record<string, string>>
  readonly extra?: Readonly<Record<string, unknown>>
  readonly contexts: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly exception: { readonly values: readonly ReceivedException[] }
}
interface ReceivedException {
  readonly type: string
  readonly value: string
  readonly mechanism?: { readonly handled: boolean }
  readonly stacktrace?: { readonly frames: readonly { readonly filename: string; readonly function: string; readonly in_app: boolean }[] }
}

const KEY = '5ecre7ofthetest'

export class SentryReceiver {
  readonly events: ReceivedEvent[] = []
  /** Everything that came, as it came. */
  readonly bodies: string[] = []
  /** What is done with an envelope. @default 200 */
  answer: (response: http.ServerResponse) => void = response => { response.end('{}') }
  readonly #server = http.createServer((request, response) => this.#onRequest(request, response))
  #port = 0

  static async start(t: TestContext): Promise<SentryReceiver> {
    const receiver = new SentryReceiver()
    await receiver.listen()
    t.after(() => receiver.stop())
    return receiver
  }

  /** On the port that it had, if it had one. */
  async listen(): Promise<void> {
    await new Promise<void>(resolve => { this.#server.listen(this.#port, '127.0.0.1', resolve) })
    this.#port = (this.#server.address() as AddressInfo).port
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>(resolve => { this.#server.close(() => resolve()) })
  }

  get key(): string { return KEY }
  get dsn(): string { return `http://${KEY}@127.0.0.1:${this.#port}/42` }
  of(kind: string): ReceivedEvent[] { return this.events.filter(({ tags }) => tags['kind'] === kind) }

  #onRequest(request: http.IncomingMessage, response: http.ServerResponse): void {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => { parts.push(part) })
    request.on('end', () => {
      const body = Buffer.concat(parts).toString('utf8')
      this.bodies.push(body)
      if (request.url?.startsWith('/api/42/envelope/?') === true && request.url.includes(`sentry_key=${KEY}`)) this.#take(body)
      this.answer(response)
    })
  }

  /** A line of the envelope, and then for each item its own header and what it holds. */
  #take(body: string): void {
    const lines = body.split('\n').map(line => JSON.parse(line) as { readonly type?: string })
    for (let at = 1; at + 1 < lines.length; at += 2) if (lines[at]!.type === 'event') this.events.push(lines[at + 1] as ReceivedEvent)
  }
}
