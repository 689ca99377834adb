/** Frames of HTTP/2 by their numbers (RFC 9113 4.1, 6), and their heads. */

export const FrameType = {
  Data: 0, Headers: 1, Priority: 2, RstStream: 3, Settings: 4, PushPromise: 5, Ping: 6, GoAway: 7, WindowUpdate: 8, Continuation: 9,
} as const
export type FrameType = (typeof FrameType)[keyof typeof FrameType]

export const Flag = {
  EndStream: 0x1, Ack: 0x1, EndHeaders: 0x4, Padded: 0x8, Priority: 0x20,
  /** Never on the wire: HEADERS whose priority names its own stream (RFC 7540 5.3.1), which still has to be decoded. */
  SelfDependent: 0x100,
} as const

export const Setting = {
  HeaderTableSize: 1, EnablePush: 2, MaxConcurrentStreams: 3, InitialWindowSize: 4, MaxFrameSize: 5, MaxHeaderListSize: 6,
  EnableConnectProtocol: 8, NoRfc7540Priorities: 9,
} as const

export const FRAME_HEAD_BYTES = 9
/** What SETTINGS_MAX_FRAME_SIZE is where nothing is said of it, and at least. */
export const MIN_MAX_FRAME_BYTES = 16_384
export const MAX_MAX_FRAME_BYTES = 16_777_215
/** Windows before any is changed, and what none may pass. */
export const FIRST_WINDOW = 65_535
export const MAX_WINDOW = 0x7fff_ffff
export const MAX_STREAM_ID = 0x7fff_ffff

/** What a client sends first (RFC 9113 3.4). */
export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** Returns where the frame's payload begins. */
export function writeFrameHead(out: Uint8Array, at: number, length: number, type: number, flags: number, stream: number): number {
  out[at] = length >>> 16
  out[at + 1] = (length >>> 8) & 0xff
  out[at + 2] = length & 0xff
  out[at + 3] = type
  out[at + 4] = flags
  return writeUint32(out, at + 5, stream)
}

/** Returns where the next byte goes. */
export function writeUint32(out: Uint8Array, at: number, value: number): number {
  out[at] = value >>> 24
  out[at + 1] = (value >>> 16) & 0xff
  out[at + 2] = (value >>> 8) & 0xff
  out[at + 3] = value & 0xff
  return at + 4
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}
