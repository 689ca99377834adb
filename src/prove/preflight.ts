/**
 * One request of each kind before anything is counted: a path that does not exist is a mistake of whoever asks, not a
 * loss. Learns what slow transfers are compared with.
 */
import { createHash } from 'node:crypto'
import { HttpConnection, plainGet, type RequestPlan } from './http-connection.ts'
import { Http2Connection, type StreamOwner } from './http2-connection.ts'
import { messageOf } from './message-streams.ts'
import { ledgerOf, requestHead, type ProofSetting } from './population.ts'
import type { ResponseReader } from './response-reader.ts'
import type { Reference } from './slow-download.ts'
import { hashOf, shortUpload } from './slow-upload.ts'
import { handshakeFields, newHandshake } from './websocket-frames.ts'
import { handshakeFault } from './websocket-carriers.ts'

/** Nothing can be proven; the message says what is missing. */
export class CannotProve extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'CannotProve'
  }
}

export interface Known {
  readonly download: Reference | null
  readonly answersUploadsWithHash: boolean
}

const SHORT_UPLOAD_BYTES = 1000
const SWEEP_MS = 20

/** @throws CannotProve */
export async function preflight(setting: ProofSetting): Promise<Known> {
  const { address: { authority }, options } = setting
  const closing = 'Connection: close\r\n'
  if (options.path !== '') {
    await probe(setting, plainGet(requestHead('GET', options.path, authority, closing), { keepsConnection: false }), options.path)
  }
  if (options.ws !== '') {
    const handshake = newHandshake()
    const bytes = requestHead('GET', options.ws, authority, handshakeFields(handshake))
    const check = (reader: ResponseReader): string => handshakeFault(reader, handshake)
    await probe(setting, { method: 'GET', bytes, keepsConnection: false, sink: null, check }, options.ws)
  }
  let download: Reference | null = null
  if (options.download !== '') {
    const hash = createHash('sha256')
    let length = 0
    await probe(setting, {
      method: 'GET', bytes: requestHead('GET', options.download, authority, closing), keepsConnection: false,
      sink: bytes => {
        hash.update(bytes)
        length += bytes.length
      },
      check: () => '',
    }, options.download)
    download = { bytes: length, sha256: hash.digest('hex') }
  }
  let answer = ''
  if (options.upload !== '') {
    const head = requestHead('POST', options.upload, authority, `${closing}Content-Length: ${SHORT_UPLOAD_BYTES}\r\n`)
    await probe(setting, {
      method: 'POST', bytes: Buffer.concat([head, shortUpload(SHORT_UPLOAD_BYTES)]), keepsConnection: false,
      sink: bytes => { answer += bytes.toString('latin1') }, check: () => '',
    }, options.upload)
  }
  if (options.http2) {
    if (options.path !== '') await probeHttp2(setting, options.path, { ':method': 'GET' }, null)
    if (options.ws !== '') {
      await probeHttp2(setting, options.ws, { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13' }, null)
    }
  }
  if (options.messages !== '') {
    const fields = { ':method': 'POST', 'content-type': 'application/grpc', 'te': 'trailers' }
    await probeHttp2(setting, options.messages, fields, messageOf(SHORT_UPLOAD_BYTES, 0))
  }
  return { download, answersUploadsWithHash: answer.includes(hashOf(SHORT_UPLOAD_BYTES)) }
}

/** @throws CannotProve */
async function probe(setting: ProofSetting, plan: RequestPlan, path: string): Promise<void> {
  const ledger = ledgerOf('fresh connections', setting)
  const { promise, resolve } = Promise.withResolvers<void>()
  const connection = new HttpConnection(setting.address, 0, setting.clock, ledger, {
    onIdle: each => {
      each.close()
      resolve()
    },
    onGone: () => resolve(),
  })
  connection.send(ledger.begin(setting.clock.exact()), plan)
  const stop = setting.clock.every(SWEEP_MS, () => connection.sweep(setting.clock.exact()))
  await promise
  stop()
  const loss = ledger.losses[0]
  if (loss === undefined) return
  if (loss.fault === 'refused') throw new CannotProve(`nothing listens at ${setting.options.url}`)
  throw new CannotProve(`${plan.method} ${path} at ${setting.options.url} has no good answer to begin with: ${loss.detail}`)
}

/**
 * One stream on a connection of its own.
 * @param message null: the head of a good answer is enough; otherwise sent, and to come back with `grpc-status: 0` behind it
 * @throws CannotProve
 */
async function probeHttp2(
  setting: ProofSetting, path: string, fields: Readonly<Record<string, string>>, message: Buffer | null,
): Promise<void> {
  const { address, clock, options } = setting, { promise, resolve } = Promise.withResolvers<string>()
  const got: Buffer[] = []
  const owner: StreamOwner = {
    onHead(status) {
      if (status !== 200) resolve(`status ${status}`)
      else if (message === null) resolve('')
    },
    onData(bytes) { got.push(bytes) },
    onEnded(end) {
      if (end.tag !== 'whole') resolve(end.tag === 'fault' ? end.detail : 'the server goes away')
      else if (message === null || !Buffer.concat(got).equals(message)) resolve('the message did not come back')
      else resolve(end.trailers?.['grpc-status'] === '0' ? '' : 'no trailer grpc-status: 0 behind the messages')
    },
  }
  const connection = new Http2Connection(address, 0, clock, {
    onOpen(opened) {
      const stream = opened.request({ ...fields, ':path': path }, fields[':method'] === 'GET', owner)
      if (message === null) return
      stream.write(message)
      stream.end()
    },
    onLeaving() { /* What is on it still ends. */ },
    onGone(_connection, fault) { resolve(fault?.detail ?? 'the connection ended') },
  })
  const cancel = clock.after(options.timeoutMs, () => resolve('no answer in time'))
  const fault = await promise
  cancel()
  connection.close()
  if (fault === '') return
  throw new CannotProve(`${fields[':method']} ${path} at ${options.url} over HTTP/2 has no good answer to begin with: ${fault}`)
}
