/**
 * Whether the kernel killed a process for want of memory: it does so by SIGKILL, which says nothing of why. The control group that
 * we and our workers are in counts it (`oom_kill` in memory.events of cgroup 2), whichever limit was reached: its own, that of one
 * above it, or the machine's. Where there is no such file nothing is known.
 */
import fs from 'node:fs'
import path from 'node:path'

const GROUPS = '/sys/fs/cgroup'

export class OomKills {
  readonly #file: string
  #seen: number

  constructor(file = eventsFile()) {
    this.#file = file
    this.#seen = this.#count()
  }

  /** @returns whether there was another one since the last look, or since this was made. */
  another(): boolean {
    const before = this.#seen
    this.#seen = this.#count()
    return this.#seen > before
  }

  #count(): number {
    try { return Number(/^oom_kill (\d+)$/m.exec(fs.readFileSync(this.#file, 'utf8'))?.[1] ?? 0) } catch { return 0 }
  }
}

/** Of the group that this process is in. Within a container that is the root of what it sees. */
function eventsFile(): string {
  let group = '/'
  try { group = /^0::(\/.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? group } catch { /* There is no /proc. */ }
  return path.join(GROUPS, group, 'memory.events')
}
