/**
 * Two ends of TLS streams that write, pause, take buffers of their own, give them up and spoil what is theirs to spoil, in any
 * order: what one end wrote is what the other one reads, bytes that an owner may rely on do not change, and in the end nothing is held.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { heldBytes } from '../../../src/primitives/held-bytes.ts'
import { BUFFER_RESERVE } from '../../../src/protocols/byte-stream.ts'
import { useOnread, type TlsStream } from '../../../src/protocols/tls/tls-stream.ts'
import { Collector, Line, tlsSides, type Ending } from '../../support/tls-sides.ts'
import { within } from '../../support/wait-for.ts'

type Write = 'text' | 'bytes' | 'flush' | 'wait' | 'tick'
type Read = 'pass' | 'own' | 'shared' | 'pause' | 'pause-tick' | 'give-up' | 'pause-resume'

interface Plan {
  readonly writes: readonly (readonly [act: Write, bytes: number])[]
  /** One a piece, over and over. */
  readonly reads: readonly Read[]
  readonly line: number | null
}

const size = fc.oneof(
  fc.integer({ min: 1, max: 50 }), fc.constantFrom(4096, 16_384, 16_383, 32_768, 65_536), fc.integer({ min: 1, max: 150_000 }),
)
const act = fc.constantFrom<Write>('text', 'bytes', 'bytes', 'flush', 'wait', 'tick')
const plan: fc.Arbitrary<Plan> = fc.record({
  writes: fc.array(fc.tuple(act, size), { minLength: 1, maxLength: 25 }),
  reads: fc.array(
    fc.constantFrom<Read>('pass', 'own', 'shared', 'pause', 'pause-tick', 'give-up', 'pause-resume'),
    { minLength: 1, maxLength: 8 },
  ),
  line: fc.constantFrom(null, null, 0, 1000, 16_406),
})

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789'.repeat(6000)
const soon = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** Reads as planned; `text` is copied within each call, as whoever keeps bytes has to. */
class Reader extends Collector {
  /** Relied upon, and what they were. */
  readonly kept: { readonly bytes: Buffer; readonly was: string }[] = []
  #piece = 0

  constructor(reads: readonly Read[]) {
    super()
    this.onPiece = (_, buffer, from, to) => this.#act(reads[this.#piece++ % reads.length]!, buffer, from, to)
  }

  #act(read: Read, buffer: Buffer, from: number, to: number): void {
    const stream = this.stream as TlsStream, own = stream.receiveBuffer
    const keep = (): void => { this.kept.push({ bytes: buffer.subarray(from, to), was: buffer.latin1Slice(from, to) }) }
    switch (read) {
      case 'pass': break
      case 'own': own.useOwnBuffer(); break
      case 'shared': own.useSharedBuffer(); break
      case 'give-up':
        if (!own.ownsBuffer || !own.giveUpBuffer()) break
        keep()
        buffer.fill('#', from - BUFFER_RESERVE, from)
        buffer.fill('#', to, to + BUFFER_RESERVE)
        return
      case 'pause-resume':
        stream.pause()
        stream.resume()
        break
      case 'pause': case 'pause-tick': {
        const isOwn = own.ownsBuffer
        stream.pause()
        buffer.fill('#', from - BUFFER_RESERVE, from)
        buffer.fill('#', to, to + BUFFER_RESERVE)
        const was = buffer.latin1Slice(from, to), goOn = (): void => {
          if (isOwn) assert.equal(buffer.latin1Slice(from, to), was, 'bytes of a paused owner')
          stream.resume()
        }
        if (read === 'pause') setImmediate(goOn)
        else process.nextTick(goOn)
        return
      }
    }
    // The owner may do what it likes to the bytes within its call.
    if (own.ownsBuffer && !stream.paused && read !== 'own') buffer.fill('#', from - BUFFER_RESERVE, to + BUFFER_RESERVE)
  }
}

async function write(stream: TlsStream, owner: Collector, { writes }: Plan): Promise<string> {
  let sent = '', at = 0
  for (const [what, bytes] of writes) {
    const text = ALPHABET.slice(at % 100, at % 100 + bytes)
    switch (what) {
      case 'text': stream.writeText(text); break
      case 'bytes': stream.writeBytes(Buffer.from(text)); break
      case 'flush': stream.flush(); continue
      case 'tick': await Promise.resolve(); continue
      case 'wait':
        if (stream.bytesQueued > 0) await within('room', new Promise<void>(resolve => { owner.onDrained = resolve }))
        else await soon()
        continue
    }
    sent += text
    at += bytes
  }
  return sent
}

async function run(t: Ending, toServer: Plan, toClient: Plan): Promise<void> {
  const sides = await tlsSides(t, toServer.line === null ? {} : { line: new Line(toServer.line) })
  const server = new Reader(toServer.reads), client = new Reader(toClient.reads)
  for (const [reader, stream] of [[server, sides.server], [client, sides.client]] as const) {
    reader.stream = stream
    stream.owner = reader
  }
  const [asked, answered] = await Promise.all([write(sides.client, client, toServer), write(sides.server, server, toClient)])
  sides.client.end()
  sides.server.end()
  await within('both ends', Promise.all([server.closed.promise, client.closed.promise]))
  assert.equal(server.text, asked)
  assert.equal(client.text, answered)
  assert.deepEqual([server.events, client.events], [['end', 'closed'], ['end', 'closed']])
  for (const { bytes, was } of [...server.kept, ...client.kept]) assert.equal(bytes.latin1Slice(0, bytes.length), was, 'bytes given up')
}

/** Like `run`, but one side destroys its stream at its nth piece. */
async function destroyed(t: Ending, toServer: Plan, toClient: Plan, at: number, reset: boolean): Promise<void> {
  const sides = await tlsSides(t, toServer.line === null ? {} : { line: new Line(toServer.line) })
  const server = new Reader(toServer.reads), client = new Reader(toClient.reads), acts = server.onPiece
  let pieces = 0
  server.onPiece = (reader, buffer, from, to) => {
    acts(reader, buffer, from, to)
    if (++pieces === at) sides.server.destroy(reset)
  }
  for (const [reader, stream] of [[server, sides.server], [client, sides.client]] as const) {
    reader.stream = stream
    stream.owner = reader
  }
  const bytes = (writes: Plan): Buffer => Buffer.from(ALPHABET.slice(0, writes.writes.reduce((sum, [, count]) => sum + count, 0) % 200_000))
  sides.client.writeBytes(bytes(toServer))
  sides.server.writeBytes(bytes(toClient))
  sides.client.writeText('and more')
  sides.client.end()
  await soon()
  sides.server.destroy(reset)
  await within('both ends', Promise.all([server.closed.promise, client.closed.promise]))
  assert.deepEqual([server.events.at(-1), sides.server.descriptor, sides.client.descriptor], ['closed', -1, -1])
}

test('tls stream model: one that is destroyed at any moment leaves nothing', async () => {
  await fc.assert(fc.asyncProperty(plan, plan, fc.integer({ min: 1, max: 6 }), fc.boolean(), async (toServer, toClient, at, reset) => {
    const before = heldBytes.now, ends: (() => unknown)[] = []
    try { await destroyed({ after: end => { ends.push(end as () => unknown) } }, toServer, toClient, at, reset) } finally {
      for (const end of ends) end()
    }
    assert.equal(heldBytes.now, before)
  }), { numRuns: 40 })
})

for (const [name, viaOnread, numRuns] of [['onread', true, 60], ["'data'", false, 15]] as const) {
  test(`tls stream model: through ${name}, what was written is what is read, and nothing stays held`, async () => {
    await fc.assert(fc.asyncProperty(plan, plan, async (toServer, toClient) => {
      const before = heldBytes.now, ends: (() => unknown)[] = []
      useOnread(viaOnread)
      try { await run({ after: end => { ends.push(end as () => unknown) } }, toServer, toClient) } finally {
        useOnread(true)
        for (const end of ends) end()
      }
      assert.equal(heldBytes.now, before)
    }), { numRuns })
  })
}
