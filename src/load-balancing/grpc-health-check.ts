/**
 * Active health checks of gRPC backends: `grpc.health.v1.Health/Check` (doc/health-checking.md of the gRPC project), over HTTP/2 with TLS
 * or without. The two messages are one field each, so they are written and read here, and strictly: what is no such answer is a bad
 * probe, whatever else it says. As all probes it uses what Node.js has; when and how often is health-check.ts.
 * Tests: grpc-health-check.test.ts
 */
import type http2 from 'node:http2'
import net from 'node:net'
import type tls from 'node:tls'
import { grpcMediaType, isGrpcWeb } from '../http/grpc-request.ts'
import { GrpcStatus, grpcStatusName } from '../http/grpc-status.ts'
import { defaultsOf, flag, options, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import type { Backend } from './backend.ts'
import {
  HEALTH_CHECK_OPTIONS, hostField, PROBE_PORT, PROBE_TLS_OPTIONS, probeAddress, probeTls, settled,
  type HealthCheck, type HealthCheckOptions, type ProbeTlsOptions, type ResolvedProbeTlsOptions,
} from './health-check.ts'

/** What a GrpcHealthCheck asks. Every option may be left out. */
export interface GrpcHealthCheckOptions extends HealthCheckOptions {
  /** Name of the service that must be SERVING, such as `shop.v1.Orders`; '': the backend as a whole. @default '' */
  service?: string
  /** Authority of the call; '': the backend's address as configured. @default '' */
  host?: string
  /** Port to probe. 0 takes the backend's own. @default 0 */
  port?: number
  /** How to probe over TLS; null: HTTP/2 without TLS. @default null */
  tls?: ProbeTlsOptions | null
  /** Whether a backend that answers, but has no such Health service (UNIMPLEMENTED), is healthy. @default false */
  acceptsUnimplemented?: boolean
}
export type ResolvedGrpcHealthCheckOptions = Readonly<Required<GrpcHealthCheckOptions>>

export const GRPC_HEALTH_CHECK_OPTIONS = {
  ...HEALTH_CHECK_OPTIONS,
  service: text('', "the name of a service, or ''"),
  host: text('', "an authority such as api.internal:50051, or ''"),
  port: PROBE_PORT,
  tls: options<ProbeTlsOptions, null>(PROBE_TLS_OPTIONS, null),
  acceptsUnimplemented: flag(false),
} satisfies OptionTable<GrpcHealthCheckOptions>

export const GRPC_HEALTH_CHECK_DEFAULTS: ResolvedGrpcHealthCheckOptions = defaultsOf<GrpcHealthCheckOptions>(GRPC_HEALTH_CHECK_OPTIONS)

/** An answer has a few bytes; this many leave room for fields that do not exist yet. */
const MAX_ANSWER_BYTES = 4096
const FRAME_HEAD_BYTES = 5
/** `grpc-timeout` has eight digits. */
const MAX_TIMEOUT_MS = 99_999_999

/** `ServingStatus` of the protocol. */
const SERVING_STATUS: readonly string[] = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN']
const SERVING = 1

/** `Health/Check` answers SERVING. */
export class GrpcHealthCheck implements HealthCheck {
  /** Its options, complete and checked. */
  readonly options: ResolvedGrpcHealthCheckOptions
  readonly #tls: ResolvedProbeTlsOptions | null
  readonly #request: Buffer

  /** @throws OptionError with every option that would not do. */
  constructor(given: GrpcHealthCheckOptions = {}) {
    this.options = resolveOptions<GrpcHealthCheckOptions>('healthCheck', GRPC_HEALTH_CHECK_OPTIONS, given, GRPC_HEALTH_CHECK_DEFAULTS)
    this.#tls = this.options.tls as ResolvedProbeTlsOptions | null
    this.#request = framed(healthCheckRequest(this.options.service))
  }

  /** As `HealthCheck` has it. */
  probe(backend: Backend, signal: AbortSignal): Promise<void> {
    const { host, timeoutMs, acceptsUnimplemented } = this.options, secure = this.#tls !== null
    const session = nodeHttp2().connect(secure ? 'https://localhost' : 'http://localhost', {
      createConnection: () => this.#connect(backend), settings: { enablePush: false },
    })
    return settled(signal, () => session.destroy(), (resolve, reject) => {
      session.on('error', reject)
      session.once('connect', () => {
        // Without ALPN nothing says that the other side knows what is sent to it.
        if (secure && session.alpnProtocol !== 'h2') reject(new Error('the handshake did not settle on h2'))
      })
      session.once('close', () => reject(new Error('closed before an answer')))
      const stream = session.request({
        ':method': 'POST', ':path': '/grpc.health.v1.Health/Check', ':authority': host === '' ? hostField(backend) : host,
        'te': 'trailers', 'content-type': 'application/grpc', 'user-agent': 'cirque-health-check',
        'grpc-timeout': `${Math.min(timeoutMs, MAX_TIMEOUT_MS)}m`,
      }, { endStream: false })
      readAnswer(stream, acceptsUnimplemented, resolve, reject)
      stream.end(this.#request)
    })
  }

  #connect(backend: Backend): net.Socket {
    const where = probeAddress(backend, this.options.port)
    if (this.#tls === null) return net.connect(where)
    const { connect } = process.getBuiltinModule('node:tls')
    return connect({ ...where, ...probeTls(this.#tls, backend), ALPNProtocols: ['h2'] } satisfies tls.ConnectionOptions)
  }
}

function readAnswer(
  stream: http2.ClientHttp2Stream, acceptsUnimplemented: boolean, resolve: () => void, reject: (reason: unknown) => void,
): void {
  const pieces: Buffer[] = []
  let bytes = 0, head: Fields = {}, trailers: Fields = {}
  stream.on('error', reject)
  stream.once('response', fields => { head = fields })
  stream.once('trailers', fields => { trailers = fields })
  stream.on('data', (piece: Buffer) => {
    bytes += piece.length
    if (bytes > MAX_ANSWER_BYTES) reject(new Error(`answered with more than ${MAX_ANSWER_BYTES} bytes`))
    else pieces.push(piece)
  })
  stream.once('close', () => {
    const fault = stream.rstCode === 0
      ? faultOf(head, trailers, Buffer.concat(pieces), acceptsUnimplemented) : `the stream was reset with code ${stream.rstCode}`
    if (fault === '') resolve()
    else reject(new Error(fault))
  })
}

type Fields = http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader

/** Why the answer is not that of a healthy backend; '': it is. */
function faultOf(head: Fields, trailers: Fields, body: Buffer, acceptsUnimplemented: boolean): string {
  const status = head[':status']
  if (status !== 200) return status === undefined ? 'closed before an answer' : `answered with HTTP status ${status}`
  const mediaType = grpcMediaType(head['content-type'] ?? '')
  if (mediaType === '' || isGrpcWeb(mediaType)) return 'answered with something other than gRPC'
  // An answer of trailers alone has them in its head.
  const written = fieldOf(trailers, 'grpc-status') || fieldOf(head, 'grpc-status')
  if (!/^\d{1,3}$/.test(written)) return 'answered without a grpc-status'
  const grpcStatus = Number(written)
  if (grpcStatus === GrpcStatus.Unimplemented && acceptsUnimplemented) return ''
  if (grpcStatus !== GrpcStatus.Ok) {
    const message = fieldOf(trailers, 'grpc-message') || fieldOf(head, 'grpc-message')
    return `answered with ${grpcStatusName(grpcStatus)}${message === '' ? '' : `: ${message}`}`
  }
  const serving = servingStatusOf(body)
  if (serving === -1) return 'answered with something other than a HealthCheckResponse'
  return serving === SERVING ? '' : `answered that it is ${SERVING_STATUS[serving] ?? `in the status ${serving}`}`
}

function fieldOf(fields: Fields, name: string): string {
  const value = fields[name]
  return typeof value === 'string' ? value : ''
}

function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** HealthCheckRequest: field 1, a string, which is left out when it is empty. */
function healthCheckRequest(service: string): Buffer {
  const name = Buffer.from(service)
  if (name.length === 0) return name
  const length: number[] = []
  let left = name.length
  for (; left > 0x7f; left >>>= 7) length.push((left & 0x7f) | 0x80)
  return Buffer.concat([Buffer.from([0x0a, ...length, left]), name])
}

/** `status` of the only message in an answer's body, which is a HealthCheckResponse; -1 when it is something else. */
export function servingStatusOf(body: Buffer): number {
  // A compressed message was not asked for.
  if (body.length < FRAME_HEAD_BYTES || body[0] !== 0 || body.readUInt32BE(1) !== body.length - FRAME_HEAD_BYTES) return -1
  const reader = new WireReader(body, FRAME_HEAD_BYTES)
  let status = 0
  while (!reader.done) {
    const tag = reader.varint(), field = Math.floor(tag / 8), type = tag % 8
    if (field === 1 && type === 0) status = reader.varint()
    else if (tag === -1 || field === 0 || field === 1 || !reader.skip(type)) return -1
    if (status === -1) return -1
  }
  return status
}

/** Fields of protobuf's wire format, those that are not known included: a later version of the message may have more. */
class WireReader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, from: number) {
    this.#bytes = bytes
    this.#at = from
  }

  get done(): boolean { return this.#at >= this.#bytes.length }

  /** Up to 32 bits; -1 for what is cut, longer, or of more bytes than it needs. */
  varint(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) return -1
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value < 2 ** 32 && (byte !== 0 || shift === 0) ? value : -1
    }
    return -1
  }

  /** A field of that wire type. Returns false when there is none, or less than all of it. */
  skip(type: number): boolean {
    switch (type) {
      case 0:
        for (let count = 0; count < 10; count++) {
          const byte = this.#bytes[this.#at++]
          if (byte === undefined) return false
          if (byte < 0x80) return true
        }
        return false
      case 1: this.#at += 8; break
      case 2: {
        const length = this.varint()
        if (length === -1) return false
        this.#at += length
        break
      }
      case 5: this.#at += 4; break
      default: return false
    }
    return this.#at <= this.#bytes.length
  }
}

function nodeHttp2(): typeof http2 { return process.getBuiltinModule('node:http2') }
