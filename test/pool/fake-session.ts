/** An upstream session that does nothing but be parked, taken and closed, and says when it was used against the rules. */
import assert from 'node:assert/strict'
import type { HeaderMap } from '../../src/http/header-map.ts'
import type { ByteStream, StreamDigest } from '../../src/protocols/byte-stream.ts'
import type { IdleKeeper, UpstreamSession } from '../../src/protocols/http-session.ts'

export class FakeSession implements UpstreamSession {
  poolNewer: UpstreamSession | null = null
  poolOlder: UpstreamSession | null = null
  poolKeyNewer: UpstreamSession | null = null
  poolKeyOlder: UpstreamSession | null = null
  reuseKey: string
  readonly digest: StreamDigest = { remoteAddress: 'fake', remoteIp: '', remotePort: 0, localAddress: '', establishedAt: 0 }
  exchanges = 1
  readonly bytesQueued = 0
  readonly bodyBytesIn = 0
  readonly bodyBytesOut = 0
  readonly responseStarted = false
  readonly hopNames: readonly string[] | null = null
  readonly ownsBuffer = true
  reusable = true
  originIdleMs = 0

  keeper: IdleKeeper | null = null
  parkedFor = 0
  aborted = false
  /** It ended, and nobody was told yet: the next `unpark` finds out. */
  silentlyLost = false
  /** Tells its keeper about that from within `unpark`. */
  tellsWhenUnparked = false
  /** Already gone when it is parked. */
  lostAtPark: 'closed' | 'unexpected-bytes' | null = null

  constructor(reuseKey: string) { this.reuseKey = reuseKey }

  get reused(): boolean { return this.exchanges > 1 }
  get parked(): boolean { return this.keeper !== null }

  park(keeper: IdleKeeper, idleTimeoutMs: number): void {
    assert.ok(!this.aborted && this.keeper === null && idleTimeoutMs > 0)
    this.keeper = keeper
    this.parkedFor = idleTimeoutMs
    if (this.lostAtPark !== null) this.lose(this.lostAtPark)
  }

  unpark(): boolean {
    assert.ok(!this.aborted && this.keeper !== null)
    const { keeper } = this
    this.keeper = null
    if (!this.silentlyLost) return true
    this.aborted = true
    if (this.tellsWhenUnparked) keeper.onParkedLost(this, 'closed')
    return false
  }

  abort(): void {
    this.aborted = true
    this.keeper = null
  }

  /** Ends by itself while it is parked. */
  lose(reason: 'closed' | 'unexpected-bytes' | 'idle'): void {
    const keeper = this.keeper
    assert.ok(keeper !== null)
    this.abort()
    keeper.onParkedLost(this, reason)
  }

  begin(): void { this.exchanges++ }
  writeHead(): void {}
  writeBody(): void {}
  endRequest(_trailers: HeaderMap | null): void {}
  resumeResponse(): void {}
  pauseResponse(): void {}
  giveUpBuffer(): boolean { return true }
  detach(): { stream: ByteStream; early: Buffer | null } { throw new Error('unused') }
}
