/** The two ports that the bench gives to each proxy it starts, and the server settings that all Node proxies share. */
import type { Server } from 'node:http'

function port(name: string): number {
  const value = Number(process.env[name])
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw new Error(`${name} must be a port; scripts/bench/main.ts sets it`)
  return value
}

export const originPort = port('BENCH_ORIGIN_PORT')
export const listenPort = port('BENCH_LISTEN_PORT')

/** Idle connections outlive a round, as they do in the other contenders (Node's own default is 5 s). */
export const KEEP_ALIVE_MS = 3_600_000
export const MAX_IDLE_UPSTREAM = 1024

export function listen(server: Server): void {
  server.keepAliveTimeout = KEEP_ALIVE_MS
  server.listen({ port: listenPort, host: '127.0.0.1', backlog: 4096 })
  process.on('SIGTERM', () => process.exit(0))
}
