/** HTTP/1.1 on both sides of an exchange world. Requests may be pipelined; an origin serves one at a time. */
import { Http1ClientSession } from '../../src/protocols/http1/client-session.ts'
import { HTTP_PROTOCOLS } from '../../src/server/http-protocols.ts'
import {
  Client, Origin, type AnswerSpec, type ClientSide, type ModelRequest, type ModelResponse, type OriginSide, type Served, type WorldView,
} from './exchange-sides.ts'
import { StrictRequestReader, type ReadRequest } from './strict-request-reader.ts'
import { StrictResponseReader, type ReadResponse, type ResponseWatcher } from './strict-response-reader.ts'

/** A chunked body. `broken`: it breaks behind its first chunk. */
function framed(body: Buffer, chunk: number, trailers: string, broken: boolean): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at < body.length; at += chunk) {
    const piece = body.subarray(at, at + chunk)
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
    if (broken) {
      pieces.push(Buffer.from('zz\r\n'))
      return Buffer.concat(pieces)
    }
  }
  pieces.push(Buffer.from(`${broken ? 'zz' : '0'}\r\n${trailers}\r\n`))
  return Buffer.concat(pieces)
}

class Http1Client extends Client implements ResponseWatcher {
  readonly reader: StrictResponseReader = new StrictResponseReader(this)

  get tunnel(): ModelRequest | null {
    const last = this.requests.at(-1)
    return last === undefined || last.tunnel === null ? null : last
  }
  get #asksToSwitch(): boolean { return this.requests.some(request => request.spec.upgrade && !request.completed) }

  override get mayRequest(): boolean {
    return this.mayGarble && this.requests.length - this.reader.completed < 4
  }
  override get mayGarble(): boolean { return !this.garbage && !this.sentFin && this.tunnel === null && !this.#asksToSwitch }
  override get tunnels(): readonly ModelRequest[] { return this.tunnel === null || this.sentFin ? [] : [this.tunnel] }
  /** Also bytes that came before it hold a FIN back: those of a request behind this one. */
  override get leftBySaying(): boolean { return this.far.endArrived && !this.near.paused }
  override get waitsFor(): ModelRequest | null {
    return this.reader.completed < this.requests.length ? this.requests[this.reader.completed]! : null
  }

  protected override ask(request: ModelRequest): void {
    const { spec, body, id } = request
    let head = `${spec.method} /r${id} HTTP/1.${spec.old ? 0 : 1}\r\nHost: a.example\r\nX-Tag: ${id}\r\n`
    if (spec.framing === 'length') head += `Content-Length: ${body.length}\r\n`
    if (spec.framing === 'chunked') head += 'Transfer-Encoding: chunked\r\n'
    if (spec.expect) head += 'Expect: 100-continue\r\n'
    if (spec.upgrade) head += 'Upgrade: model\r\nConnection: upgrade\r\n'
    else if (spec.close) head += 'Connection: close\r\n'
    else if (spec.old) head += 'Connection: keep-alive\r\n'
    this.enqueue(Buffer.from(head + '\r\n'))
    if (spec.framing === 'length' && body.length > 0) this.enqueue(body)
    if (spec.framing === 'chunked') this.enqueue(framed(body, spec.chunk, spec.trailers ? `X-Tag: ${id}\r\n` : '', spec.broken))
    request.to = this.enqueued
    this.reader.expect({ method: spec.method, old: spec.old, upgrade: spec.upgrade })
  }

  override garble(): void {
    this.garbage = true
    this.reader.expect({ method: 'GET', old: false, upgrade: false })
    this.enqueue(Buffer.from('GET / HTTP/1.1\r\nHost : a\r\n\r\n'))
  }

  override sendTunnel(_request: ModelRequest, bytes: Buffer): void { this.enqueue(bytes) }
  override disturb(): void { /* the connection is the exchange */ }
  override finish(): boolean {
    if (this.sentFin || this.hasPending || this.far.undelivered > 0 || (!this.sawFin && this.tunnel === null)) return false
    this.fin()
    return true
  }
  override follows(request: ModelRequest, earlier: ModelRequest): boolean {
    return this.requests.indexOf(request) === this.requests.indexOf(earlier) + 1
  }

  override onBytes(buffer: Buffer, from: number, to: number): void {
    this.reader.push(Buffer.from(buffer.subarray(from, to)))
    if (this.reader.fault !== '') this.world.fail(`client ${this.index} got ${this.reader.fault}`)
  }

  override onEnd(): void {
    super.onEnd()
    this.reader.end()
  }

  // ---- ResponseWatcher. What answers no request answers the garbage behind them.

  onInterim(index: number, response: ReadResponse): void {
    const request = this.requests[index]
    if (request !== undefined) this.tellInterim(request, response)
  }
  onHead(index: number, response: ReadResponse): void {
    const request = this.requests[index]
    if (request !== undefined) this.tellHead(request, response)
    else if (response.status < 400) this.world.fail(`garbage of client ${this.index} was answered ${response.status}`)
  }
  onBody(index: number, _response: ReadResponse, bytes: Buffer): void {
    const request = this.requests[index]
    if (request !== undefined) this.tellBody(request, bytes)
  }
  onComplete(index: number, response: ReadResponse): void {
    const request = this.requests[index]
    if (request !== undefined) this.tellComplete(request, response)
  }
  onTunnel(index: number, bytes: Buffer): void { this.tellTunnel(this.requests[index]!, bytes) }
}

class Http1Origin extends Origin {
  override readonly exclusive = true
  readonly reader = new StrictRequestReader('proxy')
  finWhenSent = false
  tunnel: ModelRequest | null = null

  constructor(world: WorldView, index: number, kernelBytes: number) {
    super(world, index, kernelBytes)
    this.reader.onHead = read => this.#onHead(read)
    this.reader.onComplete = () => this.tellComplete(this.served.at(-1)!)
  }

  override get owed(): readonly Served[] {
    const last = this.served.at(-1)
    return last === undefined || last.response !== null || this.garbage || this.sentFin ? [] : [last]
  }
  override get busy(): boolean { return this.served.at(-1)?.response === null || this.near.undelivered > 0 }
  override get tunnels(): readonly ModelRequest[] { return this.tunnel === null || this.sentFin ? [] : [this.tunnel] }
  override get mayGarble(): boolean {
    return !this.sentFin && !this.garbage && this.tunnel === null && this.served.at(-1)?.response?.untilClose !== true
  }
  override get answeredTo(): number | null { return this.served.at(-1)?.response?.to ?? null }

  override onBytes(buffer: Buffer, from: number, to: number): void {
    const bytes = Buffer.from(buffer.subarray(from, to))
    if (this.tunnel !== null) {
      this.tellTunnel(this.tunnel, bytes)
      return
    }
    this.reader.push(bytes)
    if (this.reader.fault !== '') this.world.fail(`origin ${this.index} got ${this.reader.fault}`)
    const last = this.served.at(-1)
    if (last !== undefined) this.tellBody(last)
  }

  #onHead(read: ReadRequest): void {
    const { world } = this, before = this.served.at(-1), served = this.tellHead(read)
    if (served === null || before === undefined) return
    const { id } = served.request, { response } = before
    if (!before.read.complete) world.fail(`request ${id} reached origin ${this.index} within request ${before.request.id}`)
    if (response === null || response.to > this.near.bytesRead) {
      world.fail(`request ${id} reached origin ${this.index} before request ${before.request.id} was answered`)
    } else if (!response.persistent) world.fail(`request ${id} reached origin ${this.index}, which had said that it closes`)
  }

  override answer(served: Served, spec: AnswerSpec): void {
    const { request } = served, { kind } = spec
    if (kind === '101' && !request.spec.upgrade) {
      this.answer(served, { ...spec, kind: 'length' })
      return
    }
    const head = request.spec.method === 'HEAD', bodiless = head || kind === '204' || kind === '304' || kind === '101'
    const status = kind === '204' || kind === '304' || kind === '503' || kind === '101' ? Number(kind) : 200
    const persistent = !spec.close && (kind !== 'close' || head) && kind !== 'old' && kind !== '101'
    const response: ModelResponse = this.world.addResponse({
      request, status, size: bodiless ? 0 : spec.size, persistent, untilClose: kind === 'close' && !bodiless,
      trailers: spec.trailers && kind === 'chunked' && !bodiless,
      announced: bodiless || kind === 'length' || kind === 'old' || kind === '503',
    })
    let text = `HTTP/1.${kind === 'old' ? 0 : 1} ${status} Fine\r\nX-Rid: ${response.id}\r\n`
    if (kind === '101') text += 'Connection: upgrade\r\nUpgrade: model\r\n'
    else {
      if (kind === 'chunked') text += 'Transfer-Encoding: chunked\r\n'
      else if (kind === 'length' || kind === 'old' || kind === '503') text += `Content-Length: ${spec.size}\r\n`
      if (spec.close) text += 'Connection: close\r\n'
    }
    this.enqueue(Buffer.from(text + '\r\n'))
    if (!bodiless) {
      if (kind === 'chunked') this.enqueue(framed(response.body, spec.chunk, response.trailers ? `X-Tag: ${request.id}\r\n` : '', false))
      else if (response.body.length > 0) this.enqueue(response.body)
    }
    response.to = this.enqueued
    if (spec.extra && !response.untilClose && kind !== '101') {
      this.garbage = true
      this.enqueue(Buffer.from('HTTP/1.1 200 Forged\r\nContent-Length: 0\r\n\r\n'))
    }
    if ((kind === 'close' && !head) || (kind === 'old' && bodiless)) this.finWhenSent = true
    served.response = response
    if (kind === '101') this.tunnel = request
  }

  override interim({ request }: Served, status: number): void {
    this.enqueue(Buffer.from(`HTTP/1.1 ${status} Soon\r\nX-Tag: ${request.id}\r\n\r\n`))
  }

  override garble(): void {
    this.garbage = true
    this.enqueue(Buffer.from('garbage\r\n\r\n'))
  }

  override sendTunnel(_request: ModelRequest, bytes: Buffer): void { this.enqueue(bytes) }
  override disturb(): void { /* the connection is the exchange */ }

  override finish(): boolean {
    if (this.sentFin || this.hasPending) return false
    const { tunnel } = this, tunnelOver = tunnel !== null && this.far.undelivered === 0 && (this.sawFin || tunnel.tunnel !== null)
    if (tunnelOver) {
      this.fin()
      return true
    }
    if (this.sawFin || this.garbage) this.fin()
    return false
  }

  override fin(): void {
    const response = this.served.at(-1)?.response ?? null
    if (response !== null && response.untilClose) {
      response.body = response.body.subarray(0, Math.max(0, response.body.length - (response.to - this.far.bytesWritten)))
    }
    super.fin()
  }

  override send(max: number): boolean {
    const response = this.served.at(-1)?.response ?? null, within = response !== null && this.near.bytesRead < response.to
    const moved = super.send(max)
    // More came with the end of the response: it is known that the origin cannot be trusted.
    if (within && this.near.bytesRead > response.to) response.persistent = false
    if (!this.finWhenSent || this.hasPending || this.sentFin || !this.open) return moved
    this.fin()
    return true
  }
}

export const HTTP1_CLIENT: ClientSide = {
  name: 'h1',
  makeClient: (world, index, kernelBytes) => new Http1Client(world, index, kernelBytes),
  protocols: HTTP_PROTOCOLS,
}

export const HTTP1_ORIGIN: OriginSide = {
  name: 'h1',
  expectedExchanges: 1,
  makeOrigin: (world, index, kernelBytes) => new Http1Origin(world, index, kernelBytes),
  createConnection: (stream, ticker) => new Http1ClientSession(stream, ticker),
  limitOf: () => 1,
}
