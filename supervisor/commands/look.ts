/**
 * One look at traffic from the side of the command line: asks the supervisor again and again, and hands on what it tells, until
 * enough was seen, the time is over, or Ctrl-C. A supervisor that replaces itself meanwhile is looked for again.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as elapsed } from 'node:timers/promises'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { LookOrder, SeenByAll } from '../../src/ipc/looking.ts'
import { converse, NotRunning } from '../control-client.ts'
import { EXIT } from '../exit-codes.ts'
import { Failure } from './shared-options.ts'
import { shownText } from './shown-text.ts'

/** How often, and for how long, a supervisor that went away is looked for, in ms: it may replace itself, or be started again. */
const LOOK_AGAIN_MS = 50
const LOOK_FOR_MS = 3_000
/** A supervisor answers within a second; one that hangs is told of, in ms. */
const ANSWER_MAX_MS = 30_000
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export type LookEnd = 'enough' | 'time' | 'interrupted'

export interface LookHandlers {
  /** JSON of one request. */
  onEntry(entry: string): void
  /** So many requests could not be shown. */
  onDropped(count: number): void
  /** For people; one line. */
  onNote(text: string): void
}

/**
 * @param forMs Infinity: any time
 * @throws Failure when no worker can be looked at; NotRunning, or ChannelError, when the supervisor is gone or refuses
 */
export async function look(folder: string, wanted: Omit<LookOrder, 'id'>, forMs: number, handlers: LookHandlers): Promise<LookEnd> {
  const ended = new AbortController()
  let end: LookEnd = 'enough'
  const endWith = (how: LookEnd) => (): void => {
    end = how
    ended.abort()
  }
  const interrupt = endWith('interrupted')
  // A second one ends the process at once.
  for (const signal of SIGNALS) process.once(signal, interrupt)
  // A reader that has seen enough, such as `head`, is no failure.
  process.stdout.on('error', interrupt)
  const timer = forMs === Infinity ? null : setTimeout(endWith('time'), forMs)
  try {
    let left = wanted.count, lostAtMs = 0
    const counting: LookHandlers = {
      onEntry(entry) {
        // What another supervisor is asked for later on; 0 stays any number.
        if (left > 0) left--
        handlers.onEntry(entry)
      },
      onDropped: count => handlers.onDropped(count),
      onNote: text => handlers.onNote(text),
    }
    while (!ended.signal.aborted && (wanted.count === 0 || left > 0)) {
      try {
        await lookOnce(folder, { ...wanted, id: randomBytes(8).toString('hex'), count: left }, ended.signal, counting, () => {
          if (lostAtMs !== 0) handlers.onNote('the connection to the supervisor was lost for a while; what passed meanwhile is not shown')
          lostAtMs = 0
        })
        return end
      } catch (error) {
        if (ended.signal.aborted) return end
        const away = error instanceof NotRunning || (error instanceof ChannelError && error.code === 'closed')
        if (!away || (lostAtMs === 0 && error instanceof NotRunning)) throw error
        lostAtMs ||= performance.now()
        if (performance.now() - lostAtMs > LOOK_FOR_MS) throw error
        await elapsed(LOOK_AGAIN_MS, null, { signal: ended.signal }).catch(() => { /* Over while it waited. */ })
      }
    }
    return end
  } finally {
    if (timer !== null) clearTimeout(timer)
    for (const signal of SIGNALS) process.off(signal, interrupt)
  }
}

/** Until it is over, or `signal` ends it. @param onAnswer called with the first answer */
async function lookOnce(
  folder: string, order: LookOrder, signal: AbortSignal, handlers: LookHandlers, onAnswer: () => void,
): Promise<void> {
  const { channel } = await converse(folder)
  const aborted = new Promise<null>(resolve => { signal.addEventListener('abort', () => resolve(null), { once: true }) })
  let first = true, seen = 0
  try {
    for (;;) {
      const answer = channel.ask({ tag: 'look', look: order }, ANSWER_MAX_MS).catch(tellOldBuild)
      // Of one that nobody waits for any more.
      answer.catch(() => {})
      const told = await Promise.race([answer, aborted]) as SeenByAll | null
      if (told === null) return
      if (first) onAnswer()
      first = false
      for (const { worker, reason } of told.unable) handlers.onNote(`worker ${shownText(worker)} is left out: ${shownText(reason)}`)
      if (told.dropped > 0) handlers.onDropped(told.dropped)
      seen += told.entries.length
      for (const entry of told.entries) handlers.onEntry(entry)
      if (told.over) return
      if (told.unable.length > 0 && told.workers.length === 0 && seen === 0) throw new Failure(EXIT.failed, 'no worker can be looked at')
    }
  } finally {
    channel.close()
  }
}

function tellOldBuild(error: unknown): never {
  if (!(error instanceof ChannelError) || error.code !== 'unknown') throw error
  const remedy = '`cirque upgrade --supervisor` replaces it'
  throw new Failure(EXIT.failed, `the supervisor that runs is of a build that cannot look at traffic; ${remedy}`)
}
