/**
 * How much this process holds for connections in buffers of their own: received bytes that wait, bodies that are kept, and what
 * waits to be written. Whoever takes such a buffer adds its size here and takes it off again at the latest when its
 * connection is gone; what lies in a buffer that connections share is not counted, nor is what the collector has still to free.
 * Invariant: 0 when nothing is open. A body that is relayed to a slow reader counts where it was received and where it waits.
 *
 * Counted where a buffer comes or goes, never once a request: a request whose head and body come and leave in one piece
 * touches none of this. What follows from the sum is decided in server/admission.ts.
 */
export const heldBytes = { now: 0 }
