/** More connections than there are descriptors: what is served lives, idle ones make room. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany, get } from '../clients.ts'

const NOFILE = 1024

export const idleConnections: Attack = {
  name: 'idle-connections',
  title: `3000 connections that wait after one request, ${NOFILE} descriptors a process`,
  descriptors: NOFILE,
  async strike({ port, seconds }) {
    const sockets = await dialMany(port, 3000, (socket) => {
      socket.resume()
      socket.write(get('/small'))
    })
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    return { done: `${sockets.length} connections`, faults: [] }
  },
}
