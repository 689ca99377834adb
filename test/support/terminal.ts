/** A command in a terminal of its own, as a person has it: what it shows, what is typed, the keys that are signals. */
import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { requireProgram } from './programs.ts'
import { waitFor, within } from './wait-for.ts'

const SCRIPT = path.join(import.meta.dirname, 'in-terminal.py')
const CLI = path.join(import.meta.dirname, '../../supervisor/cli.ts')
const LONG_MS = 30_000

export interface TerminalOptions {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** COLUMNSxROWS, and further ones behind a blank each, for `resize`. Left out: it does not say how large it is. */
  readonly size?: string
}

export class Terminal {
  readonly #child: ChildProcess
  /** Everything that was shown, with what moves the cursor. */
  shown = ''
  readonly #ended: Promise<number | null>

  private constructor(child: ChildProcess) {
    this.#child = child
    child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.shown += text })
    this.#ended = new Promise(resolve => { child.once('close', resolve) })
  }

  /** `cirque ARGUMENTS`. @returns null after the test was skipped, for want of what makes a terminal */
  static cirque(t: TestContext, args: readonly string[], options: TerminalOptions): Terminal | null {
    return Terminal.start(t, [process.execPath, '--disable-warning=ExperimentalWarning', CLI, ...args], options)
  }

  /** @returns as `cirque` does */
  static start(t: TestContext, command: readonly string[], { cwd, env = {}, size = '' }: TerminalOptions): Terminal | null {
    const python = requireProgram(t, 'python3')
    if (python === null) return null
    const terminal = { TERM: 'xterm', TERMINAL_SIZE: size }
    const child = spawn(python, [SCRIPT, ...command], { cwd, env: { ...process.env, ...terminal, ...env }, stdio: 'pipe' })
    t.after(() => { if (child.exitCode === null) child.kill('SIGTERM') })
    return new Terminal(child)
  }

  /** It gets the next of its sizes. */
  resize(): void { this.#child.kill('SIGUSR1') }

  type(keys: string): void { this.#child.stdin!.write(keys) }

  /** Resolves when it has shown that. @param from where in what was shown it is looked for */
  async shows(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    const seen = (): string => this.shown.slice(from)
    return await waitFor(`${String(pattern)} in the terminal`, () => pattern.exec(seen()), { deadlineMs: LONG_MS, seen })
  }

  /** @returns the exit code; 128 and more: it ended by a signal. */
  async ends(): Promise<number | null> { return await within(`the command to end; it showed ${this.shown}`, this.#ended, LONG_MS) }
}

/** Control-C, as a key. */
export const INTERRUPT = '\u0003'
