/** Frames that cost more at the proxy than at the attacker: each kind is cut with the right code, counted, and nobody else notices. */
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import { Flag, FrameType } from '../../../src/protocols/http2/frames.ts'
import type { Attack } from '../attack.ts'
import { ask, block, frame, post, reset, strikeWith, uint32, windowUpdate, type Flood } from '../http2-attacker.ts'

const { EnhanceYourCalm, FlowControlError, StreamClosed } = ErrorCode
const { EndStream, EndHeaders } = Flag
/** Frames in one write. */
const MANY = 100
/** RSS of the largest worker behind the attack, beyond what it had before. */
const GROWTH_MB = 64

const id = (at: number): number => at * 2 + 1
function many(bytes: Buffer, count = MANY): Buffer { return Buffer.concat(Array.from({ length: count }, () => bytes)) }
/** A few streams in each write. */
function streams(round: number, each: (stream: number) => Buffer[], count = 20): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, at) => each(id(round * count + at))).flat())
}
/** What each of them sends: a test tries them in the process of the proxy. */
export const FLOODS = new Map<string, readonly Flood[]>()

function flood(name: string, title: string, floods: readonly Flood[]): Attack {
  FLOODS.set(name, floods)
  return { name, title, bounds: { growthMB: GROWTH_MB }, strike: target => strikeWith(floods, target) }
}
function calm(limit: string, frames: Flood['frames'], more: Partial<Flood> = {}): Flood {
  return { codes: [EnhanceYourCalm], limit, frames, ...more }
}

const rapidReset = flood('http2-rapid-reset', 'streams that are opened and reset (CVE-2023-44487)', [
  calm('resets', round => streams(round, stream => [ask(stream, '/small'), reset(stream)])),
])

const TRIGGERS: readonly (readonly [limit: string, trigger: (stream: number) => Buffer])[] = [
  ['resets', stream => windowUpdate(stream, 0)],
  ['resets', stream => windowUpdate(stream, 0x7fff_ffff)],
  ['resets', stream => frame(FrameType.Priority, 0, stream, '00')],
  // Both budgets are as large: the one for PRIORITY is looked at first.
  ['priorities', stream => frame(FrameType.Priority, 0, stream, `${uint32(stream)}10`)],
  ['resets', stream => ask(stream, '/small')],
  ['resets', stream => frame(FrameType.Data, 0, stream, '78')],
]
const madeYouReset = flood('http2-made-you-reset', 'six ways to have streams reset by the proxy (CVE-2025-8671)', TRIGGERS.map(
  ([limit, trigger]) => calm(limit, round => streams(round, stream => [ask(stream, '/slow?ms=500'), trigger(stream)]), {
    // A busy worker answers at once, and frames behind an answer break another rule.
    codes: [EnhanceYourCalm, StreamClosed],
  }),
))

const continuation = flood('http2-continuation', 'header blocks without end, in full frames and in empty ones (CVE-2024-27316)', [
  calm('continuation-frames', round => Buffer.concat([
    ...round === 0 ? [frame(FrameType.Headers, EndStream, 1, block('/small'))] : [], frame(FrameType.Continuation, 0, 1),
  ])),
  calm('header-block-bytes', round => {
    return frame(round === 0 ? FrameType.Headers : FrameType.Continuation, 0, 1, Buffer.alloc(16_384, 0x82))
  }),
])

/** Into the table once, `b` of 3900 bytes; then a byte each. */
const BOMB = Buffer.concat([Buffer.from('4001627fbd1d', 'hex'), Buffer.alloc(3900, 0x78)])
/** `cookie: a` into the table, then a byte each. */
const CRUMBS = Buffer.concat([Buffer.from('600161', 'hex'), Buffer.alloc(15_000, 0xbe)])

const bombs = flood('http2-bombs', 'heads that unpack to a thousand times their bytes: fields, a large field, crumbs of cookies', [
  calm('header-list-bytes', () => frame(FrameType.Headers, EndStream | EndHeaders, 1, Buffer.alloc(16_000, 0x90))),
  calm('header-list-bytes', () => {
    return frame(FrameType.Headers, EndStream | EndHeaders, 1, Buffer.concat([BOMB, Buffer.alloc(10_000, 0xbe)]))
  }),
  calm('header-list-bytes', () => frame(FrameType.Headers, EndStream | EndHeaders, 1, CRUMBS)),
])

const heldHeads = flood('http2-held-heads', 'a large field of the table in the head of every stream, and windows that stay shut', [
  calm('concurrent-streams', round => {
    const eight = (stream: number): Buffer => {
      const named = Buffer.alloc(stream === 1 ? 7 : 8, 0xbe)
      const fields = Buffer.concat([block('/never'), ...stream === 1 ? [BOMB] : [], named])
      return frame(FrameType.Headers, EndStream | EndHeaders, stream, fields)
    }
    return streams(round, stream => [eight(stream)])
  }, { window: 0 }),
])

const control = flood('http2-control-frames', 'SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty and padded DATA, and frames of no sense', [
  calm('settings', () => many(frame(FrameType.Settings, 0, 0))),
  calm('pings', () => many(frame(FrameType.Ping, 0, 0, '0011223344556677'))),
  calm('priorities', () => many(frame(FrameType.Priority, 0, 9, '0000000110'))),
  calm('window-updates', () => many(windowUpdate(0, 1))),
  calm('empty-data', round => Buffer.concat([...round === 0 ? [post(1, '/upload')] : [], many(frame(FrameType.Data, 0, 1))])),
  calm('empty-data', round => {
    const padded = frame(FrameType.Data, Flag.Padded, 1, Buffer.from([255, ...Buffer.alloc(255)]))
    return Buffer.concat([...round === 0 ? [post(1, '/upload')] : [], many(padded)])
  }),
  calm('glitches', () => many(frame(0x0a, 0, 0))),
  calm('glitches', () => many(frame(FrameType.Settings, Flag.Ack, 0))),
])

const beyond = flood('http2-streams-beyond', 'a thousand streams where a hundred are allowed', [
  calm('concurrent-streams', round => streams(round, stream => [ask(stream, '/never')], MANY)),
])

const behindReset = flood('http2-data-behind-reset', 'DATA without end on streams that were reset (CVE-2026-26311)', [
  {
    codes: [FlowControlError], limit: 'bad-framing',
    frames: round => Buffer.concat([
      ...round === 0 ? [post(1, '/upload'), reset(1)] : [], many(frame(FrameType.Data, 0, 1, Buffer.alloc(1000))),
    ]),
  },
])

export const http2Floods: readonly Attack[] = [
  rapidReset, madeYouReset, continuation, bombs, heldHeads, control, beyond, behindReset,
]
