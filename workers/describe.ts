/**
 * Entry of the describe process: loads the application as far as `runForever()`, writes what it found as one line of
 * JSON to descriptor 3 and ends. Descriptor 3 and not stdout, because the application may print there what it likes.
 */
import '../src/runtime-check.ts'
import { role } from './keep-alive-without-supervisor.ts'
import '../src/ipc/own-imports.ts'
import fs from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { WorkerSettings } from '../src/config/worker-settings.ts'
import { culpritOf } from '../src/errors/culprit.ts'
import { functionHead } from '../src/errors/function-place.ts'
import { describeLoadError } from '../src/errors/load-error.ts'
import type { DescribeOutcome } from '../src/ipc/server-description.ts'
import { claimRunHost } from '../src/server/run-host.ts'
import { listImportedFiles, lookAtLoadedFiles } from './imported-files.ts'
import { onSharedPort } from './own-ports.ts'

const OUTCOME_FD = 3
/** Of Node.js, for a module that awaits what nothing is left to settle. */
const EXIT_UNSETTLED = 13
let finished = false
/** What the application exports, once it has come to its end. */
let evaluated: object | null = null

if (role?.role !== 'describe') {
  process.stderr.write('workers/describe is started by the supervisor; use `cirque validate`\n')
  process.exit(1)
}

const { listeners } = role
const loaded = lookAtLoadedFiles()
const files = role.listFiles === true ? listImportedFiles() : null
process.argv.splice(1, 2, role.application)
process.on('uncaughtException', fail)
onSharedPort(fail)
process.on('exit', code => finish({ ok: false, message: whyNoServer(code), stack: '' }))

claimRunHost({
  run(server) {
    try {
      const description = server.describe()
      checkListeners(server)
      finish({ ok: true, description })
    } catch (error) {
      // Not to the application, which may catch it.
      fail(error)
    }
    process.exit(0)
  },
})
try {
  evaluated = await import(pathToFileURL(role.application).href) as object
} catch (error) {
  fail(error)
}

/** What is wrong with files and options of listeners is no matter of lines of code. */
function checkListeners(server: { check(listeners: WorkerSettings['listeners']): void }): void {
  if (listeners === undefined) return
  try { server.check(listeners) } catch (error) {
    if (!(error instanceof Error) || !['CertificateError', 'OptionError'].includes(error.name)) throw error
    finish({ ok: false, message: error.message, stack: '' })
  }
}

/** The process ends, and no server was handed over. */
function whyNoServer(code: number): string {
  const ended = 'the application ended without calling server.runForever()'
  if (evaluated !== null) {
    const remedy = 'default' in evaluated ? 'a default export is run by nobody: make a Server of it, and end with' : 'let its last line be'
    return `${ended}; ${remedy} \`await server.runForever()\``
  }
  if (code !== EXIT_UNSETTLED) return `${ended}: it called process.exit(${code})`
  const lines = linesThatAwait()
  const where = lines.length === 0 ? '' : `; it awaits in line ${lines.join(', ')}`
  return `the application waits for a promise that nothing settles, before it calls server.runForever()${where}`
}

/** Lines of the application that begin at its top level and await something else than the server. */
function linesThatAwait(): readonly number[] {
  const lines = fs.readFileSync(process.argv[1]!, 'utf8').split('\n')
  return lines.flatMap((line, index) => /^(?![\s/*]).*\bawait\b/.test(line) && !line.includes('.runForever(') ? [index + 1] : [])
}

function finish(outcome: DescribeOutcome): void {
  if (finished) return
  finished = true
  const bytes = Buffer.from(`${JSON.stringify(files === null ? outcome : { ...outcome, files: [...files] })}\n`)
  for (let written = 0; written < bytes.length;) written += fs.writeSync(OUTCOME_FD, bytes, written)
}

function fail(error: unknown): void {
  const { message, stack } = describeLoadError(error, loaded)
  const culprit = culpritOf(error)
  finish({ ok: false, message, stack: (culprit === null ? '' : functionHead(culprit)) + stack })
  process.exit(1)
}
