/**
 * Shows the same thing again and again, until Ctrl-C. A terminal is drawn anew each time, on a screen of its own, and what
 * was shown last stays when that ends; elsewhere, and for programs, each is appended.
 *
 * Once something was shown, a supervisor that cannot be asked is shown as that: it may be about to come back.
 */
import { setTimeout as elapsed } from 'node:timers/promises'
import { parseDuration } from '../../src/config/units.ts'
import { OptionError } from '../../src/primitives/option-table.ts'

const OWN_SCREEN = '\u001B[?1049h\u001B[?25l'
const USUAL_SCREEN = '\u001B[?25h\u001B[?1049l'
const TO_TOP = '\u001B[H'
const ERASE_TO_END_OF_LINE = '\u001B[K'
const ERASE_BELOW = '\u001B[J'
/** Less would keep a supervisor busy for people who cannot read so fast, in ms. */
const SHORTEST_INTERVAL_MS = 100
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** From an option's text, in ms. @throws OptionError */
export function intervalOf(option: string, interval: string): number {
  const ms = parseDuration(interval)
  if (ms === null || ms < SHORTEST_INTERVAL_MS) {
    throw OptionError.of(option, interval, `use a duration of ${SHORTEST_INTERVAL_MS}ms or more such as 2s`)
  }
  return ms
}

/**
 * @param look what there is to show now. @param plain append, also on a terminal, and say nothing else
 * @throws what the first look throws
 */
export async function watch(everyMs: number, look: () => Promise<string>, plain: boolean): Promise<void> {
  const { stdout } = process
  const drawn = stdout.isTTY && process.env['TERM'] !== 'dumb' && !plain
  let shown = await look()
  const ended = new AbortController()
  const { signal: over } = ended
  const end = (): void => { ended.abort() }
  // A second one ends the process at once.
  for (const signal of SIGNALS) process.once(signal, end)
  // A reader that has seen enough, such as `head`, is no failure.
  stdout.on('error', end)
  if (drawn) stdout.write(OWN_SCREEN)
  while (!over.aborted) {
    if (drawn) stdout.write(page(shown, stdout))
    else stdout.write(plain ? `${shown}\n` : `${new Date().toISOString()}\n${shown}\n\n`)
    const next = elapsed(everyMs, null, { signal: over }).then(async () => { shown = await lookOrSay(look, plain) })
    await Promise.race([next, untilAborted(over)]).catch(() => { /* Over while it waited. */ })
  }
  if (drawn) stdout.write(`${USUAL_SCREEN}${shown}\n`)
  for (const signal of SIGNALS) process.off(signal, end)
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => { signal.addEventListener('abort', () => { resolve() }, { once: true }) })
}

/** Never rejects. */
async function lookOrSay(look: () => Promise<string>, plain: boolean): Promise<string> {
  try {
    return await look()
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return plain ? JSON.stringify({ ok: false, error: message }) : message
  }
}

/** As much as the terminal has room for; it may have been made larger or smaller. */
function page(text: string, { rows, columns }: { readonly rows: number; readonly columns: number }): string {
  // One whose size is not known has 0 of both.
  const [height, width] = [rows || 24, columns || 80]
  const lines = text.split('\n').slice(0, height - 1).map(line => `${line.slice(0, width)}${ERASE_TO_END_OF_LINE}\n`)
  return `${TO_TOP}${lines.join('')}${ERASE_BELOW}`
}
