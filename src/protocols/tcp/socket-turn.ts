/**
 * What the sockets of a process have to do with one another within a turn of the loop: text that was queued is sent when the
 * read callback that queued it returns, or at the end of the tick otherwise; a stream that has read its share lets others have
 * their turn; and what is late is looked at while streams keep the loop busy.
 */
import { systemClock } from '../../primitives/clock.ts'

/**
 * Bytes one stream may read before the others have their turn: without it libuv reads one socket up to 32 times in a row,
 * and big downloads starve small ones.
 */
export const TURN_BYTES = 262_144

/** What has text to send. */
export interface Flushable { flush(): void }
/** What used up its turn. */
export interface Yielding { endYield(): void }

interface SocketTurn {
  /** The stream whose read callback is running. */
  reading: object | null
  /** Streams with text to send. */
  unflushed: number
  /** Reads and ends since what is late was looked at. */
  reads: number
  /** Of the turns in which streams yield. */
  number: number
}

/** Fields of one object, so that every stream can set them; they are looked at once or twice a read. */
export const turn: SocketTurn = { reading: null, unflushed: 0, reads: 0, number: 0 }

const unflushed: (Flushable | null)[] = []
let flushScheduled = false

/** `stream` is flushed soon, once. */
export function flushSoon(stream: Flushable): void {
  // The list itself keeps its length: an emptied one would be given new memory for each request.
  unflushed[turn.unflushed++] = stream
  if (turn.reading === null && !flushScheduled) {
    flushScheduled = true
    process.nextTick(flushAll)
  }
}

export function flushAll(): void {
  flushScheduled = false
  for (let i = 0; i < turn.unflushed; i++) {
    const stream = unflushed[i]!
    unflushed[i] = null
    stream.flush()
  }
  turn.unflushed = 0
}

/** So many reads and ends lie between two looks at what is late: some milliseconds of work. */
export const READS_A_LOOK = 256
let whenLooking = (): void => {}

/**
 * Calls `run` every few milliseconds while streams are read or end. With more than 1,024 of them ready libuv goes from one
 * batch to the next, up to 48 times, before any timer has its turn: what waits for one may then be seconds late, and so would
 * deadlines be, which are looked at here as well. One `run` a process.
 */
export function whileReading(run: () => void): void { whenLooking = run }

export function look(): void {
  turn.reads = 0
  systemClock.catchUp()
  whenLooking()
}

/** Streams that used up their turn; all go on with the next one. */
let yielded: Yielding[] = []

export function yieldTurn(stream: Yielding): void { if (yielded.push(stream) === 1) setImmediate(nextTurn) }

function nextTurn(): void {
  turn.number++
  const streams = yielded
  yielded = []
  for (const stream of streams) stream.endYield()
}
