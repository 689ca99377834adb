/**
 * What main.ts enters: takes the worker's role and brings the real world to it. What a worker does is in worker-life.ts
 * and worker.ts.
 */
import { role } from './keep-alive-without-supervisor.ts'
import { pathToFileURL } from 'node:url'
import { keepCompiled } from '../src/ipc/compile-cache.ts'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import type { AcceptCall, ListenerCalls } from '../src/listener/acceptor.ts'
import { systemClock } from '../src/primitives/clock.ts'
import { IdleMemory } from '../src/primitives/idle-memory.ts'
import { setTicketKeys, ticketKeyOf } from '../src/protocols/tls/ticket-keys.ts'
import { claimRunHost } from '../src/server/run-host.ts'
import { RepeatedLines } from '../src/telemetry/repeated-lines.ts'
import { LoopWatch } from './loop-watch.ts'
import { WorkerTelemetry } from './wire-telemetry.ts'
import { EXIT_START_FAILED } from './worker.ts'
import { WorkerMetrics } from './worker-metrics.ts'
import { WorkerLife } from './worker-life.ts'
import { systemWorld } from './worker-world.ts'

if (role === null || role.role !== 'worker') {
  process.stderr.write('workers/main is started by the supervisor; use `cirque run`\n')
  process.exit(EXIT_START_FAILED)
}

// The application sees itself as the file that was started.
process.argv.splice(1, 2, role.application)

const telemetry = new WorkerTelemetry({ id: role.worker, generation: Number.parseInt(role.worker, 10) })
let kept = false
let metrics: WorkerMetrics | null = null
const idleMemory = new IdleMemory()
const watch = new LoopWatch(`worker ${role.worker}`, telemetry.log)
const systemCalls = await loadSystemCalls()
const calls = systemCalls.available ? systemCalls.calls : null
const listenerCalls: ListenerCalls | null = calls === null ? null : { accept: takeRest(calls.accept), hasUnread: calls.hasUnread }
const workers = role.layout.slots, { slot } = role
const life = new WorkerLife(role, {
  world: systemWorld,
  calls,
  log: telemetry.log,
  lines: new RepeatedLines(telemetry.log),
  flushLogs: () => telemetry.close(),
  reopenLogs: () => telemetry.reopen(),
  setLogLevel: level => telemetry.setLevel(level),
  setTicketKeys: keys => setTicketKeys(keys.map(key => ticketKeyOf(Buffer.from(key, 'base64')))),
  logCounts: () => telemetry.counts,
  shownClient: address => telemetry.shownClient(address),
  exit: code => process.exit(code),
  beat: (open, vitals, health) => {
    watch.beat()
    // Without system calls nobody else tells of connections.
    if (open.exchanges > 0) watch.begin()
    metrics?.beat(open, vitals, health)
    idleMemory.look(vitals.utilization, open.activeExchanges > 0 || open.upgraded > 0, systemClock.exact())
    if (!kept) keepCompiled()
    kept = true
  },
  requestComes: () => watch.begin(),
  configure: async (settings, metricsFile) => {
    const logs = telemetry.configure(settings.log)
    watch.configure(settings.log)
    metrics = WorkerMetrics.open(metricsFile, slot, calls, telemetry.log)
    const traces = await telemetry.startTraces(settings.traces)
    const counts = { tracers: metrics?.tracers ?? [], counting: metrics?.counting ?? null }
    return { ...logs, ...traces, ...counts, faultReports: null, calls: listenerCalls, workers, settings }
  },
  load: application => import(pathToFileURL(application).href),
})

/** Called whenever a listener has accepted a connection, before anything of it is read. */
function takeRest(accept: AcceptCall): AcceptCall {
  return fd => {
    watch.begin()
    return accept(fd)
  }
}

process.on('uncaughtException', error => life.worker.onUncaught(error))
process.on('unhandledRejection', reason => life.worker.onRejection(reason))
claimRunHost(life.worker)
await life.run()
