/**
 * System programs that tests may ask for, and the Debian package of each that .ci/run installs (null: none does).
 * A test that needs a missing one skips with the line that the runner prints; on CI such a skip is a failure.
 */
import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'

export const PROGRAMS = {
  'nginx': { debian: 'nginx-light' },
  'haproxy': { debian: 'haproxy' },
  'caddy': { debian: 'caddy' },
  'wrk': { debian: 'wrk' },
  'curl': { debian: 'curl' },
  'git': { debian: 'git' },
  'python3': { debian: 'python3' },
  'openssl': { debian: 'openssl' },
  'bash': { debian: 'bash' },
  'zsh': { debian: 'zsh' },
  'fish': { debian: 'fish' },
  'h2load': { debian: 'nghttp2-client' },
  'nghttp': { debian: 'nghttp2-client' },
  'nghttpd': { debian: 'nghttp2-server' },
  'prometheus': { debian: 'prometheus' },
  'promtool': { debian: 'prometheus' },
  'h2spec': { debian: null },
} as const satisfies Readonly<Record<string, { readonly debian: string | null }>>

export type Program = keyof typeof PROGRAMS

/** Where daemons of Debian lie, which are not in everybody's PATH. */
const EXTRA_FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/sbin']

/** Full path of the program, or null when it is not installed. */
export function findProgram(name: Program): string | null {
  for (const folder of [...(process.env['PATH'] ?? '').split(path.delimiter), ...EXTRA_FOLDERS]) {
    const candidate = path.join(folder, name)
    try {
      accessSync(candidate, constants.X_OK)
      if (statSync(candidate).isFile()) return candidate
    } catch {
      // Not in this folder.
    }
  }
  return null
}

export function missingLine(name: Program): string { return `${name}: not installed` }

/**
 * Full path of the program; null after the test was marked as skipped, whereupon it should return:
 * `const nginx = requireProgram(t, 'nginx'); if (nginx === null) return`.
 */
export function requireProgram(t: TestContext, name: Program): string | null {
  const found = findProgram(name)
  if (found === null) t.skip(missingLine(name))
  return found
}
