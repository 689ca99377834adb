/** What a command may do with the terminal that it was started from. */
import type { Screen } from './progress-view.ts'

/** stderr as a screen: what is shown there is for people, and stdout keeps the answer. */
export function stderrScreen(): Screen {
  const { stderr } = process
  return {
    // A dumb terminal shows what should move the cursor.
    rewritable: stderr.isTTY && process.env['TERM'] !== 'dumb',
    get columns() { return stderr.columns || 80 },
    write: text => { stderr.write(text) },
  }
}
