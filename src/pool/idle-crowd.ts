/**
 * All connections at rest in one process, whichever pool has them: `maxIdleConnections` is a limit of the process, since its
 * memory and its descriptors are.
 *
 * A pool is a member while it has a connection at rest, so that one that nobody needs any more is not held here.
 * Invariant: `idle` is the sum of what the members have.
 */

/** A pool, as the others see it. */
export interface CrowdMember {
  /** Which coming to rest that of its longest rester was (`parked` at that moment). */
  readonly longestParked: number
  /** Closes that connection. */
  evictLongest(): void
}

export class IdleCrowd {
  /** Connections at rest now. */
  idle = 0
  /** How often one came to rest so far: a later rest has a greater number, in every pool. */
  parked = 0
  readonly #members = new Set<CrowdMember>()

  join(member: CrowdMember): void { this.#members.add(member) }
  leave(member: CrowdMember): void { this.#members.delete(member) }

  /** Closes the connection that has been at rest for longest. Only when there is one. */
  evictLongest(): void {
    let chosen: CrowdMember | null = null
    // A few: one for each service.
    for (const member of this.#members) if (chosen === null || member.longestParked < chosen.longestParked) chosen = member
    chosen?.evictLongest()
  }
}

/** That of this process. */
export const PROCESS_CROWD = new IdleCrowd()
