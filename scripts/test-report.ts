/**
 * Turns the events of one or more runs of node:test into a short report: a line a file, every failure in full, what was
 * skipped and why, then the closing lines that node prints itself, summed over the runs.
 */
import path from 'node:path'
import type { TestEvent } from 'node:test/reporters'
import { inspect } from 'node:util'

/** Output of one test file that is kept for the case that it fails, in characters. */
const MAX_KEPT_OUTPUT = 8192

/** A failure that compares large values says more in its first lines than in its last. */
const MAX_FAILURE_LINES = 60

interface Counts { tests: number; suites: number; passed: number; failed: number; cancelled: number; skipped: number; todo: number }

export class TestReport {
  readonly #root: string
  readonly #print: (line: string) => void
  readonly #verbose: boolean
  readonly #counts: Counts = { tests: 0, suites: 0, passed: 0, failed: 0, cancelled: 0, skipped: 0, todo: 0 }
  readonly #output = new Map<string, string>()
  readonly #failedFiles = new Set<string>()
  readonly #reasons = new Set<string>()
  #durationMs = 0
  #failures = 0

  constructor(options: { root: string; print: (line: string) => void; verbose: boolean }) {
    this.#root = options.root
    this.#print = options.print
    this.#verbose = options.verbose
  }

  /** Why tests were skipped, each reason once. */
  get skipReasons(): readonly string[] { return [...this.#reasons].toSorted() }
  get failed(): boolean { return this.#failures > 0 || this.#counts.failed > 0 || this.#counts.cancelled > 0 }

  take(event: TestEvent): void {
    switch (event.type) {
      case 'test:pass': {
        const { skip, name } = event.data
        if (skip === undefined || skip === false) return
        this.#reasons.add(typeof skip === 'string' && skip !== '' ? skip : `${name}: no reason given`)
        return
      }
      case 'test:fail': {
        if (event.data.todo !== undefined && event.data.todo !== false) return
        this.#failure(event.data)
        return
      }
      case 'test:stdout':
      case 'test:stderr': {
        const { file, message } = event.data
        if (this.#verbose) this.#print(message.trimEnd())
        else this.#output.set(file, ((this.#output.get(file) ?? '') + message).slice(-MAX_KEPT_OUTPUT))
        return
      }
      case 'test:diagnostic': {
        // Those of whole runs are the closing lines, which closingLines() makes from all runs together.
        if (event.data.file !== undefined) this.#print(`#    ${event.data.message}`)
        return
      }
      case 'test:summary': {
        const { file, counts, duration_ms: durationMs, success } = event.data
        if (file !== undefined) {
          const word = success && !this.#failedFiles.has(file) ? 'ok  ' : 'FAIL'
          const tests = `${counts.tests} test${counts.tests === 1 ? '' : 's'}`
          this.#print(`${word} ${path.relative(this.#root, file)}  ${tests}  ${(durationMs / 1000).toFixed(1)} s`)
          this.#output.delete(file)
          return
        }
        this.#counts.tests += counts.tests
        this.#counts.suites += counts.suites
        this.#counts.passed += counts.passed
        this.#counts.failed += failuresOf(counts)
        this.#counts.cancelled += counts.cancelled
        this.#counts.skipped += counts.skipped
        this.#counts.todo += counts.todo
        this.#durationMs += durationMs
        return
      }
      default:
        return
    }
  }

  #failure(data: Extract<TestEvent, { type: 'test:fail' }>['data']): void {
    const error = data.details.error
    const failureType = (error as { failureType?: string }).failureType
    // The failure below it has been printed already.
    if (failureType === 'subtestsFailed') return
    this.#failures++
    const file = data.file ?? ''
    this.#failedFiles.add(file)
    const where = data.file === undefined ? '' : `${path.relative(this.#root, data.file)}:${data.line ?? 1}: `
    this.#print(`FAIL ${where}${data.name}`)
    const text = inspect(error.cause ?? error, { depth: 6, colors: false })
    // Frames of the test runner itself say nothing about the fault.
    const lines = text.split('\n').filter(line => !/^\s+at .*\((?:node:internal\/test_runner|node:async_hooks)/.test(line))
    const hidden = lines.length - MAX_FAILURE_LINES
    const shown = hidden <= 0 ? lines : [...lines.slice(0, MAX_FAILURE_LINES), `... ${hidden} more lines`]
    this.#print(shown.map(line => `     ${line}`.trimEnd()).join('\n'))
    const output = this.#output.get(file)
    if (output !== undefined) {
      const marked = output.trimEnd().split('\n').map(line => `     | ${line}`).join('\n')
      this.#print(`     output of the file so far:\n${marked}`)
    }
    this.#output.delete(file)
  }

  /** In node's own words. */
  closingLines(): string[] {
    const counts = this.#counts
    return [
      `# tests ${counts.tests}`, `# suites ${counts.suites}`, `# pass ${counts.passed}`, `# fail ${counts.failed}`,
      `# cancelled ${counts.cancelled}`, `# skipped ${counts.skipped}`, `# todo ${counts.todo}`,
      `# duration_ms ${Math.round(this.#durationMs)}`,
    ]
  }
}

/** Node counts failed tests as `failed` at run time; older type declarations leave the field out. */
function failuresOf(counts: object): number {
  return 'failed' in counts && typeof counts.failed === 'number' ? counts.failed : 0
}
