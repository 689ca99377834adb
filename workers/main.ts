/**
 * Entry of a worker process. What must be so before anything else is imported is so before the rest of it (run-worker.ts) is.
 */
import '../src/runtime-check.ts'
import './keep-alive-without-supervisor.ts'
import '../src/ipc/own-imports.ts'
import { refuseSharedPorts } from './own-ports.ts'

refuseSharedPorts()
await import('./run-worker.ts')
