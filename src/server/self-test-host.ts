/**
 * A service as the process's own test sees it (self-test.ts).
 *
 * Unless the test is to reach the upstream, whatever peer the application names is answered from memory: 200 and a line of
 * text, without a name resolved or a socket opened. So a worker is as able to serve as this says, whatever origins do; an
 * application that has no peer to name, because all of its backends are down, has answered as it should.
 */
import { HttpConnector } from '../connector/http-connector.ts'
import type { Peer } from '../peer/peer.ts'
import type { FinishedExchange } from '../proxy/exchange-host.ts'
import { hookLate } from '../proxy/hook-watch.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import { memoryTransport, type MemoryOrigin } from './memory-origin.ts'
import { OwnRequestHost, type TestedService } from './own-request-host.ts'
import type { TestedConnection } from './service.ts'

const answerItself: MemoryOrigin = () => ({ headers: { 'content-type': 'text/plain' }, body: 'self-test\n' })

export class SelfTestHost<Ctx> extends OwnRequestHost<Ctx> implements TestedConnection {
  readonly #upstream: boolean

  constructor(service: TestedService<Ctx>, upstream: boolean) {
    const { ticker } = service
    const connector = upstream ? service.connector
      : new HttpConnector({ ticker, transport: memoryTransport(answerItself, ticker, 'self-test-origin') })
    super(service, service.plan, connector, upstream)
    this.#upstream = upstream
  }

  /** A test that is late may wait for a hook, whose place it is then. */
  get stack(): string { return this.service.stackOf(this.error ?? hookLate(this.waitsFor, this)) }
  get namedNoPeer(): boolean {
    return !this.#upstream && this.error?.source === 'upstream' && this.exchange !== null && this.exchange.peer === null
  }

  /** Its connections to an upstream are real ones. */
  tracersFor(peer: Peer): TracerGroup | null { return this.#upstream ? this.service.tracersFor(peer) : null }

  exchangeEnded(exchange: FinishedExchange): void {
    if (!this.#upstream) this.connector.close()
    this.service.logFault(exchange)
  }
}
