/**
 * One client of a proxy service, and the origins that it dials, in memory: for moments that are easier to say one by one. Nothing
 * moves before `settle`, and the clock stands still.
 */
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { SILENT_LOG, type ProcessLog } from '../../src/ipc/process-log.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { HttpProxyOptions } from '../../src/server/http-proxy-options.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import { admit } from '../../src/server/listening-base.ts'
import { SERVER_CONTEXT_DEFAULTS, type ServerContext } from '../../src/server/server-context.ts'
import type { AccessRecord } from '../../src/telemetry/exporters/access-line.ts'
import { AccessLog } from '../../src/telemetry/exporters/access-log.ts'
import type { AttemptEnded, ExchangeEnded, ExchangeStarted, Tracer } from '../../src/telemetry/tracer.ts'
import { FakeClock } from './fake-clock.ts'
import { MemoryPair, WireEnd } from './memory-stream.ts'

/** The lines as they were before they were text. */
class KeptLines extends AccessLog {
  readonly records: AccessRecord[] = []
  constructor() { super('stdout') }
  override write(record: AccessRecord): boolean {
    this.records.push(record)
    return true
  }
}

/** What a tracer of the service was told. */
export interface Told {
  readonly started: ExchangeStarted[]
  readonly attempts: AttemptEnded[]
  readonly ended: ExchangeEnded[]
}

export class ExchangeBench {
  readonly clock = new FakeClock()
  readonly client: WireEnd
  /** The origin's ends, in the order of dialling. */
  readonly origins: WireEnd[] = []
  readonly lines: readonly AccessRecord[]
  readonly told: Told = { started: [], attempts: [], ended: [] }
  readonly service: HttpProxy<undefined>
  readonly #accessLog = new KeptLines()
  readonly #pairs: MemoryPair[] = []

  constructor(
    hooks: Partial<ProxyHttp<undefined>>, options: HttpProxyOptions = {}, peerOptions: HttpPeerOptions = {}, log: ProcessLog = SILENT_LOG,
    context: Partial<ServerContext> = {},
  ) {
    const accessLog = this.#accessLog, down = this.#pair()
    this.lines = accessLog.records
    this.client = new WireEnd(down.far)
    const connector = new HttpConnector({
      ticker: new Ticker(this.clock),
      transport: {
        dial: (_peer, waiter) => {
          let wanted = true
          process.nextTick(() => {
            if (!wanted) return
            const pair = this.#pair()
            this.origins.push(new WireEnd(pair.far))
            waiter.onDialed(pair.near, null)
          })
          return { cancel() { wanted = false } }
        },
      },
    })
    const tracer: Tracer = {
      exchangeStarted: event => { this.told.started.push(event) },
      attemptEnded: event => { this.told.attempts.push(event) },
      exchangeEnded: event => { this.told.ended.push(event) },
    }
    const app: ProxyHttp<undefined> = {
      newCtx: () => undefined,
      upstreamPeer: () => new HttpPeer({ peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: '10.0.0.1:80' }, peerOptions),
      suppressErrorLog: () => true,
      ...hooks,
    }
    this.service = new HttpProxy(app, { connector, accessLog, tracers: [tracer], ...options }).addTcp('127.0.0.1:0')
    // What has to be there for a connection is there at once; the rest is of no interest here.
    void this.service.start({ ...SERVER_CONTEXT_DEFAULTS, log, ...context })
    admit(this.service, down.near, this.service.listeners[0]!.name)
  }

  #pair(): MemoryPair {
    const pair = new MemoryPair()
    this.#pairs.push(pair)
    return pair
  }

  /** Promises, ticks, and all bytes both ways. */
  async settle(): Promise<void> {
    for (let round = 0; round < 5; round++) {
      for (const pair of this.#pairs) pair.settle()
      await new Promise(setImmediate)
    }
  }

  async send(text: string): Promise<void> {
    this.client.send(text)
    await this.settle()
  }

  /** The latest origin answers. */
  async answer(text: string): Promise<void> {
    this.origins.at(-1)!.send(text)
    await this.settle()
  }

  /** The request as the latest origin got it, without its fields from the client. */
  field(name: string, origin = this.origins.at(-1)!): string | undefined {
    return new RegExp(`^${name}: (.*)\r$`, 'mi').exec(origin.text)?.[1]
  }

  close(): void {
    this.service.close()
    void this.#accessLog.close()
  }
}
