/** Limits of one worker; N workers allow N times as much. An application sets them on its service, an operator in the section `limits`. */
import { count, defaultsOf, type OptionTable } from '../primitives/option-table.ts'

export interface LimitOptions {
  /** Requests in flight at once in this worker; past it new ones are answered with 503. 0 turns it off. @default 10_000 */
  maxActiveRequests?: number
}
export type ResolvedLimitOptions = Readonly<Required<LimitOptions>>

export const LIMIT_OPTIONS = {
  maxActiveRequests: count(10_000, { zero: 'turns it off' }),
} satisfies OptionTable<LimitOptions>

export const LIMIT_DEFAULTS: ResolvedLimitOptions = defaultsOf<LimitOptions>(LIMIT_OPTIONS)
