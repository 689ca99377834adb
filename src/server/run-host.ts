/**
 * What `server.runForever()` does when the process is one of ours: workers/main.ts and workers/describe.ts claim the
 * process before they import the application, so that the core needs to know nothing of workers.
 */
import type { Server } from './server.ts'

export interface RunHost {
  /** Takes over the server; never resolves in a worker. */
  run(server: Server): Promise<never>
}

let claimed: RunHost | null = null

export function claimRunHost(host: RunHost): void { claimed = host }
export function currentRunHost(): RunHost | null { return claimed }
