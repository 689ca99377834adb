/** Where workers register: who is taken, and what a worker is told of the configuration. What they report goes to the fleet. */
import type { Question } from '../src/ipc/channel.ts'
import { PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { FromWorker, LevelForNow, Welcome } from '../src/ipc/messages.ts'
import type { WorkerConversation } from './control-server.ts'
import { crashOrder } from './drain-orders.ts'
import type { Fleet } from './fleet.ts'
import type { TicketKeeper } from './ticket-keeper.ts'
import type { WorkerLink, WorkerProcess } from './worker-process.ts'

type Hello = Extract<FromWorker, { tag: 'hello' }>

/** What all workers are told alike. */
export interface WorkerSurroundings {
  /** A service manager starts another supervisor when this one is killed. */
  readonly managed: boolean
  readonly instanceId: string
  /** Null: what is configured holds. */
  readonly logLevel: LevelForNow | null
  readonly tickets: Pick<TicketKeeper, 'keysFor'>
}

/**
 * @param fleet null: no worker is ours yet
 * @returns null for a worker that is refused, which makes it drain and end.
 */
export function register(
  hello: Hello, link: WorkerLink, question: Question, fleet: Fleet | null, around: WorkerSurroundings,
): WorkerConversation | null {
  if (Math.abs(hello.protocol - PROTOCOL_VERSION) > 1) {
    question.refuse('refused', `this supervisor speaks protocol ${PROTOCOL_VERSION}, not ${hello.protocol}`)
    return null
  }
  const worker = fleet?.hello(hello, link) ?? null
  if (fleet === null || worker === null) {
    // One of a supervisor before us.
    question.refuse('refused', `${hello.worker} is no worker of this supervisor`)
    return null
  }
  question.ok(welcome(worker, fleet, link, around))
  return { onMessage: message => fleet.onMessage(worker, message), onClose: () => fleet.linkLost(worker, link) }
}

function welcome(worker: WorkerProcess, fleet: Fleet, link: WorkerLink, around: WorkerSurroundings): Welcome {
  const { managed, instanceId, logLevel, tickets } = around
  const { heartbeatMs, orphanDrainAfterMs, orphanPolicy, maxControlMessageBytes, unhandledRejections, drain } = fleet.optionsOf(worker)
  const byManager = managed ? 'keep' : 'drain-after'
  const metricsFile = fleet.metricsFileOf(worker), ticketKeys = tickets.keysFor(worker, fleet, link)
  return {
    protocol: PROTOCOL_VERSION, heartbeatMs, orphanPolicy: orphanPolicy === 'auto' ? byManager : orphanPolicy, orphanDrainAfterMs,
    orphanDrain: fleet.orphanDrain, crashDrain: crashOrder(drain), unhandledRejections, maxControlMessageBytes,
    settings: fleet.generationOf(worker).settings, instanceId, ...metricsFile === '' ? null : { metricsFile },
    ...logLevel === null ? null : { logLevel }, ...ticketKeys === null ? null : { ticketKeys },
  }
}
