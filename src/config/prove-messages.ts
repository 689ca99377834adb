/**
 * What the proof client and the process that started it tell each other. The client watches for a while and says
 * `act`; the starter says when its action began and how it ended; the client watches on and prints one ProofReport.
 * Times are milliseconds of the machine's monotonic clock, which all processes share.
 */

export type FromProver =
  /** Enough was seen of the time before: do it now. */
  | { readonly tag: 'act' }

export type ToProver =
  | { readonly tag: 'begins'; readonly atMs: number }
  | { readonly tag: 'ends'; readonly atMs: number; readonly kill: Kill | null }

/** A worker was killed on purpose: what it had accepted is lost, and that is explained. */
export interface Kill {
  readonly atMs: number
  /** When the process was gone; it accepted no connection that was dialled later. */
  readonly goneAtMs: number
}

/** The machine's monotonic clock, in ms. */
export function sharedNowMs(): number {
  const [seconds, nanos] = process.hrtime()
  return seconds * 1000 + nanos / 1e6
}

export type Phase = 'before' | 'during' | 'after'
export const PHASES: readonly Phase[] = ['before', 'during', 'after']

/**
 * How an attempt ended. `truncated`: the connection ended before the whole answer (or, of a WebSocket, without Close).
 * `closed`: a WebSocket said Close while a message was on its way. `unable`: the client itself could not try.
 */
export type Outcome = 'ok' | 'closed' | Fault
export type Fault = 'refused' | 'reset' | 'truncated' | 'wrong' | 'timedOut' | 'unable'
export const FAULTS: readonly Fault[] = ['refused', 'reset', 'truncated', 'wrong', 'timedOut', 'unable']

export type PopulationName =
  | 'fresh connections' | 'keep-alive' | 'WebSocket echo' | 'slow download' | 'slow upload' | 'resumed handshakes' | 'slow handshakes'
  | 'HTTP/2 requests' | 'message streams' | 'WebSocket over HTTP/2'
export const POPULATIONS: readonly PopulationName[] = [
  'fresh connections', 'keep-alive', 'WebSocket echo', 'slow download', 'slow upload', 'resumed handshakes', 'slow handshakes',
  'HTTP/2 requests', 'message streams', 'WebSocket over HTTP/2',
]
/** Those that there are over TLS alone. */
export const TLS_POPULATIONS: ReadonlySet<PopulationName> = new Set(['resumed handshakes', 'slow handshakes'])

/** Those that speak HTTP/2. */
export const HTTP2_POPULATIONS: ReadonlySet<PopulationName> = new Set(['HTTP/2 requests', 'message streams', 'WebSocket over HTTP/2'])

export interface PopulationReport {
  readonly name: PopulationName
  /** attempted = the sum of outcomes. */
  readonly attempted: number
  readonly outcomes: Readonly<Record<Outcome, number>>
  /** Faults that a deliberate kill explains; contained in `outcomes`. */
  readonly explained: number
  /** Connections that the other side ended with nothing on its way. */
  readonly politeCloses: number
  /** Sessions of TLS that were offered and not taken up again: no loss, as a full handshake followed, but a cost. */
  readonly refusedSessions: number
  /** Streams that had left the client and that GOAWAY named as not looked at: no loss, as they were opened anew elsewhere. */
  readonly reopenedStreams: number
  /** From the time at which it was due to the whole answer; null: none in that phase. */
  readonly p99Ms: Readonly<Record<Phase, number | null>>
}

export interface LossReport {
  readonly population: PopulationName
  readonly fault: Fault
  readonly phase: Phase
  /** Since the client began to watch. */
  readonly atMs: number
  /** Age of the connection at that time; null: it was never established. */
  readonly connectionAgeMs: number | null
  readonly detail: string
  readonly explained: boolean
}

export interface ProofReport {
  readonly url: string
  /** How long each phase was; 0: there was none. */
  readonly phasesMs: Readonly<Record<Phase, number>>
  /** How long the client itself held what it sent, and again what it got, on connections that are kept and on WebSockets. */
  readonly lineDelayMs: number
  /** Those that have no path are not here. */
  readonly populations: readonly PopulationReport[]
  /** Longest time in which no fresh connection got a first byte of its answer while one was being tried; null: none was tried. */
  readonly longestGapMs: Readonly<Record<Phase, number | null>>
  readonly attempted: number
  /** Faults that nothing explains. 0 is what this is for. */
  readonly lost: number
  readonly explained: number
  /** The first of all faults, explained ones included. */
  readonly losses: readonly LossReport[]
}
