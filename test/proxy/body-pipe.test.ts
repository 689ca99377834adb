import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import type { BodyResult } from '../../src/proxy/session.ts'
import { BUFFER_RESERVE } from '../../src/protocols/byte-stream.ts'
import { BodyPipe } from '../../src/proxy/body-pipe.ts'
import { BodyStage, type ChunkFilter, type TrailerFilter } from '../../src/proxy/body-stage.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { FakeClock } from '../support/fake-clock.ts'

/** In front of what a receive buffer hands out. */
const RESERVE = BUFFER_RESERVE

const HOOK_TIMEOUT_MS = 10_000

/** A pipe whose ends write down what happens; the test says what a filter makes of a piece. */
class Ends extends BodyPipe<null> {
  readonly events: string[]
  /** Length of each buffer that was written, and what of it. */
  readonly written: [whole: number, from: number, to: number][] = []
  blocked = false
  onResume: () => void = () => {}
  filter: (chunk: Buffer, last: boolean) => BodyResult | Promise<BodyResult> = chunk => chunk
  trailerFilter: (trailers: HeaderMap) => Buffer | void | Promise<Buffer | void> = () => {}

  readonly #stage: BodyStage<null> | null

  constructor(clock: FakeClock, filters: boolean) {
    const events: string[] = []
    super({ ticker: new Ticker(clock), hookTimeoutMs: HOOK_TIMEOUT_MS }, null)
    const filter: ChunkFilter<null> = (_subject, chunk, last) => {
      events.push(`filter ${chunk.toString()}${last ? ' last' : ''}`)
      return this.filter(chunk, last)
    }
    const trailerFilter: TrailerFilter<null> = (_subject, trailers) => this.trailerFilter(trailers)
    const plain = { keepsLength: false, use: null, useHook: '' }
    this.#stage = filters
      ? new BodyStage([{ filter, hook: 'filter', ...plain }], [{ filter: trailerFilter, hook: 'trailerFilter', ...plain }]) : null
    this.events = events
  }

  protected override pauseSource(): void { this.events.push('pause') }
  protected override resumeSource(): void {
    this.events.push('resume')
    this.onResume()
  }
  protected override giveUpSourceBuffer(): void { this.events.push('give up') }
  protected override get sinkBlocked(): boolean { return this.blocked }
  protected override writeSink(buffer: Buffer, from: number, to: number): void {
    this.written.push([buffer.length, from, to])
    this.events.push(`write ${buffer.toString('latin1', from, to)}`)
  }
  protected override endSink(trailers: HeaderMap | null): void {
    this.events.push(trailers === null ? 'end' : `end ${[...trailers].join()}`)
  }
  protected override failed(thrown: unknown): void { this.events.push(`failed ${(thrown as Error).message}`) }
  start(): void { this.open(this.#stage) }
  take(): string[] { return this.events.splice(0) }
}

function makePipe(filters = true): { pipe: Ends; ends: Ends; clock: FakeClock; chunk(text: string): void } {
  const clock = new FakeClock(), pipe = new Ends(clock, filters)
  // As in a read buffer: room in front, and other bytes around the chunk.
  const chunk = (text: string): void => {
    const from = RESERVE + 2
    pipe.chunk(Buffer.from(`${' '.repeat(RESERVE)}__${text}__`), from, from + text.length)
  }
  return { pipe, ends: pipe, clock, chunk }
}

test('body pipe: nothing passes before the head went out', () => {
  const { pipe, ends, chunk } = makePipe(false)
  chunk('a')
  pipe.end(null)
  assert.deepEqual(ends.take(), ['pause', 'give up'])
  pipe.start()
  assert.deepEqual(ends.take(), ['write a', 'end'])
})

test('body pipe: a filtered chunk is written and its source goes on; the end is filtered once and last', () => {
  const { pipe, ends, chunk } = makePipe()
  pipe.start()
  chunk('a')
  chunk('b')
  pipe.end(null)
  assert.deepEqual(ends.take(), [
    'resume', 'pause', 'filter a', 'write a',
    'resume', 'pause', 'filter b', 'write b',
    'resume', 'filter  last', 'end',
  ])
  pipe.drained()
  pipe.end(null)
  assert.deepEqual(ends.take(), [])
})

test('body pipe: chunks that the source had kept back come within its resume, and all of them pass', () => {
  const { pipe, ends, chunk } = makePipe()
  const kept = ['b', 'c']
  ends.onResume = () => {
    const next = kept.shift()
    if (next !== undefined) chunk(next)
    else pipe.end(null)
  }
  chunk('a')
  pipe.start()
  assert.deepEqual(ends.take().filter(event => event.startsWith('write') || event === 'end'), ['write a', 'write b', 'write c', 'end'])
})

test('body pipe: a promise holds the chunk, the end behind it and the source', async () => {
  const { pipe, ends, chunk } = makePipe(), held = Promise.withResolvers<BodyResult>()
  ends.filter = (piece, last) => last ? piece : held.promise
  pipe.start()
  ends.take()
  chunk('a')
  pipe.end(null)
  pipe.drained()
  assert.deepEqual(ends.take(), ['pause', 'filter a', 'give up'])
  held.resolve(Buffer.from('later'))
  await held.promise
  await Promise.resolve()
  assert.deepEqual(ends.take(), ['write later', 'filter  last', 'end'])
})

test('body pipe: a delay is waited out exactly, and ends with the pipe', () => {
  const { pipe, ends, clock, chunk } = makePipe()
  ends.filter = (piece, last) => last ? null : { chunk: piece, delayMs: 50 }
  pipe.start()
  ends.take()
  chunk('a')
  assert.equal(clock.pending, 1)
  clock.advance(49)
  assert.deepEqual(ends.take(), ['pause', 'filter a'])
  clock.advance(1)
  assert.deepEqual(ends.take(), ['write a', 'resume'])
  chunk('b')
  pipe.stop()
  assert.equal(clock.pending, 0)
  clock.advance(100)
  assert.deepEqual(ends.take(), ['pause', 'filter b'])
})

test('body pipe: a slow sink holds the next chunk and the end until it drained', () => {
  const { pipe, ends, chunk } = makePipe(false)
  pipe.start()
  ends.take()
  ends.blocked = true
  chunk('a')
  pipe.end(null)
  assert.deepEqual(ends.take(), ['pause', 'give up'])
  ends.blocked = false
  pipe.drained()
  assert.deepEqual(ends.take(), ['write a', 'end'])
})

test('body pipe: a part of the chunk is written from where it lies, anything else as a buffer of its own; nothing is not written', () => {
  const { pipe, ends, chunk } = makePipe()
  const results: ((piece: Buffer) => BodyResult)[] = [
    piece => piece.subarray(1, 3),
    () => Buffer.from('xyz'),
    () => null,
    () => Buffer.alloc(0),
  ]
  ends.filter = (piece, last) => last ? null : results.shift()!(piece)
  pipe.start()
  for (let i = 0; i < 4; i++) chunk('abcd')
  assert.deepEqual(ends.written, [[RESERVE + 8, RESERVE + 3, RESERVE + 5], [3, 0, 3]])
})

for (const [what, filter] of [
  ['throws', () => { throw new Error('no') }],
  ['rejects', () => Promise.reject(new Error('no'))],
] as const) {
  test(`relay: a filter that ${what} ends the pipe once, at a chunk as at the end`, async () => {
    for (const atEnd of [false, true]) {
      const { pipe, ends, chunk } = makePipe()
      ends.filter = (piece, last) => last === atEnd ? filter() : piece
      pipe.start()
      chunk('a')
      pipe.end(null)
      await new Promise(setImmediate)
      pipe.start()
      pipe.drained()
      chunk('b')
      assert.deepEqual(ends.take().filter(event => event.startsWith('failed') || event.startsWith('end')), ['failed no'])
    }
  })
}

for (const result of ['text', 7, { chunk: null }, undefined, { chunk: 'text', delayMs: 0 }, { chunk: 'text', delayMs: 5 }]) {
  test(`relay: a filter that returns ${JSON.stringify(result)} is told so at once`, () => {
    const { pipe, ends, chunk } = makePipe()
    ends.filter = () => result as unknown as BodyResult
    pipe.start()
    chunk('a')
    const failures = ends.take().filter(event => event.startsWith('failed'))
    assert.equal(failures.length, 1)
  })
}

test('body pipe: trailers pass their filter behind the last piece, and what it returns is sent instead of them', async () => {
  const trailers = HeaderMap.from({ 'X-Sum': '1' })
  for (const [result, wanted] of [
    [undefined, ['filter  last', 'end X-Sum,1']],
    [Buffer.from('tail'), ['filter  last', 'write tail', 'end']],
    [Promise.resolve(Buffer.from('tail')), ['filter  last', 'write tail', 'end']],
  ] as const) {
    const { pipe, ends } = makePipe()
    ends.trailerFilter = () => result
    pipe.start()
    ends.take()
    pipe.end(trailers)
    await new Promise(setImmediate)
    assert.deepEqual(ends.take(), wanted)
  }
})

test('body pipe: a pipe that was stopped does nothing when its promise comes', async () => {
  const { pipe, ends, chunk } = makePipe(), held = Promise.withResolvers<BodyResult>()
  ends.filter = () => held.promise
  pipe.start()
  chunk('a')
  pipe.stop()
  ends.take()
  held.resolve(Buffer.from('late'))
  await new Promise(setImmediate)
  assert.deepEqual(ends.take(), [])
})
