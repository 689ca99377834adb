/**
 * What is around a relay or a tunnel: a client and an origin, each at the far end of a connection in memory, and a clock
 * that stands still. The near ends are the relay's. How it ended is written down.
 */
import assert from 'node:assert/strict'
import { Ticker } from '../../src/primitives/clock.ts'
import type { TunnelOwner } from '../../src/proxy/tunnel.ts'
import { FakeClock } from './fake-clock.ts'
import { MemoryPair, WireEnd } from './memory-stream.ts'

export interface WorldOptions {
  /** Bytes that the kernel takes towards the client before the relay has to queue. @default Infinity */
  readonly clientKernelBytes?: number
  /** The same towards the origin. @default Infinity */
  readonly originKernelBytes?: number
}

export interface Outcome { readonly fromClient: number; readonly fromOrigin: number; readonly error: Error | null }

export class RelayWorld implements TunnelOwner {
  readonly clock = new FakeClock()
  readonly ticker: Ticker = new Ticker(this.clock)
  readonly clientPair: MemoryPair
  readonly originPair: MemoryPair
  readonly client: WireEnd
  readonly origin: WireEnd
  outcome: Outcome | null = null
  outcomes = 0

  constructor({ clientKernelBytes = Infinity, originKernelBytes = Infinity }: WorldOptions) {
    this.clientPair = new MemoryPair({ kernelBytes: clientKernelBytes })
    this.originPair = new MemoryPair({ kernelBytes: originKernelBytes })
    this.client = new WireEnd(this.clientPair.far)
    this.origin = new WireEnd(this.originPair.far)
  }

  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void {
    this.outcomes++
    this.outcome = { fromClient, fromOrigin, error }
  }

  /** Delivers everything on both connections, until nothing moves any more. */
  settle(): void {
    const ends = [this.clientPair.near, this.clientPair.far, this.originPair.near, this.originPair.far]
    for (let moved = true; moved;) {
      moved = false
      for (const end of ends) {
        while (end.deliver() > 0) moved = true
        if (end.deliverEnd()) moved = true
      }
    }
  }

  pass(ms: number): void {
    this.clock.advance(ms)
    this.settle()
  }

  /** It is over, once, and nothing is left that ticks. */
  assertOver(): void {
    assert.equal(this.outcomes, 1)
    this.clock.advance(100)
    assert.equal(this.clock.pending, 0)
  }
}
