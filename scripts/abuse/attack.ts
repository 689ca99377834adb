/**
 * What an attack is. Its `strike` runs in a process of its own (strike.ts), so that it cannot slow down those who watch;
 * it may do what any client, origin, local user or broken application can do, and says what it saw that must not be.
 */
export interface Target {
  /** Where the attacked instance listens, and a second listener whose filter refuses everybody without saying so in time. */
  readonly port: number
  readonly filteredPort: number
  readonly originPort: number
  /** What victims are answered by; not for attacks. */
  readonly victimOriginPort: number
  readonly adminPort: number
  readonly stateDir: string
  readonly folder: string
  readonly workerPids: readonly number[]
  /** How long to go on. */
  readonly seconds: number
}

export interface Strike {
  /** In a few words, with numbers: `150 requests a second, 15,000 names each`. */
  readonly done: string
  /** What it saw that must not be. */
  readonly faults: readonly string[]
}

/** What a victim and an instance may suffer at most. */
export interface Bounds {
  /** Victims' times relative to those of the undisturbed instance; Infinity where they are looked at by `longestMs`. */
  readonly times: number
  /** Longest wait of a victim that was served in the end. */
  readonly longestMs: number
  /** Victims that got no right answer. */
  readonly unserved: number
  readonly workersEnded: number
  /** Descriptors and clients' connections that are left afterwards. */
  readonly descriptorsLeft: number
  readonly connectionsLeft: number
  /** Resident memory that is no file, of the largest worker and of all processes together, in MB. */
  readonly workerMB: number
  readonly allMB: number
  /** Of the largest worker when all is over, beyond what it had before, in MB; Infinity where the attack is about something else. */
  readonly growthMB: number
  /** Connections that were open at once; Infinity where nothing limits them. */
  readonly connections: number
  /** Error lines a second in the process log: repeated ones come once a second for each kind and worker. */
  readonly errorLinesPerSecond: number
}

export const USUAL_BOUNDS: Bounds = {
  times: 2, longestMs: 5000, unserved: 0, workersEnded: 0, descriptorsLeft: 16, connectionsLeft: 0,
  workerMB: 512, allMB: 1200, growthMB: Number.POSITIVE_INFINITY, connections: Number.POSITIVE_INFINITY, errorLinesPerSecond: 10,
}

export interface Attack {
  readonly name: string
  readonly title: string
  /** Configuration of both instances, as environment. */
  readonly env?: Readonly<Record<string, string>>
  /** `ulimit -n` of the instances. */
  readonly descriptors?: number
  /** Memory of the attacked instance as a whole, where the machine can hold it to that (cgroup v2). */
  readonly memoryMB?: number
  readonly bounds?: Partial<Bounds>
  /** Least length, in seconds: what is looked for takes that long to show. */
  readonly secondsMin?: number
  strike(target: Target): Promise<Strike>
}
