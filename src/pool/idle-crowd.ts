/**
 * All connections at rest in one process, whichever pool has them: `maxIdleConnections` is a limit of the process, since its
 * memory and its descriptors are.
 *
 * A pool is a member while it has a connection at rest, so that one that nobody needs any more is not held here.
 * Whatever the option says, no more are kept than the half of the descriptors that is meant for origins: the other half is for
 * clients (server/admission.ts).
 * Invariant: `idle` is the sum of what the members have.
 */
import { LIMIT_DEFAULTS } from '../config/limit-options.ts'
import { descriptorLimit } from '../primitives/descriptor-limit.ts'


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
  /** As many as there may be, whatever pools are told. */
  readonly most: number
  readonly #members = new Set<CrowdMember>()

  /** @param descriptors what the system allows this process; 0: any number, or it did not say */
  constructor(descriptors = 0) {
    this.most = descriptors === 0 ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor((descriptors - LIMIT_DEFAULTS.fdReserve) / 2))
  }

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
export const PROCESS_CROWD = new IdleCrowd(descriptorLimit())
