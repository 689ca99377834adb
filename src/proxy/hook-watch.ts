/**
 * How long an exchange waits for its application: for the promise of a hook, or for the next piece of a body that the
 * application makes. Only the application ends such a wait, unless the client leaves; one that forgets a promise would hold
 * the exchange, with all that it has open, for ever.
 *
 * There is one of these for each place that waits (the steps of an exchange, each body's filters, an answer's body), made when
 * it waits first: an exchange whose hooks give values pays for none.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'

export interface HookHost {
  readonly ticker: Ticker
  /** Longest wait, in ms. 0: no limit. */
  readonly hookTimeoutMs: number
}

export interface HookWaiter {
  /** The wait is over, without a result; told once a wait, by the tick. */
  onHookLate(): void
}

export class HookWatch implements Timed {
  tickIndex = -1
  readonly #host: HookHost
  readonly #waiter: HookWaiter
  #until = 0

  constructor(host: HookHost, waiter: HookWaiter) {
    this.#host = host
    this.#waiter = waiter
  }

  /** A wait begins, or begins anew. */
  begin(): void {
    const { ticker, hookTimeoutMs } = this.#host
    if (hookTimeoutMs === 0) return
    this.#until = ticker.clock.now() + hookTimeoutMs
    ticker.add(this)
  }

  /** The result is there, or nobody wants it any more. Harmless without a wait. */
  end(): void { this.#host.ticker.remove(this) }

  onTick(now: number): void {
    if (now < this.#until) return
    this.end()
    this.#waiter.onHookLate()
  }
}

/** The fault of `hook`, which gave no result in time. */
export function hookLate(hook: string, { hookTimeoutMs }: HookHost): ProxyError {
  return new ProxyError('HOOK_TIMEOUT', 'internal', `${hook} gave no result within ${hookTimeoutMs} ms`, {
    limit: 'hook-timeout', hook,
  })
}
