/**
 * Entry of the process that `server.runForever()` turns itself into: `main APPLICATION [its arguments]`. Configuration
 * comes from the environment and cirque.yaml; flags belong to `cirque run`.
 */
import '../src/runtime-check.ts'
import './early-signals.ts'
import { EXIT } from './exit-codes.ts'
import { configFrom, isMistake, originOf, runSupervisor } from './run.ts'

const [application, ...args] = process.argv.slice(2)
if (application === undefined) {
  process.stderr.write('usage: main APPLICATION [ARGUMENTS]; people use `cirque run`\n')
  process.exit(EXIT.usage)
}

try {
  const origin = originOf(undefined)
  await runSupervisor({ application, args, origin, config: configFrom(origin) })
} catch (error) {
  if (!isMistake(error)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exit(EXIT.usage)
}
