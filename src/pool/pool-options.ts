/** What the pool of upstream connections may be told; part of the options of an HTTP connector. */
import { count, defaultsOf, type OptionTable } from '../primitives/option-table.ts'

export interface PoolOptions {
  /** Idle connections kept per reuse key; past it the oldest is closed. 0 turns reuse off. @default 128 */
  maxIdlePerKey?: number
  /** Idle connections kept in all; past it the oldest is closed. 0 turns reuse off. @default 1024 */
  maxIdleConnections?: number
}
export type ResolvedPoolOptions = Readonly<Required<PoolOptions>>

export const POOL_OPTIONS = {
  maxIdlePerKey: count(128, { zero: 'turns reuse off' }),
  maxIdleConnections: count(1024, { zero: 'turns reuse off' }),
} satisfies OptionTable<PoolOptions>

export const POOL_DEFAULTS: ResolvedPoolOptions = defaultsOf<PoolOptions>(POOL_OPTIONS)
