/**
 * One request of a process to itself, through everything that a client's request goes through, before it gets traffic.
 *
 * It travels over a socket that nobody else reaches: on Linux an abstract Unix socket with a name that nobody can guess,
 * elsewhere a path in a folder that only this user can enter. Binding and dialling are synchronous, so the first
 * connection in its queue is ours; with that one accepted the listening socket is gone.
 * Invariants: never throws, sends the request at most once, ends within the test's own time, and leaves nothing open.
 */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import type Http from 'node:http'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import type { SelfTestOutcome } from '../ipc/messages.ts'
import type { SelfTest } from '../ipc/server-description.ts'
import type { TestedConnection } from './service.ts'

/** An answer that is longer has proven its body; the rest is not read. */
const MAX_BODY_BYTES = 1_048_576

/** @param accept takes the accepted end, and is called at most once. */
export async function runSelfTest(test: SelfTest, accept: (socket: net.Socket) => TestedConnection): Promise<SelfTestOutcome> {
  const startedAt = performance.now()
  const asked = `${test.method} ${test.path}`
  const { statusMin, statusMax } = test.expect
  const limit = new AbortController()
  let waitedFor = '', waitedIn: Pick<SelfTestOutcome, 'stack'> = {}
  const timer = setTimeout(() => {
    const tested = line?.tested ?? null
    if (tested !== null) {
      waitedFor = `; it waits for ${tested.waitsFor}`
      waitedIn = stackOf(tested)
    }
    limit.abort()
  }, test.timeoutMs)
  let folder = ''
  let line: PrivateLine | null = null
  let answer: Answer | null = null
  try {
    if (process.platform !== 'linux') folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cirque-'))
    const at = folder === '' ? `\0cirque-self-test-${randomBytes(16).toString('hex')}` : path.join(folder, 's')
    // Here and not above: a process that only serves does without. Not by import, which would load undici as well.
    const http = process.getBuiltinModule('node:http')
    line = new PrivateLine(at, accept)
    answer = await ask(http, test, line, limit.signal)
    const { error, namedNoPeer } = line.tested!
    const why = error === null ? '' : `: ${error.message}`
    if ((answer.status < statusMin || answer.status > statusMax) && !namedNoPeer) {
      const expected = statusMin === statusMax ? statusMin : `${statusMin} to ${statusMax}`
      return { passed: false, detail: `${asked} answered ${answer.status}, expected ${expected}${why}`, ...stackOf(line.tested) }
    }
    await answer.ended
    return { passed: true, detail: `${asked} answered ${answer.status} in ${Math.round(performance.now() - startedAt)} ms${why}` }
  } catch (error) {
    const begun = answer === null ? 'was not answered' : `answered ${answer.status}, but not to the end`
    if (limit.signal.aborted) return { passed: false, detail: `${asked} ${begun} within ${test.timeoutMs} ms${waitedFor}`, ...waitedIn }
    const why = line?.tested?.error ?? error
    const detail = `${asked} ${begun}: ${why instanceof Error ? why.message : String(why)}`
    return { passed: false, detail, ...stackOf(line?.tested ?? null) }
  } finally {
    clearTimeout(timer)
    line?.close()
    if (folder !== '') fs.rmSync(folder, { recursive: true, force: true })
  }
}

function stackOf(tested: TestedConnection | null): Pick<SelfTestOutcome, 'stack'> {
  const stack = tested?.stack ?? ''
  return stack === '' ? {} : { stack }
}

/** A connection of this process to itself. */
class PrivateLine {
  readonly client: net.Socket
  /** Null before it was accepted. */
  tested: TestedConnection | null = null
  readonly #acceptor: net.Server

  constructor(at: string, accept: (socket: net.Socket) => TestedConnection) {
    this.#acceptor = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, socket => {
      this.#acceptor.close()
      try {
        this.tested = accept(socket)
      } catch (error) {
        socket.destroy()
        this.client.destroy(error as Error)
      }
    })
    this.#acceptor.on('error', error => this.client.destroy(error))
    // Exclusive: a cluster worker would otherwise ask its primary, which gives out no sockets.
    this.#acceptor.listen({ path: at, backlog: 1, exclusive: true })
    this.client = net.connect({ path: at })
  }

  close(): void {
    this.#acceptor.close()
    this.client.destroy()
  }
}

interface Answer {
  readonly status: number
  /** Resolves when enough of the body was read; rejects when it breaks off. */
  readonly ended: Promise<void>
}

function ask(http: typeof Http, test: SelfTest, { client }: PrivateLine, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  // The request listens a tick later.
  client.on('error', reject)
  // No agent: one connection, one request, and it says so.
  const request = http.request({ createConnection: () => client, method: test.method, path: test.path, headers: test.headers, signal })
  request.on('response', response => {
    const ended = Promise.withResolvers<void>()
    let bytes = 0
    response.on('data', (chunk: Buffer) => { if ((bytes += chunk.length) > MAX_BODY_BYTES) ended.resolve() })
    response.on('end', () => ended.resolve())
    response.on('error', ended.reject)
    // Nobody waits for the rest of an answer whose status has failed the test.
    ended.promise.catch(() => {})
    resolve({ status: response.statusCode!, ended: ended.promise })
  })
  // 101 is an answer as well; the bytes behind it are none of ours.
  request.on('upgrade', response => resolve({ status: response.statusCode!, ended: Promise.resolve() }))
  request.on('error', reject)
  request.on('close', () => reject(new Error('the connection was closed')))
  request.end()
  return promise
}
