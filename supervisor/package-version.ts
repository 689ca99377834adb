/** The version of the package that this file belongs to, source or built. */
import fs from 'node:fs'

/** @returns 'unknown' when no package.json of ours lies above. */
export function packageVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(fs.readFileSync(new URL(up, import.meta.url), 'utf8')) as { name?: string; version?: string }
      if (name === 'cirque' && version !== undefined) return version
    } catch { /* The other layout. */ }
  }
  return 'unknown'
}
