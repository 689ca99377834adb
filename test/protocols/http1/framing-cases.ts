/**
 * What HTTP/1 bytes mean, as a table of exact samples: requests that are refused, the nearest ones that pass and what
 * the origin must then receive, and the same for responses. Rules: RFC 9112, and the limits and threats of this proxy.
 * Strings are latin1: one character is one byte on the wire. CR and LF are always written out.
 *
 * The same rows are run against the sessions in memory at every split point (framing.test.ts), over sockets
 * (integration/http1-framing.test.ts), and are what the fuzzer starts from (integration/fuzz.serial.test.ts).
 */
import type { Http1ServerOptions } from '../../../src/protocols/http1/http1-options.ts'

export interface RefusedRequest {
  readonly title: string
  readonly bytes: string
  readonly status: number
  /**
   * `nothing`: refused before anything is dialled. `no whole request`: the fault is in the body, whose head may have
   * gone on; the origin must never see its end.
   */
  readonly originSees: 'nothing' | 'no whole request'
  readonly options: Http1ServerOptions
  /** Where the rule lives: 'session' rows are refused by the server session alone, without routing. */
  readonly by: 'session' | 'exchange'
}

export interface AcceptedRequest {
  readonly title: string
  readonly bytes: string
  readonly options: Http1ServerOptions
  /** What the origin must receive. */
  readonly origin: {
    readonly method: string
    readonly target: string
    readonly host: string
    readonly framing: 'none' | 'length' | 'chunked'
    readonly body: string
    readonly trailers: readonly (readonly [name: string, value: string])[]
    /** Fields that must be there with these values (repeated ones joined by `, `); null: must be absent. */
    readonly fields: Readonly<Record<string, string | null>>
  }
}

export interface OriginResponse {
  readonly title: string
  readonly bytes: string
  /** Method of the request that it answers. */
  readonly method: string
  /** Whether the origin ends the connection behind the bytes. */
  readonly ends: boolean
  /**
   * A status: a whole answer with it reaches the client. `cut`: whatever reaches the client is not a whole answer,
   * except for a 502 when the fault was found before the head went on.
   */
  readonly outcome: number | 'cut'
  /** For whole answers: the body that reaches the client. */
  readonly body: string
  /** Whether the connection to the origin may serve another request. */
  readonly reusable: boolean
}

// Samples are written from these two, so that a row shows only what it is about.

function request(startLine: string, ...lines: string[]): string { return [startLine, ...lines, '', ''].join('\r\n') }
const HOST = 'Host: a.example'
const get = (...lines: string[]): string => request('GET / HTTP/1.1', HOST, ...lines)
const post = (lines: string[], body: string): string => request('POST / HTTP/1.1', HOST, ...lines) + body
const chunked = (body: string): string => post(['Transfer-Encoding: chunked'], body)

/** Connection fields with `count` names in all, five a line, blanks and empty members between them. */
function crowdedConnection(count: number): string[] {
  const names = Array.from({ length: count }, (_, index) => `x-hop-${index}`), lines: string[] = []
  while (names.length > 0) lines.push(`Connection: ,${names.splice(0, 5).join(' ,, ')},`)
  return lines
}

type Row = [title: string, bytes: string]

function refused(status: number, rows: readonly Row[], more: Partial<RefusedRequest> = {}): RefusedRequest[] {
  return rows.map(([title, bytes]) => ({ title, bytes, status, originSees: 'nothing', options: {}, by: 'session', ...more }))
}

const transferEncodings: Row[] = [
  ['xchunked', 'Transfer-Encoding: xchunked'],
  ['chunkedx', 'Transfer-Encoding: chunkedx'],
  ['a comma behind it', 'Transfer-Encoding: chunked,'],
  ['a comma before it', 'Transfer-Encoding: ,chunked'],
  ['a vertical tab behind it', 'Transfer-Encoding: chunked\x0b'],
  ['a form feed before it', 'Transfer-Encoding: \x0cchunked'],
  ['quotes', 'Transfer-Encoding: "chunked"'],
  ['a parameter', 'Transfer-Encoding: chunked;q=1'],
  ['identity', 'Transfer-Encoding: identity'],
  ['nothing', 'Transfer-Encoding:'],
  ['chunked before gzip', 'Transfer-Encoding: chunked, gzip'],
  ['chunked twice', 'Transfer-Encoding: chunked, chunked'],
  ['identity before chunked', 'Transfer-Encoding: identity, chunked'],
  ['two lines of chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
  ['a line of identity behind it', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity'],
  ['a line of identity before it', 'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked'],
  ['a blank before the colon', 'Transfer-Encoding : chunked'],
  ['a blank before the name', ' Transfer-Encoding: chunked'],
  ['a tab in the name', 'Transfer\tEncoding: chunked'],
  ['a folded value', 'Transfer-Encoding:\r\n chunked'],
  ['a carriage return before it', 'Transfer-Encoding: \rchunked'],
  ['a high byte behind it', 'Transfer-Encoding: chunked\xa0'],
  ['NUL behind it', 'Transfer-Encoding: chunked\x00'],
]

const contentLengths: Row[] = [
  ['two different lines', 'Content-Length: 5\r\nContent-Length: 6'],
  ['two equal lines', 'Content-Length: 5\r\nContent-Length: 5'],
  ['a list of equal numbers', 'Content-Length: 5,5'],
  ['a list with a blank', 'Content-Length: 5, 5'],
  ['nothing', 'Content-Length:'],
  ['only blanks', 'Content-Length:   '],
  ['a plus sign', 'Content-Length: +5'],
  ['a minus sign', 'Content-Length: -5'],
  ['hexadecimal', 'Content-Length: 0x5'],
  ['a fraction', 'Content-Length: 5.0'],
  ['an exponent', 'Content-Length: 5e0'],
  ['an underscore', 'Content-Length: 1_0'],
  ['two numbers', 'Content-Length: 5 5'],
  ['a parameter', 'Content-Length: 5;'],
  ['quotes', 'Content-Length: "5"'],
  ['a high byte', 'Content-Length: 5\xb2'],
  ['more than 2^53 - 1', 'Content-Length: 9007199254740992'],
  ['twenty digits', 'Content-Length: 18446744073709551621'],
  ['a blank before the colon', 'Content-Length : 5'],
]

const fieldLines: Row[] = [
  ['a folded line (blank)', 'X-A: 1\r\n 2'],
  ['a folded line (tab)', 'X-A: 1\r\n\t2'],
  ['a line that only has blanks', 'X-A: 1\r\n  '],
  ['a bare LF as line end', 'X-A: 1\nX-B: 2'],
  ['a bare CR in a value', 'X-A: 1\r2'],
  ['a bare CR before the line end', 'X-A: 1\r\r\nX-B: 2'],
  ['a blank before the colon', 'X-A : 1'],
  ['a tab before the colon', 'X-A\t: 1'],
  ['an empty name', ': 1'],
  ['no colon', 'X-A'],
  ['a blank in a name', 'X A: 1'],
  ['a quote in a name', 'X"A: 1'],
  ['a slash in a name', 'X/A: 1'],
  ['a bracket in a name', 'X(A): 1'],
  ['a control in a name', 'X\x01A: 1'],
  ['NUL in a name', 'X\x00A: 1'],
  ['DEL in a name', 'X\x7fA: 1'],
  ['a high byte in a name', 'X\xe9A: 1'],
  ['the Kelvin sign in a name', 'Connection: close\r\nX-\xe2\x84\xaa: 1'],
  ['NUL in a value', 'X-A: 1\x002'],
  ['a control in a value', 'X-A: 1\x012'],
  ['ESC in a value', 'X-A: \x1b[31m'],
  ['DEL in a value', 'X-A: 1\x7f2'],
]

const hosts: Row[] = [
  ['none', 'X-A: 1'],
  ['two equal ones', 'Host: a.example\r\nHost: a.example'],
  ['two different ones', 'Host: a.example\r\nHost: b.example'],
  ['two, the first with a zone', 'Host: [fe80::1%25eth0]:8080\r\nHost: b.example'],
  ['an empty one', 'Host:'],
  ['a blank in it', 'Host: a b'],
  ['a path in it', 'Host: a.example/b'],
  ['a query in it', 'Host: a.example?b'],
  ['a fragment in it', 'Host: a.example#b'],
  ['user information', 'Host: user@a.example'],
  ['a scheme', 'Host: http://a.example'],
  ['a list', 'Host: a.example, b.example'],
  ['a backslash', 'Host: a.example\\b'],
  ['a port that is no number', 'Host: a.example:http'],
  ['a port above 65535', 'Host: a.example:65536'],
  ['two ports', 'Host: a.example:80:80'],
  ['an open bracket', 'Host: [::1'],
  ['a bare IPv6 address', 'Host: ::1'],
  ['a zone without an address', 'Host: [%25eth0]:8080'],
  ['a high byte', 'Host: \xe4.example'],
  ['a quote', 'Host: "a.example"'],
  ['an angle bracket', 'Host: <a.example>'],
]

const startLines: Row[] = [
  ['no version (HTTP/0.9)', 'GET /'],
  ['a method alone', 'GET'],
  ['two blanks before the target', 'GET  / HTTP/1.1'],
  ['two blanks before the version', 'GET /  HTTP/1.1'],
  ['a blank in front', ' GET / HTTP/1.1'],
  ['a blank behind', 'GET / HTTP/1.1 '],
  ['a tab between', 'GET\t/ HTTP/1.1'],
  ['a blank in the target', 'GET /a b HTTP/1.1'],
  ['a lower-case version', 'GET / http/1.1'],
  ['a short version', 'GET / HTTP/1'],
  ['two digits behind the dot', 'GET / HTTP/1.10'],
  ['two digits before the dot', 'GET / HTTP/01.1'],
  ['a comma for the dot', 'GET / HTTP/1,1'],
  ['another protocol', 'GET / ICY/1.1'],
  ['an empty method', ' / HTTP/1.1'],
  ['a bracket in the method', 'GE(T / HTTP/1.1'],
  ['a quote in the method', '"GET" / HTTP/1.1'],
  ['NUL in the method', 'G\x00T / HTTP/1.1'],
  ['NUL in the target', 'GET /\x00 HTTP/1.1'],
  ['a control in the target', 'GET /\x01 HTTP/1.1'],
  ['DEL in the target', 'GET /\x7f HTTP/1.1'],
  ['a high byte in the target', 'GET /\xe9 HTTP/1.1'],
  ['a bare CR in the target', 'GET /\ra HTTP/1.1'],
  ['a bare CR behind the version', 'GET / HTTP/1.1\r'],
]

const targets: Row[] = [
  ['no slash in front', 'GET a HTTP/1.1'],
  ['a query alone', 'GET ?a HTTP/1.1'],
  ['an asterisk for another method than OPTIONS', 'GET * HTTP/1.1'],
  ['a fragment', 'GET /a#b HTTP/1.1'],
  ['absolute-form without an authority', 'GET http:///a HTTP/1.1'],
  ['absolute-form with user information', 'GET http://user@a.example/ HTTP/1.1'],
  ['absolute-form with a scheme that is not served', 'GET ftp://a.example/ HTTP/1.1'],
  ['absolute-form with a backslash in the authority', 'GET http://a.example\\b/ HTTP/1.1'],
  ['authority-form for another method than CONNECT', 'GET a.example:80 HTTP/1.1'],
]

const paths: Row[] = [
  ['a backslash', 'GET /a\\b HTTP/1.1'],
  ['an encoded NUL', 'GET /a%00b HTTP/1.1'],
  ['a percent sign without two digits', 'GET /a%zz HTTP/1.1'],
  ['a percent sign at the end', 'GET /a% HTTP/1.1'],
  ['a dot segment with a backslash', 'GET /a/..\\b HTTP/1.1'],
]

const versions: Row[] = [
  ['0.9', 'GET / HTTP/0.9'],
  ['1.2', 'GET / HTTP/1.2'],
  ['2.0', 'GET / HTTP/2.0'],
  ['3.0', 'GET / HTTP/3.0'],
]

const chunkFaults: Row[] = [
  ['an empty size', '\r\nhello\r\n0\r\n\r\n'],
  ['a size with 0x', '0x5\r\nhello\r\n0\r\n\r\n'],
  ['a size that is no hexadecimal', 'g\r\nhello\r\n0\r\n\r\n'],
  ['a size of 17 digits', '00000000000000005\r\nhello\r\n0\r\n\r\n'],
  ['a size above 2^53 - 1', '20000000000000\r\nhello\r\n0\r\n\r\n'],
  ['a size of 16 f', 'ffffffffffffffff\r\nhello\r\n0\r\n\r\n'],
  ['a negative size', '-5\r\nhello\r\n0\r\n\r\n'],
  ['a size with a plus sign', '+5\r\nhello\r\n0\r\n\r\n'],
  ['a blank before the size', ' 5\r\nhello\r\n0\r\n\r\n'],
  ['a blank behind the size', '5 \r\nhello\r\n0\r\n\r\n'],
  ['a tab behind the size', '5\t\r\nhello\r\n0\r\n\r\n'],
  ['an underscore in the size', '0_5\r\nhello\r\n0\r\n\r\n'],
  ['NUL behind the size', '5\x00\r\nhello\r\n0\r\n\r\n'],
  ['a bare LF behind the size', '5\nhello\r\n0\r\n\r\n'],
  ['a bare CR behind the size', '5\rhello\r\n0\r\n\r\n'],
  ['two CR behind the size', '5\r\r\nhello\r\n0\r\n\r\n'],
  ['a bare LF in an extension', '5;a=b\nhello\r\n0\r\n\r\n'],
  ['a bare CR in an extension', '5;a=\rb\r\nhello\r\n0\r\n\r\n'],
  ['a bare LF as the whole extension', '5;\nxx\r\n0\r\n\r\n'],
  ['a quoted CRLF in an extension', '5;a="\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"\r\n0\r\n\r\n'],
  ['a quoted LF in an extension', '5;a="\n"\r\nhello\r\n0\r\n\r\n'],
  ['a control in an extension', '5;a=\x01\r\nhello\r\n0\r\n\r\n'],
  ['an extension beyond the limit', `5;${'a'.repeat(300)}\r\nhello\r\n0\r\n\r\n`],
  ['zeros beyond the limit', `${'0'.repeat(300)}5\r\nhello\r\n0\r\n\r\n`],
  ['no line end behind the data', '5\r\nhello0\r\n\r\n'],
  ['more data than the size', '5\r\nhelloo\r\n0\r\n\r\n'],
  ['another byte for the CR behind the data', '5\r\nhelloX\n0\r\n\r\n'],
  ['another byte for the LF behind the data', '5\r\nhello\rX0\r\n\r\n'],
  ['another byte for the LF behind the size', '5\r\rhello\r\n0\r\n\r\n'],
  ['another byte for the last LF', '5\r\nhello\r\n0\r\n\rX'],
  ['a bare LF behind the data', '5\r\nhello\n0\r\n\r\n'],
  ['a bare CR behind the data', '5\r\nhello\r0\r\n\r\n'],
  ['a bare LF behind the last chunk', '5\r\nhello\r\n0\n\n'],
  ['a last chunk without its empty line', '5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n'],
  ['a bare LF in a trailer', '5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n'],
  ['a folded trailer', '5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n'],
  ['a blank before the colon of a trailer', '5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n'],
  ['NUL in a trailer', '5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n'],
  ['a trailer section beyond its bytes', `5\r\nhello\r\n0\r\nX-A: ${'a'.repeat(8192)}\r\n\r\n`],
  ['more trailers than allowed', `5\r\nhello\r\n0\r\n${'X-A: 1\r\n'.repeat(33)}\r\n`],
  ['framing far beyond the data', `${`1;${'a'.repeat(200)}\r\nx\r\n`.repeat(200)}0\r\n\r\n`],
]

export const REFUSED_REQUESTS: readonly RefusedRequest[] = [
  // Two ways to say how long the body is (RFC 9112 6.3): nobody may choose.
  ...refused(400, [
    ['Content-Length before Transfer-Encoding', post(['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['Transfer-Encoding before Content-Length', post(['Transfer-Encoding: chunked', 'Content-Length: 5'], '0\r\n\r\n')],
    ['both, with a length of 0', post(['Content-Length: 0', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['both, on GET', get('Content-Length: 5', 'Transfer-Encoding: chunked') + '0\r\n\r\n'],
    ['both, with a bad length', post(['Content-Length: x', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['both, far apart', post(['Content-Length: 5', 'X-A: 1', 'X-B: 2', 'transfer-ENCODING: chunked'], '0\r\n\r\n')],
    ['Transfer-Encoding in HTTP/1.0', request('POST / HTTP/1.0', HOST, 'Transfer-Encoding: chunked') + '0\r\n\r\n'],
    [
      'Transfer-Encoding in HTTP/1.0 with keep-alive',
      request('POST / HTTP/1.0', HOST, 'Connection: keep-alive', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
    ],
  ]),
  ...refused(400, transferEncodings.map(([title, line]): Row => [`Transfer-Encoding: ${title}`, post([line], '5\r\nhello\r\n0\r\n\r\n')])),
  ...refused(501, [['Transfer-Encoding: a coding that is not implemented', post(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n')]]),
  ...refused(400, contentLengths.map(([title, line]): Row => [`Content-Length: ${title}`, post([line], 'hello')])),
  ...refused(400, contentLengths.slice(0, 3).map(([title, line]): Row => [`Content-Length on GET: ${title}`, get(line) + 'hello'])),
  ...refused(413, [
    ['a Content-Length above the limit', post(['Content-Length: 11'], 'hello hello')],
    ['the largest Content-Length there is', post(['Content-Length: 9007199254740991'], '')],
  ], { options: { maxRequestBodyBytes: 10 } }),
  ...refused(413, [['a chunked body above the limit', chunked('6\r\nhello \r\n5\r\nhello\r\n0\r\n\r\n')]], {
    options: { maxRequestBodyBytes: 10 }, originSees: 'no whole request',
  }),

  ...refused(400, fieldLines.map(([title, line]): Row => [`field line: ${title}`, get(line)])),
  ...refused(400, [
    ['field line: the first one is folded', 'GET / HTTP/1.1\r\n Host: a.example\r\n\r\n'],
    ['a bare LF behind the start line', 'GET / HTTP/1.1\nHost: a.example\r\n\r\n'],
    ['a bare LF as the empty line', 'GET / HTTP/1.1\r\nHost: a.example\r\n\n'],
    ['bare LF everywhere', 'GET / HTTP/1.1\nHost: a.example\n\n'],
    ['a bare CR as the empty line', 'GET / HTTP/1.1\r\nHost: a.example\r\n\rGET'],
    ['another byte for the CR behind the version', 'GET / HTTP/1.1X\nHost: a.example\r\n\r\n'],
    ['another byte for the LF behind the version', 'GET / HTTP/1.1\rXHost: a.example\r\n\r\n'],
    ['another byte for the LF behind a field', 'GET / HTTP/1.1\r\nHost: a.example\rX\r\n\r\n'],
    ['another byte for the CR of the empty line', 'GET / HTTP/1.1\r\nHost: a.example\r\nX\n'],
    ['another byte for the LF of an empty line in front', '\rXGET / HTTP/1.1\r\nHost: a.example\r\n\r\n'],
    ['two empty lines in front', '\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n'],
    ['a bare LF in front', '\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n'],
    ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['a PROXY line on a listener that expects none', 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n'],
  ]),
  ...refused(400, hosts.map(([title, line]): Row => [`Host: ${title}`, request('GET / HTTP/1.1', line)])),
  ...refused(400, [['Host: two in HTTP/1.0', request('GET / HTTP/1.0', HOST, HOST)]]),
  ...refused(400, startLines.map(([title, line]): Row => [`start line: ${title}`, request(line, HOST)])),
  ...refused(400, targets.map(([title, line]): Row => [`target: ${title}`, request(line, HOST)])),
  ...refused(400, paths.map(([title, line]): Row => [`path: ${title}`, request(line, HOST)]), { by: 'exchange' }),
  ...refused(505, versions.map(([title, line]): Row => [`version ${title}`, request(line, HOST)])),
  ...refused(505, [['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']]),

  ...refused(400, ['Host', 'Content-Length', 'Transfer-Encoding', 'Cookie', 'Authorization', 'close, host', 'HOST', 'x-a,  authorization ']
    .map((name): Row => [`Connection must not name ${name}`, get(`Connection: ${name}`)])),
  ...refused(400, [
    ['Connection with a name 8,000 times', get(`Connection: ${'a,'.repeat(8000)}a`)],
    ['Connection with a name 8,000 times, among many fields', get(
      `Connection: ${'x-1,'.repeat(3990)}a`, ...Array.from({ length: 90 }, (_, index) => `X-${index}: 1`),
    )],
    ['Connection with 65 names, a few a line', get(...crowdedConnection(65))],
  ]),
  ...refused(400, [
    ['a name with an underscore beside its twin', get('X-A: 1', 'X_A: 2')],
    ['a name with an underscore before its twin', get('X_A: 1', 'x-a: 2')],
    ['two underscores beside a mixed twin', get('X-A_B: 1', 'X_A-B: 2')],
    ['Content_Length beside Content-Length', post(['Content-Length: 5', 'Content_Length: 6'], 'hello')],
    ['Transfer_Encoding beside Transfer-Encoding', post(['Transfer_Encoding: chunked', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
  ]),
  ...refused(417, [
    ['Expect: something', get('Expect: something')],
    ['Expect: 100-continue and something', post(['Expect: 100-continue, something', 'Content-Length: 5'], 'hello')],
  ]),
  ...refused(405, [
    ['CONNECT', request('CONNECT a.example:443 HTTP/1.1', 'Host: a.example:443')],
  ]),

  // Limits: the first value past each.
  ...refused(501, [['a method of 33 bytes', request(`${'M'.repeat(33)} / HTTP/1.1`, HOST)]]),
  ...refused(414, [
    ['a target of 8193 bytes', request(`GET /${'a'.repeat(8192)} HTTP/1.1`, HOST)],
    ['a target without end', `GET /${'a'.repeat(9000)}`],
  ]),
  ...refused(431, [
    ['a field line above 16384 bytes', get(`X-A: ${'a'.repeat(16_384)}`)],
    ['a field name without end', `GET / HTTP/1.1\r\n${'a'.repeat(17_000)}`],
    ['a head above 32768 bytes', get(...Array.from({ length: 4 }, (_, index) => `X-${index}: ${'a'.repeat(10_000)}`))],
    ['101 fields', get(...Array.from({ length: 100 }, (_, index) => `X-${index}: 1`))],
  ]),
  ...refused(400, chunkFaults.map(([title, body]): Row => [`chunked body: ${title}`, chunked(body)]), { originSees: 'no whole request' }),
]

interface OriginSide {
  method?: string
  target?: string
  host?: string
  framing?: 'none' | 'length' | 'chunked'
  body?: string
  trailers?: [string, string][]
  fields?: Record<string, string | null>
  options?: Http1ServerOptions
}

function accepted(title: string, bytes: string, side: OriginSide = {}): AcceptedRequest {
  const { options = {}, method = 'GET', target = '/', host = 'a.example', framing = 'none', body = '', trailers = [], fields = {} } = side
  return { title, bytes, options, origin: { method, target, host, framing, body, trailers, fields } }
}

const hello = { method: 'POST', framing: 'length', body: 'hello' } as const
const chunkedHello = { method: 'POST', framing: 'chunked', body: 'hello' } as const

export const ACCEPTED_REQUESTS: readonly AcceptedRequest[] = [
  accepted('GET', get()),
  accepted('one empty line in front', '\r\n' + get()),
  accepted('a method of 32 bytes', request(`${'M'.repeat(32)} / HTTP/1.1`, HOST), { method: 'M'.repeat(32) }),
  accepted('a method of odd token characters', request("a!#$%&'*+-.^_`|~9 / HTTP/1.1", HOST), { method: "a!#$%&'*+-.^_`|~9" }),
  accepted('case of methods matters', request('get / HTTP/1.1', HOST), { method: 'get' }),
  accepted('a target of 8192 bytes', request(`GET /${'a'.repeat(8191)} HTTP/1.1`, HOST), { target: `/${'a'.repeat(8191)}` }),
  accepted('100 fields', get(...Array.from({ length: 99 }, (_, index) => `X-${index}: ${index}`)), {
    fields: { 'x-0': '0', 'x-98': '98' },
  }),
  accepted('a field line of 16384 bytes', get(`X-A: ${'a'.repeat(16_384 - 7)}`), { fields: { 'x-a': 'a'.repeat(16_384 - 7) } }),

  accepted('Content-Length', post(['Content-Length: 5'], 'hello'), hello),
  accepted('Content-Length with blanks around', post(['Content-Length: \t 5 \t'], 'hello'), {
    ...hello, fields: { 'content-length': '5' },
  }),
  accepted('Content-Length with zeros in front', post(['Content-Length: 0005'], 'hello'), hello),
  accepted('Content-Length on GET', get('Content-Length: 5') + 'hello', { framing: 'length', body: 'hello' }),
  accepted('Content-Length: 0', post(['Content-Length: 0'], ''), { method: 'POST', framing: 'length' }),
  accepted('a body of exactly the limit', post(['Content-Length: 5'], 'hello'), { ...hello, options: { maxRequestBodyBytes: 5 } }),
  accepted('chunked', chunked('5\r\nhello\r\n0\r\n\r\n'), chunkedHello),
  accepted('Chunked in other case', post(['transfer-encoding: CHUNKed'], '5\r\nhello\r\n0\r\n\r\n'), chunkedHello),
  accepted('chunked with blanks around', post(['Transfer-Encoding:\t chunked \t'], '5\r\nhello\r\n0\r\n\r\n'), {
    ...chunkedHello, fields: { 'transfer-encoding': 'chunked' },
  }),
  accepted('chunked on GET', get('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\n', { framing: 'chunked', body: 'hello' }),
  accepted('chunked and empty', chunked('0\r\n\r\n'), { method: 'POST', framing: 'chunked' }),
  accepted('chunks of many sizes', chunked('1\r\nh\r\n2\r\nel\r\n002\r\nlo\r\n0\r\n\r\n'), chunkedHello),
  accepted('a chunk size of 16 digits', chunked('0000000000000005\r\nhello\r\n0000\r\n\r\n'), chunkedHello),
  accepted('chunk sizes in both cases', chunked('A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n'), {
    ...chunkedHello, body: '01234567890123456789',
  }),
  accepted('chunk data that looks like framing', chunked('7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n'), { ...chunkedHello, body: '0\r\n\r\n\r\n' }),
  accepted(
    'a body that looks like a request',
    post(['Content-Length: 39'], 'GET /smuggled HTTP/1.1\r\nHost: b.example'.slice(0, 39)),
    { ...hello, body: 'GET /smuggled HTTP/1.1\r\nHost: b.example'.slice(0, 39) },
  ),
  accepted('chunk extensions are dropped', chunked('5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n'), chunkedHello),
  accepted('trailers', chunked('5\r\nhello\r\n0\r\nX-A: 1\r\nX-B:2 \r\n\r\n'), { ...chunkedHello, trailers: [['X-A', '1'], ['X-B', '2']] }),
  accepted('32 trailers', chunked(`5\r\nhello\r\n0\r\n${'X-A: 1\r\n'.repeat(32)}\r\n`), {
    ...chunkedHello, trailers: Array.from({ length: 32 }, () => ['X-A', '1']),
  }),

  accepted('blanks around values are dropped', get('X-A: \t 1 2 \t ', 'X-B:3'), { fields: { 'x-a': '1 2', 'x-b': '3' } }),
  accepted('an empty value', get('X-A:'), { fields: { 'x-a': '' } }),
  accepted('high bytes in values', get('X-A: \xe9\x80\xff'), { fields: { 'x-a': '\xe9\x80\xff' } }),
  accepted('repeated fields keep their order', get('X-A: 1', 'x-a: 2', 'X-A: 3'), { fields: { 'x-a': '1, 2, 3' } }),
  accepted('odd names', get("!#$%&'*+-.^`|~9: 1", '__proto__: 2', 'constructor: 3'), {
    fields: { "!#$%&'*+-.^`|~9": '1', '__proto__': '2', 'constructor': '3' },
  }),
  accepted('a name with an underscore alone', get('X_A: 1', 'X-B: 2'), { fields: { 'x_a': '1', 'x-b': '2' } }),

  accepted('Host with a port', request('GET / HTTP/1.1', 'Host: a.example:8080'), { host: 'a.example:8080' }),
  accepted('Host as an IPv6 address', request('GET / HTTP/1.1', 'Host: [2001:db8::1]:8080'), { host: '[2001:db8::1]:8080' }),
  accepted('Host as an IPv4 address', request('GET / HTTP/1.1', 'host: 192.0.2.1'), { host: '192.0.2.1' }),
  accepted('Host with an underscore', request('GET / HTTP/1.1', 'Host: a_b.example'), { host: 'a_b.example' }),
  accepted('Host not in front', request('GET / HTTP/1.1', 'X-A: 1', HOST)),

  accepted('absolute-form', request('GET http://a.example/x?y HTTP/1.1', HOST), { target: '/x?y' }),
  accepted('absolute-form wins over Host', request('GET http://b.example/x HTTP/1.1', HOST), { target: '/x', host: 'b.example' }),
  accepted('absolute-form with a port wins over Host', request('GET http://b.example:81/ HTTP/1.1', HOST), { host: 'b.example:81' }),
  accepted('absolute-form without a path', request('GET http://b.example HTTP/1.1', HOST), { host: 'b.example' }),
  accepted('absolute-form with a query and no path', request('GET http://b.example?q HTTP/1.1', HOST), {
    target: '/?q', host: 'b.example',
  }),
  accepted('absolute-form with its scheme in capitals', request('GET HTTP://b.example/x HTTP/1.1', HOST), {
    target: '/x', host: 'b.example',
  }),
  accepted('a zone in Host, which means nothing to the origin', request('GET / HTTP/1.1', 'Host: [fe80::1%25eth0]:8080'), {
    host: '[fe80::1]:8080',
  }),
  accepted('a zone in an absolute target', request('GET http://[fe80::1%eth0]/a HTTP/1.1', HOST), { target: '/a', host: '[fe80::1]' }),
  accepted('asterisk-form', request('OPTIONS * HTTP/1.1', HOST), { method: 'OPTIONS', target: '*' }),

  accepted(
    'a path goes as it is',
    request('GET /a;b=c/d,e/%41?x=%zz&y=/../y&z=%00#'.slice(0, -1) + ' HTTP/1.1', HOST),
    { target: '/a;b=c/d,e/%41?x=%zz&y=/../y&z=%00' },
  ),
  accepted(
    'encoded slashes, encoded backslashes and empty segments are kept',
    request('GET /a%2fb%5cc//d HTTP/1.1', HOST),
    { target: '/a%2fb%5cc//d' },
  ),
  accepted('dot segments are resolved', request('GET /a/./b/../c HTTP/1.1', HOST), { target: '/a/c' }),
  accepted('dot segments at the end are resolved', request('GET /a/b/.. HTTP/1.1', HOST), { target: '/a/' }),
  accepted('dot segments do not climb above the root', request('GET /../../a HTTP/1.1', HOST), { target: '/a' }),
  accepted('encoded dot segments are resolved', request('GET /a/%2e%2E/b/%2e/c?/../d HTTP/1.1', HOST), { target: '/b/c?/../d' }),
  accepted('dots within a segment are kept', request('GET /.a/..b/c../... HTTP/1.1', HOST), { target: '/.a/..b/c../...' }),

  accepted('hop-by-hop fields end here', get(
    'Connection: keep-alive, X-A, x-b', 'X-A: 1', 'X-B: 2', 'X-C: 3', 'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive', 'TE: trailers, deflate', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA',
  ), {
    fields: { 'x-a': null, 'x-b': null, 'x-c': '3', 'keep-alive': null, 'proxy-connection': null, 'upgrade': null, 'http2-settings': null },
  }),
  accepted('64 names in Connection, each of them a field', get(
    ...crowdedConnection(64), ...Array.from({ length: 64 }, (_, index) => `X-Hop-${index}: 1`), 'X-Hop: 2',
  ), {
    fields: { 'x-hop-0': null, 'x-hop-31': null, 'x-hop-63': null, 'x-hop': '2' },
  }),
  accepted('Expect in other case', post(['Expect: 100-Continue', 'Content-Length: 5'], 'hello'), hello),
]

function fromOrigin(title: string, outcome: number | 'cut', bytes: string, more: Partial<OriginResponse> = {}): OriginResponse {
  return { title, bytes, method: 'GET', ends: false, outcome, body: '', reusable: false, ...more }
}
const ok = (...lines: string[]): string => ['HTTP/1.1 200 OK', ...lines, '', ''].join('\r\n')

export const ORIGIN_RESPONSES: readonly OriginResponse[] = [
  // Whole answers.
  fromOrigin('Content-Length', 200, ok('Content-Length: 5') + 'hello', { body: 'hello', reusable: true }),
  fromOrigin('chunked', 200, ok('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\n', { body: 'hello', reusable: true }),
  fromOrigin(
    'chunked with extensions and trailers',
    200,
    ok('Transfer-Encoding: chunked') + '5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n',
    { body: 'hello', reusable: true },
  ),
  fromOrigin('until close', 200, ok() + 'hello', { body: 'hello', ends: true }),
  fromOrigin('HTTP/1.0 until close', 200, 'HTTP/1.0 200 OK\r\n\r\nhello', { body: 'hello', ends: true }),
  fromOrigin('HTTP/1.0 with a length', 200, 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello', { body: 'hello' }),
  fromOrigin(
    'HTTP/1.0 with keep-alive',
    200,
    'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello',
    { body: 'hello', reusable: true },
  ),
  fromOrigin('Connection: close', 200, ok('Connection: close', 'Content-Length: 5') + 'hello', { body: 'hello' }),
  fromOrigin('Connection that names Content-Length', 200, ok('Connection: Content-Length', 'Content-Length: 5') + 'hello', {
    body: 'hello', reusable: true,
  }),
  fromOrigin(
    'Connection that names Transfer-Encoding and Set-Cookie',
    200,
    ok('Connection: transfer-encoding, SET-COOKIE', 'Set-Cookie: a=b', 'Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\n',
    { body: 'hello', reusable: true },
  ),
  fromOrigin('Connection with 64 names', 200, ok(...crowdedConnection(64), 'Content-Length: 5') + 'hello', {
    body: 'hello', reusable: true,
  }),
  fromOrigin('204', 204, 'HTTP/1.1 204 No Content\r\n\r\n', { reusable: true }),
  fromOrigin('204 with a length of nothing', 204, 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', { reusable: true }),
  ...([
    ['204 with a length', 204, ['204 No Content', 'Content-Length: 5'], ''],
    ['204 with a length and a body', 204, ['204 No Content', 'Content-Length: 5'], 'hello'],
    ['204 with chunked', 204, ['204 No Content', 'Transfer-Encoding: chunked'], ''],
    ['204 with chunked and a last chunk', 204, ['204 No Content', 'Transfer-Encoding: chunked'], '0\r\n\r\n'],
    ['204 with both', 204, ['204 No Content', 'Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n'],
    ['204 with a length that is none', 204, ['204 No Content', 'Content-Length: x'], ''],
    ['304 with both', 304, ['304 Not Modified', 'Content-Length: 5', 'Transfer-Encoding: chunked'], ''],
    ['304 with two lengths', 304, ['304 Not Modified', 'Content-Length: 5', 'Content-Length: 6'], 'hello'],
    ['304 with a coding that is none', 304, ['304 Not Modified', 'Transfer-Encoding: identity'], ''],
    ['304 with chunked in HTTP/1.0', 304, ['304 Not Modified', 'Transfer-Encoding: chunked', 'Connection: keep-alive'], '', 'HTTP/1.0'],
  ] as const).map(([title, status, [line, ...fields], behind, version = 'HTTP/1.1']) => {
    return fromOrigin(title, status, [`${version} ${line}`, ...fields, '', ''].join('\r\n') + behind)
  }),
  fromOrigin('304 with chunked, as its GET would have', 304, 'HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n', {
    reusable: true,
  }),
  fromOrigin('HEAD with both', 200, ok('Content-Length: 5', 'Transfer-Encoding: chunked'), { method: 'HEAD' }),
  fromOrigin(
    '103 with a length that means nothing',
    200,
    'HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n' + ok('Content-Length: 5') + 'hello',
    { body: 'hello' },
  ),
  fromOrigin(
    'blanks behind chunk sizes',
    200,
    ok('Transfer-Encoding: chunked') + '5   \r\nhello\r\n0\t\r\n\r\n',
    { body: 'hello', reusable: true },
  ),
  fromOrigin('304 with the length of what it spares', 304, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n', { reusable: true }),
  fromOrigin('HEAD with a length', 200, ok('Content-Length: 5'), { method: 'HEAD', reusable: true }),
  fromOrigin('HEAD with chunked', 200, ok('Transfer-Encoding: chunked'), { method: 'HEAD', reusable: true }),
  fromOrigin('an empty reason', 200, 'HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n', { reusable: true }),
  fromOrigin('a high byte in the reason', 200, 'HTTP/1.1 200 \xe9\r\nContent-Length: 0\r\n\r\n', { reusable: true }),
  fromOrigin('a status nobody registered', 799, 'HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n', { reusable: true }),
  fromOrigin(
    '200 interim responses',
    200,
    'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(200) + ok('Content-Length: 5') + 'hello',
    { body: 'hello', reusable: true },
  ),
  fromOrigin('bytes behind the answer', 200, ok('Content-Length: 5') + 'hello' + ok('Content-Length: 6') + 'second', { body: 'hello' }),
  fromOrigin('a second answer behind 204', 204, 'HTTP/1.1 204 No Content\r\n\r\n' + ok('Content-Length: 6') + 'second'),
  fromOrigin(
    'bytes behind the last chunk',
    200,
    ok('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200',
    { body: 'hello' },
  ),
  fromOrigin('a body behind the answer to HEAD', 200, ok('Content-Length: 5') + 'hello', { method: 'HEAD' }),
  fromOrigin('a body behind 304', 304, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello'),

  // Found before the head went on.
  ...([
    ['Content-Length and Transfer-Encoding', ok('Content-Length: 5', 'Transfer-Encoding: chunked') + '0\r\n\r\n'],
    ['Transfer-Encoding and Content-Length', ok('Transfer-Encoding: chunked', 'Content-Length: 5') + '0\r\n\r\n'],
    ['Transfer-Encoding in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['chunked twice', ok('Transfer-Encoding: chunked, chunked') + '0\r\n\r\n'],
    ['chunked not last', ok('Transfer-Encoding: chunked, gzip') + '0\r\n\r\n'],
    ['xchunked', ok('Transfer-Encoding: xchunked') + '0\r\n\r\n'],
    ['two lengths', ok('Content-Length: 5', 'Content-Length: 6') + 'hello'],
    ['two equal lengths', ok('Content-Length: 5', 'Content-Length: 5') + 'hello'],
    ['a list of lengths', ok('Content-Length: 5, 5') + 'hello'],
    ['a length with a plus sign', ok('Content-Length: +5') + 'hello'],
    ['an empty length', ok('Content-Length:') + 'hello'],
    ['a negative length', ok('Content-Length: -1')],
    ['a length above 2^53 - 1', ok('Content-Length: 9007199254740992')],
    ['a folded line', ok('X-A: 1\r\n 2', 'Content-Length: 0')],
    ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'],
    ['a bare CR in a value', ok('X-A: 1\r2', 'Content-Length: 0')],
    ['a blank before the colon', ok('X-A : 1', 'Content-Length: 0')],
    ['an empty name', ok(': 1', 'Content-Length: 0')],
    ['NUL in a value', ok('X-A: \x00', 'Content-Length: 0')],
    ['a control in the reason', 'HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n'],
    ['status 99', 'HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n'],
    ['status 099', 'HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n'],
    ['status 1000', 'HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n'],
    ['a status that is no number', 'HTTP/1.1 2x0 Odd\r\nContent-Length: 0\r\n\r\n'],
    ['no status', 'HTTP/1.1\r\nContent-Length: 0\r\n\r\n'],
    ['HTTP/2.0', 'HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['HTTP/1.2', 'HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['another protocol', 'SSH-2.0-Odd\r\n\r\n'],
    ['a blank in front', ' HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['an empty line in front', '\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['101 that nobody asked for', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
    ['101 without Upgrade', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['1001 interim responses', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1001) + ok('Content-Length: 0')],
    [
      'interim responses of more than 65536 bytes',
      `HTTP/1.1 103 Early Hints\r\nX: ${'a'.repeat(1000)}\r\n\r\n`.repeat(70) + ok('Content-Length: 0'),
    ],
    ['a head above 65536 bytes', ok(...Array.from({ length: 70 }, (_, index) => `X-${index}: ${'a'.repeat(1000)}`), 'Content-Length: 0')],
    ['201 fields', ok(...Array.from({ length: 200 }, (_, index) => `X-${index}: 1`), 'Content-Length: 0')],
    ['Connection with a name 15,000 times', ok(`Connection: ${'a,'.repeat(15_000)}a`, 'Content-Length: 0')],
    ['Connection with 65 names, a few a line', ok(...crowdedConnection(65), 'Content-Length: 0')],
  ] satisfies Row[]).map(([title, bytes]) => fromOrigin(title, 502, bytes)),
  fromOrigin('a head that ends in the middle', 502, 'HTTP/1.1 200 OK\r\nContent-Le', { ends: true }),
  fromOrigin('nothing at all', 502, '', { ends: true }),
  fromOrigin('an interim response and nothing more', 502, 'HTTP/1.1 103 Early Hints\r\n\r\n', { ends: true }),

  // Found behind the head: nobody may take what arrived for a whole answer.
  fromOrigin('a body shorter than its length', 'cut', ok('Content-Length: 10') + 'hello', { ends: true }),
  fromOrigin('a chunked body without its last chunk', 'cut', ok('Transfer-Encoding: chunked') + '5\r\nhello\r\n', { ends: true }),
  fromOrigin('a chunked body that ends in a chunk', 'cut', ok('Transfer-Encoding: chunked') + '5\r\nhel', { ends: true }),
  fromOrigin(
    'a chunked body that ends in its trailers',
    'cut',
    ok('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\nX-A',
    { ends: true },
  ),
  fromOrigin(
    'a chunked body that ends before its empty line',
    'cut',
    ok('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n',
    { ends: true },
  ),
  ...([
    ['a chunk size that is no hexadecimal', '5\r\nhello\r\ng\r\n'],
    ['an empty chunk size', '5\r\nhello\r\n\r\n0\r\n\r\n'],
    ['a blank within a chunk size', '5\r\nhello\r\n1 0\r\n'],
    ['a blank before a chunk size', '5\r\nhello\r\n 5\r\n'],
    ['no line end behind chunk data', '5\r\nhelloX\r\n0\r\n\r\n'],
    ['another byte for the CR behind chunk data', '5\r\nhelloX\n0\r\n\r\n'],
    ['a bare LF behind a chunk size', '5\nhello\r\n0\r\n\r\n'],
    ['a chunk size above 2^53 - 1', '5\r\nhello\r\nffffffffffffffff\r\n'],
    ['a folded trailer', '5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n'],
  ] satisfies Row[]).map(([title, body]) => fromOrigin(`chunked body: ${title}`, 'cut', ok('Transfer-Encoding: chunked') + body)),
]
