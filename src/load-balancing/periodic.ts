/**
 * What the background loops of a load balancer share: a pause that ends at once when the service is told to stop,
 * intervals that do not march in step over all workers, and a bounded number of things done at the same time.
 */
import type { Clock } from '../primitives/clock.ts'

/** `ms`, give or take a tenth, so that many workers do not ask the same place in the same moment. */
export function jittered(ms: number, random: () => number): number {
  return ms * (0.9 + 0.2 * random())
}

/** Resolves after `ms`, or as soon as `signal` is aborted. Leaves nothing behind on either path. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  const { promise, resolve } = Promise.withResolvers<void>()
  const finish = () => {
    stop()
    signal.removeEventListener('abort', finish)
    resolve()
  }
  // Unlike `after`, this does not keep a process alive that has nothing else to do.
  const stop = clock.every(Math.max(ms, 1), finish)
  signal.addEventListener('abort', finish)
  return promise
}

/** Runs `each` over the items, at most `maxParallel` at a time, and starts no more once `signal` is aborted. `each` must not reject. */
export async function forEachParallel<T>(
  items: readonly T[], maxParallel: number, signal: AbortSignal, each: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length && !signal.aborted) await each(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(maxParallel, items.length) }, lane))
}

/**
 * The outcome of `work`, or a rejection as soon as `signal` is aborted or `limitMs` have passed. Either aborts the signal that
 * `work` is given; what it still does afterwards is not waited for.
 */
export async function untilAborted<T>(
  clock: Clock, limitMs: number, signal: AbortSignal, work: (ending: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController()
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const end = (reason: unknown) => {
    ending.abort(reason)
    reject(reason)
  }
  const onAbort = () => end(signal.reason)
  const disarm = clock.after(limitMs, () => end(new Error(`not done within ${limitMs} ms`)))
  signal.addEventListener('abort', onAbort)
  try {
    signal.throwIfAborted()
    return await Promise.race([work(ending.signal), ended])
  } finally {
    disarm()
    signal.removeEventListener('abort', onAbort)
  }
}
