/**
 * Where services of this process write to, unless their own options say otherwise. Whoever wires the process together
 * (workers/main.ts) sets these before the application starts; a library user who does nothing gets silence.
 */
import { SILENT_LOG, type ProcessLog } from '../ipc/process-log.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'

export const serviceOutlets: { log: ProcessLog; accessLog: AccessLogSink | null } = { log: SILENT_LOG, accessLog: null }
