/**
 * The calls of gRPC's own interoperability tests (doc/interop-test-descriptions.md of the gRPC project), over a service that is written by
 * hand: messages are bytes, and a request says in its first four how many the response to it has. Client and server are grpc-js.
 */
import type { EventEmitter } from 'node:events'
import {
  Client, compressionAlgorithms, credentials, Metadata, Server, ServerCredentials,
  type ClientDuplexStream, type ClientReadableStream, type ClientUnaryCall, type ClientWritableStream, type Deadline,
  type sendUnaryData, type ServerDuplexStream, type ServerReadableStream, type ServerUnaryCall, type ServerWritableStream,
  type ServiceDefinition, type status, type StatusObject,
} from '@grpc/grpc-js'

function same(bytes: Buffer): Buffer { return bytes }

function method(name: string, requestStream: boolean, responseStream: boolean): ServiceDefinition[string] {
  return {
    path: `/cirque.test.Calls/${name}`, requestStream, responseStream,
    requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
  }
}

const CALLS = {
  Unary: method('Unary', false, false), Sleep: method('Sleep', false, false),
  Sum: method('Sum', true, false), Sizes: method('Sizes', false, true), PingPong: method('PingPong', true, true),
  Later: method('Later', true, true),
} satisfies ServiceDefinition

export const ECHO_INITIAL = 'x-grpc-test-echo-initial', ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin'
/** Of a request: the status with which the call is to end, and its message as bytes. */
export const WANTED_STATUS = 'x-wanted-status', WANTED_MESSAGE = 'x-wanted-message-bin'

/** A message that asks for one of `size` bytes. */
export function asking(size: number, bytes = 0): Buffer {
  const message = Buffer.alloc(4 + bytes, 'q')
  message.writeUInt32BE(size)
  return message
}

export function numbered(value: number): Buffer { return asking(value) }

function responseTo(request: Buffer): Buffer { return Buffer.alloc(request.length === 0 ? 0 : request.readUInt32BE(), 'r') }

interface ServerCall extends EventEmitter {
  readonly metadata: Metadata
  sendMetadata(metadata: Metadata): void
}

/** A server at two ports, one with TLS. Without certificates it has the other one alone. */
export class CallServer {
  readonly #server: Server
  /** Methods whose calls were cancelled, in order. */
  readonly cancelled: string[] = []
  readonly begun: string[] = []
  plainPort = 0
  tlsPort = 0

  private constructor() {
    this.#server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 })
    this.#server.addService(CALLS, {
      Unary: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => this.#unary(call, done),
      Sleep: (call: ServerUnaryCall<Buffer, Buffer>) => this.#note('Sleep', call),
      Sum: (call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) => this.#sum(call, done),
      Sizes: (call: ServerWritableStream<Buffer, Buffer>) => this.#sizes(call),
      PingPong: (call: ServerDuplexStream<Buffer, Buffer>) => this.#pingPong(call),
      Later: (call: ServerDuplexStream<Buffer, Buffer>) => this.#later(call),
    })
  }

  static async start(certificate: { readonly cert: string; readonly key: string }): Promise<CallServer> {
    const made = new CallServer(), pair = { cert_chain: Buffer.from(certificate.cert), private_key: Buffer.from(certificate.key) }
    made.plainPort = await made.#bind(ServerCredentials.createInsecure())
    made.tlsPort = await made.#bind(ServerCredentials.createSsl(null, [pair]))
    return made
  }

  #bind(how: ServerCredentials): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    this.#server.bindAsync('127.0.0.1:0', how, (error, port) => {
      if (error === null) resolve(port)
      else reject(error)
    })
    return promise
  }

  stop(): void { this.#server.forceShutdown() }

  #note(name: string, call: ServerCall): void {
    this.begun.push(name)
    call.on('cancelled', () => { this.cancelled.push(name) })
  }

  #unary(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>): void {
    this.#note('Unary', call)
    const trailing = this.#echo(call), fault = wantedStatus(call.metadata)
    if (fault === null) done(null, responseTo(call.request), trailing)
    else done({ ...fault, metadata: trailing })
  }

  #echo(call: ServerCall): Metadata {
    const trailing = new Metadata(), [initial] = call.metadata.get(ECHO_INITIAL), [last] = call.metadata.get(ECHO_TRAILING)
    if (initial !== undefined) {
      const sent = new Metadata()
      sent.set(ECHO_INITIAL, initial)
      call.sendMetadata(sent)
    }
    if (last !== undefined) trailing.set(ECHO_TRAILING, last)
    return trailing
  }

  #sum(call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>): void {
    this.#note('Sum', call)
    let bytes = 0
    call.on('data', (message: Buffer) => { bytes += message.length })
    call.on('end', () => done(null, numbered(bytes)))
  }

  #sizes(call: ServerWritableStream<Buffer, Buffer>): void {
    this.#note('Sizes', call)
    for (let at = 0; at + 4 <= call.request.length; at += 4) call.write(responseTo(call.request.subarray(at)))
    call.end()
  }

  #pingPong(call: ServerDuplexStream<Buffer, Buffer>): void {
    this.#note('PingPong', call)
    const trailing = this.#echo(call), fault = wantedStatus(call.metadata)
    call.on('error', () => { /* cancelled, which is noted */ })
    call.on('data', (message: Buffer) => { if (fault === null) call.write(responseTo(message)) })
    call.on('end', () => {
      if (fault === null) call.end(trailing)
      else call.emit('error', { ...fault, metadata: trailing })
    })
  }

  /** Answers nothing before the client has said everything. */
  #later(call: ServerDuplexStream<Buffer, Buffer>): void {
    this.#note('Later', call)
    const asked: Buffer[] = []
    call.on('data', (message: Buffer) => { asked.push(message) })
    call.on('end', () => {
      for (const message of asked) call.write(responseTo(message))
      call.end()
    })
  }
}

function wantedStatus(metadata: Metadata): { code: status; details: string } | null {
  const [code] = metadata.get(WANTED_STATUS), [details] = metadata.get(WANTED_MESSAGE)
  return code === undefined ? null : { code: Number(code), details: String(details ?? '') }
}

export interface Ended {
  readonly messages: readonly Buffer[]
  readonly status: StatusObject
  readonly metadata: Metadata
}

export interface CallSetting {
  readonly metadata?: Metadata
  readonly deadline?: Deadline
}

/** Calls methods by their names, those that are not there included. */
export class Caller {
  readonly #client: Client

  /** @param ca of the server's certificate; '': without TLS */
  constructor(port: number, ca: string, gzips = false) {
    const secure = ca === '' ? credentials.createInsecure() : credentials.createSsl(Buffer.from(ca))
    this.#client = new Client(`127.0.0.1:${port}`, secure, {
      'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1, 'grpc.use_local_subchannel_pool': 1,
      ...ca === '' ? {} : { 'grpc.ssl_target_name_override': 'localhost' },
      ...gzips ? { 'grpc.default_compression_algorithm': compressionAlgorithms.gzip } : {},
    })
  }

  close(): void { this.#client.close() }

  unary(name: string, request: Buffer, setting: CallSetting = {}): { call: ClientUnaryCall; ended: Promise<Ended> } {
    const messages: Buffer[] = [], metadata = setting.metadata ?? new Metadata()
    const call = this.#client.makeUnaryRequest(pathOf(name), same, same, request, metadata, optionsOf(setting), (error, response) => {
      if (error === null && response !== undefined) messages.push(response)
    })
    return { call, ended: endOf(call, messages) }
  }

  sum(name = 'Sum', setting: CallSetting = {}): { call: ClientWritableStream<Buffer>; ended: Promise<Ended> } {
    const messages: Buffer[] = [], metadata = setting.metadata ?? new Metadata()
    const call = this.#client.makeClientStreamRequest(pathOf(name), same, same, metadata, optionsOf(setting), (error, response) => {
      if (error === null && response !== undefined) messages.push(response)
    })
    return { call, ended: endOf(call, messages) }
  }

  sizes(sizes: readonly number[]): { call: ClientReadableStream<Buffer>; ended: Promise<Ended> } {
    const messages: Buffer[] = [], request = Buffer.concat(sizes.map(size => asking(size)))
    const call = this.#client.makeServerStreamRequest(pathOf('Sizes'), same, same, request, new Metadata())
    call.on('data', (message: Buffer) => { messages.push(message) })
    return { call, ended: endOf(call, messages) }
  }

  duplex(name: string, setting: CallSetting = {}): { call: ClientDuplexStream<Buffer, Buffer>; ended: Promise<Ended> } {
    const messages: Buffer[] = [], metadata = setting.metadata ?? new Metadata()
    const call = this.#client.makeBidiStreamRequest(pathOf(name), same, same, metadata, optionsOf(setting))
    call.on('data', (message: Buffer) => { messages.push(message) })
    return { call, ended: endOf(call, messages) }
  }
}

function pathOf(name: string): string { return name.startsWith('/') ? name : `/cirque.test.Calls/${name}` }
function optionsOf({ deadline }: CallSetting): { deadline?: Deadline } { return deadline === undefined ? {} : { deadline } }

function endOf(call: EventEmitter, messages: readonly Buffer[]): Promise<Ended> {
  const { promise, resolve } = Promise.withResolvers<Ended>()
  let metadata = new Metadata()
  call.on('metadata', (given: Metadata) => { metadata = given })
  call.on('error', () => { /* the status says it */ })
  // The result of a call that has one is given right behind its status.
  call.on('status', (ended: StatusObject) => { setImmediate(() => resolve({ messages, status: ended, metadata })) })
  return promise
}
