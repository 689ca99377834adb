/**
 * Entry of the describe process: loads the application as far as `runForever()`, writes what it found as one line of
 * JSON to descriptor 3 and ends. Descriptor 3 and not stdout, because the application may print there what it likes.
 */
import '../src/runtime-check.ts'
import { role } from './keep-alive-without-supervisor.ts'
import '../src/ipc/own-imports.ts'
import fs from 'node:fs'
import { pathToFileURL } from 'node:url'
import { describeLoadError } from '../src/errors/load-error.ts'
import type { DescribeOutcome } from '../src/ipc/server-description.ts'
import { claimRunHost } from '../src/server/run-host.ts'
import { listImportedFiles, lookAtLoadedFiles } from './imported-files.ts'
import { onSharedPort } from './own-ports.ts'

const OUTCOME_FD = 3
let finished = false

if (role === null || role.role !== 'describe') {
  process.stderr.write('workers/describe is started by the supervisor; use `cirque validate`\n')
  process.exit(1)
}

const loaded = lookAtLoadedFiles()
const files = role.listFiles === true ? listImportedFiles() : null
process.argv.splice(1, 2, role.application)
process.on('uncaughtException', fail)
onSharedPort(fail)
process.on('exit', () => finish({ ok: false, message: 'the application ended without calling server.runForever()', stack: '' }))

claimRunHost({
  run(server) {
    try {
      finish({ ok: true, description: server.describe() })
    } catch (error) {
      // Not to the application, which may catch it.
      fail(error)
    }
    process.exit(0)
  },
})
try {
  await import(pathToFileURL(role.application).href)
} catch (error) {
  fail(error)
}

function finish(outcome: DescribeOutcome): void {
  if (finished) return
  finished = true
  const bytes = Buffer.from(`${JSON.stringify(files === null ? outcome : { ...outcome, files: [...files] })}\n`)
  for (let written = 0; written < bytes.length;) written += fs.writeSync(OUTCOME_FD, bytes, written)
}

function fail(error: unknown): void {
  finish({ ok: false, ...describeLoadError(error, loaded) })
  process.exit(1)
}
