/**
 * What is right and what is not in what the edge has counted. Pure.
 * Lines of the access log say which version of HTTP a request came in; metrics, how many connections there were.
 */
import type { LoggedRequest, Seen } from './counted-edge.ts'

export type Check = 'get' | 'post' | 'together' | 'download' | 'hints' | 'trailers'
export const CHECKS: readonly Check[] = ['get', 'post', 'together', 'download', 'hints', 'trailers']

/** Requests that are open at once. */
export const MANY = 50
export const POST_BODY = 'cirque '.repeat(20_000)
export const DOWNLOAD_BYTES = 5_000_000

/** What is asked of the origin of the clients. */
export const TARGETS: Readonly<Record<Check, string>> = {
  get: '/', post: '/echo', together: '/together', download: `/download?bytes=${DOWNLOAD_BYTES}`, hints: '/hints', trailers: '/trailers',
}

/** Requests that a check takes. */
export function requestsOf(check: string): number { return check === 'together' ? MANY : 1 }

/** What is wrong with requests that came by a client of HTTP/2; '': nothing. */
export function faultOfClient(check: Check, secure: boolean, { requests, connections }: Seen): string {
  const asked = requests.filter(({ path }) => path === pathOf(TARGETS[check]))
  return faultOfRequests(requests, 'HTTP/2', secure) || faultOfCount(asked, requestsOf(check))
    || (check === 'post' ? faultOfBytes(asked, 'bytes_in', POST_BODY.length) || faultOfBytes(asked, 'bytes_out', POST_BODY.length) : '')
    || (check === 'download' ? faultOfBytes(asked, 'bytes_out', DOWNLOAD_BYTES) : '')
    || (connections === 1 ? '' : `${connections} connections instead of 1`)
}

export type OriginCheck = 'get' | 'post' | 'together' | 'download'
export const ORIGIN_CHECKS: readonly OriginCheck[] = ['get', 'post', 'together', 'download']
export type Version = 'HTTP/1.1' | 'HTTP/2'
/**
 * Of each file that is asked for at once: more than the window of a stream that is not read (65_535), so that it stays open; all of them
 * together many times the window of the connection to the origin (4 MiB), which those that are not read must not keep.
 */
export const PIECE_BYTES = 1_000_000
/** Connections to an origin that are few, for as many requests at once as there are. */
const FEW = 2

export interface OriginRun {
  readonly check: OriginCheck
  /** Of the clients in front. */
  readonly version: Version
  readonly secure: boolean
  /** Whether the body of a request came back, or its length in its place. */
  readonly echoes: boolean
}

/** What is wrong with requests to an origin of HTTP/2; '': nothing. */
export function faultOfOrigin({ check, version, secure, echoes }: OriginRun, { requests, connections, dials }: Seen): string {
  const refused = requests.find(({ up_status: status }) => status !== 200)
  // A client of HTTP/1.1 has made a connection for each before one of them was done with; of HTTP/2 the log says how many were open.
  const atOnce = version === 'HTTP/1.1' ? connections : mostAtOnce(requests)
  return faultOfRequests(requests, version, secure) || faultOfCount(requests, requestsOf(check))
    || (refused === undefined ? '' : `the origin answered with ${refused.up_status ?? 'nothing'}`)
    || (check === 'post' ? faultOfBytes(requests, 'bytes_in', POST_BODY.length) : '')
    || (check === 'post' && echoes ? faultOfBytes(requests, 'bytes_out', POST_BODY.length) : '')
    || (check === 'download' ? faultOfBytes(requests, 'bytes_out', DOWNLOAD_BYTES) : '')
    || (check === 'together' ? faultOfBytes(requests, 'bytes_out', PIECE_BYTES) : '')
    || (dials <= FEW ? '' : `${dials} connections to the origin`)
    || (check === 'together' && atOnce < MANY ? `${atOnce} at once instead of ${MANY}` : '')
}

/** How many of them were open at one moment, at most. */
export function mostAtOnce(requests: readonly LoggedRequest[]): number {
  const moments = requests.flatMap(({ ts, dur_ms: ms }) => [{ at: Date.parse(ts), by: 1 }, { at: Date.parse(ts) + ms, by: -1 }])
  // One that ends when another begins is not open together with it.
  moments.sort((one, other) => one.at - other.at || one.by - other.by)
  let open = 0, most = 0
  for (const { by } of moments) most = Math.max(most, open += by)
  return most
}

function pathOf(target: string): string { return target.split('?')[0]! }

/** Of all that came, also what a check did not ask for. */
function faultOfRequests(requests: readonly LoggedRequest[], version: Version, secure: boolean): string {
  const other = requests.filter(({ proto }) => proto !== version)
  if (other.length > 0) return `${other.length} of ${requests.length} requests came in ${other[0]!.proto}`
  const alpn = version === 'HTTP/2' ? 'h2' : 'http/1.1'
  const unagreed = secure ? requests.find(line => line.alpn !== undefined && line.alpn !== alpn) : undefined
  if (unagreed !== undefined) return `the handshake settled on ${unagreed.alpn}`
  const failed = requests.find(({ flag, status }) => flag !== '-' || status >= 300)
  return failed === undefined ? '' : `${failed.path}: status ${failed.status}, flag ${failed.flag} ${failed.err ?? ''}`
}

function faultOfCount(requests: readonly LoggedRequest[], wanted: number): string {
  return requests.length === wanted ? '' : `${requests.length} requests instead of ${wanted}`
}

function faultOfBytes(requests: readonly LoggedRequest[], field: 'bytes_in' | 'bytes_out', wanted: number): string {
  const wrong = requests.find(line => line[field] !== wanted)
  return wrong === undefined ? '' : `${field} is ${wrong[field] ?? 0} instead of ${wanted}`
}

/** Pictures of the page for browsers. */
export const PARTS = 200
/** Of its form: several times what the buffers of sockets take at once, or a browser would have sent it all before it could tell. */
export const FORM_BYTES = 40_000_000

export const PAGE_CHECKS = ['get', 'post', 'together', 'download', 'hints', 'parts', 'webSocket', 'upload'] as const
export type PageCheck = (typeof PAGE_CHECKS)[number]
/** What the page says came of each; it begins with `ok` when all is well. */
export type PageReport = Readonly<Partial<Record<PageCheck, string>>>

/** What is wrong with a check of the page. All that it has asked for is judged with each: it had one connection. */
export function faultOfPage(check: PageCheck, report: PageReport, { requests, connections }: Seen): string {
  const said = report[check] ?? 'nothing was said'
  if (!said.startsWith('ok')) return said
  const of = (path: string): LoggedRequest[] => requests.filter(line => line.path === path)
  return faultOfRequests(requests.filter(({ path }) => path !== '/ws'), 'HTTP/2', true) || faultOfPageLines(check, of)
    || (connections === 1 ? '' : `${connections} connections instead of 1`)
}

function faultOfPageLines(check: PageCheck, of: (path: string) => LoggedRequest[]): string {
  switch (check) {
    case 'get': return faultOfCount(of('/'), 1)
    case 'post': return faultOfCount(of('/echo'), 1) || faultOfBytes(of('/echo'), 'bytes_in', POST_BODY.length)
    case 'together': return faultOfCount(of('/together'), MANY)
    case 'download': return faultOfCount(of('/download'), 1) || faultOfBytes(of('/download'), 'bytes_out', DOWNLOAD_BYTES)
    case 'hints': return faultOfCount(of('/browser'), 1)
    case 'parts': return faultOfCount(of('/part'), PARTS)
    case 'upload': return faultOfCount(of('/slow-upload'), 1) || faultOfBytes(of('/slow-upload'), 'bytes_in', FORM_BYTES)
    case 'webSocket': {
      const [socket, ...more] = of('/ws')
      if (socket === undefined || more.length > 0) return `${of('/ws').length} requests instead of 1`
      // A stream of the connection (RFC 8441), and not a connection of its own; the log has the status that its origin gave.
      if (socket.proto !== 'HTTP/2' || socket.alpn !== 'h2') return `the WebSocket came in ${socket.proto}`
      return socket.status === 101 && socket.flag === '-' ? '' : `/ws: status ${socket.status}, flag ${socket.flag}`
    }
  }
}
