/**
 * Notices that files of a list were saved. Looks at them again and again instead of asking the system to tell: that also works on
 * file systems of containers and networks, with editors that write another file and rename it, and for files that are not there
 * yet. A change is told when nothing has changed any more for one look, so that what is saved together is told together.
 */
import fs from 'node:fs'

/** How often files are looked at, in ms: a save is told within two looks. A look at a file costs some microseconds. */
const LOOK_EVERY_MS = 50

/** The disk and the time as they are watched; replaced in tests. */
export interface WatchedWorld {
  /** What differs after a save; '' when there is no such file. */
  signature(file: string): string
  /** Calls `run` again and again. @returns a function that ends that. */
  every(ms: number, run: () => void): () => void
}

export const SYSTEM_WATCHED: WatchedWorld = {
  signature(file) {
    try {
      const { ino, size, mtimeNs } = fs.statSync(file, { bigint: true })
      return `${ino}:${size}:${mtimeNs}`
    } catch { return '' }
  },
  every(ms, run) {
    const timer = setInterval(run, ms)
    return () => clearInterval(timer)
  },
}

export class FileWatch {
  readonly #world: WatchedWorld
  readonly #onSaved: (files: readonly string[]) => void
  readonly #stop: () => void
  #signatures = new Map<string, string>()
  /** Changed, and not told yet. */
  readonly #changed = new Set<string>()

  /** @param onSaved told the files, never during the call */
  constructor(onSaved: (files: readonly string[]) => void, world: WatchedWorld = SYSTEM_WATCHED) {
    this.#world = world
    this.#onSaved = onSaved
    this.#stop = world.every(LOOK_EVERY_MS, () => this.#look())
  }

  get files(): Iterable<string> { return this.#signatures.keys() }

  /** From now on these. Of those that were watched before no change is missed. */
  watch(files: Iterable<string>): void {
    const before = this.#signatures
    this.#signatures = new Map([...files].map(file => [file, before.get(file) ?? this.#world.signature(file)]))
  }

  close(): void { this.#stop() }

  #look(): void {
    let quiet = true
    for (const [file, before] of this.#signatures) {
      const now = this.#world.signature(file)
      if (now === before) continue
      this.#signatures.set(file, now)
      this.#changed.add(file)
      quiet = false
    }
    if (!quiet || this.#changed.size === 0) return
    const files = [...this.#changed]
    this.#changed.clear()
    this.#onSaved(files)
  }
}
