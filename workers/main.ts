/**
 * Entry of a worker process: takes its role, connects to the supervisor, loads the application. The parts are wired
 * here; what a worker does is in worker.ts.
 */
import '../src/runtime-check.ts'
import { role } from './keep-alive-without-supervisor.ts'
import { pathToFileURL } from 'node:url'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import { WorkerPhase } from '../src/ipc/worker-phase.ts'
import { claimRunHost } from '../src/server/run-host.ts'
import { serviceOverrides } from '../src/server/service-overrides.ts'
import { ControlClient } from './control-client.ts'
import { WorkerTelemetry } from './wire-telemetry.ts'
import { EXIT_START_FAILED, EXIT_UNCAUGHT, Worker } from './worker.ts'

if (role === null || role.role !== 'worker') {
  process.stderr.write('workers/main is started by the supervisor; use `cirque run`\n')
  process.exit(EXIT_START_FAILED)
}

// The application sees itself as the file that was started.
process.argv.splice(1, 2, role.application)

const telemetry = new WorkerTelemetry({ id: role.worker, generation: Number.parseInt(role.worker, 10) })
const { log } = telemetry
const systemCalls = await loadSystemCalls()
const worker = new Worker(role, systemCalls.available ? systemCalls.calls : null, {
  send: message => client.send(message),
  phaseChanged: () => client.phaseChanged(),
  exit: code => process.exit(code),
  flushLogs: () => telemetry.close(),
  reopenLogs: () => telemetry.reopen(),
  log,
})
const client = new ControlClient(role, log, () => worker.phase, worker)

// While starting, the supervisor prints what went wrong, once for all workers.
process.on('uncaughtException', error => worker.fail(error, worker.phase === WorkerPhase.Starting ? EXIT_START_FAILED : EXIT_UNCAUGHT, worker.phase !== WorkerPhase.Starting))
claimRunHost(worker)
// First the connection: an application that fails at once must be able to say so.
const { settings } = await client.start()
try {
  if (settings !== undefined) {
    telemetry.configure(settings.log)
    serviceOverrides.settings = settings
  }
  await import(pathToFileURL(role.application).href)
} catch (error) {
  worker.fail(error, EXIT_START_FAILED, false)
}
