/** A pool with time in the test's hand, waiters that remember what they were told, and connections that carry nothing. */
import assert from 'node:assert/strict'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { PeerOptions } from '../../src/peer/peer-options.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { ConnectionPool, PoolWaiter } from '../../src/pool/connection-pool.ts'
import { IdleCrowd } from '../../src/pool/idle-crowd.ts'
import type { PoolOptions } from '../../src/pool/pool-options.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeConnection } from './fake-connection.ts'

export const peerOf = (name: string, options: PeerOptions = {}): Peer => new HttpPeer(`${name}.test:80`, options)

export class Waiter extends PoolWaiter {
  readonly pool: ConnectionPool
  got: UpstreamConnection | null = null
  placed = false
  error: ProxyError | null = null
  readonly log: string[] | null
  readonly id: string
  constructor(pool: ConnectionPool, peer: Peer, id = '', log: string[] | null = null, fresh = false) {
    super(peer, pool, fresh)
    this.pool = pool
    this.id = id
    this.log = log
  }
  override onPlace(): void {
    this.placed = true
    this.log?.push(`${this.id} place`)
  }
  override onHandedOver(connection: UpstreamConnection): void {
    this.got = connection
    this.log?.push(`${this.id} connection`)
  }
  override onWaitFailed(error: ProxyError): void {
    this.error = error
    this.log?.push(`${this.id} ${error.kind}`)
  }
}

export class Fixture {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly pool: ConnectionPool
  /** @param crowd the pools with which it shares the limit of the process. Left out: none */
  constructor(options: PoolOptions = {}, crowd = new IdleCrowd()) { this.pool = new ConnectionPool(this.ticker, options, crowd) }

  /** A new connection, lent. `streams`: the exchanges that a shared one takes; 0: an exclusive one. */
  open(peer: Peer, streams = 0): FakeConnection {
    assert.equal(this.pool.admit(new Waiter(this.pool, peer)), 'granted')
    const connection = new FakeConnection(peer.reuseKey, streams)
    assert.equal(this.pool.lend(connection), 1)
    return connection
  }

  /** Its exchange ended, and no other may follow. */
  drop(connection: FakeConnection, peer: Peer): void {
    connection.usable = false
    this.pool.release(connection, peer)
  }

  /** A new connection, idle. */
  idle(peer: Peer, streams = 0): FakeConnection {
    const connection = this.open(peer, streams)
    assert.equal(this.pool.release(connection, peer), true)
    return connection
  }
}

/** The queue is served from a tick of its own. */
export const served = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })
