/** Clients that Node.js has, in this process: one of HTTP/2, and one of HTTP/1.1 with a connection for each request at a time. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { Readable } from 'node:stream'

export interface Answer {
  readonly status: number
  readonly fields: Readonly<http2.IncomingHttpHeaders>
  readonly interim: readonly number[]
  readonly trailers: Readonly<http2.IncomingHttpHeaders>
  readonly bytes: number
  readonly sha256: string
  /** What came, as far as it is no more than 1000 bytes. */
  readonly text: string
}

/** One whose head is there, and whose body is not read yet. */
interface Begun {
  readonly status: number
  readonly fields: http2.IncomingHttpHeaders
  readonly interim: readonly number[]
  readonly body: Readable
  trailers(): http2.IncomingHttpHeaders
}

export interface FrontClient {
  ask(path: string, body?: string): Promise<Answer>
  /** So many at once: no body is read before all heads are there. */
  together(path: string, count: number): Promise<Answer[]>
  close(): void
}

const TEXT_MAX_BYTES = 1000
const LIMIT_MS = 30_000

abstract class NodeClient implements FrontClient {
  protected abstract begin(path: string, body: string | undefined): Promise<Begun>
  abstract close(): void

  async ask(path: string, body?: string): Promise<Answer> { return await read(await this.begin(path, body)) }

  async together(path: string, count: number): Promise<Answer[]> {
    const begun = await Promise.all(Array.from({ length: count }, () => this.begin(path, undefined)))
    return await Promise.all(begun.map(read))
  }
}

async function read({ status, fields, interim, body, trailers }: Begun): Promise<Answer> {
  const hash = createHash('sha256'), kept: Buffer[] = []
  let bytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    hash.update(chunk)
    if (bytes < TEXT_MAX_BYTES) kept.push(chunk)
    bytes += chunk.length
  }
  const text = bytes > TEXT_MAX_BYTES ? '' : Buffer.concat(kept).toString('latin1')
  return { status, fields, interim, trailers: trailers(), bytes, sha256: hash.digest('hex'), text }
}

export class Http2Client extends NodeClient {
  readonly #session: http2.ClientHttp2Session

  private constructor(session: http2.ClientHttp2Session) {
    super()
    this.#session = session
  }

  /** @param base `https://host:port`, or `http://` by prior knowledge */
  static async connect(base: string, caFile: string): Promise<Http2Client> {
    const session = http2.connect(base, { ca: readFileSync(caFile) })
    await once(session, 'connect')
    session.on('error', () => { /* What waits for an answer sees it. */ })
    return new Http2Client(session)
  }

  protected async begin(path: string, body: string | undefined): Promise<Begun> {
    const isGet = body === undefined
    const stream = this.#session.request({ ':path': path, ':method': isGet ? 'GET' : 'POST' }, { endStream: isGet })
    // Else Node.js drops what is not read by the end of the stream.
    stream.pause()
    stream.on('error', () => { /* What waits for the head, or for the body, sees it. */ })
    const interim: number[] = []
    let trailers: http2.IncomingHttpHeaders = {}
    stream.setTimeout(LIMIT_MS, () => stream.destroy(new Error(`nothing came for ${LIMIT_MS} ms`)))
    stream.on('headers', fields => { interim.push(Number(fields[':status'])) })
    stream.on('trailers', fields => { trailers = fields })
    if (body !== undefined) stream.end(body)
    const [fields] = await once(stream, 'response') as [http2.IncomingHttpHeaders]
    return { status: Number(fields[':status']), fields, interim, body: stream, trailers: () => trailers }
  }

  close(): void { this.#session.destroy() }
}

export class Http1Client extends NodeClient {
  readonly #base: string
  readonly #agent: http.Agent

  constructor(base: string, caFile: string) {
    super()
    this.#base = base
    const options = { keepAlive: true, timeout: LIMIT_MS }
    this.#agent = base.startsWith('https:') ? new https.Agent({ ...options, ca: readFileSync(caFile) }) : new http.Agent(options)
  }

  protected async begin(path: string, body: string | undefined): Promise<Begun> {
    const { request: send } = this.#base.startsWith('https:') ? https : http, interim: number[] = []
    const length = body === undefined ? {} : { 'content-length': body.length }
    const request = send(`${this.#base}${path}`, { agent: this.#agent, method: body === undefined ? 'GET' : 'POST', headers: length })
    request.on('information', ({ statusCode }) => { interim.push(statusCode) })
    request.on('timeout', () => { request.destroy(new Error(`nothing came for ${LIMIT_MS} ms`)) })
    request.on('error', () => { /* What waits for the head, or for the body, sees it. */ })
    request.end(body)
    const [response] = await once(request, 'response') as [http.IncomingMessage]
    const trailers = (): http2.IncomingHttpHeaders => response.trailers
    return { status: response.statusCode ?? 0, fields: response.headers, interim, body: response, trailers }
  }

  close(): void { this.#agent.destroy() }
}
