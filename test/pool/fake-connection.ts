/**
 * An upstream connection that carries nothing: it begins, ends and loses exchanges as the test says, and fails when it is
 * used against the rules.
 */
import assert from 'node:assert/strict'
import type { ByteStream, StreamDigest } from '../../src/protocols/byte-stream.ts'
import type { ConnectionKeeper, ExchangeLimits, ParkedLoss, UpstreamConnection } from '../../src/protocols/http-connection.ts'
import type { UpstreamOwner, UpstreamSession } from '../../src/protocols/http-session.ts'

export const FAKE_DIGEST: StreamDigest = {
  remoteAddress: 'fake',
  remoteIp: '',
  remotePort: 0,
  localAddress: '',
  establishedAt: 0,
  tls: null,
}

/** One exchange on it. */
export class FakeExchange implements UpstreamSession {
  readonly connection: FakeConnection
  readonly limits: ExchangeLimits
  times: ExchangeLimits
  readonly digest = FAKE_DIGEST
  readonly bytesQueued = 0
  readonly bodyBytesIn = 0
  readonly bodyBytesOut = 0
  readonly responseStarted = false
  readonly hopNames: readonly string[] | null = null
  readonly ownsBuffer = true
  over = false
  constructor(connection: FakeConnection, limits: ExchangeLimits) {
    this.connection = connection
    this.limits = this.times = limits
  }
  /** Both messages ended. */
  end(): void {
    assert.ok(!this.over, 'an exchange ends once')
    this.over = true
    this.connection.active--
  }
  abort(): void {
    if (this.over) return
    this.end()
    if (!this.connection.shared) this.connection.usable = false
  }
  writeHead(): void {}
  writeBody(): void {}
  endRequest(): void {}
  resumeResponse(): void {}
  pauseResponse(): void {}
  giveUpBuffer(): boolean { return true }
  detach(): { stream: ByteStream; early: Buffer | null; ended: boolean } { throw new Error('unused') }
}

export class FakeConnection implements UpstreamConnection {
  poolNewer: UpstreamConnection | null = null
  poolOlder: UpstreamConnection | null = null
  poolKeyNewer: UpstreamConnection | null = null
  poolKeyOlder: UpstreamConnection | null = null
  poolLent = 0
  poolParked = 0
  poolSince = 0
  poolAge = 1
  poolRetired = false
  reuseKey: string
  readonly digest = FAKE_DIGEST
  readonly protocol = 'fake'
  readonly shared: boolean
  /** Exchanges that it takes at a time. */
  streams: number
  active = 0
  exchanges = 0
  originIdleMs = 0
  keeper: ConnectionKeeper | null = null

  /** No exchange may begin on it any more. */
  usable = true
  closed = false
  parked = false
  parkedFor = 0
  /** It ended, and nobody was told yet: the next `unpark` finds out. */
  silentlyLost = false
  /** Tells its keeper about that from within `unpark`. */
  tellsWhenUnparked = false
  /** Already gone when it is parked. */
  lostAtPark: ParkedLoss | null = null

  /** @param streams 0: an exclusive connection; else the exchanges that a shared one takes at a time */
  constructor(reuseKey: string, streams = 0) {
    this.reuseKey = reuseKey
    this.shared = streams > 0
    this.streams = Math.max(1, streams)
  }

  get capacity(): number { return this.usable && !this.closed ? Math.max(0, this.streams - this.active) : 0 }

  begin(_owner: UpstreamOwner | null, limits: ExchangeLimits): FakeExchange {
    assert.ok(this.capacity > 0 && !this.parked, 'an exchange begins where there is room')
    this.active++
    this.exchanges++
    return new FakeExchange(this, limits)
  }

  park(keeper: ConnectionKeeper, idleTimeoutMs: number): void {
    assert.ok(!this.closed && !this.parked && this.active === 0 && idleTimeoutMs > 0)
    this.keeper = keeper
    this.parked = true
    this.parkedFor = idleTimeoutMs
    if (this.lostAtPark !== null) this.lose(this.lostAtPark)
  }

  unpark(): boolean {
    assert.ok(!this.closed && this.parked)
    this.parked = false
    if (!this.silentlyLost) return true
    this.closed = true
    if (this.tellsWhenUnparked) this.keeper!.onParkedLost(this, 'closed')
    return false
  }

  close(): void {
    assert.equal(this.active, 0, 'no exchange is cut')
    this.closed = true
    this.parked = false
  }

  /** Ends by itself while it is parked. */
  lose(reason: ParkedLoss): void {
    assert.ok(this.parked)
    this.close()
    this.keeper!.onParkedLost(this, reason)
  }

  /** The origin takes another number of exchanges at a time; 0: none from now on, those under way go on. */
  take(streams: number): void {
    if (streams === 0) this.usable = false
    this.streams = streams
    this.keeper!.onCapacityChanged(this)
  }
}
