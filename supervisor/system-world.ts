/** The real SupervisorWorld: the one place in which a supervisor meets the operating system. Decides nothing. */
import fs from 'node:fs'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { CompileCache } from '../src/ipc/compile-cache.ts'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import type { DatagramInbox, SystemCalls, SystemCallsState } from '../src/ipc/system-calls.ts'
import type { ErrorSink, ErrorSinkOptions } from '../src/telemetry/exporters/error-sink.ts'
import { AdminServer } from './admin-server.ts'
import { SYSTEM_CONTROL_SOCKETS } from './control-sockets.ts'
import { describeApplication } from './describe-application.ts'
import { endByStopSignals } from './early-signals.ts'
import { resolveIdentity } from './identities.ts'
import type { Identity } from './identities.ts'
import { SYSTEM_DISK } from './journal.ts'
import { SYSTEM_BINDER } from './listener-table.ts'
import { SYSTEM_METRIC_DISK } from './metric-disk.ts'
import { OrphanReaper } from './orphan-reaper.ts'
import { packageVersion } from './package-version.ts'
import { runDescribe, SystemProcessHost } from './process-host.ts'
import { replaceSupervisor } from './reexec.ts'
import type { Handover, Image } from './reexec.ts'
import { SYSTEM_RELEASES } from './releases.ts'
import { prepareStateFolder } from './state-folder.ts'
import type { ExecRequest, SupervisorWorld } from './supervisor-world.ts'
import { ServiceManager } from './systemd.ts'

/** Of node:ffi and execve, which we chose knowingly. */
const NO_WARNINGS = '--disable-warning=ExperimentalWarning'

/**
 * @param stateFolder where processes that we start keep what does not last. @param onFiles told which files an application was
 * loaded from; null: nobody wants to know.
 */
export function systemWorld(stateFolder: string, onFiles: ((files: readonly string[]) => void) | null = null): SupervisorWorld {
  let systemCalls: SystemCallsState | null = null
  const cache = new CompileCache(process.env, stateFolder)
  return {
    own: { pid: process.pid, node: process.execPath, nodeVersion: process.version, execArgv: process.execArgv, version: packageVersion() },
    host: new SystemProcessHost(() => systemCalls?.available === true ? systemCalls.calls : null, cache),
    binder: SYSTEM_BINDER,
    control: SYSTEM_CONTROL_SOCKETS,
    disk: { ...SYSTEM_DISK, prepareFolder: prepareStateFolder, removeFolder },
    metricDisk: SYSTEM_METRIC_DISK,
    releases: SYSTEM_RELEASES,
    wallMs: () => Date.now(),
    turn: async () => { await setImmediate() },
    loadSystemCalls: async () => {
      systemCalls = await loadSystemCalls()
      if (systemCalls.available) new OrphanReaper(systemCalls.calls).start()
      return systemCalls
    },
    serviceManager: (calls, log) => ServiceManager.fromEnvironment(process.env, calls, log),
    resolveIdentity,
    describe: (of, timeoutMs, signal) => describeApplication(of, timeoutMs, signal, run => {
      return runDescribe({ ...run, env: { ...run.env, ...cache.environmentFor(run) } })
    }, onFiles),
    createAdmin: source => new AdminServer(source),
    openErrorSink,
    readSmallFile,
    openInbox,
    exec,
    acceptQueueLimit,
    terminalIsGone,
  }
}

/** The library is loaded here and nowhere else, and by no supervisor that reports nothing. */
async function openErrorSink(options: ErrorSinkOptions): Promise<ErrorSink> {
  const { openSentry } = await import('../src/telemetry/exporters/sentry-sink.ts')
  return openSentry(options)
}

function readSmallFile(file: string, maxBytes: number): Buffer {
  const stat = fs.statSync(file)
  if (!stat.isFile()) throw new Error('it is no regular file')
  if (stat.size > maxBytes) throw new Error(`it has ${stat.size} bytes; at most ${maxBytes} are read`)
  return fs.readFileSync(file)
}

function openInbox(file: string, { uid, gid }: Identity, calls: SystemCalls): DatagramInbox {
  fs.rmSync(file, { force: true })
  const inbox = calls.openInbox(file)
  try {
    if (uid !== null || gid !== null) fs.chownSync(file, uid ?? process.getuid!(), gid ?? process.getgid!())
  } catch (error) {
    inbox.close()
    throw error
  }
  return inbox
}

async function exec({ folder, to, descriptors, bootTimeoutMs, state, environment }: ExecRequest, calls: SystemCalls): Promise<never> {
  const takeStops = endByStopSignals()
  const execArgv = [...process.execArgv.filter(argument => argument !== NO_WARNINGS), NO_WARNINGS]
  const next: Image = { node: to.node, execArgv, entry: to.entries.resume, boot: to.entries.boot }
  const back: Image = { node: process.execPath, execArgv, entry: entry('supervisor/resume'), boot: entry('supervisor/boot') }
  Object.assign(process.env, environment)
  const handover: Handover = { format: 1, attempt: 'forward', reason: '', to: next, back, descriptors, bootTimeoutMs, state }
  try {
    return replaceSupervisor(folder, handover, calls)
  } catch (error) {
    takeStops()
    for (const name of Object.keys(environment)) delete process.env[name]
    throw error
  }
}

/** Absolute path of an entry module of ours; source runs as .ts, the built package as .js. */
function entry(name: string): string {
  return fileURLToPath(new URL(`../${name}${path.extname(import.meta.filename)}`, import.meta.url))
}

function removeFolder(folder: string): void {
  try { fs.rmdirSync(folder) } catch { /* There is something else in it. */ }
}

function acceptQueueLimit(): number | null {
  try { return Number(fs.readFileSync('/proc/sys/net/core/somaxconn', 'utf8')) } catch { return null }
}

function terminalIsGone(): boolean {
  if (process.stdin.isTTY !== true) return false
  try {
    fs.closeSync(fs.openSync('/dev/tty', 'r'))
    return false
  } catch { return true }
}
