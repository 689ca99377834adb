/**
 * Addresses to listen on, as people write them: `host:port`, `[v6]:port`, `:port` (both families), `unix:/path?mode=660`.
 */
import { isIPv6 } from 'node:net'
import { OptionError } from '../primitives/option-table.ts'
import type { DescribedAddress } from './server-description.ts'

/** Who may dial a Unix path when nothing is said: the owner and the group. */
export const DEFAULT_UNIX_MODE = 0o660

/** sun_path less its final NUL. */
const MAX_UNIX_PATH_BYTES = 107

const FORMS = "use 'host:port', '[v6]:port', ':port' or 'unix:/path?mode=660'"

/**
 * One address, or two for `:port`: 0.0.0.0, and :: for IPv6 alone.
 * @param path where the text stands, for the message.
 * @throws OptionError
 */
export function parseListenAddress(text: string, path = 'address'): readonly DescribedAddress[] {
  if (typeof text !== 'string') throw OptionError.of(path, text, FORMS)
  if (text.startsWith('unix:')) return [parseUnix(text, path)]
  const match = /^(?:\[([^\]]*)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text)
  if (match === null) throw OptionError.of(path, text, FORMS)
  const port = Number(match[3])
  if (port > 65_535) throw OptionError.of(path, text, 'use a port from 0 to 65535')
  if (match[1] !== undefined) {
    if (!isIPv6(match[1])) throw OptionError.of(path, text, 'put an IPv6 address between the brackets')
    return [{ kind: 'tcp', host: match[1], port, ipv6Only: false }]
  }
  const host = match[2]!
  if (host !== '') return [{ kind: 'tcp', host, port, ipv6Only: false }]
  return [{ kind: 'tcp', host: '0.0.0.0', port, ipv6Only: false }, { kind: 'tcp', host: '::', port, ipv6Only: true }]
}

function parseUnix(text: string, path: string): DescribedAddress {
  const [file = '', query = ''] = text.slice('unix:'.length).split('?', 2)
  if (!file.startsWith('/')) throw OptionError.of(path, text, "use an absolute path: 'unix:/run/app.sock'")
  if (Buffer.byteLength(file) > MAX_UNIX_PATH_BYTES) {
    throw OptionError.of(path, text, `use a path of at most ${MAX_UNIX_PATH_BYTES} bytes; no Unix socket can have a longer one`)
  }
  const mode = /^mode=([0-7]{3,4})$/.exec(query)
  if (query !== '' && mode === null) throw OptionError.of(path, text, "write the mode in octal: '?mode=660'")
  return { kind: 'unix', path: file, mode: mode === null ? DEFAULT_UNIX_MODE : Number.parseInt(mode[1]!, 8) }
}
