/** `cirque top`: what passes through a server at this moment, drawn anew each second, once, or as lines for programs. */
import { setTimeout as elapse } from 'node:timers/promises'
import type { Command } from 'commander'
import { ChannelError } from '../../src/ipc/channel.ts'
import { asciiJson } from '../../src/primitives/ascii-json.ts'
import { askSupervisor } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import { SampleWindow } from '../figures.ts'
import type { Sample } from '../sample.ts'
import { chosenFolder } from './chosen-supervisor.ts'
import { FullScreen } from './full-screen.ts'
import { Failure, shared } from './shared-options.ts'
import type { Shared } from './shared-options.ts'
import { writtenLine } from './text-table.ts'
import { TABLES, topFrame, type TableName, type TopView } from './top-screen.ts'
import { intervalOf, watch } from './watch.ts'

/** Figures are of so much time, so that they can be read, in ms. */
const WINDOW_MS = 10_000
/** A supervisor that has not answered by then is shown as one that does not, in ms. */
const ANSWER_MAX_MS = 2_000
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** Of what is no terminal. */
const USUAL_COLUMNS = 80

interface TopFlags extends Shared { readonly once?: boolean; readonly interval: string }

export function addTopCommand(program: Command): void {
  shared(program.command('top').description('what passes through it now: requests, errors, latencies, origins, workers'))
    .option('--interval <duration>', 'how often to look', '1s')
    .option('--once', 'show it once, for one interval, and end')
    .action(async (options: TopFlags) => {
      const everyMs = intervalOf('--interval', options.interval)
      const folder = await chosenFolder(options)
      const take = (): Promise<Sample> => sampleFrom(folder)
      const { stdout } = process
      if (options.once === true) await showOnce(take, everyMs, options.json === true)
      else if (options.json === true) await watch(everyMs, async () => asciiJson(await take()), true)
      else if (stdout.isTTY && process.env['TERM'] !== 'dumb') await new Top(take, everyMs).run()
      else await appendFrames(take, everyMs)
    })
}

/** @throws Failure for a supervisor of an older build */
async function sampleFrom(folder: string): Promise<Sample> {
  try {
    return await askSupervisor(folder, { tag: 'sample' }, { timeoutMs: ANSWER_MAX_MS }) as Sample
  } catch (error) {
    if (!(error instanceof ChannelError) || error.code !== 'unknown') throw error
    const remedy = 'use `cirque status --watch`, or `cirque upgrade --supervisor`, which replaces it'
    throw new Failure(EXIT.failed, `the supervisor that runs is of a build that has no figures for this; ${remedy}`)
  }
}

/** Two samples, and what lies between them. */
async function showOnce(take: () => Promise<Sample>, everyMs: number, json: boolean): Promise<void> {
  const { stdout } = process
  const window = new SampleWindow(WINDOW_MS)
  for (const last of [false, true]) {
    const sample = await take()
    window.add(sample)
    if (json) stdout.write(`${asciiJson(sample)}\n`)
    if (!last) await elapse(everyMs)
  }
  if (!json) stdout.write(`${frameText({ sample: window.last!, figures: window.figures, lost: '', lostForMs: 0 })}\n`)
}

/** Where nothing can be drawn again: one below the other. */
async function appendFrames(take: () => Promise<Sample>, everyMs: number): Promise<void> {
  const window = new SampleWindow(WINDOW_MS)
  await watch(everyMs, async () => {
    const sample = await take()
    window.add(sample)
    return frameText({ sample, figures: window.figures, lost: '', lostForMs: 0 })
  }, false)
}

/** All rows, in the width that there is. */
function frameText(view: TopView): string {
  const { stdout } = process
  const size = { columns: stdout.columns || USUAL_COLUMNS, rows: Infinity }
  const colours = stdout.isTTY && stdout.hasColors()
  const { lines } = topFrame(view, { chosen: 'workers', offset: 0 }, size, '')
  return lines.map(line => writtenLine(line, colours)).join('\n').trimEnd()
}

/** On a terminal of which it has the whole, until somebody has seen enough. */
class Top {
  readonly #take: () => Promise<Sample>
  readonly #everyMs: number
  readonly #window = new SampleWindow(WINDOW_MS)
  readonly #screen: FullScreen
  readonly #ended = new AbortController()
  #chosen: TableName = 'workers'
  #offset = 0
  /** Of the picture that is there. */
  #lastOffset = 0
  #lost = ''
  #answeredAtMs = 0

  constructor(take: () => Promise<Sample>, everyMs: number) {
    const { stdout, stdin } = process
    this.#take = take
    this.#everyMs = everyMs
    this.#screen = new FullScreen(stdout, stdin, stdout.hasColors(), {
      onKey: key => this.#onKey(key), onResize: () => this.#draw(),
    })
  }

  /** @throws what the first look throws: then nothing was drawn */
  async run(): Promise<void> {
    this.#window.add(await this.#take())
    this.#answeredAtMs = performance.now()
    const { signal } = this.#ended
    const end = (): void => { this.#ended.abort() }
    // A second one ends the process at once.
    for (const name of SIGNALS) process.once(name, end)
    // The terminal has gone.
    process.stdout.on('error', end)
    this.#screen.open()
    try {
      while (!signal.aborted) {
        this.#draw()
        await elapse(this.#everyMs, null, { signal }).catch(() => { /* Over while it waited. */ })
        // What is asked when it ends is not waited for.
        if (!signal.aborted) await Promise.race([this.#look(), aborted(signal)])
      }
    } finally {
      this.#screen.close()
      for (const name of SIGNALS) process.off(name, end)
    }
  }

  async #look(): Promise<void> {
    try {
      this.#window.add(await this.#take())
      this.#answeredAtMs = performance.now()
      this.#lost = ''
    } catch (error) {
      // It may be about to come back.
      this.#lost = error instanceof Error ? error.message : String(error)
    }
  }

  get #view(): TopView {
    const lostForMs = this.#lost === '' ? 0 : performance.now() - this.#answeredAtMs
    return { sample: this.#window.last!, figures: this.#window.figures, lost: this.#lost, lostForMs }
  }

  #draw(): void {
    const view = this.#view
    const over = view.figures === null ? '' : `   figures: last ${Math.round(view.figures.seconds)}s`
    const choice = { chosen: this.#chosen, offset: this.#offset }
    const { lines, lastOffset } = topFrame(view, choice, this.#screen.size, `q quit   tab next table   up, down rows${over}`)
    // Of a table that has become shorter, or of a larger terminal.
    this.#offset = Math.min(this.#offset, lastOffset)
    this.#lastOffset = lastOffset
    this.#screen.draw(lines)
  }

  #onKey(key: string): void {
    const page = Math.max(1, this.#screen.size.rows - 10)
    switch (key) {
      case 'q': case 'Q': case 'interrupt': this.#ended.abort(); return
      case 'tab': case 'right': this.#choose(TABLES.indexOf(this.#chosen) + 1); break
      case 'back-tab': case 'left': this.#choose(TABLES.indexOf(this.#chosen) - 1); break
      case 'w': this.#choose(TABLES.indexOf('workers')); break
      case 'l': this.#choose(TABLES.indexOf('listeners')); break
      case 'u': this.#choose(TABLES.indexOf('upstreams')); break
      case 'up': this.#scroll(-1); break
      case 'down': this.#scroll(1); break
      case 'page-up': this.#scroll(-page); break
      case 'page-down': this.#scroll(page); break
      case 'home': this.#scroll(-Infinity); break
      case 'end': this.#scroll(Infinity); break
      default: return
    }
    this.#draw()
  }

  #choose(index: number): void {
    this.#chosen = TABLES[(index + TABLES.length) % TABLES.length]!
    this.#offset = 0
  }

  #scroll(by: number): void {
    this.#offset = Math.max(0, Math.min(this.#lastOffset, this.#offset + by))
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
}
