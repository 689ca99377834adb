#!/usr/bin/env node
/** Entry of `npm create cirque NAME` and of `cirque init NAME` (bin/cirque). Exit code: 0 made, 1 not there, 2 asked for wrongly. */
import { init } from './init.ts'
import { ProjectError } from './project-error.ts'

try {
  process.stdout.write(init(process.argv.slice(2)))
} catch (error) {
  if (!(error instanceof ProjectError)) throw error
  process.stderr.write(`cirque: ${error.message}\n`)
  process.exitCode = error.usage ? 2 : 1
}
