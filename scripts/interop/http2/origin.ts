/**
 * The origin of the clients that are tried: examples/demo-origins.ts, and besides
 *
 *   /together       200 to all, once as many requests as are wanted wait for it at a time; 503 when they do not come
 *   /hints          103, then 200
 *   /trailers       a body with a trailer behind it
 *   /browser        a page for a browser, 103 before it; /part?N is one of its parts
 *   /slow-upload    says how many bytes came, and takes its time to read them
 *   /report         POST: what the page has to say
 *   /until-report   answers once it has said it
 */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createOrigin } from '../../../examples/demo-origins.ts'
import { BROWSER_PAGE } from './browser-page.ts'
import { MANY } from './judge.ts'

/** Longer than any client takes for so many requests. */
const TOGETHER_MAX_MS = 15_000
/** A browser tells of progress every 50 ms at most: an upload has to last. */
const PAUSE_EVERY_BYTES = 4_000_000
const PAUSE_MS = 100
/** Longer than the page takes. */
const REPORT_MAX_MS = 45_000
const HINT = '</a.css>; rel=preload; as=style'
/** An SVG: something for the eye. */
const PART = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8" fill="#2a7"/></svg>'

export class ClientOrigin {
  readonly #server: http.Server
  readonly #together: http.ServerResponse[] = []
  readonly #report = Promise.withResolvers<string>()
  /** Before the page for browsers is answered, and before its end. */
  onPage: () => Promise<void> = () => Promise.resolve()
  onReport: () => Promise<void> = () => Promise.resolve()

  private constructor() {
    const demo = createOrigin('origin')
    this.#server = http.createServer((request, response) => {
      response.on('error', () => { /* A client that left. */ })
      if (!this.#answer(request, response)) demo.emit('request', request, response)
    })
    this.#server.on('upgrade', (...upgrade) => { demo.emit('upgrade', ...upgrade) })
    this.#server.keepAliveTimeout = 75_000
  }

  static async start(): Promise<ClientOrigin> {
    const origin = new ClientOrigin()
    await new Promise<void>(resolve => { origin.#server.listen(0, '127.0.0.1', resolve) })
    return origin
  }

  get port(): number { return (this.#server.address() as AddressInfo).port }

  /** What the page said of itself. */
  get report(): Promise<string> { return this.#report.promise }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  /** @returns whether it is one of ours */
  #answer(request: http.IncomingMessage, response: http.ServerResponse): boolean {
    switch (request.url?.split('?')[0]) {
      case '/together': this.#wait(response); break
      case '/hints':
        response.writeEarlyHints({ link: HINT })
        response.end('hinted')
        break
      case '/trailers':
        response.writeHead(200, { 'trailer': 'x-sum', 'content-type': 'text/plain' })
        response.write('summed')
        response.addTrailers({ 'x-sum': 'right' })
        response.end()
        break
      case '/browser':
        void this.onPage().then(() => {
          response.writeEarlyHints({ link: HINT })
          response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(BROWSER_PAGE)
        })
        break
      case '/part': response.writeHead(200, { 'content-type': 'image/svg+xml' }).end(PART); break
      case '/a.css': response.writeHead(200, { 'content-type': 'text/css' }).end('pre { font-size: 15px }'); break
      case '/favicon.ico': response.writeHead(204).end(); break
      case '/slow-upload': void readSlowly(request, response); break
      case '/report': void this.#hear(request, response); break
      case '/until-report': void this.#hold(response); break
      default: return false
    }
    return true
  }

  #wait(response: http.ServerResponse): void {
    const together = this.#together, late = setTimeout(() => {
      together.splice(together.indexOf(response), 1)
      response.writeHead(503).end()
    }, TOGETHER_MAX_MS)
    response.once('close', () => clearTimeout(late))
    together.push(response)
    if (together.length < MANY) return
    for (const waiting of together.splice(0)) waiting.end('together')
  }

  async #hear(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    let text = ''
    request.setEncoding('utf8')
    for await (const chunk of request as AsyncIterable<string>) text += chunk
    response.end()
    await this.onReport()
    this.#report.resolve(text)
  }

  async #hold(response: http.ServerResponse): Promise<void> {
    await Promise.race([this.report, delay(REPORT_MAX_MS, null, { ref: false })])
    response.writeHead(200, { 'content-type': 'image/svg+xml' }).end(PART)
  }
}

async function readSlowly(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  let bytes = 0, unpaused = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    unpaused += chunk.length
    if (unpaused < PAUSE_EVERY_BYTES) continue
    unpaused = 0
    await delay(PAUSE_MS)
  }
  response.end(String(bytes))
}
