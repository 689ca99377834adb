/**
 * Readers of server-sent events (HTML Living Standard 9.2) and the origin that sends them. Every reader has a row of numbered
 * events of its own and comes back with the number of the last one it has, as a browser does, so its row has neither a gap
 * nor a duplicate unless somebody made one. Each event says which worker has asked for it.
 */
import http from 'node:http'
import net from 'node:net'
import type { TestContext } from 'node:test'
import { StrictResponseReader, type ReadResponse } from './strict-response-reader.ts'
import { waitFor } from './wait-for.ts'

const EVENT_EVERY_MS = 40

interface Stream { readonly response: http.ServerResponse; readonly who: string; readonly quiet: boolean; next: number }

export class EventOrigin {
  readonly authority: string
  readonly #streams = new Set<Stream>()

  private constructor(authority: string) { this.authority = authority }

  /** `/events` sends events, all the time or, with `?quiet`, the first one and then when `speak` is called; `/` says who asked. */
  static async start(t: TestContext): Promise<EventOrigin> {
    const server = http.createServer((request, response) => {
      const who = String(request.headers['x-who'])
      if (request.url === '/') response.writeHead(200, { 'content-length': who.length }).end(who)
      else origin.#begin(request, response, who)
    })
    await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
    const origin = new EventOrigin(`127.0.0.1:${(server.address() as net.AddressInfo).port}`)
    const timer = setInterval(() => origin.#send(false), EVENT_EVERY_MS)
    t.after(() => {
      clearInterval(timer)
      server.close()
      server.closeAllConnections()
    })
    return origin
  }

  /** One event for each quiet stream. */
  speak(): void { this.#send(true) }

  /** Ends all streams, in order. */
  finish(): void { for (const { response } of this.#streams) response.end() }

  #begin(request: http.IncomingMessage, response: http.ServerResponse, who: string): void {
    const last = Number(request.headers['last-event-id'] ?? '0')
    const stream: Stream = { response, who, quiet: request.url?.endsWith('?quiet') === true, next: last + 1 }
    response.on('error', () => { /* The worker that asked was told to cut it. */ })
    response.once('close', () => this.#streams.delete(stream))
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    this.#streams.add(stream)
    sendNext(stream)
  }

  #send(quiet: boolean): void { for (const stream of this.#streams) if (stream.quiet === quiet) sendNext(stream) }
}

function sendNext(stream: Stream): void {
  const { response, who } = stream
  if (response.writableEnded) return
  const id = stream.next++
  const bytes = Buffer.from(`id: ${id}\ndata: ${JSON.stringify({ by: who, text: textOf(id) })}\n\n`)
  // Some in two pieces, wherever that is.
  const cut = id % 3 === 0 ? (id * 7) % bytes.length : 0
  if (cut > 0) response.write(bytes.subarray(0, cut))
  response.write(bytes.subarray(cut))
}

/** Small ones, and now and then one that is larger than a read. */
function textOf(id: number): string { return id % 16 === 0 ? 'ä'.repeat(40_000) : 'ö'.repeat((id * 37) % 300) }

/** One connection of a reader, from its first event on. */
export interface Visit {
  /** `release pid`. */
  readonly by: string
  readonly port: number
  /** '' while it lasts; 'whole' when its end was announced, else how it was not. */
  end: string
  endedAtMs: number
}

/**
 * `plain` is what a browser does; `behind` asks on a connection that brought another answer before; `old` speaks HTTP/1.0, where
 * only the way in which the connection ends tells a cut stream from a whole one.
 */
export const KINDS = ['plain', 'behind', 'old', 'quiet'] as const
export type Kind = (typeof KINDS)[number]

export class EventReader {
  readonly kind: Kind
  readonly visits: Visit[] = []
  /** Whatever may not happen: gaps, duplicates, wrong answers, refused dials. */
  readonly faults: string[] = []
  /** Number of the last event. */
  last = 0
  readonly #port: number
  #socket: net.Socket | null = null
  #left = false

  constructor(port: number, kind: Kind) {
    this.#port = port
    this.kind = kind
    this.#visit()
  }

  get visit(): Visit { return this.visits.at(-1)! }

  /** Ends it for good, or the next time that its stream ends. */
  leave(now = true): void {
    this.#left = true
    if (now) this.#socket?.destroy()
  }

  #visit(): void {
    const socket = this.#socket = net.connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    const decoder = new TextDecoder()
    const { kind } = this
    let text = ''
    let visit: Visit | null = null
    let end = ''
    const ask = (): void => {
      reader.expect({ method: 'GET', old: kind === 'old', upgrade: false })
      const since = this.last === 0 ? '' : `Last-Event-ID: ${this.last}\r\n`
      const target = kind === 'quiet' ? '/events?quiet' : '/events'
      socket.write(`GET ${target} HTTP/1.${kind === 'old' ? 0 : 1}\r\nHost: test\r\nAccept: text/event-stream\r\n${since}\r\n`)
    }
    const reader = new StrictResponseReader({
      onHead: (index, { status }: ReadResponse) => { if (status !== 200) this.faults.push(`status ${status} to request ${index}`) },
      onBody: (_index, response, bytes) => {
        if (response.field('content-type') !== 'text/event-stream') return
        text += decoder.decode(bytes, { stream: true })
        for (let at = text.indexOf('\n\n'); at !== -1; at = text.indexOf('\n\n')) {
          const by = this.#take(text.slice(0, at))
          text = text.slice(at + 2)
          if (visit === null) this.visits.push(visit = { by, port: socket.localPort ?? 0, end: '', endedAtMs: 0 })
          else if (visit.by !== by) this.faults.push(`events of ${by} in a stream of ${visit.by}`)
        }
      },
      onComplete: (_index, response) => {
        if (response.field('content-type') === 'text/event-stream') {
          end = 'whole'
          socket.destroy()
        } else if (reader.closing) {
          // Told to go before it asked for events: it comes back as one that has not been here.
          end = 'told to go'
          socket.destroy()
        } else if (response.status === 200) ask()
        else socket.destroy()
      },
      onInterim: () => {},
      onTunnel: () => {},
    })
    socket.once('connect', () => {
      if (kind !== 'behind') return ask()
      reader.expect({ method: 'GET', old: false, upgrade: false })
      socket.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
    })
    socket.on('data', (bytes: Buffer) => {
      reader.push(bytes)
      if (reader.fault !== '') socket.destroy()
    })
    socket.once('end', () => {
      reader.end()
      end ||= 'closed'
    })
    socket.once('error', (error: NodeJS.ErrnoException) => { end ||= error.code ?? error.message })
    socket.once('close', () => {
      if (reader.fault !== '') this.faults.push(reader.fault)
      if (visit !== null) {
        visit.end = end || 'left'
        visit.endedAtMs = performance.now()
      } else if (end !== 'told to go' && !this.#left) {
        this.faults.push(`no event: ${end}`)
        return
      }
      if (!this.#left) this.#visit()
    })
  }

  /** @returns who has asked for the event. */
  #take(event: string): string {
    const [, id, data] = /^id: (\d+)\ndata: (.*)$/.exec(event) ?? []
    if (data === undefined) {
      this.faults.push(`no event: ${JSON.stringify(event.slice(0, 80))}`)
      return ''
    }
    const { by, text } = JSON.parse(data) as { by: string; text: string }
    if (Number(id) !== this.last + 1) this.faults.push(`event ${id} behind ${this.last}`)
    if (text !== textOf(Number(id))) this.faults.push(`event ${id} is not what was sent`)
    this.last = Number(id)
    return by
  }
}

export class EventReaders {
  readonly all: EventReader[] = []
  readonly #port: number

  constructor(t: TestContext, port: number) {
    this.#port = port
    t.after(() => { for (const reader of this.all) reader.leave() })
  }

  /** Some more, of each kind as many. Resolves when each has its first event. */
  async add(ofEachKind: number): Promise<EventReader[]> {
    const added = KINDS.flatMap(kind => Array.from({ length: ofEachKind }, () => new EventReader(this.#port, kind)))
    this.all.push(...added)
    await waitFor('the first event of each', () => added.every(({ last, faults }) => last > 0 || faults.length > 0), {
      deadlineMs: 20_000, seen: () => added.map(({ kind, last }) => [kind, last]),
    })
    return added
  }

  /** Resolves when each that is not quiet has some more events. */
  async goOn(): Promise<void> {
    const steady = this.all.filter(({ kind }) => kind !== 'quiet')
    const from = steady.map(({ last }) => last)
    await waitFor('more events', () => steady.every(({ last, faults }, index) => last > from[index]! + 4 || faults.length > 0), {
      deadlineMs: 20_000, seen: () => steady.map(({ last, visits }) => [last, visits.length]),
    })
  }

  get faults(): string[] { return this.all.flatMap(({ kind, faults }) => faults.map(fault => `${kind}: ${fault}`)) }
  get events(): number { return this.all.reduce((sum, { last }) => sum + last, 0) }
}
