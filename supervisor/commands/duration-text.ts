/** Times as people read them. */

/** In whole seconds, at most two units. */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`
  return `${Math.floor(seconds / 3_600)}h${Math.floor(seconds % 3_600 / 60)}m`
}

/** How long something took: in tenths of a second as long as those tell it from nothing. */
export function elapsed(ms: number): string { return ms < 9_950 ? `${(ms / 1000).toFixed(1)}s` : duration(ms) }
