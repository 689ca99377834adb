/**
 * Which read of a connection is being answered. Everything that happens within one is a few microseconds, so a time that was
 * taken in it need not be taken again: asking the clock costs 40 ns, and an exchange has five moments.
 */
export const readTurn = {
  /** Another one for each read; 0: none is being answered. Written by what reads sockets. */
  number: 0,
}

let last = 0

/** A read is answered from now on, until `number` is 0 again. */
export function beginReadTurn(): void { readTurn.number = ++last }
