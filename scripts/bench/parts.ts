/**
 * `npm run bench -- --parts`: nanoseconds of single parts that every request goes through. All parts run in one process,
 * so that each has been seen by the compiler with the inputs of the others, as it is in a worker. Rounds are interleaved.
 */
import { FORWARDED_FIELDS, HOP_BY_HOP } from '../../src/http/hop-by-hop.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead } from '../../src/http/message-head.ts'
import { Router } from '../../src/kit/router.ts'
import { LoadBalancer, type SelectionName } from '../../src/load-balancing/load-balancer.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { ConnectionPool, PoolWaiter } from '../../src/pool/connection-pool.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { HeadParser, Parsed, type HeadRole } from '../../src/protocols/http1/parser.ts'
import { HTTP1_SERVER_DEFAULTS } from '../../src/protocols/http1/http1-options.ts'
import type { BenchOptions } from './options.ts'
import { alignedTable } from './aligned-table.ts'
import { median } from './statistics.ts'

interface Part {
  readonly name: string
  /** Does it `times` times. @returns something that depends on the work, so that it cannot be left out. */
  run(times: number): number
}

const ROUND_MS = 40
const WARM_UP_ROUNDS = 5

const SMALL_REQUEST = 'GET /80 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n'
const BROWSER_REQUEST = [
  'GET /articles/2026/11/how-a-byte-moves?from=front-page HTTP/1.1', 'Host: www.example.org', 'Connection: keep-alive',
  'sec-ch-ua-platform: "Linux"',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36',
  'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8', 'Sec-Fetch-Site: same-origin',
  'Sec-Fetch-Mode: navigate', 'Referer: https://www.example.org/', 'Accept-Encoding: gzip, deflate, br, zstd',
  'Accept-Language: en-GB,en;q=0.9', 'Cookie: session=0123456789abcdef0123456789abcdef; theme=dark', '', '',
].join('\r\n')
const RESPONSE = [
  'HTTP/1.1 200 OK', 'Server: nginx', 'Date: Sat, 21 Nov 2026 11:00:00 GMT', 'Content-Type: text/html; charset=utf-8',
  'Content-Length: 80', 'Connection: keep-alive', 'Cache-Control: max-age=60', 'Vary: Accept-Encoding', '', '',
].join('\r\n')

function parserPart(name: string, role: HeadRole, text: string): Part {
  const bytes = Buffer.from(text, 'latin1')
  const parser = new HeadParser(role, HTTP1_SERVER_DEFAULTS)
  return {
    name: `parser: ${name} (${bytes.length} B)`,
    run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) {
        parser.reset()
        if (parser.parse(bytes, 0, bytes.length) !== Parsed.Done) throw new Error(`${name} is not a whole head`)
        sum += (role === 'request' ? parser.takeRequest() : parser.takeResponse()).headers.size
      }
      return sum
    },
  }
}

function requestHead(text: string): RequestHead {
  const bytes = Buffer.from(text, 'latin1')
  const parser = new HeadParser('request', HTTP1_SERVER_DEFAULTS)
  parser.parse(bytes, 0, bytes.length)
  return parser.takeRequest()
}

function headerPart(name: string, once: (headers: HeaderMap) => number): Part {
  const { headers } = requestHead(BROWSER_REQUEST)
  return {
    name: `header map: ${name}`,
    run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) sum += once(headers)
      return sum
    },
  }
}

/** As much of a connection as the pool touches. */
class PooledConnection {
  reuseKey: string
  readonly shared = false
  readonly capacity = 1
  readonly active = 0
  originIdleMs = 0
  keeper = null
  poolNewer: UpstreamConnection | null = null
  poolOlder: UpstreamConnection | null = null
  poolKeyNewer: UpstreamConnection | null = null
  poolKeyOlder: UpstreamConnection | null = null
  poolLent = 0
  constructor(reuseKey: string) { this.reuseKey = reuseKey }
  park(): void {}
  unpark(): boolean { return true }
  close(): void {}
}

class GrantedWaiter extends PoolWaiter {
  onPlace(): void {}
  onHandedOver(): void {}
  onWaitFailed(): void {}
}

function poolPart(keys: number, idlePerKey: number): Part {
  const pool = new ConnectionPool(new Ticker(), { maxIdlePerKey: idlePerKey, maxIdleConnections: keys * idlePerKey })
  const peers = Array.from({ length: keys }, (_, at) => new HttpPeer(`10.0.${at >> 8}.${at & 255}:80`))
  for (const peer of peers) {
    for (let i = 0; i < idlePerKey; i++) {
      const connection = new PooledConnection(peer.reuseKey) as unknown as UpstreamConnection // Only the fields above are used.
      pool.admit(new GrantedWaiter(peer, pool))
      pool.lend(connection)
      pool.release(connection, peer)
    }
  }
  return {
    name: `pool: take and release, ${keys} peer${keys === 1 ? '' : 's'} x ${idlePerKey} idle`,
    run(times) {
      for (let i = 0; i < times; i++) {
        const peer = peers[i % keys]
        if (peer === undefined) break
        const connection = pool.take(peer.reuseKey)
        if (connection !== null) pool.release(connection, peer)
      }
      return pool.idle
    },
  }
}

function selectionPart(selection: SelectionName): Part {
  const backends = Array.from({ length: 16 }, (_, at) => `10.1.0.${at + 1}:80`)
  const balancer = LoadBalancer.from(backends, { selection })
  const clients = Array.from({ length: 256 }, (_, at) => `203.0.113.${at}`)
  return {
    name: `selection: ${selection}, 16 backends`,
    run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) sum += balancer.select(clients[i & 255]).name.length
      return sum
    },
  }
}

/** Sites of one path each, as a flat list has them; the one that is asked for stands in the middle. */
function routeNames(count: number): string[] { return Array.from({ length: count }, (_, at) => `/site-${at}`) }

function routerPart(kind: 'exact' | 'prefix' | 'parameter', count: number): Part {
  const tail = { exact: '', prefix: '/*', parameter: '/:id' }[kind], asked = { exact: '', prefix: '/a/b', parameter: '/7' }[kind]
  const router = new Router<number>()
  for (const [at, name] of routeNames(count).entries()) router.add(name + tail, at)
  const request = new RequestHead('GET', `/site-${count >> 1}${asked}`, '1.1', new HeaderMap())
  return {
    name: `router: ${kind}, ${count} routes`,
    run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) if (router.match(request).found) sum++
      return sum
    },
  }
}

/** What an application would write without a router, to compare with. */
function listPart(kind: 'startsWith' | 'URLPattern', count: number): Part {
  const target = `/site-${count >> 1}/a/b`, url = { pathname: target }
  const list = routeNames(count).map((name): ((path: string) => boolean) => {
    const pattern = kind === 'URLPattern' ? new URLPattern({ pathname: `${name}/*` }) : null
    return pattern === null ? path => path.startsWith(`${name}/`) : () => pattern.test(url)
  })
  return {
    name: `a list of ${kind}, ${count} routes`,
    run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) sum += list.findIndex(fits => fits(target))
      return sum
    },
  }
}

function allParts(): Part[] {
  return [
    parserPart('small request', 'request', SMALL_REQUEST),
    parserPart('browser request', 'request', BROWSER_REQUEST),
    parserPart('response', 'response', RESPONSE),
    headerPart('get the last of 11', (headers) => headers.get('cookie')?.length ?? 0),
    headerPart('serialize without hop-by-hop', (headers) => headers.serialize(HOP_BY_HOP | FORWARDED_FIELDS, null).length),
    headerPart('clone, set, serialize', (headers) => headers.clone().set('host', 'origin.example.net').serialize(HOP_BY_HOP, null).length),
    poolPart(1, 64),
    poolPart(256, 4),
    selectionPart('round-robin'),
    selectionPart('random'),
    selectionPart('hash'),
    selectionPart('ketama'),
    selectionPart('least-in-flight'),
    ...(['exact', 'prefix', 'parameter'] as const).flatMap(kind => [10, 1000].map(count => routerPart(kind, count))),
    ...(['startsWith', 'URLPattern'] as const).flatMap(kind => [10, 1000].map(count => listPart(kind, count))),
  ]
}

/** Keeps results alive, so that no work can be optimized away. */
let sink = 0

function timePart(part: Part, times: number): number {
  const start = process.hrtime.bigint()
  sink += part.run(times)
  return Number(process.hrtime.bigint() - start) / times
}

/** As many times as fill one round. */
function timesFor(part: Part): number {
  let times = 1000
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    const nanos = timePart(part, times)
    times = Math.max(100, Math.round((ROUND_MS * 1e6) / nanos))
  }
  return times
}

export function runParts(options: BenchOptions): void {
  const parts = allParts().map((part) => ({ part, times: timesFor(part), nanos: [] as number[] }))
  const rounds = Math.max(9, options.rounds)
  for (let round = 0; round < rounds; round++) for (const entry of parts) entry.nanos.push(timePart(entry.part, entry.times))
  const rows = parts.map(({ part, nanos }) => {
    const figures = [median(nanos), Math.min(...nanos), Math.max(...nanos)]
    return [part.name, ...figures.map((figure) => figure.toFixed(0))]
  })
  console.log(alignedTable([['part', 'ns (median)', 'least', 'most'], ...rows]))
  if (Number.isNaN(sink)) throw new Error('a part returned no number')
}
