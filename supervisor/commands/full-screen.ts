/**
 * The whole terminal, for a command that draws again and again and takes keys: on a screen of its own, so that what was there
 * before is back when it ends, however that happens. A suspended command gives the terminal back until it goes on.
 */
import { writtenLine, type Line } from './text-table.ts'

export interface ScreenSize { readonly columns: number; readonly rows: number }

export type Key = 'up' | 'down' | 'left' | 'right' | 'page-up' | 'page-down' | 'home' | 'end' | 'tab' | 'back-tab' | 'interrupt' | 'suspend'

export interface FullScreenHandlers {
  /** A key by its name, or the character that was typed. */
  onKey(key: string): void
  /** Another size, or the screen is ours again: draw. */
  onResize(): void
}

type Output = Pick<NodeJS.WriteStream, 'write' | 'columns' | 'rows' | 'on' | 'off'>
type Input = Pick<NodeJS.ReadStream, 'isTTY' | 'setRawMode' | 'on' | 'off' | 'resume' | 'pause'>

const OWN_SCREEN = '\u001B[?1049h\u001B[?25l'
const USUAL_SCREEN = '\u001B[?25h\u001B[?1049l'
const TO_TOP = '\u001B[H'
const ERASE_TO_END_OF_LINE = '\u001B[K'
const ERASE_BELOW = '\u001B[J'

/** Of a terminal that does not say how large it is. */
const USUAL_SIZE: ScreenSize = { columns: 80, rows: 24 }

const NAMED: Readonly<Record<string, Key>> = {
  'A': 'up', 'B': 'down', 'C': 'right', 'D': 'left', 'H': 'home', 'F': 'end', 'Z': 'back-tab',
  '1~': 'home', '4~': 'end', '5~': 'page-up', '6~': 'page-down',
}
const CONTROLS: Readonly<Record<string, Key>> = { '\t': 'tab', '\u0003': 'interrupt', '\u001A': 'suspend' }

/** What was typed, key by key. Sequences that mean nothing here are left out whole. */
export function keysIn(typed: string): string[] {
  // CSI or SS3 with its end (ECMA-48 section 5.4); an escape alone; any other character.
  return [...typed.matchAll(/\u001B(?:\[[0-?]*[ -/]*([@-~])|O([A-Z]))|\u001B|[^\u001B]/gu)].flatMap(([whole, end, applicationEnd]) => {
    if (!whole.startsWith('\u001B')) return [CONTROLS[whole] ?? whole]
    const name = applicationEnd ?? (end === '~' ? whole.slice(2) : end)
    const key = name === undefined ? undefined : NAMED[name]
    return key === undefined ? [] : [key]
  })
}

export class FullScreen {
  readonly #output: Output
  readonly #input: Input
  readonly #handlers: FullScreenHandlers
  readonly #colours: boolean
  #isOurs = false
  readonly #onTyped = (typed: Buffer): void => { for (const key of keysIn(typed.toString())) this.#onKey(key) }
  readonly #onResized = (): void => { this.#handlers.onResize() }
  /** Also when something throws that nobody caught: what Node.js says of it then is to be read. */
  readonly #onExit = (): void => { this.#giveBack() }
  readonly #onContinued = (): void => {
    if (this.#isOurs) return
    this.#take()
    this.#handlers.onResize()
  }

  constructor(output: Output, input: Input, colours: boolean, handlers: FullScreenHandlers) {
    this.#output = output
    this.#input = input
    this.#colours = colours
    this.#handlers = handlers
  }

  get size(): ScreenSize {
    const { columns, rows } = this.#output
    // Both are 0 where the size is not known.
    return { columns: columns || USUAL_SIZE.columns, rows: rows || USUAL_SIZE.rows }
  }

  open(): void {
    process.on('exit', this.#onExit)
    process.on('uncaughtExceptionMonitor', this.#onExit)
    process.on('SIGCONT', this.#onContinued)
    this.#output.on('resize', this.#onResized)
    this.#input.on('data', this.#onTyped)
    this.#take()
  }

  close(): void {
    process.off('exit', this.#onExit)
    process.off('uncaughtExceptionMonitor', this.#onExit)
    process.off('SIGCONT', this.#onContinued)
    this.#output.off('resize', this.#onResized)
    this.#input.off('data', this.#onTyped)
    this.#giveBack()
    this.#input.pause()
  }

  /** Nothing is written while it is not ours. @param lines as many as there is room for, none wider than that */
  draw(lines: readonly Line[]): void {
    if (!this.#isOurs) return
    const text = lines.map(line => `${writtenLine(line, this.#colours)}${ERASE_TO_END_OF_LINE}`).join('\n')
    this.#output.write(`${TO_TOP}${text}${ERASE_BELOW}`)
  }

  #onKey(key: string): void {
    if (key !== 'suspend') { this.#handlers.onKey(key); return }
    this.#giveBack()
    // As the terminal does it, to all that belong to the command. Where nobody could let it go on it does not stop.
    process.kill(0, 'SIGTSTP')
    setImmediate(this.#onContinued)
  }

  #take(): void {
    this.#isOurs = true
    if (this.#input.isTTY) this.#input.setRawMode(true)
    this.#input.resume()
    this.#output.write(OWN_SCREEN)
  }

  #giveBack(): void {
    if (!this.#isOurs) return
    this.#isOurs = false
    if (this.#input.isTTY) this.#input.setRawMode(false)
    this.#output.write(USUAL_SCREEN)
  }
}
