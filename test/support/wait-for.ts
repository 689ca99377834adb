/**
 * Waiting for a condition with a deadline, for tests whose event has no callback. A condition that never comes true
 * fails with what was waited for, and with what was seen last.
 */

export interface WaitOptions {
  /** @default DEADLINE_MS */
  deadlineMs?: number
  /** Called for the failure's message. @default nothing */
  seen?: () => unknown
}

const POLL_MS = 2
/** Only what never comes may meet it: on a machine that others use, starting three processes has taken 8 s. */
const DEADLINE_MS = 20_000

type Present<T> = NonNullable<Exclude<T, false>>

/** Resolves with the first value of `condition` that is not false, null or undefined. */
export async function waitFor<T>(what: string, condition: () => T | Promise<T>, options: WaitOptions = {}): Promise<Present<T>> {
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS
  const start = performance.now()
  for (;;) {
    const value = await condition()
    if (value !== false && value !== null && value !== undefined) return value as Present<T>
    if (performance.now() - start > deadlineMs) {
      const seen = options.seen === undefined ? '' : `; last seen: ${JSON.stringify(options.seen())}`
      throw new Error(`waited ${deadlineMs} ms for ${what}${seen}`)
    }
    await nextPoll()
  }
}

/** The promise's value, or a failure that names `what` when it takes longer than the deadline. */
export async function within<T>(what: string, promise: Promise<T>, deadlineMs = DEADLINE_MS): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`waited ${deadlineMs} ms for ${what}`)), deadlineMs)
  try { return await Promise.race([promise, late]) } finally { clearTimeout(timer) }
}

function nextPoll(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, POLL_MS)
  return promise
}
