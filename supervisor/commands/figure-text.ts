/** Figures as people read them in a terminal: three digits or so, with their unit, and a dash where there is nothing to say. */

export const NOTHING_TO_SAY = '-'

/** Of things. */
export function countText(count: number): string { return count.toLocaleString('en') }

/** Of something a second. */
export function numberText(value: number): string {
  if (value === 0) return '0'
  if (value < 0.1) return '<0.1'
  if (value < 9.95) return value.toFixed(1)
  return Math.round(value).toLocaleString('en')
}

/** @param share 0 to 1; null: of nothing */
export function percentText(share: number | null): string {
  if (share === null) return NOTHING_TO_SAY
  const percents = share * 100
  if (percents === 0 || percents >= 99.95) return `${percents.toFixed(0)}%`
  if (percents < 0.01) return '<0.01%'
  return `${percents.toFixed(percents < 0.995 ? 2 : 1)}%`
}

/** @param ms null: nothing was measured. Infinity: more than can be told. @param bounds of what can be told, in seconds */
export function timeText(ms: number | null, bounds: readonly number[] = []): string {
  if (ms === null) return NOTHING_TO_SAY
  if (ms === Infinity) return `>${bounds.at(-1) ?? 0} s`
  if (ms === 0) return '0 ms'
  if (ms < 0.995) return `${ms.toFixed(2)} ms`
  if (ms < 9.95) return `${ms.toFixed(1)} ms`
  if (ms < 999.5) return `${ms.toFixed(0)} ms`
  return `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`
}

export function bytesText(bytes: number): string {
  let value = bytes, unit = 'B'
  for (const larger of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1023.5) break
    value /= 1024
    unit = larger
  }
  return `${value < 9.95 && unit !== 'B' ? value.toFixed(1) : value.toFixed(0)} ${unit}`
}
