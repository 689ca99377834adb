/**
 * Where to listen, as people write it: `host:port`, `[v6]:port`, `:port` (both families), `unix:/path?mode=660`.
 */
/** Where a listener listens, as written by the user and canonical (decisions: `host:port`, `[v6]:port`, `:port`, `unix:/path?mode=660`). */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly ipv6Only: boolean }
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number }

const FORMS = `use host:port, [v6]:port, :port or unix:/path?mode=660`

/** One address, or two for `:port`. @throws TypeError that says what would do. */
export function parseListenAddress(text: string): ListenAddress[] {
  if (text.startsWith('unix:')) {
    const question = text.indexOf('?')
    const path = question === -1 ? text.slice(5) : text.slice(5, question)
    if (path === '') throw new TypeError(`address ${JSON.stringify(text)} has no path; ${FORMS}`)
    if (Buffer.byteLength(path) > 107) throw new TypeError(`address ${JSON.stringify(text)} has a path of more than 107 bytes, which no Unix socket can have`)
    let mode = 0o666
    if (question !== -1) {
      const found = /^mode=([0-7]{3,4})$/.exec(text.slice(question + 1))
      if (found === null) throw new TypeError(`address ${JSON.stringify(text)} has something else than ?mode=NNN (octal) behind its path`)
      mode = parseInt(found[1]!, 8)
    }
    return [{ kind: 'unix', path, mode }]
  }
  const found = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)
  if (found === null || Number(found[3]) > 65_535) throw new TypeError(`address ${JSON.stringify(text)} is not understood; ${FORMS}`)
  const port = Number(found[3])
  if (found[1] !== undefined) return [{ kind: 'tcp', host: found[1], port, ipv6Only: false }]
  if (found[2] === '') return [{ kind: 'tcp', host: '0.0.0.0', port, ipv6Only: false }, { kind: 'tcp', host: '::', port, ipv6Only: true }]
  return [{ kind: 'tcp', host: found[2]!, port, ipv6Only: false }]
}
