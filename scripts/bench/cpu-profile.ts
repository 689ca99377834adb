/** Reads a V8 CPU profile: self time by function. Pure. */

export interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[]
  readonly samples?: readonly number[]
  readonly timeDeltas?: readonly number[]
}

export interface FunctionTime {
  readonly name: string
  readonly where: string
  readonly selfMicros: number
  /** Of all time that was not idle. */
  readonly share: number
}

/** `(program)` is native code: mostly the kernel's part of reads and writes. `(idle)` is left out. */
export function hottestFunctions(profile: CpuProfile, count: number): FunctionTime[] {
  const byId = new Map(profile.nodes.map((node) => [node.id, node]))
  const times = new Map<string, { name: string; where: string; selfMicros: number }>()
  let busyMicros = 0
  for (const [at, id] of (profile.samples ?? []).entries()) {
    const frame = byId.get(id)?.callFrame
    // A delta is the time since the previous sample, so a sample's own time is the next delta.
    const micros = Math.max(0, profile.timeDeltas?.[at + 1] ?? 0)
    if (frame === undefined || frame.functionName === '(idle)') continue
    busyMicros += micros
    const where = frame.url === '' ? '' : `${shortUrl(frame.url)}:${frame.lineNumber + 1}`
    const name = frame.functionName === '' ? '(anonymous)' : frame.functionName
    const key = `${name} ${where}`
    const time = times.get(key)
    if (time === undefined) times.set(key, { name, where, selfMicros: micros })
    else time.selfMicros += micros
  }
  return [...times.values()]
    .toSorted((a, b) => b.selfMicros - a.selfMicros)
    .slice(0, count)
    .map((time) => ({ ...time, share: busyMicros === 0 ? 0 : time.selfMicros / busyMicros }))
}

/** From the checkout's folders on, or the last two parts. */
function shortUrl(url: string): string {
  const own = /\/((?:src|workers|supervisor|scripts|examples)\/.*)$/.exec(url)
  return own?.[1] ?? url.split('/').slice(-2).join('/')
}
