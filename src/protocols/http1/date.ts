/** The Date field's text (RFC 9110 6.6.1), made once a second. */
import type { Clock } from '../../primitives/clock.ts'

let madeAt = Number.NEGATIVE_INFINITY
let text = ''

/** IMF-fixdate of about now: up to a second and a tick old. */
export function httpDate(clock: Clock): string {
  const now = clock.now()
  if (now - madeAt >= 1000 || now < madeAt) {
    madeAt = now
    text = new Date(clock.wall()).toUTCString()
  }
  return text
}
