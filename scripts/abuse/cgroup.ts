/** A memory limit around an instance: a cgroup (version 2) where this process may make one; elsewhere memory is only watched. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const ROOTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']

export interface MemoryGroup {
  /** What a process writes its id into to be inside. */
  readonly procs: string
  /** Only when nothing is left inside. */
  remove(): void
}

/** @returns null where no such group can be made. */
export function makeMemoryGroup(name: string, megabytes: number): MemoryGroup | null {
  const root = ROOTS.find(hasMemory)
  if (root === undefined) return null
  const folder = path.join(root, name)
  try {
    mkdirSync(folder)
    writeFileSync(path.join(folder, 'memory.max'), String(megabytes * 1_000_000))
    return { procs: path.join(folder, 'cgroup.procs'), remove: () => rmdirSync(folder) }
  } catch {
    return null // Not ours to write.
  }
}

function hasMemory(root: string): boolean {
  try {
    return readFileSync(path.join(root, 'cgroup.subtree_control'), 'latin1').includes('memory')
  } catch {
    return false // No cgroup of this version there.
  }
}
