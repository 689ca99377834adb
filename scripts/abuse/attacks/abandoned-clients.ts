/** Clients that are gone hold neither connections nor exchanges. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, connected, dial, get } from '../clients.ts'

export const abandonedClients: Attack = {
  name: 'abandoned-clients',
  title: 'clients of a slow origin leave by FIN, 200 a second',
  async strike({ port, seconds }) {
    const done = await atRate(200, seconds, () => {
      const socket = dial(port)
      void connected(socket).then(async () => {
        socket.write(get('/never'))
        await delay(50)
        socket.end()
      })
    })
    return { done: `${done} clients`, faults: [] }
  },
}
