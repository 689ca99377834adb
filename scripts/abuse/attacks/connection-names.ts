/** What a head costs grows with its length, not with its square. */
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, exchange, get } from '../clients.ts'

const NAMES = 15_000
const FIELDS = Array.from({ length: 90 }, (_, at) => `x-field-${at}: ${at}\r\n`).join('')

/** One field line may have 16 KiB: two of them hold so many names. */
function namesFields(): string {
  const half = 'a,'.repeat(NAMES / 2 - 1)
  return `Connection: ${half}a\r\nConnection: ${half}close\r\n${FIELDS}`
}

export const connectionNames: Attack = {
  name: 'connection-names',
  title: `Connection with ${NAMES} names beside 90 fields, 150 requests a second, every third from the origin`,
  async strike({ port, seconds }) {
    const request = get('/small', namesFields())
    const fromOrigin = get('/names', CLOSE)
    const done = await atRate(150, seconds, (index) => void exchange(port, index % 3 === 0 ? fromOrigin : request))
    return { done: `${done} requests`, faults: [] }
  },
}
