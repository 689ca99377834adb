/**
 * Who wants to know what load balancers chose from: the explanation of a request that nobody sent (server/explain.ts). There is a
 * watch only while one is under way; a choice asks for it by one comparison.
 */
import type { HashKey } from '../primitives/hash.ts'
import type { Backend } from './backend.ts'

/** One choice, right after it was made. */
export interface Choice {
  /** Name of the balancer. */
  readonly balancer: string
  /** How it chooses. */
  readonly selection: string
  /** '': none was given. */
  readonly key: HashKey
  /** Null: there was none. */
  readonly chosen: Backend | null
  /** All there were. */
  readonly backends: readonly Backend[]
}

export interface SelectionWatch {
  /** @returns whether no attempt follows, so that the choice is none that counts and no trial of a backend */
  onChoice(choice: Choice): boolean
}

/** Of this process; null: nobody wants to know. */
export const selectionWatch: { current: SelectionWatch | null } = { current: null }
