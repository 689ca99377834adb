/**
 * Which inherited descriptor of a worker is which listening socket. The supervisor lays them out when it forks, the
 * worker finds them by the same arithmetic; nothing but this small table crosses.
 *
 *   fd 0..2  standard        fd 3  cluster's IPC (let go at once)        fd 4...
 *   listener A: slot 0 | slot 1 | ... | listener B (shared by all slots): one | ...     all of it `copies` times
 */

/** 0 to 2 are the standard streams, 3 is cluster's. */
export const FIRST_SOCKET_FD = 4

export interface LaidOutListener {
  readonly name: string
  /** One socket for all slots (a Unix path, or a machine without SO_REUSEPORT). */
  readonly shared: boolean
}

export interface DescriptorLayout {
  readonly slots: number
  /** How often each socket is inherited: 1 when workers can copy descriptors themselves. */
  readonly copies: number
  readonly listeners: readonly LaidOutListener[]
}

/** Sockets of one copy. */
export function socketCount(layout: DescriptorLayout): number {
  return layout.listeners.reduce((count, listener) => count + (listener.shared ? 1 : layout.slots), 0)
}

/** @param listener index in `layout.listeners`. @param copy 0 to copies - 1. */
export function descriptorOf(layout: DescriptorLayout, listener: number, slot: number, copy: number): number {
  let index = copy * socketCount(layout)
  for (let before = 0; before < listener; before++) index += layout.listeners[before]!.shared ? 1 : layout.slots
  return FIRST_SOCKET_FD + index + (layout.listeners[listener]!.shared ? 0 : slot)
}
