/** Masking secrets costs no more than a line is long. */
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, exchange, get } from '../clients.ts'

export const ampersands: Attack = {
  name: 'ampersands',
  title: 'queries of 8 kB that hold nothing but &, 300 a second, with the access log on',
  async strike({ port, seconds }) {
    const request = get(`/small?${'&'.repeat(8000)}`, CLOSE)
    const done = await atRate(300, seconds, () => void exchange(port, request))
    return { done: `${done} queries`, faults: [] }
  },
}
