/** Times as RFC 3339 writes them, in UTC with ms. Building one costs more than the rest of a line, and it changes once a second. */

/** Three digits of each number below 1000. */
export const DIGITS: readonly string[] = Array.from({ length: 1000 }, (_, number) => String(number).padStart(3, '0'))

/** Keeps what the times of one second have in common. */
export class UtcTime {
  readonly #before: string
  #second = Number.NaN
  /** Up to the milliseconds. */
  #opening = ''

  /** @param before what stands before each time */
  constructor(before = '') { this.#before = before }

  /** A time that is none is the beginning of 1970. */
  text(atMs: number): string {
    const at = Math.floor(atMs), second = Math.floor(at / 1000)
    if (second !== this.#second) {
      const date = new Date(second * 1000)
      this.#opening = `${this.#before}${Number.isNaN(date.getTime()) ? '1970-01-01T00:00:00.' : date.toISOString().slice(0, 20)}`
      this.#second = second
    }
    return `${this.#opening}${DIGITS[at - second * 1000] ?? '000'}Z`
  }
}
