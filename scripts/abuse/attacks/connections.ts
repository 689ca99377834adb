/** Clients that hold connections: idle ones, half heads, ones that leave, ones that read nothing. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { atRate, connected, dial, dialMany, get } from '../clients.ts'

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

const MAX_CONNECTIONS = 500
const WORKERS = 2
/** One more may be accepted before another is evicted. */
const MARGIN = 50

export const halfHeads: Attack = {
  name: 'half-heads',
  title: `1500 half heads, then 5000 that wait after one request, with maxConnections ${MAX_CONNECTIONS}`,
  env: { ABUSE_MAX_CONNECTIONS: String(MAX_CONNECTIONS) },
  bounds: { connections: MAX_CONNECTIONS * WORKERS + MARGIN },
  async strike({ port, seconds }) {
    const halves = await dialMany(port, 1500, (socket) => {
      socket.resume()
      socket.write('GET /small HTTP/1.1\r\nHost: atta')
    })
    await delay(seconds * 500)
    const idle = await dialMany(port, 5000, (socket) => {
      socket.resume()
      socket.write(get('/small'))
    })
    await delay(seconds * 500)
    for (const socket of [...halves, ...idle]) socket.destroy()
    return { done: `${halves.length} half heads, ${idle.length} idle`, faults: [] }
  },
}

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

const READERS = 500

export const deadReaders: Attack = {
  name: 'dead-readers',
  title: `${READERS} downloads without an end that nobody reads`,
  async strike({ port, seconds }) {
    const sockets = await dialMany(port, READERS, (socket) => {
      socket.pause()
      socket.write(get('/endless'))
    })
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    return { done: `${sockets.length} downloads`, faults: [] }
  },
}

export const trickledHeads: Attack = {
  name: 'trickled-heads',
  title: 'an origin that sends its head one byte each 200 ms: cut by the time that a first byte has',
  env: { ABUSE_FIRST_BYTE_MS: '2000' },
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
