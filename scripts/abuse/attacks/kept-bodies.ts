/** Every connection is bounded; so is their sum. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany } from '../clients.ts'

const WORKERS = 2
const UPLOADS = 8000
/** As long as what may be kept for a repetition (maxReplayBytes is 64 KiB). */
const UPLOAD_BYTES = 65_000
const MEMORY_MB = 600

export const keptBodies: Attack = {
  name: 'kept-bodies',
  title: `${UPLOADS} uploads of 65 kB to an origin that does not answer, ${MEMORY_MB} MB for the whole instance`,
  memoryMB: MEMORY_MB,
  bounds: { allMB: MEMORY_MB, workerMB: MEMORY_MB / WORKERS },
  async strike({ port, seconds }) {
    const head = `POST /never HTTP/1.1\r\nHost: attacker\r\nContent-Length: ${UPLOAD_BYTES}\r\n\r\n`
    const bytes = Buffer.from(head + 'x'.repeat(UPLOAD_BYTES), 'latin1')
    const sockets = await dialMany(port, UPLOADS, (socket) => {
      socket.resume()
      socket.write(bytes)
    })
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    return { done: `${sockets.length} uploads`, faults: [] }
  },
}
