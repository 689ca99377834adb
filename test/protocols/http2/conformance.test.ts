/**
 * What HTTP/2 and HPACK ask of a server, by sections: the ground of h2spec (its generic, http2 and hpack suites in strict mode) as frames
 * of our own, so that it is looked at in every run and with the exact word that is said here. A request that is whole is answered with
 * 200 and `hello`. What an origin may get wrong is client-conformance.test.ts.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ErrorCode, Flag, frame, FrameType, GET, H2World, POST, PREFACE, type Fields } from './server-world.ts'

const { ProtocolError, StreamClosed, FlowControlError, FrameSizeError, CompressionError, RefusedStream } = ErrorCode
const { Data, Headers, Priority, RstStream, Settings, PushPromise, Ping, GoAway, WindowUpdate, Continuation } = FrameType
const { EndStream, EndHeaders, Padded } = Flag
const BOTH = EndStream | EndHeaders

/** Each builder is one read of the server; it is asked when the one before has been answered. */
type Read = (world: H2World) => readonly Buffer[]
interface Case {
  readonly reads: readonly Read[]
  /** Everything that the server says behind its preface. */
  readonly says: readonly string[]
  readonly options?: Parameters<typeof H2World.open>[0]
}

function uint32(value: number): string { return value.toString(16).padStart(8, '0') }
function update(stream: number, bytes: number): Buffer { return frame(WindowUpdate, 0, stream, uint32(bytes)) }
function reset(stream: number, code = 8): Buffer { return frame(RstStream, 0, stream, uint32(code)) }
function setting(id: number, value: number): Buffer { return frame(Settings, 0, 0, id.toString(16).padStart(4, '0') + uint32(value)) }
function depends(stream: number, on: number, weight = 16): Buffer {
  return frame(Priority, 0, stream, uint32(on) + weight.toString(16).padStart(2, '0'))
}
const PING = frame(Ping, 0, 0, '6832737065630000')

const dying = (code: number, last = 0): string => `goaway ${last} ${code}`
const over = (code: number, stream = 1): string => `reset ${stream} ${code}`
const answer = (stream: number): string[] => [`head ${stream} 200`, `data ${stream} 5 end`]
const once = (read: Read, ...says: string[]): Case => ({ reads: [read], says })
const GOOD = answer(1)

/** A head of plain bytes around what is looked at: `:method GET`, `:scheme http`, `:path /`, `:authority a.example`. */
function raw(hex: string, stream = 1): Buffer {
  return frame(Headers, BOTH, stream, `828684410761${Buffer.from('.examp').toString('hex')}${hex}`)
}
function fields(list: Fields, flags: number = EndStream): Read { return world => [world.head(1, list, flags), PING] }
function without(name: string): Fields { return GET.filter(([each]) => each !== name) }
function withValue(name: string, value: string): Fields { return GET.map(([each, old]) => [each, each === name ? value : old] as const) }
/** A block in so many parts. */
function parts(world: H2World, count: number, flags: number = EndStream): Buffer[] {
  const block = world.block(GET), size = Math.ceil(block.length / count)
  return Array.from({ length: count }, (_, at) => {
    const end = at === count - 1 ? EndHeaders : 0
    return frame(at === 0 ? Headers : Continuation, (at === 0 ? flags : 0) | end, 1, block.subarray(at * size, (at + 1) * size))
  })
}
const malformed = (read: Read): Case => once(read, over(ProtocolError), 'ping ack')

const SECTIONS: Readonly<Record<string, Readonly<Record<string, Case>>>> = {
  'RFC 9113 3.4, the preface': {
    'a request behind it': once(world => [world.head(1)], ...GOOD),
  },
  'RFC 9113 4.1, frames': {
    'an unknown type': once(() => [frame(0x16, 0, 0, '00'.repeat(8)), PING], 'ping ack'),
    'a flag that is not defined': once(() => [frame(Ping, 0x16, 0, '00'.repeat(8))], 'ping ack'),
    'the reserved bit of a stream': once(() => [frame(Ping, 0, 0x8000_0000, '00'.repeat(8))], 'ping ack'),
  },
  'RFC 9113 4.2, their size': {
    'DATA of 2^14 bytes': once(world => [world.head(1, POST, 0), world.data(1, 'x'.repeat(16_384), EndStream)], ...GOOD),
    'DATA of more': once(world => [world.head(1, POST, 0), world.data(1, 'x'.repeat(16_385), EndStream)], dying(FrameSizeError, 1)),
    'HEADERS of more': once(() => [frame(Headers, BOTH, 1, Buffer.alloc(16_385, 0x82))], dying(FrameSizeError)),
  },
  'RFC 9113 4.3, header blocks': {
    'one that cannot be decoded': once(() => [raw('40')], dying(CompressionError)),
    'PRIORITY between its parts': once(world => [parts(world, 2)[0]!, depends(1, 0), PING], dying(ProtocolError)),
    'HEADERS of another stream between its parts': once(world => [parts(world, 2)[0]!, world.head(3)], dying(ProtocolError)),
  },
  'RFC 9113 5.1, states of streams': {
    'idle: PRIORITY': once(world => [depends(1, 0), world.head(1)], ...GOOD),
    'idle: PRIORITY, then HEADERS of a lower stream': once(world => [depends(5, 0), world.head(3)], ...answer(3)),
    'idle: DATA': once(world => [world.data(1, 'x')], dying(ProtocolError)),
    'idle: RST_STREAM': once(() => [reset(1)], dying(ProtocolError)),
    'idle: WINDOW_UPDATE': once(() => [update(1, 100)], dying(ProtocolError)),
    'idle: CONTINUATION': once(world => [frame(Continuation, EndHeaders, 1, world.block(GET))], dying(ProtocolError)),
    'half-closed: DATA': once(world => [world.head(1), world.data(1, 'x'), PING], over(StreamClosed), 'ping ack'),
    'half-closed: HEADERS': once(world => [world.head(1), world.head(1), PING], over(StreamClosed), 'ping ack'),
    'half-closed: CONTINUATION': once(world => [world.head(1), frame(Continuation, EndHeaders, 1, '82')], dying(ProtocolError, 1)),
    'half-closed: WINDOW_UPDATE': once(world => [world.head(1), update(1, 1)], ...GOOD),
    'half-closed: PRIORITY': once(world => [world.head(1), depends(1, 0)], ...GOOD),
    'half-closed: RST_STREAM': once(world => [world.head(1), reset(1), PING], 'ping ack'),
    'reset by the client: DATA': once(
      world => [world.head(1, POST, 0), reset(1), world.data(1, 'x'), PING], over(StreamClosed), 'ping ack',
    ),
    'reset by the client: HEADERS': once(world => [world.head(1, POST, 0), reset(1), world.head(1)], dying(StreamClosed, 1)),
    'reset by the client: CONTINUATION': once(
      world => [world.head(1, POST, 0), reset(1), frame(Continuation, EndHeaders, 1, '82')], dying(ProtocolError, 1),
    ),
    'closed: DATA': { reads: [world => [world.head(1)], world => [world.data(1, 'x')]], says: [...GOOD, over(StreamClosed)] },
    'closed: HEADERS': { reads: [world => [world.head(1)], world => [world.head(1)]], says: [...GOOD, dying(StreamClosed, 1)] },
    'closed: CONTINUATION': {
      reads: [world => [world.head(1)], () => [frame(Continuation, EndHeaders, 1, '82')]], says: [...GOOD, dying(ProtocolError, 1)],
    },
    'closed: PRIORITY': { reads: [world => [world.head(1)], () => [depends(1, 0), PING]], says: [...GOOD, 'ping ack'] },
    'closed: WINDOW_UPDATE and RST_STREAM': {
      reads: [world => [world.head(1)], () => [update(1, 1), reset(1), PING]], says: [...GOOD, 'ping ack'],
    },
  },
  'RFC 9113 5.1.1, numbers of streams': {
    'an even one': once(world => [world.head(2)], dying(ProtocolError)),
    'one that is lower than before': once(world => [world.head(5, POST, 0), world.head(3)], dying(ProtocolError, 5)),
    'one that was skipped': { reads: [world => [world.head(7)], world => [world.head(5)]], says: [...answer(7), dying(ProtocolError, 7)] },
  },
  'RFC 9113 5.1.2, how many streams': {
    'more than SETTINGS say': {
      reads: [world => [world.head(1, POST, 0), world.head(3, POST, 0), world.head(5), PING]], says: [over(RefusedStream, 5), 'ping ack'],
      options: { http2: { maxConcurrentStreams: 2 } },
    },
  },
  'RFC 7540 5.3.1, what depends on what': {
    'HEADERS of themselves': once(world => {
      const head = Buffer.concat([Buffer.from('0000000110', 'hex'), world.block(GET)])
      return [frame(Headers, BOTH | Flag.Priority, 1, head), PING]
    }, over(ProtocolError), 'ping ack'),
    'PRIORITY of itself': once(world => [world.head(1, POST, 0), depends(1, 1), PING], over(ProtocolError), 'ping ack'),
    'PRIORITY of itself, idle': once(() => [depends(1, 1)], dying(ProtocolError)),
  },
  'RFC 9113 5.4.1, errors of a connection': {
    'GOAWAY, and FIN behind it': once(() => [frame(Ping, 0, 3, '00'.repeat(8)), PING], dying(ProtocolError)),
  },
  'RFC 9113 5.5, extensions': {
    'an unknown frame on a stream': once(() => [frame(0xff, 0xff, 1, '00'.repeat(8)), PING], 'ping ack'),
    'an unknown frame within a header block': once(world => [parts(world, 2)[0]!, frame(0xff, 1, 0, '00')], dying(ProtocolError)),
  },
  'RFC 9113 6.1, DATA': {
    'one frame': once(world => [world.head(1, POST, 0), world.data(1, 'test', EndStream)], ...GOOD),
    'several': once(world => [world.head(1, POST, 0), world.data(1, 'te'), world.data(1, 'st'), world.data(1, '', EndStream)], ...GOOD),
    'padded': once(world => [world.head(1, POST, 0), frame(Data, Padded | EndStream, 1, '057465737400'.repeat(5))], ...GOOD),
    'stream 0': once(() => [frame(Data, EndStream, 0, '74')], dying(ProtocolError)),
    'more padding than there is': once(world => [world.head(1, POST, 0), frame(Data, Padded, 1, '0574657374')], dying(ProtocolError, 1)),
    'as much padding as there is': once(world => [world.head(1, POST, 0), frame(Data, Padded, 1, '0200')], dying(ProtocolError, 1)),
    'padded without a word of it': once(world => [world.head(1, POST, 0), frame(Data, Padded, 1)], dying(FrameSizeError, 1)),
  },
  'RFC 9113 6.2, HEADERS': {
    'one frame': once(world => [world.head(1)], ...GOOD),
    'padded': once(world => {
      return [frame(Headers, BOTH | Padded, 1, Buffer.concat([Buffer.from([4]), world.block(GET), Buffer.alloc(4)]))]
    }, ...GOOD),
    'with a priority': once(world => {
      return [frame(Headers, BOTH | Flag.Priority, 1, Buffer.concat([Buffer.from('00000000ff', 'hex'), world.block(GET)]))]
    }, ...GOOD),
    'padded, and with a priority': once(world => {
      const payload = Buffer.concat([Buffer.from('030000000310', 'hex'), world.block(GET), Buffer.alloc(3)])
      return [frame(Headers, BOTH | Flag.Priority | Padded, 1, payload)]
    }, ...GOOD),
    'stream 0': once(world => [world.head(0)], dying(ProtocolError)),
    'more padding than there is': once(() => [frame(Headers, BOTH | Padded, 1, 'ff82')], dying(ProtocolError)),
    'no room for its priority': once(() => [frame(Headers, BOTH | Flag.Priority, 1, '00000000')], dying(FrameSizeError)),
    'no END_HEADERS, and PRIORITY': once(world => [parts(world, 2)[0]!, depends(3, 0)], dying(ProtocolError)),
    'no END_HEADERS, and DATA': once(world => [parts(world, 2)[0]!, world.data(1, 'x')], dying(ProtocolError)),
  },
  'RFC 9113 6.3, PRIORITY': {
    'of every weight': once(world => [depends(1, 0, 0), depends(3, 0, 255), world.head(1)], ...GOOD),
    'exclusive': once(world => [depends(1, 0x8000_0000), world.head(1)], ...GOOD),
    'of a stream that is not there': once(world => [depends(1, 99), world.head(1)], ...GOOD),
    'stream 0': once(() => [depends(0, 1)], dying(ProtocolError)),
    'other than 5 bytes': once(
      world => [world.head(1, POST, 0), frame(Priority, 0, 1, '80000001'), PING], over(FrameSizeError), 'ping ack',
    ),
  },
  'RFC 9113 6.4, RST_STREAM': {
    'of an open stream': once(world => [world.head(1, POST, 0), reset(1), PING], 'ping ack'),
    'stream 0': once(() => [reset(0)], dying(ProtocolError)),
    'an idle stream': once(() => [reset(1)], dying(ProtocolError)),
    'other than 4 bytes': once(world => [world.head(1, POST, 0), frame(RstStream, 0, 1, '000000')], dying(FrameSizeError, 1)),
  },
  'RFC 9113 6.5, SETTINGS': {
    'empty': once(() => [frame(Settings, 0, 0)], 'settings ack'),
    'an acknowledgement with a payload': once(() => [frame(Settings, Flag.Ack, 0, '00')], dying(FrameSizeError)),
    'of a stream': once(() => [frame(Settings, 0, 1, '000300000064')], dying(ProtocolError)),
    'other than times 6 bytes': once(() => [frame(Settings, 0, 0, '000300')], dying(FrameSizeError)),
  },
  'RFC 9113 6.5.2, what they may be': {
    'ENABLE_PUSH other than 0 and 1': once(() => [setting(2, 2)], dying(ProtocolError)),
    'INITIAL_WINDOW_SIZE over 2^31-1': once(() => [setting(4, 0x8000_0000)], dying(FlowControlError)),
    'MAX_FRAME_SIZE under 2^14': once(() => [setting(5, 16_383)], dying(ProtocolError)),
    'MAX_FRAME_SIZE over 2^24-1': once(() => [setting(5, 16_777_216)], dying(ProtocolError)),
    'ENABLE_CONNECT_PROTOCOL other than 0 and 1 (RFC 8441 3)': once(() => [setting(8, 2)], dying(ProtocolError)),
    'one that nobody knows': once(() => [setting(0xff, 1), PING], 'settings ack', 'ping ack'),
  },
  'RFC 9113 6.5.3, how they come into force': {
    'one value twice: the last holds': once(
      world => [frame(Settings, 0, 0, '000400000064000400000001'), world.head(1)], 'settings ack', 'head 1 200', 'data 1 1',
    ),
    'each is acknowledged': once(() => [setting(3, 1), setting(3, 2)], 'settings ack', 'settings ack'),
  },
  'RFC 9113 6.6, PUSH_PROMISE': {
    'of a client': once(world => {
      return [frame(PushPromise, EndHeaders, 1, Buffer.concat([Buffer.from('00000002', 'hex'), world.block(GET)]))]
    }, dying(ProtocolError)),
  },
  'RFC 9113 6.7, PING': {
    'comes back': once(() => [PING], 'ping ack'),
    'that came back does not': once(() => [frame(Ping, Flag.Ack, 0, '00'.repeat(8)), PING], 'ping ack'),
    'of a stream': once(() => [frame(Ping, 0, 1, '00'.repeat(8))], dying(ProtocolError)),
    'other than 8 bytes': once(() => [frame(Ping, 0, 0, '00'.repeat(6))], dying(FrameSizeError)),
  },
  'RFC 9113 6.8, GOAWAY': {
    'what the client has begun goes on': once(world => [world.head(1, POST, 0), frame(GoAway, 0, 0, '00'.repeat(8)), PING], 'ping ack'),
    'of a stream': once(() => [frame(GoAway, 0, 1, '00'.repeat(8))], dying(ProtocolError)),
    'too short': once(() => [frame(GoAway, 0, 0, '00'.repeat(7))], dying(FrameSizeError)),
  },
  'RFC 9113 6.9, WINDOW_UPDATE': {
    'of the connection, of a stream': once(world => [update(0, 1), world.head(1), update(1, 1)], ...GOOD),
    'of nothing, for the connection': once(() => [update(0, 0)], dying(ProtocolError)),
    'of nothing, for a stream': once(world => [world.head(1, POST, 0), update(1, 0), PING], over(ProtocolError), 'ping ack'),
    'with the reserved bit, of nothing': once(() => [update(0, 0x8000_0000)], dying(ProtocolError)),
    'other than 4 bytes': once(() => [frame(WindowUpdate, 0, 0, '000001')], dying(FrameSizeError)),
  },
  'RFC 9113 6.9.1, windows': {
    'an answer of a byte at a time': {
      reads: [world => [setting(4, 1), world.head(1)], () => [update(1, 1)], () => [update(1, 3)]],
      says: ['settings ack', 'head 1 200', 'data 1 1', 'data 1 1', 'data 1 3 end'],
    },
    'that of the connection over 2^31-1': once(() => [update(0, 0x7fff_ffff), update(0, 0x7fff_ffff)], dying(FlowControlError)),
    'that of a stream over 2^31-1': once(
      world => [world.head(1, POST, 0), update(1, 0x7fff_ffff), PING], over(FlowControlError), 'ping ack',
    ),
  },
  'RFC 9113 6.9.2, how windows begin': {
    'changed behind HEADERS': {
      reads: [world => [setting(4, 0), world.head(1)], () => [setting(4, 1)]],
      says: ['settings ack', 'head 1 200', 'settings ack', 'data 1 1'],
    },
    'less than nothing': {
      reads: [world => [setting(4, 3), world.head(1)], () => [setting(4, 2)], () => [update(1, 2)]],
      says: ['settings ack', 'head 1 200', 'data 1 3', 'settings ack', 'data 1 1'],
    },
  },
  'RFC 9113 6.10, CONTINUATION': {
    'one': once(world => parts(world, 2), ...GOOD),
    'several': once(world => parts(world, 5), ...GOOD),
    'an empty one': once(world => [
      frame(Headers, EndStream, 1, world.block(GET)), frame(Continuation, 0, 1), frame(Continuation, EndHeaders, 1),
    ], ...GOOD),
    'followed by another frame': once(world => [...parts(world, 3).slice(0, 2), world.data(1, 'x')], dying(ProtocolError)),
    'stream 0': once(world => [parts(world, 2)[0]!, frame(Continuation, EndHeaders, 0, '82')], dying(ProtocolError)),
    'of another stream': once(world => [parts(world, 2)[0]!, frame(Continuation, EndHeaders, 3, '82')], dying(ProtocolError)),
    'behind END_HEADERS': once(world => [world.head(1, POST, 0), frame(Continuation, EndHeaders, 1, '82')], dying(ProtocolError, 1)),
    'behind END_HEADERS of another': once(
      world => [...parts(world, 2, 0), frame(Continuation, EndHeaders, 1, '82')], dying(ProtocolError, 1),
    ),
    'behind DATA': once(
      world => [world.head(1, POST, 0), world.data(1, 'x'), frame(Continuation, EndHeaders, 1, '82')], dying(ProtocolError, 1),
    ),
  },
  'RFC 9113 7, error codes': {
    'GOAWAY with one that nobody knows': once(() => [frame(GoAway, 0, 0, '00000000000000ff'), PING], 'ping ack'),
    'RST_STREAM with one that nobody knows': once(world => [world.head(1, POST, 0), reset(1, 0xff), PING], 'ping ack'),
  },
  'RFC 9113 8.1, messages': {
    'GET': once(world => [world.head(1)], ...GOOD),
    'HEAD': once(world => [world.head(1, withValue(':method', 'HEAD'))], 'head 1 200 end'),
    'POST': once(world => [world.head(1, POST, 0), world.data(1, 'x', EndStream)], ...GOOD),
    'POST with trailers': once(world => [world.head(1, POST, 0), world.data(1, 'x'), world.head(1, [['x-sum', '1']])], ...GOOD),
    'HEADERS within a body': malformed(world => [world.head(1, POST, 0), world.data(1, 'x'), world.head(1, [['x', 'y']], 0), PING]),
  },
  'RFC 9113 8.2, fields': {
    'a name in upper case': malformed(fields([...GET, ['X-TEST', 'ok']])),
    'Connection': malformed(fields([...GET, ['connection', 'keep-alive']])),
    'TE other than trailers': malformed(fields([...GET, ['trailers', 'test'], ['te', 'trailers, deflate']])),
  },
  'RFC 9113 8.3, pseudo-fields': {
    'one that nobody knows': malformed(fields([...GET, [':test', 'ok']])),
    'one of answers': malformed(fields([...GET, [':status', '200']])),
    'one in trailers': malformed(world => [world.head(1, POST, 0), world.head(1, [[':method', 'GET']]), PING]),
    'one behind others': malformed(fields([...without(':path'), ['x-test', 'ok'], [':path', '/']])),
    'an empty :path': malformed(fields(withValue(':path', ''))),
    'no :method': malformed(fields(without(':method'))),
    'no :scheme': malformed(fields(without(':scheme'))),
    'no :path': malformed(fields(without(':path'))),
    ':method twice': malformed(fields([...GET, [':method', 'GET']])),
    ':scheme twice': malformed(fields([...GET, [':scheme', 'http']])),
    ':path twice': malformed(fields([...GET, [':path', '/']])),
    ':authority twice': malformed(fields([...GET, [':authority', 'a.example']])),
  },
  'RFC 9113 8.1.1, messages that are malformed': {
    'a length other than DATA has': malformed(
      world => [world.head(1, [...POST, ['content-length', '1']], 0), world.data(1, 'test', EndStream), PING],
    ),
    'a length other than all DATA has': malformed(
      world => [world.head(1, [...POST, ['content-length', '1']], 0), world.data(1, 't'), world.data(1, 'est', EndStream), PING],
    ),
    'a length other than there is': malformed(
      world => [world.head(1, [...POST, ['content-length', '5']], 0), world.data(1, 'test', EndStream), PING],
    ),
  },
  'RFC 7541 2.3.3, indexes': {
    'of nothing': once(() => [raw('c6')], dying(CompressionError)),
  },
  'RFC 7541 4.2, the table': {
    'a size behind fields': once(() => [raw('3fe11f')], dying(CompressionError)),
    'three sizes': once(() => [frame(Headers, BOTH, 1, '2020208286')], dying(CompressionError)),
    'two sizes': once(world => [frame(Headers, BOTH, 1, Buffer.concat([Buffer.from('203fe11f', 'hex'), world.block(GET)]))], ...GOOD),
    'a size': once(() => [frame(Headers, BOTH, 1, `20${raw('').subarray(9).toString('hex')}`)], ...GOOD),
    'a size over the limit': once(() => [frame(Headers, BOTH, 1, '3fe21f8286')], dying(CompressionError)),
  },
  'RFC 7541 5.1, integers': {
    'that do not end': once(() => [raw('ff')], dying(CompressionError)),
    'that are longer than any block': once(() => [raw('ffffffffffffff0f')], dying(CompressionError)),
  },
  'RFC 7541 5.2, texts': {
    'padding of more than 7 bits': once(() => [raw('0004746573748449509fff')], dying(CompressionError)),
    'padding of zeros': once(() => [raw('00047465737483495090')], dying(CompressionError)),
    'the end symbol': once(() => [raw('00047465737484ffffffff')], dying(CompressionError)),
    'longer than the block': once(() => [raw('000474657374057465')], dying(CompressionError)),
  },
  'RFC 7541 6, forms of a field': {
    'indexed': once(() => [raw('90')], ...GOOD),
    'indexed 0': once(() => [raw('80')], dying(CompressionError)),
    'literal, to be indexed, name by index': once(() => [raw('7a026f6b')], ...GOOD),
    'literal, to be indexed, name by index, in code': once(() => [raw('7a823f5f')], ...GOOD),
    'literal, to be indexed': once(() => [raw('4004746573740161')], ...GOOD),
    'literal, to be indexed, in code': once(() => [raw('408349509f811f')], ...GOOD),
    'literal, name by index': once(() => [raw('0f2b026f6b')], ...GOOD),
    'literal, name by index, in code': once(() => [raw('0f2b823f5f')], ...GOOD),
    'literal': once(() => [raw('0004746573740161')], ...GOOD),
    'literal, in code': once(() => [raw('008349509f811f')], ...GOOD),
    'never indexed, name by index': once(() => [raw('1f2b026f6b')], ...GOOD),
    'never indexed, name by index, in code': once(() => [raw('1f2b823f5f')], ...GOOD),
    'never indexed': once(() => [raw('1004746573740161')], ...GOOD),
    'never indexed, in code': once(() => [raw('108349509f811f')], ...GOOD),
    'what was indexed is there for the next head': {
      reads: [() => [raw('400474657374026f6b')], () => [raw('bf', 3)]], says: [...GOOD, ...answer(3)],
    },
  },
}

async function say(world: H2World, read: readonly Buffer[]): Promise<void> {
  await world.say(...read)
  for (const owner of world.owners) if (owner.ended && owner.faults.length === 0) owner.answer(200, 'hello')
  await world.settle()
}

for (const [section, cases] of Object.entries(SECTIONS)) {
  describe(`http2 conformance: ${section}`, () => {
    for (const [what, { reads, says, options }] of Object.entries(cases)) {
      it(what, async () => {
        const world = await H2World.open(options)
        for (const read of reads) await say(world, read(world))
        assert.deepEqual(world.words, says)
        assert.equal(world.client.ended, says.some(word => word.startsWith('goaway')), 'FIN follows GOAWAY and nothing else')
        await world.end()
        assert.deepEqual([world.connection.active, world.ticker.size], [0, 0])
      })
    }
  })
}

it('http2 conformance: RFC 9113 3.4, a preface that is another ends the connection, wherever it differs', async () => {
  for (let at = 0; at < PREFACE.length; at++) {
    const bytes = Buffer.from(PREFACE), world = new H2World()
    bytes[at]! ^= 0x20
    await world.say(bytes)
    assert.deepEqual([world.goAwayCode, world.client.ended], [ProtocolError, true])
  }
})
