/**
 * The first import of every process of ours that runs application code. Until this file has run (about 20 ms after the
 * fork) a worker still dies with its supervisor or by a terminal signal; from its last line on it does neither.
 *
 * Also takes the role out of the environment, so that no later module and no child of the application sees it.
 */
import cluster from 'node:cluster'
import { forgetCompileCache } from '../src/ipc/compile-cache.ts'
import { takeRole } from '../src/ipc/worker-role.ts'
import type { Role } from '../src/ipc/worker-role.ts'

// Node ends a cluster worker whose primary went away, unless it believes that the disconnect was asked for.
if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true

/**
 * A Ctrl-C reaches the whole process group; only the supervisor acts on it. SIGUSR1 and SIGUSR2 would end a process that
 * ignores nothing.
 */
const IGNORED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
for (const signal of IGNORED_SIGNALS) process.on(signal, ignore)

// A reader of our output that went away (EPIPE) must not end us.
process.stdout.on('error', ignore)
process.stderr.on('error', ignore)

// The IPC channel alone would keep this process alive for ever, and a write to it after the supervisor's death is fatal.
if (process.connected) process.disconnect?.()

export const role: Role | null = takeRole(process.env)
forgetCompileCache(process.env)

function ignore(): void {}
