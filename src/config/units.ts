/**
 * Durations and sizes as people write them: `500ms`, `1m30s`, `64KiB`. A number without a unit is refused, except 0,
 * because a reader cannot tell 30 seconds from 30 milliseconds.
 */

const MS_PER_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const BYTES_PER_UNIT: Readonly<Record<string, number>> = { B: 1, kB: 1000, MB: 1e6, GB: 1e9, KiB: 1024, MiB: 1_048_576, GiB: 1_073_741_824 }

/** Also the pattern of the JSON schema, hence without flags. */
export const DURATION_PATTERN = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/
export const SIZE_PATTERN = /^\d+(?:\.\d+)?(?:B|kB|MB|GB|KiB|MiB|GiB)$/

/** Milliseconds; null when the text is no duration, or not a whole number of milliseconds. */
export function parseDuration(text: string): number | null {
  if (text === '0') return 0
  if (text.length > 64 || !DURATION_PATTERN.test(text)) return null
  let ms = 0
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) ms += Number(match[1]) * (MS_PER_UNIT[match[2] ?? ''] ?? 0)
  // 0.1 s and its like come out of binary fractions slightly off.
  const whole = Math.round(ms)
  return Math.abs(ms - whole) < 1e-6 && Number.isSafeInteger(whole) ? whole : null
}

/** Bytes; null when the text is no size, or not a whole number of bytes. */
export function parseSize(text: string): number | null {
  if (text === '0') return 0
  const match = text.length > 64 ? null : /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text)
  const unit = BYTES_PER_UNIT[match?.[2] ?? '']
  if (match === null || unit === undefined) return null
  const bytes = Number(match[1]) * unit
  return Number.isSafeInteger(bytes) ? bytes : null
}

/** The shortest exact way to write it: 90000 -> `90s`, 1500 -> `1500ms`, 0 -> `0`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0'
  const unit = (['d', 'h', 'm', 's'] as const).find(name => ms % (MS_PER_UNIT[name] ?? 1) === 0)
  // Seconds are easier to compare than minutes as long as they stay short.
  if (unit === undefined) return `${ms}ms`
  const count = ms / (MS_PER_UNIT[unit] ?? 1)
  return unit === 'm' && ms <= 600_000 ? `${ms / 1000}s` : `${count}${unit}`
}

/** 65536 -> `64KiB`, 1000 -> `1000B`, 0 -> `0`. */
export function formatSize(bytes: number): string {
  if (bytes === 0) return '0'
  const unit = (['GiB', 'MiB', 'KiB'] as const).find(name => bytes % (BYTES_PER_UNIT[name] ?? 1) === 0)
  return unit === undefined ? `${bytes}B` : `${bytes / (BYTES_PER_UNIT[unit] ?? 1)}${unit}`
}
