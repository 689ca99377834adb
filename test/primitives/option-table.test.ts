import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  awaiting, callback, choice, code, count, countOr, defaultsOf, duration, flag, MAX_COUNT, MAX_DURATION_MS, needed,
  number, object, OptionError, options,
  partOf, path, rate, resolveOptions, showValue, size, text, type Option, type OptionTable,
} from '../../src/primitives/option-table.ts'

interface InnerOptions { waitMs?: number; loud?: boolean }
interface SampleOptions {
  waitMs?: number
  waitMsMax?: number
  keepBytes?: number
  minBytesPerSecond?: number
  retries?: number
  slots?: number | 'all'
  share?: number
  mode?: 'fast' | 'slow'
  quiet?: boolean
  title?: string
  file?: string
  onEvent?: (() => void) | null
  clock?: object | null
  inner?: InnerOptions
  proxy?: InnerOptions | null
  future?: boolean
}

const INNER = { waitMs: duration(5, { zero: 'turns it off' }), loud: flag(false) } satisfies OptionTable<InnerOptions>
const SAMPLE = {
  waitMs: duration(1000, { zero: 'never waits' }),
  waitMsMax: duration(2000, { zero: 'never waits', atLeast: 'waitMs' }),
  keepBytes: size(1024, { min: 256 }),
  minBytesPerSecond: rate(500, { zero: 'turns it off' }),
  retries: count(3),
  slots: countOr('all', { max: 8 }),
  share: number(0.5, 0, 1),
  mode: choice('fast', ['fast', 'slow']),
  quiet: flag(false),
  title: text('', "'' or a title in lower case", title => title === title.toLowerCase()),
  file: path('stdout', 'stdout, or a path', ['stdout']),
  onEvent: callback<(() => void) | null>(null),
  clock: object<object>('a clock'),
  inner: options<InnerOptions>(INNER, defaultsOf<InnerOptions>(INNER)),
  proxy: options<InnerOptions, null>(INNER, null),
  future: awaiting('time travel', flag(false)),
} satisfies OptionTable<SampleOptions>

const resolve = (given: object): Readonly<Required<SampleOptions>> => resolveOptions<SampleOptions>(
  'sample',
  SAMPLE,
  given as SampleOptions,
)

function mistakesIn(given: unknown): string[] {
  try {
    resolve(given as object)
  } catch (error) {
    assert.ok(error instanceof OptionError)
    assert.ok(error instanceof TypeError)
    assert.equal(error.message, error.mistakes.map(one => `${one.path} ${one.text}`).join('\n'))
    return error.message.split('\n')
  }
  return []
}

// Tables and interfaces name the same keys: what follows must not compile, and would be an error of its own if it did.

// @ts-expect-error a field without a descriptor
void ({ waitMs: duration(1) } satisfies OptionTable<InnerOptions>)
// @ts-expect-error a descriptor without a field
void ({ waitMs: duration(1), loud: flag(true), lout: flag(true) } satisfies OptionTable<InnerOptions>)
// @ts-expect-error a default of another type
void ({ waitMs: flag(true), loud: flag(true) } satisfies OptionTable<InnerOptions>)
// @ts-expect-error a word that is none of the choice's
void choice('quick', ['fast', 'slow'])

test('option table: nothing given is every default, frozen', () => {
  const defaults = defaultsOf<SampleOptions>(SAMPLE)
  assert.deepEqual(resolve({}), defaults)
  assert.deepEqual(resolveOptions<SampleOptions>('sample', SAMPLE, undefined), defaults)
  assert.deepEqual(defaults, {
    waitMs: 1000, waitMsMax: 2000, keepBytes: 1024, minBytesPerSecond: 500, retries: 3, slots: 'all', share: 0.5,
    mode: 'fast', quiet: false, title: '', file: 'stdout',
    onEvent: null, clock: null, inner: { waitMs: 5, loud: false }, proxy: null, future: false,
  })
  for (const whole of [defaults, resolve({}), resolve({ inner: { loud: true } }).inner]) assert.ok(Object.isFrozen(whole))
})

test('option table: what is given is completed, within a table too, and undefined counts as left out', () => {
  const { inner, proxy, retries, waitMs } = resolve({ retries: 7, waitMs: undefined, inner: { loud: true }, proxy: {} })
  assert.deepEqual({ inner, proxy, retries, waitMs }, {
    inner: { waitMs: 5, loud: true }, proxy: { waitMs: 5, loud: false }, retries: 7, waitMs: 1000,
  })
  const base = resolve({ retries: 7, inner: { waitMs: 6 } })
  const over = resolveOptions<SampleOptions>('sample', SAMPLE, { inner: { loud: true } }, base)
  assert.deepEqual([over.retries, over.inner], [7, { waitMs: 6, loud: true }])
})

test('option table: every mistake is told at once, with its path, what was found and what would do', () => {
  const given = {
    waitMs: -1, keepBytes: 255, minBytesPerSecond: 1.5, retries: 0, slots: 9, share: 2, mode: 'quick', quiet: 'yes',
    title: 'A', file: '', onEvent: 1, clock: 'c',
    inner: { waitMs: '5s', laud: true }, proxy: [], future: true, retrys: 3, constructor: 1,
  }
  assert.deepEqual(mistakesIn(given), [
    'sample.waitMs is -1; use 0 (never waits) or a positive number of milliseconds',
    'sample.keepBytes is 255; use a whole number of bytes of at least 256',
    'sample.minBytesPerSecond is 1.5; use 0 (turns it off) or a positive whole number of bytes a second',
    'sample.retries is 0; use a positive whole number',
    "sample.slots is 9; use 'all' or a whole number from 1 to 8",
    'sample.share is 2; use a number from 0 to 1',
    "sample.mode is \"quick\"; use 'fast' or 'slow'",
    'sample.quiet is "yes"; use true or false',
    "sample.title is \"A\"; use '' or a title in lower case",
    'sample.file is ""; use stdout, or a path',
    'sample.onEvent is 1; use a function or null',
    'sample.clock is "c"; use a clock or null',
    'sample.inner.waitMs is "5s"; use 0 (turns it off) or a positive number of milliseconds',
    'sample.inner.laud is not an option; use loud',
    'sample.proxy is a list that would not do; use an object of options or null',
    'sample.future is true, but time travel is not implemented yet; leave it out',
    'sample.retrys is not an option; use retries',
    'sample.constructor is not an option; leave it out',
  ])
})

test('option table: options that are no object at all are refused', () => {
  for (const [given, shown] of [[null, 'null'], ['x', '"x"'], [7, '7'], [[], 'a list that would not do']] as const) {
    assert.deepEqual(mistakesIn(given), [`sample is ${shown}; use an object of options`])
  }
  assert.match(mistakesIn(JSON.parse('{ "__proto__": 1 }'))[0] ?? '', /^sample\.__proto__ is not an option/)
})

test('option table: an option must not be less than the one that it is bound to, whichever was given', () => {
  assert.deepEqual(mistakesIn({ waitMsMax: 500 }), ['sample.waitMsMax is 500; use at least sample.waitMs, which is 1000'])
  assert.deepEqual(mistakesIn({ waitMs: 3000 }), ['sample.waitMsMax is 2000; use at least sample.waitMs, which is 3000'])
  assert.deepEqual(mistakesIn({ waitMs: 3000, waitMsMax: 3000 }), [])
  assert.deepEqual(mistakesIn({ waitMs: -1, waitMsMax: 1 }).length, 1, 'nothing is said about a value that was refused itself')
})

test('option table: numbers beyond what a timer or a counter holds are refused with the limit', () => {
  assert.deepEqual(mistakesIn({ waitMs: MAX_DURATION_MS, waitMsMax: MAX_DURATION_MS, retries: MAX_COUNT }), [])
  assert.deepEqual(mistakesIn({ waitMs: MAX_DURATION_MS + 1, retries: MAX_COUNT + 1 }), [
    `sample.waitMs is ${MAX_DURATION_MS + 1}; use at most ${MAX_DURATION_MS}`,
    `sample.retries is ${MAX_COUNT + 1}; use at most ${MAX_COUNT}`,
  ])
  for (const nothing of [Number.NaN, Infinity, -Infinity]) assert.equal(mistakesIn({ waitMs: nothing }).length, 1)
  assert.deepEqual(mistakesIn({ waitMs: 0.25 }), [], 'a time that is left over is no whole number')
})

test('option table: text is one line of bounded length', () => {
  assert.deepEqual(mistakesIn({ title: 'a\nb' }), [
    "sample.title is \"a\\nb\"; use '' or a title in lower case, without control characters",
  ])
  assert.deepEqual(mistakesIn({ title: 'x'.repeat(5000) }), [
    "sample.title is a string of 5000 characters; use '' or a title in lower case, of at most 4096 characters",
  ])
})

test('option table: what must be given has no default, and is missed once', () => {
  interface Wanted { address: string }
  const table = {
    address: needed(code<string>('', 'an address', value => value !== 'nowhere' || 'somewhere')),
  } satisfies OptionTable<Wanted>
  const refusal = (given: object): string => {
    try { return JSON.stringify(resolveOptions<Wanted>('peer', table, given as Wanted)) } catch (error) { return (error as Error).message }
  }
  assert.deepEqual(defaultsOf<Wanted>(table), {})
  assert.equal(refusal({}), 'peer.address is missing; use an address')
  assert.equal(refusal({ address: 'nowhere' }), 'peer.address is "nowhere"; use somewhere')
  assert.equal(refusal({ address: 'here' }), '{"address":"here"}')
})

test('option table: a flat object of several parts can be taken apart again', () => {
  const whole = { ...INNER, more: flag(true) } satisfies OptionTable<InnerOptions & { more?: boolean }>
  const resolved = resolveOptions<InnerOptions & { more?: boolean }>('whole', whole, { loud: true })
  assert.deepEqual(partOf<InnerOptions>(INNER, resolved), { waitMs: 5, loud: true })
})

test('option table: shown values are short, on one line and not what may be secret', () => {
  assert.equal(showValue('x'.repeat(200)), 'a string of 200 characters')
  for (const secret of [['SECRET'], { key: 'SECRET' }, Buffer.from('SECRET'), () => 'SECRET']) {
    assert.ok(!showValue(secret).includes('SECRET'))
  }
})

// ---- any values

const anything = fc.oneof(
  fc.anything(),
  fc.double(),
  fc.integer({ min: -2, max: 10 }),
  fc.constantFrom('fast', 'slow', 'all', 'stdout', '', 'a', -0, 2 ** 31, 2 ** 53),
)
const names = fc.oneof(fc.constantFrom(...Object.keys(SAMPLE)), fc.string())

test('option table: any object is either resolved, its values kept, or refused with a line for each wrong value', () => {
  fc.assert(fc.property(fc.dictionary(names, anything), given => {
    const wrong = mistakesIn(given)
    if (wrong.length > 0) {
      const said = Object.keys(given).concat(Object.keys(SAMPLE))
      for (const line of wrong) assert.ok(said.some(name => line.startsWith(`sample.${name}`)), line)
      return
    }
    const resolved = resolve(given) as Readonly<Record<string, unknown>>
    assert.deepEqual(Object.keys(resolved), Object.keys(SAMPLE))
    for (const [name, value] of Object.entries(given)) {
      if (value !== undefined && (SAMPLE as Readonly<Record<string, Option>>)[name]!.table === null) {
        assert.equal(resolved[name], value, name)
      }
    }
  }), { numRuns: 2000 })
})

test('option table: what was resolved resolves to itself', () => {
  const someOptions = fc.record({
    waitMs: fc.double({ min: 0, max: 2000, noNaN: true }), keepBytes: fc.integer({ min: 256 }), slots: fc.constantFrom(1, 8, 'all'),
  }, { requiredKeys: [] })
  fc.assert(fc.property(someOptions, given => {
    const once = resolve(given)
    assert.deepEqual(resolve(once), once)
  }))
})
