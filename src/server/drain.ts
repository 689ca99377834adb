/**
 * Finishes what is in flight and takes nothing new. Two words: **retire** (a replacement serves new connections; an idle one
 * is kept for its next request, which gets `Connection: close`, and closed only after idleDrainMs) and **stop** (the same
 * until nothing is in flight, then idle ones get a lingering close). Ends as soon as the last connection is gone; what is
 * left at hardDrainMs is cut.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { Clock } from '../primitives/clock.ts'
import type { Http1ServerSession } from '../protocols/http1/server-session.ts'
import type { Tunnel } from '../proxy/upgrade.ts'
import type { DrainRequest } from './service.ts'

export interface DrainSubject {
  readonly request: DrainRequest
  readonly clock: Clock
  sessions(): Http1ServerSession[]
  tunnels(): Tunnel[]
  connections(): number
  active(): number
  /** `wake` is to be called whenever a connection or an exchange ended. */
  onChange(wake: () => void): void
}

/** How often deadlines are looked at; ends are seen at once. */
const LOOK_MS = 100

/** On stop, what only waits for the client's FIN gets this long. */
const STOP_LINGER_MS = 1000

/** Resolves when nothing is open. `cut`: exchanges and tunnels that were ended before their time. */
export function drainSessions(subject: DrainSubject): Promise<{ cut: number }> {
  const { request, clock } = subject
  const startedAt = clock.exact()
  const { promise, resolve } = Promise.withResolvers<{ cut: number }>()
  let cut = 0, ended = false, quietSince = -1, retireClosed = false
  const stop = clock.every(LOOK_MS, look)
  subject.onChange(look)
  look()
  return promise

  function look(): void {
    if (ended) return
    if (subject.connections() === 0) {
      ended = true
      stop()
      resolve({ cut })
      return
    }
    const elapsed = clock.exact() - startedAt
    if (elapsed >= request.hardDrainMs) {
      for (const session of subject.sessions()) {
        if (!session.idle && !session.lingering) cut++
        session.cut(new ProxyError('DRAINING', 'internal', `still in flight after ${request.hardDrainMs} ms of draining`))
        session.destroy()
      }
    }
    const tunnels = subject.tunnels()
    if (tunnels.length > 0 && elapsed >= Math.min(request.webSocketDrainMs, request.tunnelDrainMs, request.mode === 'stop' ? request.hardDrainMs : Infinity)) {
      for (const tunnel of tunnels) {
        if (!tunnel.closing) cut++
        tunnel.close()
      }
    }
    if (request.mode === 'stop') {
      if (subject.active() > 0) {
        quietSince = -1
        return
      }
      if (quietSince === -1) {
        quietSince = elapsed
        for (const session of subject.sessions()) session.closeIdle()
      } else if (elapsed - quietSince >= STOP_LINGER_MS) for (const session of subject.sessions()) if (session.lingering || session.idle) session.destroy()
    } else if (!retireClosed && elapsed >= request.idleDrainMs) {
      retireClosed = true
      for (const session of subject.sessions()) clock.after(Math.random() * request.closeSpreadMs, () => session.closeIdle())
    }
  }
}
