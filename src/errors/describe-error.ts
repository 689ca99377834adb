/** What was thrown, in words. Invariant: nothing here throws, whatever it is: an application may throw anything. */

export interface ErrorText {
  readonly message: string
  /** With those of its causes below it; '' when there is none. */
  readonly stack: string
}

/** Causes of causes say less and less. */
const MAX_CAUSES = 3

/** What an error says of itself, even one that was made to make trouble. */
export function describeError(error: unknown): ErrorText {
  try {
    if (!(error instanceof Error)) return { message: String(error), stack: '' }
    const stack = stackOf(error)
    return { message: String(error.message), stack: stack === '' ? '' : stack + causesOf(error) }
  } catch {
    return { message: 'an error that cannot be shown', stack: '' }
  }
}

/** Class of what was thrown, as it calls itself, or by its constructor; what is no error is called by its type. */
export function nameOfError(error: unknown): string {
  try {
    if (!(error instanceof Error)) return error === null ? 'null' : typeof error
    const { name } = error
    const said = typeof name === 'string' && name !== '' && name !== 'Error' ? name : error.constructor.name
    return typeof said === 'string' && said !== '' ? said : 'Error'
  } catch { return 'Error' }
}

function stackOf({ stack }: Error): string { return typeof stack === 'string' ? stack : '' }

/** What an error names as its cause, and so on. */
function causesOf(error: Error): string {
  let text = ''
  let of: unknown = error
  for (let count = 0; count < MAX_CAUSES && of instanceof Error && of.cause !== undefined && of.cause !== null; count++) {
    of = of.cause
    const said = of instanceof Error ? stackOf(of) || of.message : String(of)
    text += `\nbecause of ${said}`
  }
  return text
}
