/**
 * What a client may do that costs more here than there: each kind has a burst, and so much a second behind it. One that nothing was
 * taken of costs nothing.
 * Tests: server-connection.test.ts
 */
import { Budget } from './budget.ts'
import type { ResolvedHttp2ServerOptions } from './http2-options.ts'

export const Spent = { Reset: 0, Refusal: 1, Glitch: 2, Ping: 3, Settings: 4, EmptyData: 5, Priority: 6 } as const
export type Spent = (typeof Spent)[keyof typeof Spent]

/** Streams beyond `maxConcurrentStreams` or `maxHeldHeadBytes`: a client that heeds SETTINGS opens none of the first. */
const MAX_REFUSALS = 100

interface Kind {
  /** Name of the limit. */
  readonly limit: string
  readonly text: string
  readonly burst: (options: ResolvedHttp2ServerOptions) => number
  readonly perSecond: number
}

const KINDS: readonly Kind[] = [
  { limit: 'resets', text: 'too many streams are reset', burst: ({ maxResets }) => maxResets, perSecond: 33 },
  { limit: 'concurrent-streams', text: 'too many streams are refused', burst: () => MAX_REFUSALS, perSecond: 33 },
  { limit: 'glitches', text: 'too many frames that make no sense', burst: ({ maxGlitches }) => maxGlitches, perSecond: 33 },
  { limit: 'pings', text: 'too many PING frames', burst: ({ maxPings }) => maxPings, perSecond: 50 },
  { limit: 'settings', text: 'too many SETTINGS frames', burst: ({ maxSettings }) => maxSettings, perSecond: 1 },
  { limit: 'empty-data', text: 'too many DATA frames without data', burst: ({ maxEmptyData }) => maxEmptyData, perSecond: 1 },
  { limit: 'priorities', text: 'too many PRIORITY frames', burst: ({ maxPriorities }) => maxPriorities, perSecond: 10 },
]

export class FrameBudgets {
  readonly #options: ResolvedHttp2ServerOptions
  readonly #budgets: (Budget | null)[] = [null, null, null, null, null, null, null]

  constructor(options: ResolvedHttp2ServerOptions) { this.#options = options }

  /** Returns false when nothing is left. */
  take(kind: Spent, now: number): boolean {
    const { burst, perSecond } = KINDS[kind]!
    return (this.#budgets[kind] ??= new Budget(burst(this.#options), perSecond, now)).take(now)
  }

  /** Whether three quarters of it are gone. */
  isLow(kind: Spent): boolean { return this.#budgets[kind]?.isLow ?? false }

  /** A stream was served whole: it pays for one that is reset, and for a frame that came late. */
  served(): void {
    this.#budgets[Spent.Reset]?.give()
    this.#budgets[Spent.Glitch]?.give()
  }

  limitOf(kind: Spent): string { return KINDS[kind]!.limit }
  textOf(kind: Spent): string { return KINDS[kind]!.text }
}
