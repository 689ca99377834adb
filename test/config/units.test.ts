import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, formatSize, parseDuration, parseSize } from '../../src/config/units.ts'

test('units: durations are read with their unit', () => {
  const table: readonly (readonly [string, number])[] = [
    ['0', 0], ['0ms', 0], ['250ms', 250], ['1s', 1000], ['1.5s', 1500], ['0.1s', 100], ['90s', 90_000], ['5m', 300_000],
    ['1m30s', 90_000], ['1h', 3_600_000], ['2d', 172_800_000],
  ]
  for (const [text, ms] of table) assert.equal(parseDuration(text), ms, text)
})

test('units: what is no duration is refused', () => {
  const refused = [
    '', '30', '-1s', '1 s', 's', '1x', '1S', '1e3s', '0x1s', '1s ', '.5s', '1.s', '0.1ms', '1s'.repeat(40), `${'9'.repeat(40)}s`,
  ]
  for (const text of refused) assert.equal(parseDuration(text), null, text)
})

test('units: sizes are read with their unit', () => {
  const table: readonly (readonly [string, number])[] = [
    ['0', 0], ['500B', 500], ['1kB', 1000], ['64KiB', 65_536], ['1.5MiB', 1_572_864], ['1MB', 1_000_000],
    ['1GiB', 1_073_741_824], ['2GB', 2e9],
  ]
  for (const [text, bytes] of table) assert.equal(parseSize(text), bytes, text)
})

test('units: what is no size is refused', () => {
  for (const text of ['', '64', '64k', '64KIB', '-1B', '1 MiB', 'MiB', '1.5B', '1e3B', '9'.repeat(30) + 'GiB', 'constructor']) {
    assert.equal(parseSize(text), null, text)
  }
})

test('units: what is written is read back the same', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 2_073_600_000 }), ms => parseDuration(formatDuration(ms)) === ms))
  fc.assert(fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), bytes => parseSize(formatSize(bytes)) === bytes))
  assert.deepEqual([100, 1500, 30_000, 300_000, 600_000, 3_600_000, 7_200_000].map(formatDuration), [
    '100ms', '1500ms', '30s', '300s', '600s', '1h', '2h',
  ])
  assert.deepEqual([500, 1024, 8192, 1_048_576, 1_073_741_824].map(formatSize), ['500B', '1KiB', '8KiB', '1MiB', '1GiB'])
})
