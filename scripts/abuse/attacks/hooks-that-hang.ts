/** What only the application can end has a time limit, and a client that left holds nothing. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, connected, dial, get } from '../clients.ts'

export const hooksThatHang: Attack = {
  name: 'hooks-that-hang',
  title: 'clients of a filter that never resolves leave by FIN, 100 a second; hooks may take 3 s',
  env: { ABUSE_HOOK_MS: '3000' },
  async strike({ port, seconds }) {
    const done = await atRate(100, seconds, () => {
      const socket = dial(port)
      void connected(socket).then(async () => {
        socket.write(get('/hook/hang'))
        await delay(50)
        socket.end()
      })
    })
    return { done: `${done} clients`, faults: [] }
  },
}
