/** What the pool of upstream connections may be told; part of the options of an HTTP connector. */
import { count, defaultsOf, type OptionTable } from '../primitives/option-table.ts'

/** How many idle connections to origins are kept. */
export interface PoolOptions {
  /**
   * Idle connections kept per reuse key; past it the oldest is closed. Below it as many are kept as recent requests needed at the
   * same time. 0 turns reuse off. @default 10000
   */
  maxIdlePerKey?: number
  /**
   * Idle connections kept in one process, by all of its pools; past it the oldest of them is closed. 0 turns reuse off.
   * @default 10000
   */
  maxIdleConnections?: number
}
export type ResolvedPoolOptions = Readonly<Required<PoolOptions>>

export const POOL_OPTIONS = {
  maxIdlePerKey: count(10_000, { zero: 'turns reuse off' }),
  maxIdleConnections: count(10_000, { zero: 'turns reuse off' }),
} satisfies OptionTable<PoolOptions>

export const POOL_DEFAULTS: ResolvedPoolOptions = defaultsOf<PoolOptions>(POOL_OPTIONS)
