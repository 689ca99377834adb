/**
 * Takes the ends of children that Node.js knows nothing of, which would stay in the table of processes for ever otherwise:
 *
 *   - Process 1 of a container inherits every process whose parent has gone: probes and shells of `docker exec`, what an
 *     application starts.
 *   - A worker that ends while one image of the supervisor becomes the next is no child of Node.js in the new one, and not adopted there
 *     either, since it does not live.
 *
 * Invariant: the end of a child of Node.js is never taken, whose 'exit' event would be lost. Node.js takes it in the turn of its
 * event loop in which it hears of it, so that what is found dead in two looks has no other taker.
 */
import fs from 'node:fs'
import type { SystemCalls } from '../src/ipc/system-calls.ts'

/** How often it looks, in ms. */
const LOOK_MS = 1_000

export class OrphanReaper {
  readonly #calls: Pick<SystemCalls, 'reap'>
  readonly #deadChildren: () => readonly number[]
  /** Those of the look before. */
  #seen: ReadonlySet<number> = new Set()

  /** @param deadChildren pids of children that have ended and whose end nobody has taken */
  constructor(calls: Pick<SystemCalls, 'reap'>, deadChildren = deadChildrenOfOurs) {
    this.#calls = calls
    this.#deadChildren = deadChildren
  }

  /** As long as this image lives. */
  start(): void { setInterval(() => { this.look() }, LOOK_MS).unref() }

  look(): void {
    const dead = this.#deadChildren()
    for (const pid of dead) if (this.#seen.has(pid)) this.#calls.reap(pid)
    this.#seen = new Set(dead)
  }
}

/** Orphans are given to the main thread. Nothing where the kernel does not list children. */
function deadChildrenOfOurs(): number[] {
  let children: string
  try { children = fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8') } catch { return [] }
  return children.split(' ').filter(pid => pid.trim() !== '').map(Number).filter(isDead)
}

function isDead(pid: number): boolean {
  let stat: string
  try { stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8') } catch { return false }
  // The command stands in brackets and may hold anything; the state follows.
  return stat.startsWith('Z', stat.lastIndexOf(')') + 2)
}
