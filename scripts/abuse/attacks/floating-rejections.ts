/** A promise that nobody waits for ends nothing but itself. */
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, exchange, get } from '../clients.ts'

export const floatingRejections: Attack = {
  name: 'floating-rejections',
  title: 'a filter leaves promises that reject: five a second',
  async strike({ port, seconds }) {
    const done = await atRate(5, seconds, () => void exchange(port, get('/hook/reject', CLOSE)))
    return { done: `${done} rejections`, faults: [] }
  },
}
