/**
 * CPU time and memory of a process tree, read from Linux's /proc.
 * The whole tree counts (nginx's master, a supervisor, a helper), so that nobody can hide work in a second process.
 * The parsers are pure; what reads files is at the end.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'

export interface ProcessStat {
  readonly pid: number
  readonly parentPid: number
  readonly state: string
  readonly userTicks: number
  readonly systemTicks: number
  /** Ticks after boot. With the pid it names one process for good. */
  readonly startTicks: number
}

export interface CpuTime {
  readonly userMicros: number
  readonly systemMicros: number
}

/** One line of /proc/PID/stat (proc(5)). The name may hold spaces and parentheses, so fields are counted from its last `)`. */
export function parseStat(line: string): ProcessStat | null {
  const open = line.indexOf('(')
  const close = line.lastIndexOf(')')
  if (open < 0 || close < open) return null
  const fields = line.slice(close + 2).split(' ')
  const stat = {
    pid: Number(line.slice(0, open)),
    state: fields[0] ?? '',
    parentPid: Number(fields[1]),
    userTicks: Number(fields[11]),
    systemTicks: Number(fields[12]),
    startTicks: Number(fields[19]),
  }
  return Number.isFinite(stat.startTicks) ? stat : null
}

/** A `Name:   123 kB` line of /proc/PID/status or smaps_rollup, in kB; null when there is none. */
export function parseKiloBytes(text: string, name: string): number | null {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)
  return match === null ? null : Number(match[1])
}

/** `root` and all its descendants, parents first. Zombies are left out: they use nothing and wait only to be collected. */
export function treeOf(root: number, stats: readonly ProcessStat[]): ProcessStat[] {
  const tree = stats.filter((stat) => stat.pid === root && stat.state !== 'Z')
  for (let at = 0; at < tree.length; at++) {
    const parent = tree[at]
    for (const stat of stats) if (stat.parentPid === parent?.pid && stat.state !== 'Z') tree.push(stat)
  }
  return tree
}

let microsPerTick = 0

function tickMicros(): number {
  if (microsPerTick === 0) microsPerTick = 1_000_000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  return microsPerTick
}

function readProcFile(pid: number | string, name: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1')
  } catch {
    return null // The process ended between the listing and the read.
  }
}

export function processTree(root: number): ProcessStat[] {
  const stats: ProcessStat[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const line = readProcFile(name, 'stat')
    const stat = line === null ? null : parseStat(line)
    if (stat !== null) stats.push(stat)
  }
  return treeOf(root, stats)
}

/** Whether `stat` still names the same living process, and not a later one with its number. */
export function isAlive(stat: ProcessStat): boolean {
  const line = readProcFile(stat.pid, 'stat')
  const now = line === null ? null : parseStat(line)
  return now !== null && now.startTicks === stat.startTicks && now.state !== 'Z'
}

export function cpuTimeOf(tree: readonly ProcessStat[]): CpuTime {
  let user = 0
  let system = 0
  for (const stat of tree) {
    user += stat.userTicks
    system += stat.systemTicks
  }
  return { userMicros: user * tickMicros(), systemMicros: system * tickMicros() }
}

/** When a process began, in ms after boot, as exact as a tick (10 ms). */
export function startedAtMs(stat: ProcessStat): number {
  return stat.startTicks * tickMicros() / 1000
}

/** The first number of /proc/uptime: ms since boot, as exact as the start times of processes. */
export function sinceBootMs(uptime: string): number {
  return Number(uptime.split(' ')[0]) * 1000
}

/** Memory of a process that is backed by no file, shared with nobody or not; 0 when it has ended. */
export function anonymousKiloBytes(pid: number): number {
  return parseKiloBytes(readProcFile(pid, 'smaps_rollup') ?? '', 'Anonymous') ?? 0
}

export interface MemoryUse {
  /** Proportional set size: pages that several processes share are divided among them. */
  readonly totalKiloBytes: number
  /**
   * The part of it that is no file. What a program file adds depends on who else runs the same file at that moment, which
   * the bench's own processes do; differences over time and between checkouts are therefore taken of this part.
   */
  readonly ownKiloBytes: number
}

/** Of all these processes together; the resident size stands for both where the kernel does not tell. */
export function memoryOf(pids: readonly number[]): MemoryUse {
  let totalKiloBytes = 0
  let ownKiloBytes = 0
  for (const pid of pids) {
    const use = parseMemory(readProcFile(pid, 'smaps_rollup') ?? '', readProcFile(pid, 'status') ?? '')
    totalKiloBytes += use.totalKiloBytes
    ownKiloBytes += use.ownKiloBytes
  }
  return { totalKiloBytes, ownKiloBytes }
}

/** @param rollup of /proc/PID/smaps_rollup, `status` of /proc/PID/status; empty when the process has ended. */
export function parseMemory(rollup: string, status: string): MemoryUse {
  const resident = parseKiloBytes(status, 'VmRSS') ?? 0
  const anonymous = parseKiloBytes(rollup, 'Pss_Anon')
  const shared = parseKiloBytes(rollup, 'Pss_Shmem') ?? 0
  const totalKiloBytes = parseKiloBytes(rollup, 'Pss') ?? resident
  return { totalKiloBytes, ownKiloBytes: anonymous === null ? totalKiloBytes : anonymous + shared }
}
