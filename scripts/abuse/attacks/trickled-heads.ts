/** One byte now and then is no progress. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany, get } from '../clients.ts'

export const trickledHeads: Attack = {
  name: 'trickled-heads',
  title: 'an origin that sends its head one byte each 200 ms; heads may take 2 s',
  env: { ABUSE_HEAD_MS: '2000' },
  secondsMin: 8,
  async strike({ port, seconds }) {
    const sockets = await dialMany(port, 100, (socket) => {
      socket.resume()
      socket.write(get('/trickle'))
    })
    // An answer, or the end of the connection: either says that the exchange is over.
    let waiting = sockets.length
    for (const socket of sockets) {
      let over = false
      const onOver = (): void => {
        if (!over) waiting--
        over = true
      }
      socket.once('data', onOver).once('close', onOver)
    }
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    const faults = waiting === 0 ? [] : [`${waiting} of ${sockets.length} exchanges still wait for a head after ${seconds} s`]
    return { done: `${sockets.length} heads`, faults }
  },
}
