/** What was thrown, in words. Invariant: nothing here throws, whatever it is: an application may throw anything. */

export interface ErrorText {
  readonly message: string
  /** '' when there is none. */
  readonly stack: string
}

/** What an error says of itself, even one that was made to make trouble. */
export function describeError(error: unknown): ErrorText {
  try {
    if (!(error instanceof Error)) return { message: String(error), stack: '' }
    return { message: String(error.message), stack: typeof error.stack === 'string' ? error.stack : '' }
  } catch {
    return { message: 'an error that cannot be shown', stack: '' }
  }
}
