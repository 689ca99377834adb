/**
 * First import of every entry point: ends the process with one clear line when Node.js is older than we need.
 *
 * It must itself load anywhere: no imports, nothing newer than ES2020. Built JavaScript is read by old versions, and
 * there every module is linked before the first one runs, so files of ours take built-ins that an old version lacks
 * from the default import (`net.BoundSocket`), never by name. TypeScript source needs a Node.js that strips types;
 * what an older one says about it is its own (bin/cirque and the npm scripts always use the pinned one).
 * It ends the process instead of throwing: an uncaught error would bury the line in a stack trace.
 */

const OLDEST_MAJOR = 26
const OLDEST_MINOR = 9

/** What is wrong with a version such as `20.20.2`, and what to do; null when it is new enough. */
export function runtimeFault(version: string, executable: string): string | null {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > OLDEST_MAJOR || (major === OLDEST_MAJOR && minor >= OLDEST_MINOR)) return null
  const found = `needs Node.js ${OLDEST_MAJOR}.${OLDEST_MINOR} or newer, found v${version} at ${executable}`
  return `cirque: ${found}; install a newer one, or name one in CIRQUE_NODE and start bin/cirque`
}

const fault = runtimeFault(process.versions.node, process.execPath)
if (fault !== null) {
  process.stderr.write(`${fault}\n`)
  process.exit(2)
}
