/**
 * Every message between supervisor, workers and command line: tagged unions, one JSON object a line (channel.ts).
 *
 * Rules that let two builds talk during an upgrade: fields are only added, never given another meaning; a reader
 * ignores fields and tags that it does not know; PROTOCOL_VERSION goes up when a build could no longer talk to the
 * one before the last. A message that carries `ask` wants an `answer` with the same number in `re`.
 */

import type { LogLevel } from '../config/log-options.ts'
import type { WorkerSettings } from '../config/worker-settings.ts'
import type { DescriptorLayout } from './descriptor-layout.ts'
import type { DrainRequest } from './drain-times.ts'
import type { ExplainRequest } from './explanation.ts'
import type { LookOrder } from './looking.ts'
import type { FaultReport } from './fault-report.ts'
import type { OpenCounts } from './open-counts.ts'
import type { WorkerPhase } from './worker-phase.ts'

/** Builds whose numbers differ by at most one can talk. */
export const PROTOCOL_VERSION = 1

/** `<generation>.<slot>.<n>`: n counts the workers that the slot has had. Never cluster's own number. */
export type WorkerId = string

/** How to drain, and the cap of the whole. */
export interface DrainOrder extends DrainRequest {
  /** A line in the worker's log says what is still open after this, in ms; 0: no line. */
  readonly softDrainMs: number
  /** Whatever is left after this is cut and the process ends, in ms. */
  readonly endAfterMs: number
}

/** The level of the process log that holds for a while, whatever is configured. */
export interface LevelForNow {
  readonly level: LogLevel
  readonly forMs: number
}

/** Orders to a worker. All but `reopen-logs`, `log-level`, `step-back` and `look-away` are asked and answered. */
export type ToWorker =
  /**
   * Listen on (a copy of) the own slot's sockets, but not on those of the listeners in `except`, which are shut already.
   * Answered when listening. Also resumes after `stop-accept`.
   */
  | { readonly tag: 'accept'; readonly except?: readonly string[] }
  /**
   * Stop listening, keep every descriptor so that `accept` may follow. On the listeners in `except` it goes on: its
   * successor does not have them.
   */
  | { readonly tag: 'stop-accept'; readonly except?: readonly string[] }
  /** Run the application's self-test through the whole pipeline, over a socket that no client can reach. Answered with SelfTestOutcome. */
  | { readonly tag: 'self-test' }
  /**
   * Send (copy 0 of) every inherited socket, in the order of the layout, to the datagram socket at `path`. Answered with
   * SentDescriptors once they are there.
   */
  | { readonly tag: 'send-descriptors'; readonly path: string }
  /** Listen for a sibling's slot as well, until `step-back`; `except` as in `accept`. */
  | { readonly tag: 'stand-in'; readonly slot: number; readonly except?: readonly string[] }
  | { readonly tag: 'step-back'; readonly slot: number }
  /** Accept until the queues are empty (at most emptyQueueMs, and at least atLeastMs, @default 0), then close every descriptor for good. */
  | { readonly tag: 'close-listeners'; readonly emptyQueueMs: number; readonly atLeastMs?: number }
  /**
   * Close every descriptor, finish what is in flight by the order, say `drained`, exit 0. Answered when it has begun. A
   * second one shortens.
   */
  | { readonly tag: 'drain'; readonly order: DrainOrder }
  | { readonly tag: 'reopen-logs' }
  /**
   * Tell what passes (looking.ts). Answered with Seen, soon after there is something and within a second or so; asked again at
   * once by whoever looks on. A worker that is not asked again for some seconds looks no more.
   */
  | { readonly tag: 'look'; readonly look: LookOrder }
  /** Nobody looks any more. */
  | { readonly tag: 'look-away'; readonly id: string }
  /** What would happen to this request. Answered with Explanation. */
  | { readonly tag: 'explain'; readonly request: ExplainRequest }
  /** Write process log lines of this weight from now on, and those that are configured after `forMs`. 0: at once. */
  | { readonly tag: 'log-level'; readonly level: LogLevel; readonly forMs: number }
  /**
   * Tickets of TLS sessions are encrypted with the first of these from now on, and decrypted with all of them; in base64. Answered
   * when that is so. Only for workers that have a listener of TLS.
   */
  | { readonly tag: 'ticket-keys'; readonly keys: readonly string[] }
  /** Answered with ServedCertificates (src/certificates); with `reload` after a look at their files. */
  | { readonly tag: 'certificates'; readonly reload: boolean }

/** What the supervisor tells a worker that has said `hello`; the answer's result. */
export interface Welcome {
  readonly protocol: number
  readonly heartbeatMs: number
  readonly orphanPolicy: 'drain-after' | 'keep'
  readonly orphanDrainAfterMs: number
  /** How an orphan drains. */
  readonly orphanDrain: DrainOrder
  readonly maxControlMessageBytes: number
  /** How a worker ends that met an error that nothing caught. Left out by an older supervisor: it ends at once. */
  readonly crashDrain?: DrainOrder
  /** Whether a rejection that nobody handled is such an error. Left out by an older supervisor: it is one. */
  readonly unhandledRejections?: 'log' | 'end'
  /** Left out by a supervisor that knows of none. What a worker started with holds for its whole life. */
  readonly settings?: WorkerSettings
  /** Left out while what is configured holds, and by a supervisor that knows of nothing else: then it holds for the worker as well. */
  readonly logLevel?: LevelForNow
  /** Of all processes that this state folder belongs to. Left out by a supervisor that knows of none. */
  readonly instanceId?: string
  /** File in which the worker counts, made for it (metric-memory.ts). Left out where it is not to count. */
  readonly metricsFile?: string
  /** As in `ticket-keys`. Left out where there is no listener of TLS: then a worker that needs some has its own. */
  readonly ticketKeys?: readonly string[]
}

export interface SelfTestOutcome {
  readonly passed: boolean
  /** What was asked and what came, in a few words: `GET / answered 200 in 4 ms`. */
  readonly detail: string
  /** Of what a hook threw, when that is why it failed; left out by an older build, and where there is none. */
  readonly stack?: string
}

export interface SentDescriptors {
  readonly layout: DescriptorLayout
}

export type FromWorker =
  /** Asked; answered with Welcome. Sent again on every new connection. */
  | {
    readonly tag: 'hello'
    readonly protocol: number
    readonly worker: WorkerId
    readonly token: string
    readonly pid: number
    readonly phase: WorkerPhase
  }
  /** Everything is built; able to accept. */
  | { readonly tag: 'ready' }
  /**
   * Could not start, or met an error that ends it. With `endsInMs` it has stopped accepting and finishes what it has until
   * then, at most: start another one in its place. Without, the process exits right after. `name` is the class of the error,
   * `rejected` says that it was a promise that nobody handled; an older build says neither.
   */
  | {
    readonly tag: 'failed'
    readonly message: string
    readonly stack: string
    readonly endsInMs?: number
    readonly name?: string
    readonly rejected?: boolean
  }
  /**
   * Something that somebody has to mend, and that did not end the worker. Sent only where the settings of the welcome ask for it
   * (`reportsFaults`), so an older supervisor is told none. Read with `readFault`.
   */
  | { readonly tag: 'fault'; readonly fault: FaultReport }
  /** Asked: the copies of a listening socket are used up, start another worker in my place. */
  | { readonly tag: 'cannot-accept'; readonly reason: string }
  | {
    readonly tag: 'heartbeat'
    readonly seq: number
    /** How late this heartbeat's timer fired, in ms. */
    readonly loopLagMs: number
    /** Share of time since the last heartbeat in which the event loop was busy, 0 to 1. */
    readonly utilization: number
    readonly rssBytes: number
    readonly open: OpenCounts
    /** What an operator should know of its services, a line each; left out by an older build, and where there is nothing. */
    readonly notices?: readonly string[]
  }
  /** Everything is finished, `cut` of it by force; the process exits right after. */
  | { readonly tag: 'drained'; readonly cut: number }

/**
 * Requests of the command line. All are asked; `wait: false` answers at once with the operation's id. `soakMs` is for this
 * operation what `upgrade.soak` of the configuration is for others, which it is when it is left out.
 */
export type FromOperator =
  | { readonly tag: 'status' }
  /** Answered with Sample (supervisor/sample.ts): what was counted so far, and what is open. Meant to be asked each second. */
  | { readonly tag: 'sample' }
  | { readonly tag: 'stop'; readonly force: boolean; readonly wait: boolean }
  /** worker: an id or a slot number; '' means all, slot by slot. */
  | { readonly tag: 'restart-workers'; readonly worker: string; readonly wait: boolean }
  | { readonly tag: 'reopen-logs' }
  /**
   * The level of the process log of all processes, for so long; 'configured' goes back at once, and '' changes nothing. Answered
   * with LevelStatus.
   */
  | { readonly tag: 'log-level'; readonly level: LogLevel | 'configured' | ''; readonly forMs: number }
  /** Answered with CertificatesOfAll (src/certificates); with `reload` after workers have looked at their files. */
  | { readonly tag: 'certificates'; readonly reload: boolean }
  /** Replace everything by what is in a release's folder; '' reads the running one's again. Answered with OperationStarted. */
  | { readonly tag: 'upgrade'; readonly folder: string; readonly supervisor: 'if-changed' | 'always'; readonly soakMs?: number }
  /** Read configuration and application again. Answered with OperationStarted. */
  | { readonly tag: 'reload'; readonly soakMs?: number }
  /** Upgrade to the release before the last committed upgrade, without a soak. Answered with OperationStarted. */
  | { readonly tag: 'rollback'; readonly soakMs?: number }
  /** Answered with OperationOutcome when the operation has ended, however long that takes; also when it ended before. */
  | { readonly tag: 'outcome'; readonly id: string }
  /** As for a worker; answered with SeenByAll. It is over with the connection, or when it is not asked again for some seconds. */
  | { readonly tag: 'look'; readonly look: LookOrder }
  /**
   * What would happen to a request at `url`, which is an http URL, or a path for the first listener that there is. Answered with
   * ExplainedByWorker.
   */
  | {
    readonly tag: 'explain'
    readonly url: string
    readonly method: string
    readonly headers: ExplainRequest['headers']
    /** Address of the client. */
    readonly from: string
    /** Name of the listener; '': the one that the URL leads to. */
    readonly listener: string
    /** Id of the worker that is asked; '': any that accepts. */
    readonly worker: string
  }

export interface OperationStarted { readonly id: string }

export type OperationKind = 'upgrade' | 'reload' | 'rollback'

/** How an upgrade, a reload or a roll-back ended. */
export interface OperationOutcome {
  readonly id: string
  readonly kind: OperationKind
  /** `refused`: nothing had been touched yet. `rolled-back`: all is as it was before. */
  readonly result: 'committed' | 'refused' | 'rolled-back' | 'superseded'
  /** Why it did not commit; ''. */
  readonly reason: string
  /**
   * Of the application's own error, when that is why; otherwise ''. At most 16 KiB. Only in the answer to `outcome`: `status`, the
   * journal and older builds leave it out.
   */
  readonly applicationStack?: string
  /** Found in the configuration: the operator who asked has something to mend. */
  readonly configuration: boolean
  /** Folders of the releases. */
  readonly from: string
  readonly to: string
  /** Generation that serves now. */
  readonly generation: number
  readonly supervisorReplaced: boolean
  readonly steps: readonly { readonly step: string; readonly ms: number }[]
  /** In ms since 1970; left out by an older build. */
  readonly endedAt?: number
}

/** The supervisor sends operators nothing but answers. */
export type ToOperator = never

/** Why something was not done; `code` decides the exit code of the command line. */
export type RefusalCode = 'refused' | 'failed' | 'superseded' | 'unknown' | 'bad-message'

export type Answer =
  | { readonly tag: 'answer'; readonly re: number; readonly ok: true; readonly result: unknown }
  | { readonly tag: 'answer'; readonly re: number; readonly ok: false; readonly code: RefusalCode; readonly reason: string }

type FieldKind = 'string' | 'number' | 'boolean' | 'object'
type RequiredKeys<T> = { [K in keyof T]-?: undefined extends T[K] ? never : K }[keyof T]
/** Fields that must be there; those that a later build added are optional. */
type FieldsOf<M extends { readonly tag: string }, T extends M['tag']> = Exclude<RequiredKeys<Extract<M, { tag: T }>>, 'tag'>
type FieldTable<M extends { readonly tag: string }> = { readonly [T in M['tag']]: Readonly<Record<FieldsOf<M, T>, FieldKind>> }

const TO_WORKER: FieldTable<ToWorker> = {
  'accept': {}, 'stop-accept': {}, 'stand-in': { slot: 'number' }, 'step-back': { slot: 'number' },
  'close-listeners': { emptyQueueMs: 'number' }, 'drain': { order: 'object' }, 'reopen-logs': {}, 'self-test': {},
  'send-descriptors': { path: 'string' }, 'look': { look: 'object' }, 'look-away': { id: 'string' }, 'explain': { request: 'object' },
  'log-level': { level: 'string', forMs: 'number' }, 'ticket-keys': { keys: 'object' },
  'certificates': { reload: 'boolean' },
}
const FROM_WORKER: FieldTable<FromWorker> = {
  'hello': { protocol: 'number', worker: 'string', token: 'string', pid: 'number', phase: 'string' },
  'ready': {}, 'failed': { message: 'string', stack: 'string' }, 'cannot-accept': { reason: 'string' }, 'fault': { fault: 'object' },
  'heartbeat': { seq: 'number', loopLagMs: 'number', utilization: 'number', rssBytes: 'number', open: 'object' },
  'drained': { cut: 'number' },
}
const FROM_OPERATOR: FieldTable<FromOperator> = {
  'status': {}, 'sample': {}, 'stop': { force: 'boolean', wait: 'boolean' }, 'reopen-logs': {},
  'restart-workers': { worker: 'string', wait: 'boolean' },
  'upgrade': { folder: 'string', supervisor: 'string' }, 'reload': {}, 'rollback': {}, 'outcome': { id: 'string' },
  'look': { look: 'object' },
  'explain': { url: 'string', method: 'string', headers: 'object', from: 'string', listener: 'string', worker: 'string' },
  'log-level': { level: 'string', forMs: 'number' }, 'certificates': { reload: 'boolean' },
}

/** Reads one received object as a message of a union. 'unknown': a tag of another build; 'bad': a known tag with a field missing. */
export type Decode<M> = (value: { readonly [key: string]: unknown }) => M | 'unknown' | 'bad'

export const decodeToWorker: Decode<ToWorker> = decoder<ToWorker>(TO_WORKER)
export const decodeFromWorker: Decode<FromWorker> = decoder<FromWorker>(FROM_WORKER)
export const decodeFromOperator: Decode<FromOperator> = decoder<FromOperator>(FROM_OPERATOR)
export const decodeNothing: Decode<never> = () => 'unknown'

function decoder<M extends { readonly tag: string }>(table: FieldTable<M>): Decode<M> {
  const rows = Object.entries(table as Record<string, Record<string, FieldKind>>)
  const fieldsByTag = new Map<string, [string, FieldKind][]>(rows.map(([tag, fields]) => [tag, Object.entries(fields)]))
  return value => {
    const fields = typeof value['tag'] === 'string' ? fieldsByTag.get(value['tag']) : undefined
    if (fields === undefined) return 'unknown'
    for (const [name, kind] of fields) {
      const field = value[name]
      if (typeof field !== kind || field === null) return 'bad'
    }
    return value as unknown as M
  }
}
