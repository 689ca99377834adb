/** What a supervisor says to its service manager in one datagram (sd_notify): `NAME=value` lines. */
export function reportedFields(payload: Buffer): Record<string, string> {
  return Object.fromEntries(payload.toString().split('\n').map(line => {
    const equals = line.indexOf('=')
    return [line.slice(0, equals), line.slice(equals + 1)]
  }))
}
