/**
 * What the application's code gives back. A callback whose result counts at once must not pass with a promise, which is true
 * in every condition; one that only watches must not leave a rejection that nobody knows of.
 */

/** Whether it is a promise, or is used like one. */
export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

/** Of a callback that nobody waits for: `failed` is told what it rejects with. */
export function catchLater(result: unknown, failed: (thrown: unknown) => void): void {
  if (isPromise(result)) Promise.resolve(result).then(undefined, failed)
}

/** The answer of a callback that decides at once. @throws TypeError when it gave anything but true or false */
export function decisionOf(result: unknown): boolean {
  if (typeof result === 'boolean') return result
  catchLater(result, () => { /* It was refused. */ })
  throw new TypeError(`it returned ${isPromise(result) ? 'a promise' : String(result)}; it has to return true or false at once`)
}
