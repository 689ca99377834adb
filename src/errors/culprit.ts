/**
 * Which function of the application an error is about that was made somewhere else: a method whose name nothing calls, say. Its stack
 * leads to the place where that was noticed, and an author wants to see the method.
 */
const CULPRIT = Symbol.for('cirque.culprit')

/** @param culprit null: none. @returns the error */
export function blame<E extends Error>(error: E, culprit: Function | null): E {
  if (culprit !== null) Object.defineProperty(error, CULPRIT, { value: culprit })
  return error
}

/** Null for an error that blames none, and for what is no error. */
export function culpritOf(error: unknown): Function | null {
  return error instanceof Error ? (error as { [CULPRIT]?: Function })[CULPRIT] ?? null : null
}
