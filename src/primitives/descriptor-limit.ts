/**
 * How many descriptors (files, sockets) the system lets this process have open: the soft limit of RLIMIT_NOFILE, which
 * Node.js has raised to the hard one at its start. Asked once, at the start: it opens a file itself.
 */
import fs from 'node:fs'

/** Where Linux says it; other systems have no such file. */
const LIMITS_FILE = '/proc/self/limits'

/** Infinity: no limit. 0: the system did not say. @param file for tests */
export function descriptorLimit(file: string = LIMITS_FILE): number {
  return limitOf(() => /^Max open files\s+(\S+)/m.exec(fs.readFileSync(file, 'latin1'))?.[1])
    || limitOf(() => (process.report.getReport() as Report).userLimits?.open_files?.soft)
}

/** As much of a diagnostic report as is read here. It takes some 10 ms to make, and works without /proc. */
interface Report { readonly userLimits?: { readonly open_files?: { readonly soft?: number | string } } }

function limitOf(read: () => number | string | undefined): number {
  try {
    const said = read()
    return said === 'unlimited' ? Number.POSITIVE_INFINITY : Number(said) || 0
  } catch {
    // There is no such file, or none can be opened any more.
    return 0
  }
}
