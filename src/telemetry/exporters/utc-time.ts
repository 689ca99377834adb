/** Times as RFC 3339 writes them, in UTC with ms. Building one costs more than the rest of a line, and it changes once a second. */

/** Three digits of each number below 1000. */
export const DIGITS: readonly string[] = Array.from({ length: 1000 }, (_, number) => String(number).padStart(3, '0'))

/** A second since 1970 without its end, such as `2026-11-21T09:05:03`. One that is none is the beginning of 1970. */
export function utcSecond(second: number): string {
  const date = new Date(second * 1000)
  return Number.isNaN(date.getTime()) ? '1970-01-01T00:00:00' : date.toISOString().slice(0, 19)
}

/** Keeps what the times of one second have in common. */
export class UtcTime {
  #second = Number.NaN
  /** Up to the milliseconds. */
  #opening = ''

  /** A time that is none is the beginning of 1970. */
  text(atMs: number): string {
    const at = Math.floor(atMs), second = Math.floor(at / 1000)
    if (second !== this.#second) {
      this.#opening = `${utcSecond(second)}.`
      this.#second = second
    }
    return `${this.#opening}${DIGITS[at - second * 1000] ?? '000'}Z`
  }
}
