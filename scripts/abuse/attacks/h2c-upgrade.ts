/** No frames pass that no filter sees. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, counters, dial, get, statusOf } from '../clients.ts'

export const h2cUpgrade: Attack = {
  name: 'h2c-upgrade',
  title: 'Upgrade: h2c to an origin that would agree',
  async strike({ port, originPort, seconds }) {
    let agreed = 0
    const fields = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n'
    const before = await counters(originPort)
    const done = await atRate(20, seconds, () => {
      const socket = dial(port)
      socket.on('data', (chunk) => { if (statusOf(chunk.toString('latin1')) === 101) agreed++ })
      socket.write(get('/small', fields))
      setTimeout(() => socket.destroy(), 500)
    })
    await delay(600)
    const h2c = (await counters(originPort)).h2c - before.h2c
    const faults: string[] = []
    if (agreed > 0) faults.push(`${agreed} clients were let through to HTTP/2 frames`)
    if (h2c > 0) faults.push(`the origin saw Upgrade: h2c ${h2c} times`)
    return { done: `${done} requests`, faults }
  },
}
