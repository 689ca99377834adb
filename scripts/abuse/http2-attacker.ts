/** What attackers over HTTP/2 are made of: a connection whose frames are written by hand, and what its victim said to them. */
import type net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Flag, FrameType, PREFACE, Setting, writeFrameHead } from '../../src/protocols/http2/frames.ts'
import type { Strike, Target } from './attack.ts'
import { connected, dial, exchange, get } from './clients.ts'

/** Attackers at a time: each dials again when it was cut. */
const AT_ONCE = 2
/** A flood that goes on for longer has not been cut. */
const CUT_MAX_MS = 10_000
/** A victim that takes nothing more is looked at again. */
const BREATH_MAX_MS = 100
/** `:status: 200` of the static table. */
const STATUS_200 = 0x88
/** GOAWAY has a second to arrive, and a busy machine some more. */
const CLOSE_MAX_MS = 5000

export function frame(type: number, flags: number, stream: number, payload: Buffer | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'hex') : payload, out = Buffer.alloc(9 + body.length)
  body.copy(out, writeFrameHead(out, 0, body.length, type, flags, stream))
  return out
}
export function uint32(value: number): string { return value.toString(16).padStart(8, '0') }
export function setting(id: number, value: number): Buffer {
  return frame(FrameType.Settings, 0, 0, id.toString(16).padStart(4, '0') + uint32(value))
}
export function windowUpdate(stream: number, bytes: number): Buffer { return frame(FrameType.WindowUpdate, 0, stream, uint32(bytes)) }
export function reset(stream: number, code = 8): Buffer { return frame(FrameType.RstStream, 0, stream, uint32(code)) }

/** Fields of a request, without a word for the table. */
export function block(path: string, method: 'GET' | 'POST' = 'GET'): Buffer {
  const authority = 'attacker'
  return Buffer.concat([
    Buffer.from([method === 'GET' ? 0x82 : 0x83, 0x86, 0x04, path.length]), Buffer.from(path, 'latin1'),
    Buffer.from([0x01, authority.length]), Buffer.from(authority, 'latin1'),
  ])
}
/** A request without a body. */
export function ask(stream: number, path: string): Buffer {
  return frame(FrameType.Headers, Flag.EndHeaders | Flag.EndStream, stream, block(path))
}
/** A request whose body follows. */
export function post(stream: number, path: string): Buffer {
  return frame(FrameType.Headers, Flag.EndHeaders, stream, block(path, 'POST'))
}

export class Http2Attacker {
  readonly socket: net.Socket
  /** -1: no GOAWAY came but such as asks to leave. */
  goAwayCode = -1
  closed = false
  /** Answers with 200. */
  served = 0
  dataBytes = 0
  /** Streams that were answered or reset to their end. */
  ended = 0
  /** RST_STREAM by code. */
  readonly resets = new Map<number, number>()
  /** Whether what comes is let come again: windows of streams and of the connection. */
  credits = true
  #rest: Buffer = Buffer.alloc(0)

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('close', () => { this.closed = true })
  }

  /** @param window that streams begin with; -1: as it is */
  static async open(port: number, window = -1): Promise<Http2Attacker | null> {
    const socket = dial(port)
    if (!await connected(socket)) return null
    const attacker = new Http2Attacker(socket)
    attacker.credits = window === -1
    attacker.send(Buffer.concat([
      PREFACE, window === -1 ? frame(FrameType.Settings, 0, 0) : setting(Setting.InitialWindowSize, window),
      frame(FrameType.Settings, Flag.Ack, 0), ...window === -1 ? [] : [windowUpdate(0, 0x7000_0000)],
    ]))
    return attacker
  }

  get over(): boolean { return this.goAwayCode > 0 || this.closed }

  send(bytes: Buffer): void { if (!this.socket.destroyed && this.socket.writable) this.socket.write(bytes) }

  /** What was sent has left, and what came since is read. */
  async breathe(): Promise<void> {
    const since = performance.now()
    do await delay(1)
    while (this.socket.writableNeedDrain && !this.closed && performance.now() - since < BREATH_MAX_MS)
  }

  async until(holds: () => boolean, mostMs: number): Promise<boolean> {
    for (const late = performance.now() + mostMs; !holds();) {
      if (performance.now() > late) return false
      await delay(10)
    }
    return true
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (at + 9 <= bytes.length && at + 9 + bytes.readUIntBE(at, 3) <= bytes.length) {
      const length = bytes.readUIntBE(at, 3)
      this.#onFrame(bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5), bytes.subarray(at + 9, at + 9 + length))
      at += 9 + length
    }
    this.#rest = bytes.subarray(at)
  }

  #onFrame(type: number, flags: number, stream: number, payload: Buffer): void {
    switch (type) {
      case FrameType.Headers: if (payload[0] === STATUS_200) this.served++; break
      case FrameType.Data:
        this.dataBytes += payload.length
        if (this.credits && payload.length > 0) {
          this.send(windowUpdate(0, payload.length))
          if ((flags & Flag.EndStream) === 0) this.send(windowUpdate(stream, payload.length))
        }
        break
      case FrameType.RstStream: {
        const code = payload.readUInt32BE(0)
        this.resets.set(code, (this.resets.get(code) ?? 0) + 1)
        this.ended++
        break
      }
      case FrameType.GoAway: {
        const code = payload.readUInt32BE(4)
        if (code !== 0) this.goAwayCode = code
        break
      }
    }
    if ((type === FrameType.Headers || type === FrameType.Data) && (flags & Flag.EndStream) !== 0) this.ended++
  }
}

export interface Flood {
  /** GOAWAY that has to end it, any of these. */
  readonly codes: readonly number[]
  /** The limit that has to be counted; '': none, since it is a broken rule. */
  readonly limit: string
  /** Of the client, for its streams. @default -1, as it is */
  readonly window?: number
  /** What is sent in one go, again and again. */
  readonly frames: (round: number) => Buffer
}

/** Floods in turn on connections of their own, each until it is cut, for as long as the attack lasts. */
export async function strikeWith(floods: readonly Flood[], target: Target): Promise<Strike> {
  const late = performance.now() + target.seconds * 1000, faults = new Set<string>()
  let cut = 0, sentBytes = 0, turn = 0
  async function attack(): Promise<void> {
    while (performance.now() < late) {
      const flood = floods[turn++ % floods.length]!, attacker = await Http2Attacker.open(target.port, flood.window)
      if (attacker === null) {
        faults.add('a connection was refused')
        return
      }
      const since = performance.now()
      for (let round = 0; !attacker.over && performance.now() - since < CUT_MAX_MS; round++) {
        const bytes = flood.frames(round)
        sentBytes += bytes.length
        attacker.send(bytes)
        await attacker.breathe()
      }
      if (!attacker.over) faults.add(`a flood of ${flood.limit} was not cut in ${CUT_MAX_MS} ms`)
      else if (!flood.codes.includes(attacker.goAwayCode)) {
        faults.add(`${flood.limit}: GOAWAY with ${attacker.goAwayCode} instead of ${flood.codes.join(' or ')}`)
      }
      if (attacker.over && !await attacker.until(() => attacker.closed, CLOSE_MAX_MS)) faults.add('a connection stays open behind GOAWAY')
      cut++
      attacker.socket.destroy()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, attack))
  const passed = await limitsPassed(target.adminPort)
  for (const { limit } of floods) if (limit !== '' && !passed.has(limit)) faults.add(`${limit} was not counted`)
  return { done: `${cut} connections cut, ${(sentBytes / 1e6).toFixed(1)} MB`, faults: [...faults] }
}

/** Limits that were passed, with how often, as the instance's metrics have it. */
export async function limitsPassed(adminPort: number): Promise<Map<string, number>> {
  // Workers write their counts down now and then.
  await delay(1500)
  const text = await exchange(adminPort, get('/metrics', 'Connection: close\r\n')), passed = new Map<string, number>()
  for (const [, labels = '', count = '0'] of text.matchAll(/^cirque_limit_exceeded_total\{([^}]*)\} (\d+)/gm)) {
    const limit = /limit="([^"]*)"/.exec(labels)?.[1] ?? ''
    if (Number(count) > 0) passed.set(limit, (passed.get(limit) ?? 0) + Number(count))
  }
  return passed
}
