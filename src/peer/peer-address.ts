/**
 * Addresses of peers as text: `host:port`, `[v6]:port`, `unix:/path`. Reads and writes them; resolves nothing.
 *
 * Hosts are compared without case (RFC 4343), so they are kept in lower case. Names that a resolver might take for an
 * old-style IPv4 number (`0x7f.1`, `127.1`) are refused: they would go where no address filter looked.
 */
import { isIPv4, isIPv6 } from 'node:net'

/** An address that is dialled: a host, which may be a name, and a port; or the path of a Unix socket. */
export type PeerAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Longest path of a Unix socket, in bytes: sun_path less its NUL. */
export const MAX_UNIX_PATH_BYTES = 107
const FORMS = 'use host:port, [v6]:port or unix:/path'
const BRACKETS = 'write an IPv6 address in brackets, as in [::1]:8080'

/** @throws TypeError that says what would do. */
export function parseAddress(text: string): PeerAddress {
  if (typeof text !== 'string') throw new TypeError(`address is ${String(text)}; ${FORMS}`)
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(text)) throw new TypeError(`address ${JSON.stringify(text)} is a URL; ${FORMS}`)
  if (text.startsWith('unix:')) return checkAddress({ kind: 'unix', path: text.slice(5) })
  const colon = text.lastIndexOf(':')
  if (colon === -1) throw new TypeError(`address ${JSON.stringify(text)} has no port; ${FORMS}`)
  const port = readPort(text, colon + 1)
  if (text.charCodeAt(0) === 0x5b) {
    if (text.charCodeAt(colon - 1) !== 0x5d) throw new TypeError(`address ${JSON.stringify(text)} has no ] before its port; ${FORMS}`)
    const host = text.slice(1, colon - 1)
    if (!isIPv6(host)) throw new TypeError(`address ${JSON.stringify(text)} has no IPv6 address in its brackets; ${FORMS}`)
    return { kind: 'tcp', host: lowerHost(host), port }
  }
  const host = text.slice(0, colon)
  if (host.includes(':')) {
    throw new TypeError(`address ${JSON.stringify(text)} has a colon in its host; ${BRACKETS}`)
  }
  return checkAddress({ kind: 'tcp', host, port })
}

/** The address with its host in lower case. @throws TypeError when it could not be dialled. */
export function checkAddress(address: PeerAddress): PeerAddress {
  if (typeof address !== 'object' || address === null) throw new TypeError(`address is ${String(address)}; ${FORMS}`)
  if (address.kind === 'unix') {
    const path = address.path
    if (typeof path !== 'string' || path.charCodeAt(0) !== 0x2f || path.includes('\0')) {
      throw new TypeError(`address has the path ${JSON.stringify(path)}; use an absolute path, as in unix:/run/app.sock`)
    }
    if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
      const fault = `is longer than ${MAX_UNIX_PATH_BYTES} bytes, which is what a Unix socket can have`
      throw new TypeError(`address ${JSON.stringify(`unix:${path}`)} ${fault}; use a shorter path`)
    }
    return { kind: 'unix', path }
  }
  if (address.kind !== 'tcp') throw new TypeError(`address is ${JSON.stringify(address)}; ${FORMS}`)
  const { host, port } = address
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new TypeError(`address has the port ${String(port)}; use a number from 1 to 65535`)
  }
  if (typeof host !== 'string') throw new TypeError(`address has the host ${String(host)}; use a name or an IP address`)
  if (!isIPv4(host) && !isIPv6(host)) checkHostName(host)
  return { kind: 'tcp', host: lowerHost(host), port }
}

/** Names and addresses have no case, names of interfaces behind a `%` have one (RFC 4007 11.2). */
function lowerHost(host: string): string {
  const zone = host.indexOf('%')
  return zone === -1 ? host.toLowerCase() : host.slice(0, zone).toLowerCase() + host.slice(zone)
}

/** `host:port`, `[v6]:port` or `unix:/path`. */
export function formatAddress(address: PeerAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** @throws TypeError on what is no host name: letters, digits, `-`, `_` in labels of 1 to 63, 253 in all; one dot may end it. */
export function checkHostName(host: string): void {
  const name = host.endsWith('.') ? host.slice(0, -1) : host
  if (name === '' || name.length > 253) throw new TypeError(`host ${JSON.stringify(host)} is not a name of 1 to 253 characters; ${FORMS}`)
  let label = 0
  let numeric = true
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if (code === 0x2e) {
      if (label === 0) throw new TypeError(`host ${JSON.stringify(host)} has an empty label; ${FORMS}`)
      label = 0
      numeric = true
      continue
    }
    const digit = code >= 0x30 && code <= 0x39
    if (!digit) {
      numeric = false
      const letter = (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a)
      if (!letter && code !== 0x2d && code !== 0x5f) {
        if (code === 0x3a) throw new TypeError(`host ${JSON.stringify(host)} has a colon; ${BRACKETS}`)
        if (code > 0x7f) throw new TypeError(`host ${JSON.stringify(host)} is not ASCII; use its xn-- form`)
        throw new TypeError(`host ${JSON.stringify(host)} has the character ${JSON.stringify(name[i])}; ${FORMS}`)
      }
    }
    if (++label > 63) throw new TypeError(`host ${JSON.stringify(host)} has a label longer than 63 characters; ${FORMS}`)
  }
  if (label === 0) throw new TypeError(`host ${JSON.stringify(host)} has an empty label; ${FORMS}`)
  const last = name.slice(-label).toLowerCase()
  if (numeric || isHexNumber(last)) {
    throw new TypeError(`host ${JSON.stringify(host)} ends in a number but is no IP address; write all four parts in decimal`)
  }
}

function isHexNumber(label: string): boolean {
  if (!label.startsWith('0x')) return false
  for (let i = 2; i < label.length; i++) {
    const code = label.charCodeAt(i)
    if (!((code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66))) return false
  }
  return true
}

function readPort(text: string, from: number): number {
  let port = 0
  for (let i = from; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9 || i - from > 4) return badPort(text)
    port = port * 10 + digit
  }
  return port >= 1 && port <= 65_535 ? port : badPort(text)
}

function badPort(text: string): never {
  throw new TypeError(`address ${JSON.stringify(text)} has no port from 1 to 65535 behind its last colon; ${FORMS}`)
}
