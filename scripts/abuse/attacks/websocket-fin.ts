/** A tunnel whose client has gone before it began is not kept. */
import type { Attack } from '../attack.ts'
import { atRate, dial, get } from '../clients.ts'

export const webSocketFin: Attack = {
  name: 'websocket-fin',
  title: 'WebSocket clients whose FIN comes before the 101, 40 a second',
  async strike({ port, seconds }) {
    const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    const fields = `Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`
    const done = await atRate(40, seconds, () => {
      const socket = dial(port)
      socket.resume()
      socket.end(get('/ws?ms=300', fields))
    })
    return { done: `${done} clients`, faults: [] }
  },
}
