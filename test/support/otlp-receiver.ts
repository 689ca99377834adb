/**
 * A collector for one test: takes OTLP as JSON over HTTP on a free port and keeps the spans, with their attributes as plain objects. It
 * may also hang, or answer with a failure.
 */
import assert from 'node:assert/strict'
import http from 'node:http'
import type net from 'node:net'
import type { TestContext } from 'node:test'
import { waitFor } from './wait-for.ts'

export type Attributes = Readonly<Record<string, string | number | boolean>>

export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  /** '': it begins the trace. */
  readonly parentSpanId: string
  readonly traceState: string
  readonly name: string
  readonly kind: 'internal' | 'server' | 'client'
  readonly startNs: bigint
  readonly endNs: bigint
  readonly attributes: Attributes
  readonly events: readonly { readonly name: string; readonly timeNs: bigint; readonly attributes: Attributes }[]
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[]
  readonly status: 'unset' | 'error'
  readonly message: string
  /** Of what sent it. */
  readonly resource: Attributes
}

const KINDS: Readonly<Record<number, ReceivedSpan['kind']>> = { 1: 'internal', 2: 'server', 3: 'client' }

export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = []
  /** How often something was posted. */
  posts = 0
  /** A status; 0 answers nothing. */
  status = 200
  readonly #server: http.Server
  readonly #hanging: http.ServerResponse[] = []

  private constructor(server: http.Server) { this.#server = server }

  static async start(t: TestContext): Promise<OtlpReceiver> {
    const server = http.createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => { chunks.push(chunk) })
      request.on('end', () => receiver.#take(request, Buffer.concat(chunks), response))
    })
    const receiver = new OtlpReceiver(server)
    await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
    t.after(() => receiver.stop())
    return receiver
  }

  get endpoint(): string { return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}` }

  /** Waits until so many spans are there. */
  async received(count: number, deadlineMs = 10_000): Promise<readonly ReceivedSpan[]> {
    await waitFor(`${count} spans`, () => this.spans.length >= count, { deadlineMs, seen: () => this.spans.map(({ name }) => name) })
    assert.equal(this.spans.length, count)
    return this.spans
  }

  /** What hangs is refused, so that nobody tries it again. */
  async stop(): Promise<void> {
    // Who asked may be gone.
    const answered = this.#hanging.splice(0).filter(({ closed }) => !closed).map(response => new Promise<void>(resolve => {
      response.once('close', resolve).writeHead(400).end()
    }))
    await Promise.all(answered)
    const closed = new Promise<void>(resolve => { this.#server.close(() => resolve()) })
    this.#server.closeAllConnections()
    await closed
  }

  #take({ url, method, headers }: http.IncomingMessage, body: Buffer, response: http.ServerResponse): void {
    this.posts++
    if (this.status === 0) {
      this.#hanging.push(response)
      return
    }
    assert.deepEqual([method, url, headers['content-type']], ['POST', '/v1/traces', 'application/json'])
    if (this.status === 200) this.spans.push(...spansIn(JSON.parse(body.toString('utf8')) as Posted))
    response.writeHead(this.status, { 'content-type': 'application/json' }).end('{}')
  }
}

interface Value { stringValue?: string; intValue?: number | string; doubleValue?: number; boolValue?: boolean }
type Pairs = readonly { key: string; value: Value }[]
interface PostedSpan {
  traceId: string; spanId: string; parentSpanId?: string; traceState?: string; name: string; kind: number
  startTimeUnixNano: string; endTimeUnixNano: string; attributes?: Pairs
  events?: readonly { name: string; timeUnixNano: string; attributes?: Pairs }[]
  links?: readonly { traceId: string; spanId: string }[]
  status?: { code?: number; message?: string }
}
interface Posted {
  resourceSpans: readonly { resource: { attributes: Pairs }; scopeSpans: readonly { spans: readonly PostedSpan[] }[] }[]
}

function spansIn({ resourceSpans }: Posted): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans.map(span => ({
    traceId: span.traceId, spanId: span.spanId, parentSpanId: span.parentSpanId ?? '', traceState: span.traceState ?? '',
    name: span.name, kind: KINDS[span.kind]!, startNs: BigInt(span.startTimeUnixNano), endNs: BigInt(span.endTimeUnixNano),
    attributes: objectOf(span.attributes),
    events: (span.events ?? []).map(event => ({
      name: event.name, timeNs: BigInt(event.timeUnixNano), attributes: objectOf(event.attributes),
    })),
    links: (span.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
    status: span.status?.code === 2 ? 'error' as const : 'unset' as const, message: span.status?.message ?? '',
    resource: objectOf(resource.attributes),
  }))))
}

function objectOf(pairs: Pairs = []): Attributes {
  return Object.fromEntries(pairs.map(({ key, value: { stringValue, intValue, doubleValue, boolValue } }) => {
    return [key, stringValue ?? boolValue ?? doubleValue ?? Number(intValue)]
  }))
}
