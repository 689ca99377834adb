/**
 * Events of errors to Sentry, by its own library: envelope, rate limits (429, `Retry-After`, `X-Sentry-Rate-Limits`), queue.
 *
 * Of `@sentry/node` only its core is loaded, found from there, and the way to Sentry is ours. What is left out would not
 * serve a supervisor, which reports what workers tell it and runs no code of applications:
 *   - its client brings OpenTelemetry and a loader that patches modules: 54 MB and 400 ms; the core takes 13 MB of anonymous memory
 *     and 105 ms (**measured**)
 *   - its transport waits for an answer for ever, so that a Sentry that hangs fills the queue until a restart; ours gives up
 *   - integrations: none. `Http` and its kin cost each request of a process; `OnUncaughtException` ends it; `ContextLines`
 *     and `Modules` read the disk; `Dedupe` would swallow the second of two deaths; `LinkedErrors` needs error objects,
 *     and causes are made from the stack here.
 * Nothing is collected from this process but the name of its host and the version of Node.js.
 */
import { createRequire } from 'node:module'
import os from 'node:os'
import { fileURLToPath } from 'node:url'
import type * as Core from '@sentry/core'
import type {
  BaseTransportOptions, Event, Exception, StackFrame, Transport, TransportMakeRequestResponse, TransportRequest,
} from '@sentry/core'
import type * as CoreServer from '@sentry/core/server'
import { CAUSE } from '../../ipc/fault-report.ts'
import type { ErrorEvent, ErrorSink, ErrorSinkOptions } from './error-sink.ts'

/** Events on their way at once; past it they are dropped. Each is 20 kB at most. */
const MAX_WAITING = 16
/** An answer that is not there by then is none, in ms. */
const ANSWER_TIMEOUT_MS = 10_000
/** At once; Sentry answers within a second, and events are rare. */
const MAX_CONNECTIONS = 2
/** Everything off, so that what a later release of the library collects by default is not collected here. */
const COLLECTS_NOTHING = {
  userInfo: false, cookies: false, httpHeaders: { request: false, response: false }, httpBodies: [], urlQueryParams: false,
  graphQL: { document: false, variables: false }, genAI: { inputs: false, outputs: false }, mcp: { inputs: false, outputs: false },
  databaseQueryData: false, queues: false, stackFrameVariables: false, frameContextLines: 0,
}
/** Folders of our own code, whose frames are not what an author looks for. */
const INSTALLATION = fileURLToPath(new URL('../../..', import.meta.url))
const OURS = ['src/', 'workers/', 'supervisor/', 'dist/'].map(folder => INSTALLATION + folder)

/** Loads the library, which takes some 100 ms. @param answerTimeoutMs for tests. @throws when it is not installed */
export function openSentry(options: ErrorSinkOptions, answerTimeoutMs = ANSWER_TIMEOUT_MS): ErrorSink {
  // It is no dependency of ours, so it is looked for where the library has its own.
  const ofNode = createRequire(createRequire(import.meta.url).resolve('@sentry/node'))
  return new SentrySink(ofNode('@sentry/core') as typeof Core, ofNode('@sentry/core/server') as typeof CoreServer, options, answerTimeoutMs)
}

class SentrySink implements ErrorSink {
  readonly counts = { accepted: 0, failed: 0, dropped: 0 }
  readonly #core: typeof Core
  readonly #client: CoreServer.ServerRuntimeClient
  readonly #stackParser: (stack: string) => StackFrame[]
  readonly #onAnswer: (problem: string) => void
  readonly #answerTimeoutMs: number
  #agent: { destroy(): void } | null = null

  constructor(
    core: typeof Core, server: typeof CoreServer, { dsn, environment, version, onAnswer }: ErrorSinkOptions, answerTimeoutMs: number,
  ) {
    this.#core = core
    this.#answerTimeoutMs = answerTimeoutMs
    this.#onAnswer = onAnswer
    const stackParser = core.createStackParser(server.nodeStackLineParser())
    this.#stackParser = stackParser
    this.#client = new server.ServerRuntimeClient({
      dsn, environment, stackParser,
      platform: 'node', runtime: { name: 'node', version: process.version }, serverName: os.hostname(),
      integrations: [], dataCollection: COLLECTS_NOTHING, sendClientReports: false,
      // Otherwise an integration for spans comes by itself.
      traceLifecycle: 'static',
      transport: given => this.#transport(given),
      transportOptions: { bufferSize: MAX_WAITING },
      beforeSend: (event, { data }) => withoutTrace(event, data),
      _metadata: { sdk: { name: 'sentry.javascript.cirque', version } },
    })
  }

  send(event: ErrorEvent): void {
    const { traceId, spanId } = event
    // A scope of its own, so that it gets nothing of another event.
    const scope = new this.#core.Scope()
    if (traceId !== '') scope.setPropagationContext({ traceId, sampleRand: 0, parentSpanId: spanId })
    this.#client.captureEvent(this.#eventOf(event), { data: { traced: traceId !== '' } }, scope)
  }

  async flush(timeoutMs: number): Promise<void> {
    try { await this.#client.flush(timeoutMs) } catch { /* What it says proves nothing: each answer is counted. */ }
  }

  close(): void { this.#agent?.destroy() }

  #eventOf({ level, name, message, stack, fingerprint, handled, tags, extra, release, traceId, spanId, atMs }: ErrorEvent): Event {
    const [own = '', ...causes] = stack.split(`\n${CAUSE}`)
    const mechanism = { type: 'cirque', handled }
    // Sentry wants the innermost cause first.
    const chain = causes.map(cause => this.#causeOf(cause)).reverse()
    const values: Exception[] = [...chain, { type: name, value: message, mechanism, ...this.#framesOf(own) }]
    return {
      level, timestamp: atMs / 1000, release, fingerprint: [...fingerprint], tags: { ...tags }, extra: { ...extra }, exception: { values },
      ...traceId === '' ? {} : { contexts: { trace: { trace_id: traceId, span_id: spanId } } },
    }
  }

  /** The first line says what it is called: `TypeError: no such tenant`. */
  #causeOf(text: string): Exception {
    const [first = '', ...frames] = text.split('\n')
    const [, type = 'Error', value = first] = /^(\w+): (.*)$/.exec(first) ?? []
    return { type, value, ...this.#framesOf(frames.join('\n')) }
  }

  #framesOf(stack: string): Pick<Exception, 'stacktrace'> {
    const frames = this.#stackParser(stack)
    for (const frame of frames) if (OURS.some(folder => frame.filename?.startsWith(folder) === true)) frame.in_app = false
    return frames.length === 0 ? {} : { stacktrace: { frames } }
  }

  #transport(given: BaseTransportOptions): Transport {
    const post = this.#poster(given)
    // What was sent and failed is counted where that is seen.
    const recordDroppedEvent: BaseTransportOptions['recordDroppedEvent'] = reason => {
      if (reason === 'ratelimit_backoff' || reason === 'queue_overflow') this.counts.dropped++
    }
    return this.#core.createTransport({ ...given, recordDroppedEvent }, async request => {
      try {
        const answer = await post(request)
        const { statusCode = 0 } = answer
        this.#answered(statusCode >= 200 && statusCode <= 299 ? '' : `it answered ${statusCode}`)
        return answer
      } catch (error) {
        this.#answered(problemOf(error, this.#answerTimeoutMs))
        throw error
      }
    })
  }

  #answered(problem: string): void {
    if (problem === '') this.counts.accepted++
    else this.counts.failed++
    this.#onAnswer(problem)
  }

  #poster({ url, headers = {} }: BaseTransportOptions): (request: TransportRequest) => Promise<TransportMakeRequestResponse> {
    const isSecure = url.startsWith('https:')
    // Not by import, which would load undici as well.
    const { Agent, request } = isSecure ? process.getBuiltinModule('node:https') : process.getBuiltinModule('node:http')
    const agent = this.#agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS, proxyEnv: process.env })
    const post = (body: string | Uint8Array, mayRepeat: boolean): Promise<TransportMakeRequestResponse> => {
      const { promise, resolve, reject } = Promise.withResolvers<TransportMakeRequestResponse>()
      // It holds for the body of the answer as well, which is thrown away.
      const signal = AbortSignal.timeout(this.#answerTimeoutMs)
      const outgoing = request(url, { method: 'POST', agent, headers, signal }, response => {
        response.on('error', () => { /* Its head was all that there was to know. */ }).resume()
        const limits = response.headers['x-sentry-rate-limits']
        resolve({
          statusCode: response.statusCode ?? 0,
          headers: { 'retry-after': response.headers['retry-after'] ?? null, 'x-sentry-rate-limits': [limits].flat()[0] ?? null },
        })
      })
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        const wasIdle = outgoing.reusedSocket && error.code === 'ECONNRESET'
        if (wasIdle && mayRepeat) resolve(post(body, false))
        else reject(error)
      })
      outgoing.end(body)
      return promise
    }
    return ({ body }) => post(body, true)
  }
}

/** One that belongs to no trace would have an id that was made up. */
function withoutTrace<E extends Event>(event: E, data: unknown): E {
  const { traced } = data as { readonly traced: boolean }
  if (!traced) delete event.contexts?.trace
  return event
}

/** Without a url: the key is in it. */
function problemOf(error: unknown, answerTimeoutMs: number): string {
  const { name, code } = error as NodeJS.ErrnoException
  if (name === 'TimeoutError' || name === 'AbortError') return `no answer within ${answerTimeoutMs / 1000} s`
  return `it could not be reached (${typeof code === 'string' ? code : name})`
}
