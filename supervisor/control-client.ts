/** The command line's end of the control socket: one question, one answer, and meanwhile another one again and again. */
import net from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Channel, ChannelError } from '../src/ipc/channel.ts'
import { decodeNothing } from '../src/ipc/messages.ts'
import type { FromOperator, OperationOutcome } from '../src/ipc/messages.ts'
import { CONTROL_SOCKET } from './state-folder.ts'

/** Answers carry whole status reports; more than any of ours. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

/** No supervisor listens on the control socket. */
export class NotRunning extends Error {
  constructor(folder: string) {
    super(`no supervisor is running in ${folder}`)
    this.name = 'NotRunning'
  }
}

/** A supervisor that replaces itself drops its connections, with what it had not read: the next image is asked again, so often. */
const ASK_AGAIN = 2

/** A question that is asked on the same connection while the answer to another one is waited for. */
export interface Watch {
  readonly message: FromOperator
  /** From an answer to the next question. */
  readonly everyMs: number
  onAnswer(result: unknown): void
}

export interface AskOptions {
  /** Also wait until the supervisor has closed the connection, which is its last act. @default false */
  untilClosed?: boolean
  /** Asked meanwhile; null: nothing. @default null */
  watch?: Watch | null
  /** How long to wait for the answer, in ms. null: however long that takes. @default null */
  timeoutMs?: number | null
}
export type ResolvedAskOptions = Readonly<Required<AskOptions>>
export const ASK_DEFAULTS: ResolvedAskOptions = { untilClosed: false, watch: null, timeoutMs: null }

/** Asks and waits for the outcome. @throws NotRunning, or ChannelError when it refused, went away or was too late. */
export async function askSupervisor(folder: string, message: FromOperator, options: AskOptions = {}): Promise<unknown> {
  const asked = { ...ASK_DEFAULTS, ...options }
  let lost: unknown = null
  for (let again = 0; ; again++) {
    try {
      return await askOnce(folder, message, asked)
    } catch (error) {
      // The supervisor is gone: why the first connection was lost says more.
      if (lost !== null && error instanceof NotRunning) throw lost
      if (again === ASK_AGAIN || !(error instanceof ChannelError) || error.code !== 'closed') throw error
      lost = error
    }
  }
}

/** A connection to a supervisor, for questions that follow each other. */
export interface Conversation {
  readonly channel: Channel<FromOperator, never>
  /** Resolves when it has ended, whoever ended it. */
  readonly closed: Promise<void>
}

/** @throws NotRunning, or ChannelError for another reason why it cannot be reached */
export async function converse(folder: string): Promise<Conversation> {
  const socket = net.connect({ path: path.join(folder, CONTROL_SOCKET) })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', error => {
      const { code } = error as NodeJS.ErrnoException
      const absent = code === 'ENOENT' || code === 'ECONNREFUSED'
      reject(absent ? new NotRunning(folder) : new ChannelError('closed', `${folder}: ${error.message}`))
    })
  })
  const closed = Promise.withResolvers<void>()
  const channel = new Channel<FromOperator, never>(socket, decodeNothing, { maxMessageBytes: MAX_ANSWER_BYTES }, {
    onMessage() {}, onClose: () => closed.resolve(),
  })
  return { channel, closed: closed.promise }
}

async function askOnce(folder: string, message: FromOperator, { untilClosed, watch, timeoutMs }: ResolvedAskOptions): Promise<unknown> {
  const { channel, closed } = await converse(folder)
  try {
    const answer = channel.ask(message, timeoutMs)
    if (watch !== null) void keepAsking(channel, watch)
    const result = await answer
    if (untilClosed) await closed
    return result
  } finally {
    channel.close()
  }
}

/** Until the connection ends. */
async function keepAsking(channel: Channel<FromOperator, never>, { message, everyMs, onAnswer }: Watch): Promise<void> {
  while (channel.open) {
    let result: unknown
    // A refusal says as little as an end: what is watched is not what was asked for.
    try { result = await channel.ask(message, null) } catch { return }
    onAnswer(result)
    await delay(everyMs, null, { ref: false })
  }
}

/** How often, and for how long, a supervisor that went away in the middle of an operation is looked for again, in ms. */
const LOOK_AGAIN_MS = 50
const LOOK_FOR_MS = 15_000

/**
 * How an operation ended. The supervisor that works on it may replace itself meanwhile, or be killed and started again.
 * @param watch asked meanwhile; null: nothing
 */
export async function awaitOutcome(folder: string, id: string, watch: Watch | null = null): Promise<OperationOutcome> {
  let lostAtMs = 0
  for (;;) {
    try {
      return await askSupervisor(folder, { tag: 'outcome', id }, { watch }) as OperationOutcome
    } catch (error) {
      const away = error instanceof NotRunning || (error instanceof ChannelError && error.code === 'closed')
      lostAtMs ||= performance.now()
      if (!away || performance.now() - lostAtMs > LOOK_FOR_MS) throw error
      await delay(LOOK_AGAIN_MS)
    }
  }
}
