/**
 * Rejected promises that nobody handled, in a worker that serves: counted, said in the log, and survived. A forgotten
 * `await` in one hook must not take the connections of everybody else with it.
 *
 *   error: a promise was rejected and nobody handled it at=/app/proxy.ts:41:9 in=Proxy.requestFilter reason=...
 *
 * Where it came from is the first line of its stack that is neither ours, nor of Node.js, nor of a dependency. A reason
 * without a stack (`Promise.reject('no')`) has no place.
 * Invariant: nothing here throws, whatever the reason is; lines are limited in number by RepeatedLines.
 */
import { fileURLToPath } from 'node:url'
import { describeError, nameOfError } from '../src/errors/describe-error.ts'
import { wordsOf } from '../src/ipc/fault-report.ts'
import type { FaultReports } from '../src/telemetry/fault-reports.ts'
import type { RepeatedLines } from '../src/telemetry/repeated-lines.ts'

const INSTALLATION = fileURLToPath(new URL('..', import.meta.url))
const MESSAGE = 'a promise was rejected and nobody handled it'

export class Rejections {
  readonly #lines: Pick<RepeatedLines, 'error'>
  count = 0

  constructor(lines: Pick<RepeatedLines, 'error'>) { this.#lines = lines }

  /** @param reports null: nobody but the log is told */
  note(reason: unknown, reports: FaultReports | null = null): void {
    this.count++
    const { message, stack } = describeError(reason)
    const place = placeOf(stack)
    const where = place === null || place.in === '' ? {} : { in: place.in }
    reports?.report('rejection', nameOfError(reason), where.in ?? '', () => wordsOf(reason))
    this.#lines.error(MESSAGE, place === null ? {} : { at: place.at }, () => ({ ...where, reason: message, stack }))
  }
}

interface Place {
  /** `/app/proxy.ts:41:9` */
  readonly at: string
  /** Function; '' for code outside of one. */
  readonly in: string
}

/** @returns null when no line of the stack is in a file. @param ours folder of our own code */
export function placeOf(stack: string, ours = INSTALLATION): Place | null {
  let first: Place | null = null
  for (const line of stack.split('\n')) {
    const match = /^ {4}at (?:async )?(?:(.*?) \()?((?:file:\/\/)?\/.*?:\d+:\d+)\)?$/.exec(line)
    if (match === null) continue
    const at = match[2]!.replace('file://', '')
    const place = { at, in: match[1] ?? '' }
    if (!at.includes('/node_modules/') && !isOurs(at, ours)) return place
    first ??= place
  }
  return first
}

/** Examples and tests of the repository are applications like any other. */
function isOurs(file: string, ours: string): boolean {
  return ['src/', 'workers/', 'dist/'].some(folder => file.startsWith(ours + folder))
}
