/** Whoever holds connections to the admin listener does not keep others from it. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, CLOSE, dial, dialMany, exchange, get, statusOf } from '../clients.ts'

export const adminFlood: Attack = {
  name: 'admin-flood',
  title: '64 idle connections to the admin listener, which is asked for /readyz meanwhile',
  async strike({ adminPort, seconds }) {
    const idle = await dialMany(adminPort, 64, (socket) => void socket.resume())
    const half = dial(adminPort)
    half.write('GET /readyz HTTP/1.1\r\n')
    let ready = 0
    let asked = 0
    const done = await atRate(10, seconds, () => void exchange(adminPort, get('/readyz', CLOSE)).then((answer) => {
      asked++
      if (statusOf(answer) === 200) ready++
    }))
    for (let waits = 0; waits < 100 && asked < done; waits++) await delay(100)
    for (const socket of [...idle, half]) socket.destroy()
    return { done: `${done} questions`, faults: ready === done ? [] : [`/readyz was answered ${ready} times of ${done}`] }
  },
}
