/** What a command may do with the terminal that it was started from. stderr is for people; stdout keeps the answer. */
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** Goes to the first column and empties the line. */
const ERASE_LINE = '\r\u001B[2K'

/** Where it is shown what happens meanwhile. */
export interface Screen {
  /** Whether the last line can be written again. */
  readonly rewritable: boolean
  write(text: string): void
  /** Puts the text into the place of the line that the cursor is in. Only where that can be done. */
  rewrite(text: string): void
}

export interface ScreenOutput {
  readonly isTTY?: boolean
  /** Width in characters; it may change. */
  readonly columns?: number
  write(text: string): unknown
}

/** A terminal of which nothing is known is as wide as this. */
const USUAL_COLUMNS = 80

/** @param terminal what TERM says of it */
export function screenOn(output: ScreenOutput, terminal = process.env['TERM']): Screen {
  return {
    // A dumb terminal shows what should move the cursor.
    rewritable: output.isTTY === true && terminal !== 'dumb',
    write(text) { output.write(text) },
    rewrite(text) {
      // A line that wraps could not be written again, and one as wide as the terminal wraps on some.
      output.write(`${ERASE_LINE}${text.slice(0, (output.columns || USUAL_COLUMNS) - 1)}`)
    },
  }
}

export function stderrScreen(): Screen { return screenOn(process.stderr) }

/** Whether a person can be asked something. */
export function canAsk(): boolean { return process.stdin.isTTY && process.stderr.isTTY }

/** Asks a person, for whom everything but a yes is a no. Ctrl-C ends the command, as ever. */
export async function agrees(question: string): Promise<boolean> {
  process.stderr.write(`${question} [y/N] `)
  const lines = createInterface({ input: process.stdin, terminal: false })
  // The end of the input is an answer as well.
  const [answer = ''] = await Promise.race([once(lines, 'line'), once(lines, 'close')]) as [string?]
  lines.close()
  return /^y(es)?$/i.test(answer.trim())
}
